//! Files that a layer shares with the client's directory which they were copied from.
//!
//! A file of a client's directory is never written again once it is complete, and neither is a file of
//! a layer. So a copy that changes nothing can be a second name of the same file. Its space counts for
//! the layer, as that of a copy would, and the directory counts what it has alone; when the layer goes
//! first, that space is the directory's.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use mount::{Mount, MountSource};
use parking_lot::MutexGuard;
use snapshot::LayerKey;

use crate::local::LocalTree;
use crate::refs::Layer;
use crate::{CacheError, ImmutableRef, MutableRef, Refs, TreeView};

/// The bytes on disk of a tree, as `du` counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Space {
    /// What goes with the tree.
    pub(crate) own: u64,
    /// What has names elsewhere too.
    pub(crate) shared: u64,
}

/// Leave to give files of a tree further names, for one at a time: a file that two layers have is
/// counted for both, and looks like one file with two names in a stack of them.
#[must_use = "others may link again when this is dropped"]
#[derive(Debug)]
pub struct Loan<'a> {
    _guard: MutexGuard<'a, ()>,
}

impl<'a> Loan<'a> {
    pub(crate) fn new(guard: MutexGuard<'a, ()>) -> Self {
        Self { _guard: guard }
    }
}

impl TreeView {
    /// Returns leave to link files of the tree into a layer instead of copying them: if it is a client's
    /// directory, and nobody else has it now.
    pub fn lend(&self) -> Option<Loan<'_>> {
        self.tree().local().and_then(LocalTree::lend)
    }
}

impl MutableRef {
    /// Says that files of `lender`, with its leave, were linked into this layer.
    pub fn borrowed_from(&mut self, lender: &TreeView) {
        let Some(local) = lender.tree().local() else { return };
        local.note_lent();
        if !self.lenders.contains(local.key()) {
            self.lenders.push(local.key().clone());
        }
    }
}

impl Refs {
    /// Returns what the removal of `layer`, which is out of the table already, gives free. What it has of
    /// a client's directory stays with that.
    pub(crate) async fn freed_by(&self, layer: &Arc<Layer>) -> u64 {
        let (lenders, is_plain) = {
            let document = layer.document.lock();
            (document.lenders.clone(), document.lenders.is_empty() && document.tree.is_none())
        };
        let size = || layer.document.lock().size;
        if is_plain {
            return size();
        }
        let _count = self.inner().counting.lock().await;
        let size = size();
        let lives = |key: &&LayerKey| self.inner().layers.lock().contains_key(*key);
        let Some(lender) = lenders.iter().find(lives) else { return size };
        let tree = ImmutableRef::of_layers(vec![layer.clone()]);
        let shared = match self.space_of(&tree).await {
            Ok(space) => space.shared.min(size),
            Err(error) => {
                tracing::debug!(%error, snapshot.key = %layer.key, "shared files were not counted");
                0
            }
        };
        self.resize(lender, |size| size.saturating_add(shared));
        size - shared
    }

    async fn space_of(&self, tree: &ImmutableRef) -> Result<Space, CacheError> {
        let view = self.view(tree).await?;
        let directory = match &view.mount().source {
            MountSource::Bind(directory) => directory.clone(),
            // Only copies are made by links, and they leave a plain tree unless something was hidden: then
            // it is the uppermost of two.
            MountSource::Overlay { lower, .. } => match lower.first() {
                Some(directory) => directory.clone(),
                None => return Ok(Space::default()),
            },
            MountSource::Tmpfs { .. } => return Ok(Space::default()),
        };
        let count = move || space_below(directory.as_path());
        Ok(tasks::blocking("count shared files", count).await?)
    }

    /// Counts the size of a client's directory in the background.
    pub(crate) fn measure(&self, key: LayerKey, mount: &Mount) {
        let MountSource::Bind(directory) = mount.source.clone() else { return };
        let refs = self.clone();
        // From now on if nobody counts: who removes a layer next finds the count done.
        let turn = refs.inner().counting.clone().try_lock_owned().ok();
        let count = async move {
            let _turn = match turn {
                Some(turn) => turn,
                None => refs.inner().counting.clone().lock_owned().await,
            };
            let count = move || space_below(directory.as_path());
            if let Ok(space) = tasks::blocking("measure tree", count).await {
                refs.resize(&key, |_| space.own);
            }
        };
        tasks::spawn("measure tree", count).detach();
    }

    /// Changes the recorded size of a layer, unless it is gone. Holds nothing that would keep it from
    /// going.
    fn resize(&self, key: &LayerKey, size: impl FnOnce(u64) -> u64) {
        let layers = self.inner().layers.lock();
        let Some(layer) = layers.get(key) else { return };
        let mut document = layer.document.lock();
        document.size = size(document.size);
        self.put(key, &document);
    }
}

/// Counts all below `directory`. What disappears meanwhile does not count.
pub(crate) fn space_below(directory: &Path) -> Space {
    let mut space = Space::default();
    // Files of several names: how many of them are here.
    let mut linked: HashMap<(u64, u64), u64> = HashMap::new();
    let mut pending = vec![directory.to_path_buf()];
    while let Some(next) = pending.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            let bytes = metadata.blocks() * 512;
            if metadata.is_dir() {
                pending.push(entry.path());
                space.own += bytes;
            } else if metadata.nlink() == 1 {
                space.own += bytes;
            } else {
                let names = linked.entry((metadata.dev(), metadata.ino())).or_default();
                *names += 1;
                if *names == 1 {
                    space.shared += bytes;
                }
                if *names == metadata.nlink() {
                    space.shared -= bytes;
                    space.own += bytes;
                }
            }
        }
    }
    space
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_elsewhere_make_files_shared_and_names_here_do_not() {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path);
        std::fs::create_dir_all(at("here/d")).unwrap();
        std::fs::write(at("here/alone"), [1; 5000]).unwrap();
        std::fs::write(at("here/twice"), [1; 9000]).unwrap();
        std::fs::hard_link(at("here/twice"), at("here/d/twice")).unwrap();
        let alone = space_below(&at("here"));
        assert_eq!(alone.shared, 0);
        std::fs::hard_link(at("here/alone"), at("elsewhere")).unwrap();
        let shared = space_below(&at("here"));
        let blocks = std::fs::metadata(at("elsewhere")).unwrap().blocks() * 512;
        assert!(blocks > 0);
        assert_eq!(shared, Space { own: alone.own - blocks, shared: blocks });
    }
}
