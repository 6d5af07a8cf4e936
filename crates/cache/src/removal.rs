//! The end of layers that nobody holds, with the archives that belong to no other.

use std::collections::HashSet;
use std::sync::Arc;

use oci::Descriptor;
use snapshot::{ActiveLayer, LayerKey};

use crate::refs::Layer;
use crate::{CacheError, Refs, Table};

/// A layer that shall go if nobody holds it.
#[derive(Debug)]
pub(crate) struct Going {
    key: LayerKey,
    /// Its writing, if it is a client's directory; that ends before.
    active: Option<ActiveLayer>,
}

impl Going {
    pub(crate) const fn new(key: LayerKey, active: Option<ActiveLayer>) -> Self {
        Self { key, active }
    }
}

/// What became of layers that were to go.
#[derive(Debug)]
pub(crate) struct Gone {
    /// The bytes that each gave free; none for those that stay.
    pub(crate) freed: Vec<Option<u64>>,
    /// Why not all of them went that nobody holds.
    pub(crate) failure: Option<CacheError>,
}

impl Refs {
    /// Removes the layers that nobody holds, in this order, as one piece of work. If the file system
    /// refuses, the layers from there on stay.
    ///
    /// # Errors
    /// Returns an error if nothing could be removed at all, or an archive of a layer could not.
    pub(crate) async fn remove_all(&self, going: Vec<Going>) -> Result<Gone, CacheError> {
        let refs = self.clone();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        // A task of its own: who asked may go away, and half a removal leaves a layer nobody knows.
        let remove = async move {
            // The answer is of no use to who has gone away.
            let _ = sender.send(refs.remove_now(going).await);
        };
        tasks::spawn("remove layers", remove).detach();
        let stopped = |_| CacheError::from_error(std::io::Error::other("the program is ending"));
        receiver.await.map_err(stopped)?
    }

    async fn remove_now(&self, mut going: Vec<Going>) -> Result<Gone, CacheError> {
        let _removal = self.inner().removals.write().await;
        for going in &mut going {
            if let Some(active) = going.active.take() {
                active.keep().await?;
            }
        }
        let taken = self.take_unused(&going);
        let mut gone = Gone { freed: vec![None; going.len()], failure: None };
        for (place, layer) in &taken {
            gone.freed[*place] = Some(self.freed_by(layer).await);
        }
        let keys: Vec<LayerKey> = taken.iter().map(|(_, layer)| layer.key.clone()).collect();
        let (count, outcome) = self.snapshotter().remove_all(&keys).await;
        gone.failure = outcome.err().map(CacheError::from);
        for (place, layer) in taken.get(count..).unwrap_or_default() {
            gone.freed[*place] = None;
            self.inner().layers.lock().insert(layer.key.clone(), layer.clone());
        }
        for (_, layer) in &taken[..count.min(taken.len())] {
            self.meta().delete(Table::Layers, layer.key.as_str());
            let blobs = std::mem::take(&mut layer.document.lock().blobs);
            for blob in blobs {
                if !self.is_blob_of_any(&blob) {
                    self.content().remove(&blob.digest).await?;
                }
            }
        }
        Ok(gone)
    }

    /// Takes out of the table what nobody holds; returns it with its place in the order.
    fn take_unused(&self, going: &[Going]) -> Vec<(usize, Arc<Layer>)> {
        let mut layers = self.inner().layers.lock();
        let unused = going.iter().enumerate().filter_map(|(place, going)| {
            let layer = layers.get(&going.key)?;
            if Arc::strong_count(layer) > 1 {
                return None;
            }
            Some((place, layers.remove(&going.key)?))
        });
        unused.collect()
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
