//! The values of single options.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bridge::{ResolveMode, split_csv};
use llb::{ExtraHost, LinuxResources, NetMode, Ulimit};
use oci::Platform;

use crate::lower::OptionError;
use crate::number::{signed, unsigned};
use crate::quote::quoted;

const ULIMITS: [&str; 15] = [
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
];

/// The highest number that a processor or a memory node may have.
const LAST_CPU: u64 = 8192;

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
        other => Err(OptionError::NetMode(other.to_owned())),
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
        let lower = field.to_lowercase();
        let (host, address) = lower
            .split_once('=')
            .ok_or_else(|| wrong(WHAT, format!("invalid key-value pair {field}")))?;
        let ip: IpAddr =
            address.parse().map_err(|_| wrong(WHAT, format!("failed to parse IP {address}")))?;
        Ok(ExtraHost { host: host.to_owned(), ip: ip.to_canonical().to_string() })
    };
    fields(text, WHAT)?.into_iter().map(host).collect()
}

pub(super) fn shm_size(text: &str) -> Result<u64, OptionError> {
    if text.is_empty() {
        return Ok(0);
    }
    let size: i64 = signed(text).map_err(|reason| wrong("failed to parse shm size", reason))?;
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
    let (soft, hard): (i64, i64) = match limits.split(':').collect::<Vec<_>>()[..] {
        [both] => (signed(both)?, signed(both)?),
        [soft, hard] => {
            let hard = signed(hard)?;
            (signed(soft)?, hard)
        }
        _ => {
            return Err(format!(
                "too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"
            ));
        }
    };
    let rule = "ulimit soft limit must be less than or equal to hard limit";
    if hard != -1 && soft == -1 {
        return Err(format!("{rule}: soft: -1 (unlimited), hard: {hard}"));
    }
    if hard != -1 && soft > hard {
        return Err(format!("{rule}: {soft} > {hard}"));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

pub(super) fn resources(
    raw: &BTreeMap<String, String>,
) -> Result<Option<LinuxResources>, OptionError> {
    let given = |key: &'static str| {
        raw.get(key).filter(|value| !value.is_empty()).map(|value| (key, value.as_str()))
    };
    let amount = |key, lowest: i64, rule| {
        let Some((key, text)) = given(key) else {
            return Ok(0);
        };
        match signed::<i64>(text) {
            Ok(number) if number >= lowest && number != 0 => Ok(number),
            Ok(_) => Err(limit(key, text, rule)),
            Err(reason) => Err(limit(key, text, &reason)),
        }
    };
    let count = |key| match given(key).map(|(key, text)| (key, text, unsigned::<u64>(text))) {
        None => Ok(0),
        Some((key, text, Ok(0))) => Err(limit(key, text, "must be > 0")),
        Some((_, _, Ok(number))) => Ok(number),
        Some((key, text, Err(reason))) => Err(limit(key, text, &reason)),
    };
    let set = |key| match given(key) {
        Some((key, text)) => match check_cpu_set(text) {
            Ok(()) => Ok(text.to_owned()),
            Err(reason) => Err(limit(key, text, &reason)),
        },
        None => Ok(String::new()),
    };
    let resources = LinuxResources {
        memory: amount("memory", 1, "must be > 0")?,
        memory_swap: amount("memswap", -1, "must be -1 (unlimited) or > 0")?,
        cpu_shares: count("cpushares")?,
        cpu_period: count("cpuperiod")?,
        cpu_quota: amount("cpuquota", 1, "must be > 0")?,
        cpuset_cpus: set("cpusetcpus")?,
        cpuset_mems: set("cpusetmems")?,
    };
    Ok((resources != LinuxResources::default()).then_some(resources))
}

fn limit(key: &str, text: &str, rule: &str) -> OptionError {
    wrong("failed to parse resource limits", format!("invalid {key} value: {text}: {rule}"))
}

/// Checks a list of numbers and ranges: `0-3,5`.
fn check_cpu_set(text: &str) -> Result<(), String> {
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let shown = quoted(part);
        let number = |text: &str| text.trim().parse::<u64>();
        let (kind, bounds) = match part.split_once('-') {
            None => ("element", (number(part), number(part))),
            Some((first, last)) => ("range", (number(first), number(last))),
        };
        match bounds {
            (Ok(first), Ok(last)) if first <= last && last <= LAST_CPU => {}
            (Ok(first), Ok(last)) if first <= last => {
                return Err(format!("cpuset {kind} {shown} exceeds maximum {LAST_CPU}"));
            }
            _ => return Err(format!("invalid cpuset {kind} {shown}")),
        }
    }
    Ok(())
}
