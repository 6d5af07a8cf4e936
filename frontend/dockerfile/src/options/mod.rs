//! The options of a build (protocol page `gateway.md` §6), read once into types.

mod values;

use std::collections::BTreeMap;

use bridge::{CacheImport, ResolveMode};
use llb::{ExtraHost, LinuxResources, NetMode, ProxyEnv, Ulimit};
use oci::Platform;
use sbom::{Reader, ScanRequest};
use serde::Deserialize;

use crate::instruction::parse_bool;
use crate::lint::LintConfig;
use crate::lower::OptionError;

const BUILD_ARG: &str = "build-arg:";
const LINT_ARG: &str = "build-arg:BUILDKIT_DOCKERFILE_CHECK";

/// The options of a build.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// All of them, as given.
    pub(crate) raw: BTreeMap<String, String>,
    /// Build arguments by name.
    pub(crate) build_args: BTreeMap<String, String>,
    /// Labels for the image.
    pub(crate) labels: BTreeMap<String, String>,
    /// The wanted stage; empty for the last.
    pub(crate) target: String,
    /// The platforms to build for; none for the daemon's own.
    pub(crate) platforms: Vec<Platform>,
    /// Whether the result is a map even of one platform.
    pub(crate) multi_platform: bool,
    /// Which stages do without the cache.
    pub(crate) no_cache: NoCache,
    /// How eagerly registries are asked.
    pub(crate) resolve_mode: ResolveMode,
    /// The namespace of cache mounts.
    pub(crate) cache_namespace: String,
    /// What every `RUN` gets.
    pub(crate) run: RunOptions,
    /// Where to look for cached results.
    pub(crate) cache_imports: Vec<CacheImport>,
    /// Which rules are wanted, if the build says so.
    pub(crate) lint: Option<LintConfig>,
    /// Who makes lists of what is in the results, if any are wanted.
    pub(crate) scan: Option<ScanRequest>,
}

/// What every `RUN` gets.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunOptions {
    /// The host name.
    pub(crate) hostname: String,
    /// The network.
    pub(crate) network: NetMode,
    /// More entries of the hosts file.
    pub(crate) extra_hosts: Vec<ExtraHost>,
    /// The size of `/dev/shm`; 0 for the usual.
    pub(crate) shm_size: u64,
    /// Limits.
    pub(crate) ulimits: Vec<Ulimit>,
    /// The cgroup to be in.
    pub(crate) cgroup_parent: String,
    /// More limits.
    pub(crate) resources: Option<LinuxResources>,
    /// Proxies.
    pub(crate) proxy: Option<ProxyEnv>,
}

/// Which stages do without the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoCache {
    /// None.
    Never,
    /// All.
    Always,
    /// Those with these names.
    Stages(Vec<String>),
}

impl NoCache {
    /// Returns whether a stage does without.
    pub(crate) fn applies_to(&self, stage: &str) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::Stages(names) => names.iter().any(|name| name.eq_ignore_ascii_case(stage)),
        }
    }
}

impl Options {
    /// Reads the options; `native` is what the daemon builds for by default.
    pub(crate) fn read(
        raw: &BTreeMap<String, String>,
        native: &Platform,
    ) -> Result<Self, OptionError> {
        refuse_removed(raw)?;
        let text = |key: &str| raw.get(key).map(String::as_str).unwrap_or_default();
        let platforms = values::platforms(text("platform"), native)?;
        let build_args = with_prefix(raw, BUILD_ARG);
        let lint = raw.get(LINT_ARG);
        Ok(Self {
            labels: with_prefix(raw, "label:"),
            target: text("target").to_owned(),
            multi_platform: multi_platform(raw, platforms.len())?,
            platforms,
            no_cache: match raw.get("no-cache").map(String::as_str) {
                None => NoCache::Never,
                Some("") => NoCache::Always,
                Some(names) => NoCache::Stages(names.split(',').map(str::to_owned).collect()),
            },
            resolve_mode: values::resolve_mode(text("image-resolve-mode"))?,
            cache_namespace: text("build-arg:BUILDKIT_CACHE_MOUNT_NS").to_owned(),
            run: RunOptions::read(raw, &build_args)?,
            cache_imports: cache_imports(raw)?,
            lint: lint.map(|value| LintConfig::parse_as(LINT_ARG, value)).transpose()?,
            scan: ScanRequest::of(raw, Reader::Frontend)
                .map_err(|error| OptionError::Scan(error.to_string()))?,
            build_args,
            raw: raw.clone(),
        })
    }

    /// Returns an option's value, if it was given.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.raw.get(key).map(String::as_str)
    }

    /// Returns whether any context was given by name.
    pub(crate) fn name_contexts(&self) -> bool {
        let mut from = self.raw.range("context:".to_owned()..);
        from.next().is_some_and(|(key, _)| key.starts_with("context:"))
    }

    /// Returns the session that has a client's directory, if it is another than the build's.
    pub(crate) fn session_of(&self, local: &str) -> Option<&str> {
        self.get(&format!("local-sessionid:{local}"))
    }
}

