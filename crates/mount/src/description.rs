//! What is to be mounted, as a value.

use serde::{Deserialize, Serialize};

use crate::HostPath;

/// A mount that somebody will perform: a snapshot's root, a volume, a secret.
///
/// Where it goes is not part of it: the same tree is mounted at many places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// True if nothing may be written through it.
    pub readonly: bool,
}

/// Where the content of a [`Mount`] comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A directory or file of the host, seen as it is.
    Bind(HostPath),
    /// An overlay (Linux `overlayfs`).
    Overlay {
        /// The lower directories, topmost first; at least one.
        lower: Vec<HostPath>,
        /// The writable layer; none for a read-only view of two or more lower directories.
        upper: Option<OverlayUpper>,
    },
    /// A new, empty file system in memory.
    Tmpfs {
        /// Its limit in bytes; none for the kernel's default.
        size: Option<u64>,
        /// Permission bits of its root.
        mode: u32,
    },
}

/// The writable part of an overlay; both directories are on one file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayUpper {
    /// Receives what is written.
    pub upper: HostPath,
    /// The kernel's scratch space, empty at first.
    pub work: HostPath,
    /// Who sees to it that what is written reaches the disk.
    pub syncing: Syncing,
}

/// Who sees to it that what is written through an overlay reaches the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Syncing {
    /// The kernel: `fsync` of a file inside does what it says, and unmounting waits until all that the
    /// file system below has in memory, of whomever, is on the disk.
    Kernel,
    /// The owner of the layer, once it is whole (option `volatile`): inside nothing waits for the disk,
    /// and neither does unmounting. What a crash of the machine left of the layer is of no use.
    Owner,
}

impl Mount {
    /// Returns a writable bind mount of `path`.
    pub const fn bind(path: HostPath) -> Self {
        Self { source: MountSource::Bind(path), readonly: false }
    }

    /// Returns the same mount, not writable.
    pub fn read_only(self) -> Self {
        Self { readonly: true, ..self }
    }
}
