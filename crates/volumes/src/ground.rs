//! The trees that layers are written in: plain directories, or subvolumes where files are on btrfs.
//!
//! A subvolume is forked as a whole, so a layer whose tree is one stands on nothing: it is a version by
//! itself. Whether a layer's tree is one is seen on disk and written nowhere; what is put above others
//! by the kernel's overlay never is.

use std::io;

use executor::subvolume;
use filelock::{FileLock, Mode};
use mount::HostPath;

use crate::flatten::Flat;
use crate::layout::{LayerId, Layout};
use crate::store::{Store, Volume, lock_error};
use crate::tree::{self, Twins, View};
use crate::{Driver, Policy, Step, VolumeError};

/// The number by which btrfs is known.
const BTRFS: u64 = 0x9123_683E;

/// Returns true if the volumes are on btrfs.
pub(crate) fn is_btrfs(layout: &Layout) -> bool {
    let found = rustix::fs::statfs(layout.format().as_path());
    found.is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|kind| kind == BTRFS))
}

/// Tries to make a subvolume. Fails where that cannot be done.
pub(crate) fn probe(layout: &Layout) -> Result<io::Result<()>, VolumeError> {
    if !is_btrfs(layout) {
        return Ok(Err(io::ErrorKind::Unsupported.into()));
    }
    let making = FileLock::acquire(layout.making().as_path(), Mode::Shared, None);
    let _made = making.map_err(lock_error)?;
    let trial = layout.limbo().join(LayerId::invent().to_string());
    let made = subvolume::create(trial.as_path());
    Ok(made.and_then(|()| tree::remove_all(trial.as_path())))
}

impl Store {
    /// Returns how what several trees have alike is to be counted.
    pub(crate) const fn twins(&self) -> Twins {
        if self.btrfs { Twins::Shared } else { Twins::Apart }
    }
}

impl Volume {
    /// Returns true if trees of this volume are made to be forked as a whole.
    fn has_subvolumes(&self, policy: &Policy) -> bool {
        let wanted = match policy.driver {
            Driver::Auto | Driver::Subvolume => true,
            Driver::Overlay | Driver::Reflink => false,
        };
        wanted && self.store.subvolumes
    }

    /// Makes the empty tree of a layer that stands on nothing.
    pub(crate) fn make_tree(&self, path: &HostPath, policy: &Policy) -> Result<(), VolumeError> {
        let disk = &self.store.disk;
        let made = if self.has_subvolumes(policy) {
            disk.make_subvolume(path.as_path())
        } else {
            disk.make_directory(path.as_path())
        };
        made.map_err(VolumeError::system("make", path.as_path()))
    }

    /// Makes the tree of a layer that begins as `from` is now.
    pub(crate) fn fork_tree(&self, from: &HostPath, to: &HostPath) -> Result<(), VolumeError> {
        let forked = self.store.disk.snapshot(from.as_path(), to.as_path());
        forked.map_err(VolumeError::system("fork", from.as_path()))
    }

    /// Returns true if the tree of `layer` is a subvolume.
    pub(crate) fn is_whole(&self, layer: LayerId) -> Result<bool, VolumeError> {
        if !self.store.btrfs {
            return Ok(false);
        }
        let path = self.paths.tree(layer);
        let failed = VolumeError::system("look at", path.as_path());
        subvolume::is_one(path.as_path()).map_err(failed)
    }

    /// Returns the tree of `layers` if it can be forked as a whole: if it is a single one, and a
    /// subvolume. One with others inside, which steps can make, is not: a fork would lack them.
    pub(crate) fn forkable(
        &self,
        layers: &[LayerId],
        policy: &Policy,
    ) -> Result<Option<HostPath>, VolumeError> {
        let [layer] = layers else { return Ok(None) };
        if !self.has_subvolumes(policy) || !self.is_whole(*layer)? {
            return Ok(None);
        }
        let path = self.paths.tree(*layer);
        let failed = VolumeError::system("look at", path.as_path());
        let others = subvolume::has_children(path.as_path()).map_err(failed)?;
        Ok((!others).then_some(path))
    }

    /// Makes a layer of `head`, which can be forked as a whole, and of what the step that wrote `fork`
    /// changed in `base`, the same way. None if nothing comes of it.
    pub(crate) fn graft(
        &self,
        fork: &HostPath,
        base: &[LayerId],
        head: &HostPath,
    ) -> Result<Option<Flat>, VolumeError> {
        let flat = self.begin_flat()?;
        let tree = flat.tree();
        self.fork_tree(head, &tree)?;
        let failed = || VolumeError::system("merge", fork.as_path());
        let base: Vec<_> = base.iter().map(|layer| self.paths.tree(*layer)).collect();
        let view = |paths: &[HostPath]| View::open(paths).map_err(failed());
        let (ours, base) = (view(std::slice::from_ref(fork))?, view(&base)?);
        let head = view(std::slice::from_ref(head))?;
        let mut pace = || self.store.disk.before(Step::Link, tree.as_path());
        let changed = tree::graft(&ours, &base, &head, tree.as_path(), &mut pace);
        Ok(changed.map_err(failed())?.then_some(flat))
    }
}
