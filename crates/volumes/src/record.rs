//! What can be seen of a volume from outside.

use std::time::SystemTime;

use filelock::{Holder, Label};
use mount::HostPath;

use crate::{Form, Origin, Policy, PolicyPatch, Sharing, Space, VolumeKey, VolumeName};

/// What can be seen of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeRecord {
    /// Its stable identity.
    pub key: VolumeKey,
    /// Its name.
    pub name: VolumeName,
    /// The disk it takes, all versions and leases together: what `du` says of [`Location::layers`].
    pub space: Space,
    /// Whether it is written in place or has versions.
    pub form: Form,
    /// When it was made.
    pub created: SystemTime,
    /// When a lease of it last ended; none if none has.
    pub last_used: Option<SystemTime>,
    /// How many leases of it have ended.
    pub uses: u64,
    /// Its leases, in every process.
    pub leases: Vec<LeaseRecord>,
    /// Those who wait for it, first come first.
    pub waiting: Vec<LeaseRecord>,
    /// The number of its head.
    pub head: u64,
    /// Its versions, oldest first.
    pub versions: Vec<VersionRecord>,
    /// What holds for it.
    pub policy: Policy,
    /// What of it was decided about this volume by name.
    pub decided: PolicyPatch,
}

impl VolumeRecord {
    /// Returns true if somebody uses it or waits for it.
    pub fn in_use(&self) -> bool {
        !self.leases.is_empty() || !self.waiting.is_empty()
    }
}

/// What can be seen of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRecord {
    /// Its number; later versions have greater ones.
    pub number: u64,
    /// The version it was made from.
    pub parent: Option<u64>,
    /// How it was made.
    pub origin: Origin,
    /// When it was made.
    pub created: SystemTime,
    /// Who made it.
    pub by: Option<Label>,
    /// How many layers it consists of.
    pub depth: usize,
}

/// What can be seen of a lease, or of a place in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRecord {
    /// How it shares the volume.
    pub sharing: Sharing,
    /// Who it is; none if it left no name.
    pub holder: Option<Holder>,
    /// The version it began with; none while it waits.
    pub base: Option<u64>,
}

/// Where a volume is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Its directory.
    pub directory: HostPath,
    /// The directory with the trees of all its versions and leases.
    pub layers: HostPath,
    /// The layers of its head, topmost first. A single one is the tree itself.
    pub head: Vec<HostPath>,
}
