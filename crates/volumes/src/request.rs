//! What a step asks for, and how it tells how it went.

use std::fmt;

use filelock::{Holder, Label};
use mount::HostPath;
use std::time::Duration;

use crate::{VariantKey, VolumeName};

/// How a step's use of a volume goes together with that of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// All concurrent holders see one live tree.
    Shared,
    /// One holder at a time; the others wait in the order of their coming.
    Locked,
    /// A copy-on-write fork of the newest version: never waits, and is never cold.
    Private,
    /// Reads the newest version: never waits for a writer, and never sees a half-written tree.
    ReadOnly,
}

impl fmt::Display for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shared => "shared",
            Self::Locked => "locked",
            Self::Private => "private",
            Self::ReadOnly => "ro",
        })
    }
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// With exit status zero.
    Succeeded,
    /// With another exit status.
    Failed,
    /// By a signal, by cancellation, or for want of memory.
    Killed,
}

/// The owner and mode that a step wants of the root of its mount; what is left out is root's, 0755.
///
/// Not part of a volume's name: it is applied when the volume is mounted. What the step itself then
/// changes on the root is kept for later steps that ask for the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct RootAttributes {
    /// The owner.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
    /// The permission bits.
    pub mode: Option<u32>,
}

/// The content that a variant of a volume has when it is first used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Identifies the content; part of the volume's name.
    pub key: VariantKey,
    /// Where the content is found, should this be the first use.
    pub seed: Seed,
}

/// A file tree to begin with: directories in the form of overlay layers, topmost first.
///
/// They are only read, and only until the lease is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// The layers; a plain directory is a single one.
    pub layers: Vec<HostPath>,
}

/// One mount that a step wants of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountRequest {
    /// The volume; a variant is given by `variant`, and becomes part of the name.
    pub name: VolumeName,
    /// The content to begin with; none for an empty tree.
    pub variant: Option<Variant>,
    /// How it is shared.
    pub sharing: Sharing,
    /// True if the step may not write through this mount.
    pub readonly: bool,
    /// Owner and mode of the mount's root.
    pub root: RootAttributes,
    /// True if the step is built without cache.
    pub fresh: bool,
    /// Where the step mounts it; for messages only.
    pub target: String,
}

impl MountRequest {
    /// Returns a request for a writable mount of the volume `name` with nothing special about it.
    pub fn new(name: VolumeName, sharing: Sharing) -> Self {
        Self {
            name,
            variant: None,
            sharing,
            readonly: false,
            root: RootAttributes::default(),
            fresh: false,
            target: String::new(),
        }
    }

    /// Returns the full name of the volume that is asked for.
    pub(crate) fn volume(&self) -> VolumeName {
        match &self.variant {
            Some(variant) => self.name.clone().with_variant(variant.key),
            None => self.name.clone(),
        }
    }
}

/// All that one step wants of volumes. They are taken in the order of their keys, so that no two
/// steps can wait for each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRequest {
    /// The mounts; two of the same volume get the same lease and see the same tree.
    pub mounts: Vec<MountRequest>,
    /// Who asks, in words for those who will wait.
    pub holder: Label,
}

/// What a waiting step can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The volume it waits for.
    pub volume: VolumeName,
    /// Who holds the volume now: build, step and since when.
    pub holders: Vec<Holder>,
    /// How many go before this step, holders not counted.
    pub ahead: usize,
    /// How long it has waited for this volume.
    pub waited: Duration,
}

/// Is told when a step has to wait, and when it is over.
pub trait WaitObserver: Send + Sync {
    /// The step waits. Called when the wait begins and whenever holders or place have changed.
    fn waiting(&self, waiting: &Waiting);

    /// The step waited for `volume`, and has it now.
    fn acquired(&self, volume: &VolumeName, waited: Duration);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl WaitObserver for Unobserved {
    fn waiting(&self, _: &Waiting) {}

    fn acquired(&self, _: &VolumeName, _: Duration) {}
}
