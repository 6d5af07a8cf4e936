//! Values that mean the same on both sides.

use proto::pb;

use crate::{LinuxResources, OpMetadata, Platform, Position, ProgressGroup, Range, SourceOp};

impl From<pb::Platform> for Platform {
    fn from(wire: pb::Platform) -> Self {
        Self {
            architecture: wire.architecture,
            os: wire.os,
            variant: wire.variant,
            os_version: wire.os_version,
            os_features: wire.os_features,
        }
    }
}

impl From<Platform> for pb::Platform {
    fn from(platform: Platform) -> Self {
        Self {
            architecture: platform.architecture,
            os: platform.os,
            variant: platform.variant,
            os_version: platform.os_version,
            os_features: platform.os_features,
        }
    }
}

impl From<pb::SourceOp> for SourceOp {
    fn from(wire: pb::SourceOp) -> Self {
        Self { identifier: wire.identifier, attributes: wire.attrs }
    }
}

impl From<SourceOp> for pb::SourceOp {
    fn from(source: SourceOp) -> Self {
        Self { identifier: source.identifier, attrs: source.attributes }
    }
}

impl From<pb::ProgressGroup> for ProgressGroup {
    fn from(wire: pb::ProgressGroup) -> Self {
        Self { id: wire.id, name: wire.name, weak: wire.weak }
    }
}

impl From<ProgressGroup> for pb::ProgressGroup {
    fn from(group: ProgressGroup) -> Self {
        Self { id: group.id, name: group.name, weak: group.weak }
    }
}

impl From<pb::LinuxResources> for LinuxResources {
    fn from(wire: pb::LinuxResources) -> Self {
        Self {
            memory: wire.memory,
            memory_swap: wire.memory_swap,
            cpu_shares: wire.cpu_shares,
            cpu_period: wire.cpu_period,
            cpu_quota: wire.cpu_quota,
            cpuset_cpus: wire.cpuset_cpus,
            cpuset_mems: wire.cpuset_mems,
        }
    }
}

impl From<LinuxResources> for pb::LinuxResources {
    fn from(limits: LinuxResources) -> Self {
        Self {
            memory: limits.memory,
            memory_swap: limits.memory_swap,
            cpu_shares: limits.cpu_shares,
            cpu_period: limits.cpu_period,
            cpu_quota: limits.cpu_quota,
            cpuset_cpus: limits.cpuset_cpus,
            cpuset_mems: limits.cpuset_mems,
        }
    }
}

impl From<OpMetadata> for pb::OpMetadata {
    fn from(metadata: OpMetadata) -> Self {
        Self {
            ignore_cache: metadata.ignore_cache,
            description: metadata.description,
            export_cache: metadata.export_cache.map(|value| pb::ExportCache { value }),
            caps: metadata.caps.into_iter().map(|cap| (cap, true)).collect(),
            progress_group: metadata.progress_group.map(Into::into),
            linux_resources: metadata.linux_resources.map(Into::into),
        }
    }
}

impl From<&pb::Range> for Range {
    fn from(wire: &pb::Range) -> Self {
        let position = |wire: Option<pb::Position>| {
            let wire = wire.unwrap_or_default();
            Position { line: wire.line, character: wire.character }
        };
        Self { start: position(wire.start), end: position(wire.end) }
    }
}

impl From<Range> for pb::Range {
    fn from(range: Range) -> Self {
        let position = |position: Position| {
            Some(pb::Position { line: position.line, character: position.character })
        };
        Self { start: position(range.start), end: position(range.end) }
    }
}
