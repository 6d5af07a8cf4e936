//! Why something could not be done with a volume.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use filelock::{Holder, LockError};

use crate::Space;

/// Why something could not be done with a volume.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// There is no such volume.
    #[error("no volume `{0}`")]
    Unknown(String),
    /// There is no such version of the volume.
    #[error("volume `{volume}` has no version {version}; it has {kept}")]
    NoVersion {
        /// The volume.
        volume: String,
        /// The version asked for.
        version: u64,
        /// The versions there are.
        kept: String,
    },
    /// There is no such directory in the volume.
    #[error("volume `{volume}` has no directory `{path}`")]
    NoDirectory {
        /// The volume.
        volume: String,
        /// The path, from the volume's root.
        path: String,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Somebody uses the volume, or waits for it.
    #[error("volume `{volume}` is in use by {}", users(holders))]
    InUse {
        /// The volume.
        volume: String,
        /// Who uses it.
        holders: Vec<Holder>,
    },
    /// There is already a volume of that name.
    #[error("volume `{0}` exists already")]
    Exists(String),
    /// The step waited longer than the volume's policy allows.
    #[error(
        "gave up waiting for volume `{volume}` after {} s: it is in use by {} (the policy's `wait-limit`)",
        limit.as_secs(), users(holders)
    )]
    WaitLimit {
        /// The volume.
        volume: String,
        /// How long the step waited.
        limit: Duration,
        /// Who holds it.
        holders: Vec<Holder>,
    },
    /// What is on disk is not what Larder wrote.
    #[error("`{}` is damaged: {reason}; move it away to start afresh", path.display())]
    Damaged {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What is on disk was written by a newer Larder.
    #[error("`{}` has format {found}, and this version knows format {known}: use a newer version", path.display())]
    Newer {
        /// The file or directory.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format known here.
        known: u64,
    },
    /// The disk is nearly full and nothing is left to remove.
    #[error("only {} bytes and {} inodes are free on the disk of the cache volumes, and {} bytes and {} inodes are to be kept free: make room, or lower `reserve` in `[larder.volumes]`", free.bytes, free.inodes, reserve.bytes, reserve.inodes)]
    NoSpace {
        /// What is free.
        free: Space,
        /// What must be.
        reserve: Space,
    },
    /// A policy asks for reflink copies where there are none.
    #[error("the file system of `{}` has no reflinks, which a policy's `driver` asks for: use xfs or btrfs, or another driver", .0.display())]
    NoReflinks(PathBuf),
    /// A policy asks for subvolumes where there are none.
    #[error("no subvolumes can be made in `{}`, which a policy's `driver` asks for: use btrfs, or another driver", path.display())]
    NoSubvolumes {
        /// The root of the volumes.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A file lock could not be taken.
    #[error("cannot lock volume files")]
    Lock(#[source] LockError),
    /// The system refused.
    #[error("cannot {action} `{}`", path.display())]
    System {
        /// What was attempted.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The program is ending.
    #[error("work on volumes stopped")]
    Stopped(#[source] tasks::JoinError),
}

impl VolumeError {
    /// Returns a function that says what was attempted on `path` when the system refused.
    pub(crate) fn system(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::System { action, path, source }
    }

    pub(crate) fn damaged(path: impl Into<PathBuf>, reason: impl ToString) -> Self {
        Self::Damaged { path: path.into(), reason: reason.to_string() }
    }
}

fn users(holders: &[Holder]) -> String {
    if holders.is_empty() {
        return "another process".to_owned();
    }
    holders.iter().map(Holder::to_string).collect::<Vec<_>>().join(", ")
}