impl RunOptions {
    fn read(
        raw: &BTreeMap<String, String>,
        build_args: &BTreeMap<String, String>,
    ) -> Result<Self, OptionError> {
        let text = |key: &str| raw.get(key).map(String::as_str).unwrap_or_default();
        let hostname = match text("build-arg:BUILDKIT_SANDBOX_HOSTNAME") {
            "" => text("hostname"),
            name => name,
        };
        Ok(Self {
            hostname: hostname.to_owned(),
            network: values::network(text("force-network-mode"))?,
            extra_hosts: values::extra_hosts(text("add-hosts"))?,
            shm_size: values::shm_size(text("shm-size"))?,
            ulimits: values::ulimits(text("ulimit"))?,
            cgroup_parent: text("cgroup-parent").to_owned(),
            resources: values::resources(raw)?,
            proxy: proxy(build_args),
        })
    }
}

fn refuse_removed(raw: &BTreeMap<String, String>) -> Result<(), OptionError> {
    if raw.get("override-copy-image").is_some_and(|value| !value.is_empty()) {
        return Err(OptionError::Removed { key: "override-copy-image", kind: "" });
    }
    let disabled = raw.get("build-arg:BUILDKIT_DISABLE_FILEOP");
    if disabled.and_then(|value| parse_bool(value)) == Some(true) {
        return Err(OptionError::Removed { key: "BUILDKIT_DISABLE_FILEOP", kind: "build-arg " });
    }
    Ok(())
}

fn with_prefix(raw: &BTreeMap<String, String>, prefix: &str) -> BTreeMap<String, String> {
    let strip = |(key, value): (&String, &String)| {
        key.strip_prefix(prefix).map(|name| (name.to_owned(), value.clone()))
    };
    raw.iter().filter_map(strip).collect()
}

fn multi_platform(raw: &BTreeMap<String, String>, platforms: usize) -> Result<bool, OptionError> {
    let given = |key: &str| raw.get(key).filter(|value| !value.is_empty());
    let Some(value) =
        given("build-arg:BUILDKIT_MULTI_PLATFORM").or_else(|| given("multi-platform"))
    else {
        return Ok(platforms > 1);
    };
    let wanted = parse_bool(value).ok_or_else(|| OptionError::Value {
        what: "invalid boolean value for multi-platform".to_owned(),
        reason: value.clone(),
    })?;
    if !wanted && platforms > 1 {
        let text = "conflicting config: returning multiple target platforms is not allowed";
        return Err(OptionError::Conflict(text));
    }
    Ok(wanted)
}

/// An entry of the option `cache-imports`.
#[derive(Deserialize)]
struct CacheEntry {
    #[serde(rename = "Type", default)]
    kind: String,
    #[serde(rename = "Attrs", default)]
    attributes: Option<BTreeMap<String, String>>,
}

fn cache_imports(raw: &BTreeMap<String, String>) -> Result<Vec<CacheImport>, OptionError> {
    let mut imports = Vec::new();
    if let Some(text) = raw.get("cache-imports").filter(|text| !text.is_empty()) {
        let entries: Vec<CacheEntry> =
            serde_json::from_str(text).map_err(|error| OptionError::Value {
                what: format!("failed to unmarshal cache-imports ({})", crate::quote::quoted(text)),
                reason: error.to_string(),
            })?;
        imports.extend(entries.into_iter().map(|entry| CacheImport {
            kind: entry.kind,
            attributes: entry.attributes.unwrap_or_default(),
        }));
    }
    if let Some(text) = raw.get("cache-from").filter(|text| !text.is_empty()) {
        imports.extend(text.split(',').map(|reference| CacheImport {
            kind: "registry".to_owned(),
            attributes: BTreeMap::from([("ref".to_owned(), reference.to_owned())]),
        }));
    }
    Ok(imports)
}

/// Proxies are build arguments in any case; they are part of neither cache nor history.
fn proxy(build_args: &BTreeMap<String, String>) -> Option<ProxyEnv> {
    let mut proxy = ProxyEnv::default();
    let mut found = false;
    for (name, value) in build_args {
        let field = match name.to_ascii_lowercase().as_str() {
            "http_proxy" => &mut proxy.http,
            "https_proxy" => &mut proxy.https,
            "ftp_proxy" => &mut proxy.ftp,
            "no_proxy" => &mut proxy.no,
            "all_proxy" => &mut proxy.all,
            _ => continue,
        };
        value.clone_into(field);
        found = true;
    }
    found.then_some(proxy)
}

#[cfg(test)]
mod tests;
