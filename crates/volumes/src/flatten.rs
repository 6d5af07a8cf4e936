//! A stack of layers made into one new layer beside them.
//!
//! For a head that is never left alone long enough to be settled. The layers stay as they are, so it
//! does not matter who uses them; the files of the new layer are further names of the old ones.

use filelock::{FileLock, Mode};
use mount::HostPath;

use crate::layout::LayerId;
use crate::store::{Volume, lock_error};
use crate::tree::{self, Means, View};
use crate::{Policy, Step, VolumeError};

/// A layer in limbo. Dropped without being put in its place it is removed.
#[derive(Debug)]
pub(crate) struct Flat {
    pub(crate) layer: LayerId,
    beside: HostPath,
    _making: FileLock,
}

impl Volume {
    /// Makes one layer of `layers`, topmost first, none of which changes any more.
    pub(crate) fn flatten(&self, layers: &[LayerId], policy: &Policy) -> Result<Flat, VolumeError> {
        let disk = &self.store.disk;
        let flat = self.begin_flat()?;
        let tree = flat.tree();
        self.make_tree(&tree, policy)?;
        let failed = || VolumeError::system("flatten", tree.as_path());
        let trees: Vec<_> = layers.iter().map(|layer| self.paths.tree(*layer)).collect();
        let view = View::open(&trees).map_err(failed())?;
        let mut pace = || disk.before(Step::Link, tree.as_path());
        tree::transfer(&view, tree.as_path(), Means::Link, &mut pace).map_err(failed())?;
        Ok(flat)
    }

    /// Makes the directory of a layer in limbo; its tree is not made yet.
    pub(crate) fn begin_flat(&self) -> Result<Flat, VolumeError> {
        let (disk, layout) = (&self.store.disk, &self.store.layout);
        let making = FileLock::acquire(layout.making().as_path(), Mode::Shared, None);
        let layer = LayerId::invent();
        let beside = layout.limbo().join(layer.to_string());
        let flat = Flat { layer, beside, _making: making.map_err(lock_error)? };
        let failed = VolumeError::system("make", flat.beside.as_path());
        disk.make_directory(flat.beside.as_path()).map_err(failed)?;
        Ok(flat)
    }
}

impl Flat {
    /// The directory of the layer, for now.
    pub(crate) const fn directory(&self) -> &HostPath {
        &self.beside
    }

    /// The tree of the layer, for now.
    pub(crate) fn tree(&self) -> HostPath {
        self.beside.join("fs")
    }

    /// Puts the layer in its place. Called inside the gate, before the commit that needs it.
    pub(crate) fn put(self, volume: &Volume) -> Result<(), VolumeError> {
        let to = volume.paths.layer(self.layer);
        let put = volume.store.disk.rename(self.beside.as_path(), to.as_path());
        put.map_err(VolumeError::system("make", to.as_path()))
    }
}

impl Drop for Flat {
    fn drop(&mut self) {
        // Gone already if it was put in its place; what cannot be removed is swept later.
        let _ = tree::remove_all(self.beside.as_path());
    }
}
