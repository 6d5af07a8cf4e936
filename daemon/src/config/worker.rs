//! The table `[worker.oci]`: how steps run, and what is kept of them.

use std::collections::BTreeMap;

use executor::DnsConfig;
use oci::Platform;

use super::gc::{Bounds, GcConfig, GcRuleConfig};
use super::quantity::{Amount, duration_of};
use super::section::Section;
use super::{Config, ConfigError};

/// How steps run and what is kept of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct WorkerConfig {
    /// Labels that clients see.
    pub labels: BTreeMap<String, String>,
    /// What can be built, instead of what is found out.
    pub platforms: Vec<Platform>,
    /// How trees of files are kept.
    pub snapshotter: SnapshotterChoice,
    /// Name resolution in steps.
    pub dns: DnsConfig,
    /// The cgroup above those of steps.
    pub cgroup_parent: Option<String>,
    /// How many steps run at once; none for no limit.
    pub parallelism: Option<usize>,
    /// What is collected.
    pub gc: GcConfig,
}

/// How trees of files are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum SnapshotterChoice {
    /// The best that works here.
    #[default]
    Auto,
    /// Layers by the kernel, or the daemon does not start.
    Overlay,
    /// Copies.
    Copy,
}

pub(super) fn read_oci(section: Section<'_>, config: &mut Config) -> Result<(), ConfigError> {
    if section.boolean("enabled")? == Some(false) {
        config
            .notes
            .push("`worker.oci.enabled = false`: Larder has one worker, which is always on".into());
    }
    let worker = &mut config.worker;
    worker.labels.extend(section.text_map("labels")?.unwrap_or_default());
    if let Some(platforms) = section.texts("platforms")? {
        worker.platforms = section.convert("platforms", || parse_platforms(&platforms))?;
    }
    if let Some(name) = section.text("snapshotter")? {
        choose_snapshotter(&name, config);
    }
    let worker = &mut config.worker;
    if let Some(parent) = section.text("defaultCgroupParent")?.filter(|parent| !parent.is_empty()) {
        worker.cgroup_parent = Some(parent);
    }
    if let Some(limit) = section.number::<usize>("max-parallelism")? {
        worker.parallelism = (limit > 0).then_some(limit);
    }
    read_gc(&section, &mut worker.gc)?;
    if let Some(mode) = section.text("networkMode")? {
        note_network(&mode, "worker.oci.networkMode", &mut config.notes);
    }
    for key in NOT_YET {
        if section.has(key) {
            config.notes.push(format!("`worker.oci.{key}` has no effect yet"));
        }
    }
    section.finish()
}

/// Keys that are read over.
const NOT_YET: [&str; 13] = [
    "rootless",
    "noProcessSandbox",
    "userRemapUnsupported",
    "binary",
    "proxySnapshotterPath",
    "stargzSnapshotter",
    "apparmor-profile",
    "selinux",
    "cniConfigPath",
    "cniBinaryPath",
    "cniPoolSize",
    "bridgeName",
    "bridgeSubnet",
];

fn read_gc(section: &Section<'_>, gc: &mut GcConfig) -> Result<(), ConfigError> {
    gc.enabled = section.boolean("gc")?.unwrap_or(gc.enabled);
    gc.bounds = read_bounds(section, "gckeepstorage")?;
    for rule in section.list("gcpolicy")? {
        let filters = rule.texts("filters")?.unwrap_or_default();
        rule.convert("filters", || filter::Filter::parse(&filters))?;
        gc.rules.push(GcRuleConfig {
            all: rule.boolean("all")?.unwrap_or_default(),
            filters,
            keep: rule.scalar("keepDuration", duration_of)?.unwrap_or_default(),
            bounds: read_bounds(&rule, "keepBytes")?,
        });
        rule.finish()?;
    }
    Ok(())
}

/// Reads three bounds, of which the first has an older name too.
fn read_bounds(section: &Section<'_>, older: &'static str) -> Result<Bounds, ConfigError> {
    let amount = |key| section.scalar(key, Amount::from_scalar);
    let older = amount(older)?;
    Ok(Bounds {
        reserved: amount("reservedSpace")?.or(older).unwrap_or(Amount::NONE),
        most: amount("maxUsedSpace")?.unwrap_or(Amount::NONE),
        free: amount("minFreeSpace")?.unwrap_or(Amount::NONE),
    })
}

pub(super) fn parse_platforms(texts: &[String]) -> Result<Vec<Platform>, oci::PlatformError> {
    texts.iter().map(|text| Platform::parse(text)).collect()
}

/// Chooses a snapshotter by the reference's names.
pub(super) fn choose_snapshotter(name: &str, config: &mut Config) {
    config.worker.snapshotter = match name {
        "" | "auto" => SnapshotterChoice::Auto,
        "overlayfs" | "overlay" => SnapshotterChoice::Overlay,
        "native" | "copy" => SnapshotterChoice::Copy,
        other => {
            let note = format!("Larder has no snapshotter `{other}`: it takes the best that works");
            config.notes.push(note);
            SnapshotterChoice::Auto
        }
    };
}

pub(super) fn note_network(mode: &str, key: &str, notes: &mut Vec<String>) {
    if !["", "auto", "host"].contains(&mode) {
        notes.push(format!(
            "`{key}`: networks of the kind `{mode}` are not made yet: steps use the host's network"
        ));
    }
}
