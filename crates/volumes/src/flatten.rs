//! A stack of layers made into one new layer beside them.
//!
//! For a head that is never left alone long enough to be settled. The layers stay as they are, so it
//! does not matter who uses them; the files of the new layer are further names of the old ones.

use filelock::{FileLock, Mode};
use mount::HostPath;

use crate::layout::LayerId;
use crate::store::{Volume, lock_error};
use crate::tree::{self, Means, View};
use crate::{Step, VolumeError};

/// A layer in limbo. Dropped without being put in its place it is removed.
#[derive(Debug)]
pub(crate) struct Flat {
    pub(crate) layer: LayerId,
    beside: HostPath,
    _making: FileLock,
}

impl Volume {
    /// Makes one layer of `layers`, topmost first, none of which changes any more.
    pub(crate) fn flatten(&self, layers: &[LayerId]) -> Result<Flat, VolumeError> {
        let (disk, layout) = (&self.store.disk, &self.store.layout);
        let making = FileLock::acquire(layout.making().as_path(), Mode::Shared, None);
        let layer = LayerId::invent();
        let beside = layout.limbo().join(layer.to_string());
        let flat = Flat { layer, beside, _making: making.map_err(lock_error)? };
        let tree = flat.beside.join("fs");
        let failed = || VolumeError::system("flatten", tree.as_path());
        for path in [&flat.beside, &tree] {
            disk.make_directory(path.as_path()).map_err(failed())?;
        }
        let trees: Vec<_> = layers.iter().map(|layer| self.paths.tree(*layer)).collect();
        let view = View::open(&trees).map_err(failed())?;
        let mut pace = || disk.before(Step::Link, tree.as_path());
        tree::transfer(&view, tree.as_path(), Means::Link, &mut pace).map_err(failed())?;
        Ok(flat)
    }
}

impl Flat {
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
        let _ = std::fs::remove_dir_all(self.beside.as_path());
    }
}
