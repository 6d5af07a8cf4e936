//! The durable steps: everything that changes what a crash would leave behind goes through here.
//!
//! A document is written beside its place, synced, renamed over it, and the directory synced. A test
//! can have any single step fail or end the process ([`Faults`]).

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use executor::subvolume;

/// A kind of durable step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// A directory is made.
    MakeDirectory,
    /// A document is written beside its place.
    Write,
    /// A document is synced.
    Sync,
    /// A file or directory gets its final name, or loses it.
    Rename,
    /// A directory is synced.
    SyncDirectory,
    /// A file is removed.
    Remove,
    /// A whole file system is synced, so that a tree on it is.
    SyncTree,
    /// An entry of a layer is linked or moved into another.
    Link,
    /// A subvolume is forked.
    Snapshot,
}

/// Decides before each durable step whether it fails. In production no step is asked about.
pub trait Faults: fmt::Debug + Send + Sync {
    /// Called before `step` is done to `path`.
    ///
    /// # Errors
    /// The error the step is to fail with, instead of being done.
    fn before(&self, step: Step, path: &Path) -> io::Result<()>;
}

/// The disk under the volumes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk(Option<Arc<dyn Faults>>);

impl Disk {
    #[cfg(feature = "testing")]
    pub(crate) fn faulty(faults: Arc<dyn Faults>) -> Self {
        Self(Some(faults))
    }

    /// Announces a step that the caller does itself.
    pub(crate) fn before(&self, step: Step, path: &Path) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |faults| faults.before(step, path))
    }

    /// Puts `bytes` at `path`, replacing what was there in one instant.
    pub(crate) fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let beside = path.with_extension("new");
        let written = self.write_beside(&beside, bytes).and_then(|()| {
            self.before(Step::Rename, path)?;
            fs::rename(&beside, path)
        });
        if written.is_err() {
            let _ = fs::remove_file(&beside);
        }
        written?;
        self.sync_directory(path.parent().unwrap_or(path))
    }

    fn write_beside(&self, beside: &Path, bytes: &[u8]) -> io::Result<()> {
        self.before(Step::Write, beside)?;
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(beside)?;
        file.write_all(bytes)?;
        self.before(Step::Sync, beside)?;
        file.sync_all()
    }

    /// Makes a directory that only we may enter; its parent is there.
    pub(crate) fn make_directory(&self, path: &Path) -> io::Result<()> {
        self.before(Step::MakeDirectory, path)?;
        fs::DirBuilder::new().mode(0o700).create(path)
    }

    /// Makes a directory unless it is there.
    pub(crate) fn ensure_directory(&self, path: &Path) -> io::Result<()> {
        match self.make_directory(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            done => done,
        }
    }

    /// Makes an empty tree that can be forked as a whole.
    pub(crate) fn make_subvolume(&self, path: &Path) -> io::Result<()> {
        self.before(Step::MakeDirectory, path)?;
        subvolume::create(path)
    }

    /// Forks a tree as a whole.
    pub(crate) fn snapshot(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.before(Step::Snapshot, to)?;
        subvolume::snapshot(from, to)
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.before(Step::Rename, to)?;
        fs::rename(from, to)
    }

    pub(crate) fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.before(Step::SyncDirectory, path)?;
        File::open(path)?.sync_all()
    }

    /// Syncs the file system that `path` is on: one call, however many files are new.
    pub(crate) fn sync_tree(&self, path: &Path) -> io::Result<()> {
        self.before(Step::SyncTree, path)?;
        Ok(rustix::fs::syncfs(File::open(path)?)?)
    }
}
