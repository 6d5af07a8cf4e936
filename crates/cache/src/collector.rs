//! What is kept, seen as records that take space and can be removed.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use digests::Digest;
use snapshot::LayerKey;

use crate::{CacheError, CacheIndex, LocalTrees, Refs, UsageRecord};

/// The layers and clients' directories, as records. Clones are the same.
#[derive(Debug, Clone)]
pub struct Collector {
    refs: Refs,
    trees: LocalTrees,
    index: CacheIndex,
}

impl Collector {
    /// Returns a view of these parts.
    pub const fn new(refs: Refs, trees: LocalTrees, index: CacheIndex) -> Self {
        Self { refs, trees, index }
    }

    /// Returns a record of each layer and directory.
    pub fn usage(&self) -> Vec<UsageRecord> {
        let mut records = self.refs.usage();
        self.trees.correct(&mut records);
        records
    }

    /// Removes the record `id` and the results that need it; returns false if somebody uses it now, or
    /// there is no such record.
    ///
    /// # Errors
    /// Returns an error if the file system refuses.
    pub async fn remove(&self, id: &str) -> Result<bool, CacheError> {
        let Ok(key) = LayerKey::new(id) else { return Ok(false) };
        let removed = self.trees.remove(&key).await? || self.refs.remove(&key).await?;
        if removed {
            self.index.forget_layer(&key);
        }
        Ok(removed)
    }

    /// Removes blobs that are no layer's, are not in `keep`, and are older than `age`; returns how many.
    ///
    /// # Errors
    /// Returns an error if the store cannot be listed or a blob cannot be removed.
    pub async fn sweep_blobs(
        &self,
        keep: &HashSet<Digest>,
        age: Duration,
    ) -> Result<usize, CacheError> {
        let content = self.refs.content();
        let listed = content.list().await?;
        let of_layers = self.refs.blobs();
        let old = |created: SystemTime| created.elapsed().is_ok_and(|elapsed| elapsed > age);
        let mut removed = 0;
        for blob in listed {
            let used = of_layers.contains(&blob.digest) || keep.contains(&blob.digest);
            if !used && old(blob.created) && content.remove(&blob.digest).await? {
                removed += 1;
            }
        }
        Ok(removed)
    }
}
