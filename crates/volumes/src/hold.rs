//! One use of one volume: from the place in the queue to the tree in hand.

use std::os::fd::OwnedFd;

use filelock::{FileLock, Label};
use mount::{HostPath, Mount, MountSource, OverlayUpper};

use crate::gate::Orphan;
use crate::idle::Parked;
use crate::state::Root;
use crate::store::Volume;
use crate::tree::{self, Means, View};
use crate::turn::Turn;
use crate::{RootAttributes, Step, VolumeError};

/// A turn that is ours. Dropped without a proper end it is given up, and what it wrote into a layer
/// of its own with it.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) volume: Volume,
    pub(crate) turn: Turn,
    /// The lock on the turn's file; none once the turn is over.
    lock: Option<FileLock>,
    pub(crate) by: Label,
    pub(crate) asked: RootAttributes,
    /// How the root looked when the turn began.
    pub(crate) root: Option<Root>,
    pub(crate) view: Sight,
    /// The tree that a copy of is to be made of before the step begins.
    pub(crate) to_be_copied: Option<HostPath>,
}

/// What the step sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Nothing yet: the turn waits.
    None,
    /// A directory as it is.
    Tree(HostPath),
    /// A directory that must not be written, or the tree of several.
    Version(Vec<HostPath>),
    /// A layer above others; the step's mount of it is the only one.
    Above { lower: Vec<HostPath>, upper: OverlayUpper },
}

impl Hold {
    /// Takes a turn whose file is locked by `lock`.
    pub(crate) fn new(
        volume: Volume,
        turn: Turn,
        lock: FileLock,
        by: Label,
        asked: RootAttributes,
    ) -> Self {
        let (root, view, to_be_copied) = (None, Sight::None, None);
        Self { volume, turn, lock: Some(lock), by, asked, root, view, to_be_copied }
    }

    /// Takes over the turn of a dead holder.
    pub(crate) fn adopt(volume: Volume, orphan: Orphan) -> Self {
        let Orphan { turn, lock } = orphan;
        let holder = FileLock::holder_of(lock.path()).ok().flatten();
        let unknown = || Label { build: "a dead process".to_owned(), step: String::new() };
        let by = holder.map_or_else(unknown, |holder| holder.label);
        Self::new(volume, turn, lock, by, RootAttributes::default())
    }

    /// Makes the copy that the step is to see, if it is to see one.
    pub(crate) fn copy(&mut self, asked: RootAttributes) -> Result<(), VolumeError> {
        let (Some(from), Some(layer)) = (self.to_be_copied.take(), self.turn.layer) else {
            return Ok(());
        };
        let to = self.volume.paths.tree(layer);
        let failed = || VolumeError::system("copy", from.as_path());
        let view = View::open(std::slice::from_ref(&from)).map_err(failed())?;
        let disk = &self.volume.store.disk;
        let mut pace = || disk.before(Step::Link, to.as_path());
        tree::transfer(&view, to.as_path(), Means::CopyLive, &mut pace).map_err(failed())?;
        match self.root {
            Some(root) if asked != RootAttributes::default() => set_root(&to, root),
            _ => Ok(()),
        }
    }

    /// Gives the turn's file the name of `turn`, which it is from now on.
    pub(crate) fn begin(&mut self, turn: Turn) -> Result<(), VolumeError> {
        if let Some(lock) = &mut self.lock {
            let to = self.volume.turn_path(&turn);
            lock.rename(to.as_path()).map_err(VolumeError::Lock)?;
        }
        self.turn = turn;
        Ok(())
    }

    /// Returns the turn's lock once more, so that it lasts until both are closed.
    pub(crate) fn lock_again(&self) -> Result<Option<OwnedFd>, VolumeError> {
        self.lock.as_ref().map(FileLock::share).transpose().map_err(VolumeError::Lock)
    }

    /// Ends the turn, and keeps its file for the next use. Returns false if there is no room for it.
    pub(crate) fn park(&mut self) -> bool {
        let idle = &self.volume.store.idle;
        if !idle.has_room() {
            return false;
        }
        let Some(lock) = self.lock.take() else { return false };
        idle.park(self.volume.key, Parked { lock: lock.park(), turn: self.turn });
        self.volume.store.wakes.signal(self.volume.key);
        true
    }

    /// Ends the turn: from now on others may begin.
    pub(crate) fn finish(&mut self) -> Result<(), VolumeError> {
        let ended = self.lock.take().map_or(Ok(()), FileLock::remove);
        self.volume.store.wakes.signal(self.volume.key);
        ended.map_err(VolumeError::Lock)
    }

    /// Returns the mount for the step.
    pub(crate) fn mount(&self) -> Mount {
        match &self.view {
            Sight::Tree(tree) => Mount::bind(tree.clone()),
            Sight::Version(lower) if lower.len() == 1 => Mount::bind(lower[0].clone()).read_only(),
            Sight::Version(lower) => {
                let source = MountSource::Overlay { lower: lower.clone(), upper: None };
                Mount { source, readonly: true }
            }
            Sight::Above { lower, upper } => {
                let (lower, upper) = (lower.clone(), Some(upper.clone()));
                Mount { source: MountSource::Overlay { lower, upper }, readonly: false }
            }
            Sight::None => Mount::bind(self.volume.store.layout.empty()).read_only(),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.lock.is_none() {
            return;
        }
        if let Err(error) = self.finish() {
            tracing::warn!(volume.id = %self.volume.key, %error, "the end of a turn was not noted");
        }
    }
}

/// Gives a tree's root an owner and a mode.
pub(crate) fn set_root(path: &HostPath, wanted: Root) -> Result<(), VolumeError> {
    tree::set_root(path.as_path(), wanted).map_err(VolumeError::system("prepare", path.as_path()))
}
