//! What is kept, seen as records that take space and can be removed.

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
}
