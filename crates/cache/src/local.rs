//! Directories of clients, kept so that only what changed has to travel.
//!
//! A kept directory belongs to a key (the client's name for it and what else tells it apart). A build
//! takes it, syncs into it, and holds it for as long as it may read from it; then it is free for the
//! next. Two builds at once with the same key get two directories.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use mount::{HostPath, Mount, MountSource};
use parking_lot::Mutex;
use snapshot::{ActiveLayer, LayerKey};

use crate::checksum::Checksums;
use crate::document::LayerDocument;
use crate::refs::{Layer, new_key};
use crate::{CacheError, ImmutableRef, LayerInfo, Loan, RecordKind, Refs, UsageRecord};

/// The kept directories. Clones share them.
#[derive(Debug, Clone)]
pub struct LocalTrees(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    refs: Refs,
    // Held for a look or a move only.
    free: Mutex<HashMap<String, Vec<Kept>>>,
}

/// A kept directory, open for writing.
#[derive(Debug)]
struct Kept {
    layer: Arc<Layer>,
    active: ActiveLayer,
    checksums: Arc<Checksums>,
}

/// A client's directory in use. It becomes free when this is dropped.
#[derive(Debug)]
pub struct LocalTree {
    pool: Weak<Pool>,
    kept: Option<Kept>,
    mount: Mount,
    checksums: Arc<Checksums>,
    key: LayerKey,
    /// True if the space that it has alone is not what was counted last.
    recount: AtomicBool,
    /// Held by whom files are lent to.
    lending: Mutex<()>,
}

impl LocalTrees {
    /// Finds the directories kept by an earlier run.
    ///
    /// # Errors
    /// Returns an error if one of them cannot be opened.
    pub async fn open(refs: &Refs) -> Result<Self, CacheError> {
        let trees: Vec<(String, Arc<Layer>)> = {
            let layers = refs.inner().layers.lock();
            let named = layers.values().filter_map(|layer| {
                let tree = layer.document.lock().tree.clone();
                tree.map(|tree| (tree, layer.clone()))
            });
            named.collect()
        };
        let mut free: HashMap<String, Vec<Kept>> = HashMap::new();
        for (tree, layer) in trees {
            let active = refs.snapshotter().resume(layer.key.clone(), &[]).await?;
            let checksums = Arc::default();
            free.entry(tree).or_default().push(Kept { layer, active, checksums });
        }
        Ok(Self(Arc::new(Pool { refs: refs.clone(), free: Mutex::new(free) })))
    }

    /// Takes a free directory of `tree`, or makes an empty one.
    ///
    /// # Errors
    /// Returns an error if a new one cannot be made.
    pub async fn take(&self, tree: &str, description: &str) -> Result<LocalTree, CacheError> {
        let found = {
            let mut free = self.0.free.lock();
            free.get_mut(tree).and_then(Vec::pop)
        };
        let kept = match found {
            Some(kept) => kept,
            None => self.make(tree, description).await?,
        };
        Ok(LocalTree {
            pool: Arc::downgrade(&self.0),
            mount: kept.active.mount().clone(),
            checksums: kept.checksums.clone(),
            key: kept.layer.key.clone(),
            kept: Some(kept),
            recount: AtomicBool::new(false),
            lending: Mutex::default(),
        })
    }

    async fn make(&self, tree: &str, description: &str) -> Result<Kept, CacheError> {
        let refs = &self.0.refs;
        let key = new_key();
        // Kept once while it is empty, so that a crash leaves it as it is and does not discard it.
        refs.snapshotter().prepare(key.clone(), &[]).await?.keep().await?;
        let active = refs.snapshotter().resume(key.clone(), &[]).await?;
        let info = LayerInfo { description: description.to_owned(), kind: RecordKind::LocalSource };
        let mut document = LayerDocument::new(info, None, 0);
        document.tree = Some(tree.to_owned());
        document.use_count = 0;
        let layer = refs.insert(key, document);
        Ok(Kept { layer, active, checksums: Arc::default() })
    }

    /// Returns what the free directories are, for `du`; those in use are among the layers.
    pub fn free(&self) -> Vec<LayerKey> {
        self.0.free.lock().values().flatten().map(|kept| kept.layer.key.clone()).collect()
    }

    /// Marks free directories as such in a list that was made from the layers: only the pool holds
    /// them.
    pub(crate) fn correct(&self, records: &mut [UsageRecord]) {
        let free: HashSet<String> = self.free().iter().map(ToString::to_string).collect();
        for record in records.iter_mut().filter(|record| record.kind == RecordKind::LocalSource) {
            record.in_use = !free.contains(&record.id);
        }
    }

    /// Takes a free directory out of the pool, to be removed; none if it is in use or gone.
    pub(crate) fn release(&self, key: &LayerKey) -> Option<ActiveLayer> {
        let mut free = self.0.free.lock();
        free.values_mut().find_map(|list| {
            let at = list.iter().position(|kept| kept.layer.key == *key)?;
            Some(list.remove(at).active)
        })
    }

    /// Closes all free directories, at the end of the program.
    pub async fn close(&self) {
        let all: Vec<Kept> = self.0.free.lock().drain().flat_map(|(_, list)| list).collect();
        for kept in all {
            if let Err(error) = kept.active.keep().await {
                tracing::warn!(%error, snapshot.key = %kept.layer.key, "a directory was not kept");
            }
        }
    }
}

impl LocalTree {
    /// Returns the directory. Its owner may write into it until it is [shared](Self::share).
    pub fn directory(&self) -> Result<&HostPath, CacheError> {
        match &self.mount.source {
            MountSource::Bind(path) => Ok(path),
            other => Err(CacheError::from_error(std::io::Error::other(format!(
                "a kept directory has an unexpected mount {other:?}"
            )))),
        }
    }

    /// Returns the name of its layer.
    pub const fn key(&self) -> &LayerKey {
        &self.key
    }

    /// Returns what is known of its content.
    pub const fn checksums(&self) -> &Arc<Checksums> {
        &self.checksums
    }

    pub(crate) const fn mount(&self) -> &Mount {
        &self.mount
    }

    pub(crate) fn lend(&self) -> Option<Loan<'_>> {
        self.lending.try_lock().map(Loan::new)
    }

    /// Says that files of the directory got further names elsewhere.
    pub(crate) fn note_lent(&self) {
        self.recount.store(true, Ordering::Relaxed);
    }

    /// Makes the directory a result. Nobody may write into it any more until it is taken again. If it
    /// has `changed`, its size is counted anew when the build lets it go.
    pub fn share(self, changed: bool) -> ImmutableRef {
        if let (Some(kept), Some(pool)) = (&self.kept, self.pool.upgrade()) {
            let mut document = kept.layer.document.lock();
            document.last_used = SystemTime::now();
            document.use_count += 1;
            pool.refs.put(&kept.layer.key, &document);
            if changed {
                self.recount.store(true, Ordering::Relaxed);
            }
        }
        ImmutableRef::of_tree(Arc::new(self))
    }
}

impl Drop for LocalTree {
    fn drop(&mut self) {
        let (Some(kept), Some(pool)) = (self.kept.take(), self.pool.upgrade()) else { return };
        let tree = kept.layer.document.lock().tree.clone().unwrap_or_default();
        pool.free.lock().entry(tree).or_default().push(kept);
        if self.recount.load(Ordering::Relaxed) && tokio::runtime::Handle::try_current().is_ok() {
            pool.refs.measure(self.key.clone(), &self.mount);
        }
    }
}
