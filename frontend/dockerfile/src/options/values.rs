//! The values of single options.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bridge::{ResolveMode, split_csv};
use llb::{ExtraHost, LinuxResources, NetMode, Ulimit};
use oci::Platform;

use crate::lower::OptionError;

const ULIMITS: [&str; 16] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
    "as",
];

fn wrong(what: impl Into<String>, reason: impl Into<String>) -> OptionError {
    OptionError::Value { what: what.into(), reason: reason.into() }
}

pub(super) fn platforms(text: &str, native: &Platform) -> Result<Vec<Platform>, OptionError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let parse = |part: &str| {
        Platform::parse_with_default(part, native).map_err(|error| {
            wrong(format!("failed to parse target platform {part}"), error.to_string())
        })
    };
    text.split(',').map(parse).collect()
}

pub(super) fn resolve_mode(text: &str) -> Result<ResolveMode, OptionError> {
    ResolveMode::parse(text).ok_or_else(|| wrong("invalid image-resolve-mode", text))
}

pub(super) fn network(text: &str) -> Result<NetMode, OptionError> {
    match text {
        "" | "sandbox" => Ok(NetMode::Sandbox),
        "none" => Ok(NetMode::None),
        "host" => Ok(NetMode::Host),
        other => Err(wrong("invalid netmode", other)),
    }
}

fn fields(text: &str, what: &str) -> Result<Vec<String>, OptionError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    split_csv(text).map_err(|error| wrong(what, error))
}

pub(super) fn extra_hosts(text: &str) -> Result<Vec<ExtraHost>, OptionError> {
    const WHAT: &str = "failed to parse additional hosts";
    let host = |field: String| {
        let field = field.to_lowercase();
        let (host, address) = field
            .split_once('=')
            .ok_or_else(|| wrong(WHAT, format!("invalid key-value pair {field}")))?;
        let ip: IpAddr =
            address.parse().map_err(|_| wrong(WHAT, format!("failed to parse IP {address}")))?;
        Ok(ExtraHost { host: host.to_owned(), ip: ip.to_string() })
    };
    fields(text, WHAT)?.into_iter().map(host).collect()
}

pub(super) fn shm_size(text: &str) -> Result<u64, OptionError> {
    if text.is_empty() {
        return Ok(0);
    }
    let size: i64 = text
        .parse()
        .map_err(|_| wrong("failed to parse shm size", format!("invalid number {text}")))?;
    Ok(u64::try_from(size).unwrap_or(0))
}

pub(super) fn ulimits(text: &str) -> Result<Vec<Ulimit>, OptionError> {
    const WHAT: &str = "failed to parse ulimit";
    fields(text, WHAT)?
        .into_iter()
        .map(|field| ulimit(&field).map_err(|reason| wrong(WHAT, reason)))
        .collect()
}

fn ulimit(field: &str) -> Result<Ulimit, String> {
    let (name, limits) =
        field.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {field}"))?;
    if !ULIMITS.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |text: &str| {
        text.parse::<i64>().map_err(|_| format!("invalid limit {text} of ulimit {name}"))
    };
    let (soft, hard) = match limits.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(limits)?, number(limits)?),
    };
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(format!(
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        ));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

pub(super) fn resources(
    raw: &BTreeMap<String, String>,
) -> Result<Option<LinuxResources>, OptionError> {
    let given = |key: &'static str| {
        raw.get(key).filter(|value| !value.is_empty()).map(|value| (key, value.as_str()))
    };
    let signed = |key, lowest: i64, rule| {
        let Some((key, text)) = given(key) else {
            return Ok(0);
        };
        match text.parse::<i64>() {
            Ok(number) if number >= lowest && number != 0 => Ok(number),
            Ok(_) => Err(limit(key, text, rule)),
            Err(error) => Err(limit(key, text, &error.to_string())),
        }
    };
    let unsigned = |key| signed(key, 1, "must be > 0").map(i64::unsigned_abs);
    let set = |key| match given(key) {
        Some((key, text)) if !is_cpu_set(text) => Err(limit(key, text, "invalid list")),
        Some((_, text)) => Ok(text.to_owned()),
        None => Ok(String::new()),
    };
    let resources = LinuxResources {
        memory: signed("memory", 1, "must be > 0")?,
        memory_swap: signed("memswap", -1, "must be -1 (unlimited) or > 0")?,
        cpu_shares: unsigned("cpushares")?,
        cpu_period: unsigned("cpuperiod")?,
        cpu_quota: signed("cpuquota", 1, "must be > 0")?,
        cpuset_cpus: set("cpusetcpus")?,
        cpuset_mems: set("cpusetmems")?,
    };
    Ok((resources != LinuxResources::default()).then_some(resources))
}

fn limit(key: &str, text: &str, rule: &str) -> OptionError {
    wrong("failed to parse resource limits", format!("invalid {key} value: {text}: {rule}"))
}

/// Checks a list of numbers and ranges: `0-3,5`.
fn is_cpu_set(text: &str) -> bool {
    text.split(',').all(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        matches!((first.parse::<u32>(), last.parse::<u32>()), (Ok(a), Ok(b)) if a <= b)
    })
}
