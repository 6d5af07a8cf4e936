//! What a definition says of a vertex beside its operation: none of it is part of the digest.

use std::collections::BTreeMap;

/// What is known about a vertex beside its operation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpMetadata {
    /// Run it even when its result is cached; the new result is stored.
    pub ignore_cache: bool,
    /// Texts by key; `llb.customname` is the name to show.
    pub description: BTreeMap<String, String>,
    /// Whether a cache export takes it; none leaves that to the export.
    pub export_cache: Option<bool>,
    /// The capabilities that the client used in this operation, in order.
    pub caps: Vec<String>,
    /// The line of progress that it is shown in, when it shares one.
    pub progress_group: Option<ProgressGroup>,
    /// Limits for the process of an exec operation.
    pub linux_resources: Option<LinuxResources>,
}

impl OpMetadata {
    /// The key of the description that holds the name to show.
    pub const CUSTOM_NAME: &'static str = "llb.customname";
}

/// Vertices that are shown as one line of progress.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ProgressGroup {
    /// Equal ids are one group.
    pub id: String,
    /// The name of the line.
    pub name: String,
    /// Whether this vertex alone is not enough to show the group.
    pub weak: bool,
}

/// Limits of a process; zero or empty means no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct LinuxResources {
    /// Memory, in bytes.
    pub memory: i64,
    /// Memory and swap together, in bytes; -1 is unlimited.
    pub memory_swap: i64,
    /// Relative weight of processor time.
    pub cpu_shares: u64,
    /// The period of the processor quota, in microseconds.
    pub cpu_period: u64,
    /// The processor quota, in microseconds per period.
    pub cpu_quota: i64,
    /// The processors it may run on: `0-3,5`.
    pub cpuset_cpus: String,
    /// The memory nodes it may use.
    pub cpuset_mems: String,
}
