//! The end of layers that nobody holds, with the archives that belong to no other.

use std::collections::HashSet;
use std::sync::Arc;

use oci::Descriptor;
use snapshot::{ActiveLayer, LayerKey};

use crate::{CacheError, Refs, Table};

impl Refs {
    /// Removes a layer that nobody holds; returns false if somebody does, or it is gone already.
    ///
    /// # Errors
    /// Returns an error if the file system refuses; the layer stays then.
    pub(crate) async fn remove(&self, key: &LayerKey) -> Result<bool, CacheError> {
        self.remove_after(key, None).await
    }

    /// As [`Refs::remove`], ending the writing of the layer before.
    pub(crate) async fn remove_after(
        &self,
        key: &LayerKey,
        active: Option<ActiveLayer>,
    ) -> Result<bool, CacheError> {
        let (refs, key) = (self.clone(), key.clone());
        let (sender, receiver) = tokio::sync::oneshot::channel();
        // A task of its own: who asked may go away, and half a removal leaves a layer nobody knows.
        let remove = async move {
            // The answer is of no use to who has gone away.
            let _ = sender.send(refs.remove_now(&key, active).await);
        };
        tasks::spawn("remove layer", remove).detach();
        let stopped = |_| CacheError::from_error(std::io::Error::other("the program is ending"));
        receiver.await.map_err(stopped)?
    }

    async fn remove_now(
        &self,
        key: &LayerKey,
        active: Option<ActiveLayer>,
    ) -> Result<bool, CacheError> {
        let _removal = self.inner().removals.write().await;
        if let Some(active) = active {
            active.keep().await?;
        }
        let layer = {
            let mut layers = self.inner().layers.lock();
            match layers.get(key) {
                Some(layer) if Arc::strong_count(layer) == 1 => layers.remove(key),
                _ => None,
            }
        };
        let Some(layer) = layer else { return Ok(false) };
        if let Err(error) = self.snapshotter().remove(key).await {
            self.inner().layers.lock().insert(key.clone(), layer);
            return Err(error.into());
        }
        self.meta().delete(Table::Layers, key.as_str());
        let blobs = std::mem::take(&mut layer.document.lock().blobs);
        for blob in blobs {
            if !self.is_blob_of_any(&blob) {
                self.content().remove(&blob.digest).await?;
            }
        }
        Ok(true)
    }

    fn is_blob_of_any(&self, blob: &Descriptor) -> bool {
        let layers = self.inner().layers.lock();
        layers.values().any(|layer| {
            layer.document.lock().blobs.iter().any(|other| other.digest == blob.digest)
        })
    }

    /// Returns the digests of all blobs that layers have.
    pub fn blobs(&self) -> HashSet<digests::Digest> {
        let layers = self.inner().layers.lock();
        let blobs = layers.values().flat_map(|layer| {
            let document = layer.document.lock();
            document.blobs.iter().map(|blob| blob.digest).collect::<Vec<_>>()
        });
        blobs.collect()
    }
}
