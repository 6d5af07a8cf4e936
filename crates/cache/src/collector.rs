//! What is kept, seen as records that take space and can be removed.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use digests::Digest;
use snapshot::{HeldRemovals, LayerKey};

use crate::removal::Going;
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
        Ok(self.remove_all(&[id]).await?.iter().any(Option::is_some))
    }

    /// As [`Collector::remove`] for many records, in this order; returns the bytes that each gave free,
    /// none for those that stay.
    ///
    /// # Errors
    /// Returns an error if the file system refuses; what comes after that in the order stays.
    pub async fn remove_all(&self, ids: &[&str]) -> Result<Vec<Option<u64>>, CacheError> {
        let mut freed = vec![None; ids.len()];
        let (mut places, mut keys, mut going) = (Vec::new(), Vec::new(), Vec::new());
        for (place, id) in ids.iter().enumerate() {
            let Ok(key) = LayerKey::new(id) else { continue };
            places.push(place);
            going.push(Going::new(key.clone(), self.trees.release(&key)));
            keys.push(key);
        }
        let gone = self.refs.remove_all(going).await?;
        for ((place, key), bytes) in places.into_iter().zip(&keys).zip(gone.freed) {
            if bytes.is_some() {
                self.index.forget_layer(key);
            }
            freed[place] = bytes;
        }
        gone.failure.map_or(Ok(freed), Err)
    }

    /// Lets records that are removed from now on take their space until the guard is dropped: all of them
    /// are sooner gone from the lists.
    pub fn hold_removals(&self) -> HeldRemovals {
        self.refs.snapshotter().hold_removals()
    }

    /// Waits until what was removed so far takes no space any more.
    pub async fn reclaim(&self) {
        self.refs.snapshotter().reclaim().await;
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
