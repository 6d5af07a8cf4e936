//! Layers of images: from archives in the blob store to layers on disk.
//!
//! A layer of an image is named by the chain it is the top of, so two images, or two pulls at once,
//! that share their lower layers share the layers on disk. Layers are fetched in parallel; each is compared with the digest that the image's configuration promises.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use digests::{ChainId, DiffId};
use futures::future::{BoxFuture, try_join_all};
use mount::RootDir;
use oci::Descriptor;
use snapshot::{Applied, LayerKey};

use crate::document::LayerDocument;
use crate::refs::Layer;
use crate::{CacheError, ImmutableRef, LayerInfo, Refs};

/// A layer of an image, as its manifest and its configuration describe it.
#[derive(Debug, Clone)]
pub struct ImageLayer {
    /// The digest of its uncompressed archive.
    pub diff_id: DiffId,
    /// Its archive.
    pub blob: Descriptor,
}

/// Brings the archives of layers, and is told what becomes of them.
#[async_trait]
pub trait LayerSource: Send + Sync + Debug {
    /// Makes `blob` part of the blob store.
    async fn fetch(&self, blob: &Descriptor) -> Result<(), CacheError>;

    /// Hears how far a layer has come.
    fn progress(&self, blob: &Descriptor, phase: LayerPhase);
}

/// How far a layer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerPhase {
    /// Its archive is here and is being unpacked.
    Extracting,
    /// It is a layer on disk.
    Extracted,
}

/// Why a layer of an image cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "layer {blob} does not have the content that the image's configuration promises: its uncompressed digest is {actual}, not {expected}"
)]
struct WrongLayer {
    blob: digests::Digest,
    expected: DiffId,
    actual: DiffId,
}

impl Refs {
    /// Returns the file system of an image, lowest layer first. What is not on disk yet is fetched
    /// from `source` and unpacked, all layers at once.
    ///
    /// # Errors
    /// Returns an error if a layer cannot be fetched, is damaged, or is not what `diff_id` says.
    pub async fn image(
        &self,
        layers: &[ImageLayer],
        source: &Arc<dyn LayerSource>,
        info: &LayerInfo,
    ) -> Result<ImmutableRef, CacheError> {
        let mut chain: Option<ChainId> = None;
        let mut wanted = Vec::new();
        for layer in layers {
            let below = chain;
            let this = below.map_or(ChainId::base(layer.diff_id), |id| id.append(layer.diff_id));
            wanted.push(Wanted { chain: this, below, layer: layer.clone() });
            chain = Some(this);
        }
        let all = wanted.iter().enumerate().map(|(index, one)| {
            let lower = wanted[..index].to_vec();
            self.image_layer(one.clone(), lower, source.clone(), info.clone())
        });
        // Each is held from the moment it is there, so that none is removed while others are unpacked.
        let image = ImmutableRef::of_layers(try_join_all(all).await?);
        self.used(&image);
        Ok(image)
    }

    async fn image_layer(
        &self,
        wanted: Wanted,
        lower: Vec<Wanted>,
        source: Arc<dyn LayerSource>,
        info: LayerInfo,
    ) -> Result<Arc<Layer>, CacheError> {
        let key = wanted.key();
        if let Some(layer) = self.inner().layers.lock().get(&key) {
            return Ok(layer.clone());
        }
        let refs = self.clone();
        let extract = move |_| async move { refs.extract(wanted, lower, source, info).await };
        self.inner().extractions.join("extract layer", key, extract).await?
    }

    async fn extract(
        self,
        wanted: Wanted,
        lower: Vec<Wanted>,
        source: Arc<dyn LayerSource>,
        info: LayerInfo,
    ) -> Result<Arc<Layer>, CacheError> {
        let key = wanted.key();
        // It may have come since we looked.
        if let Some(layer) = self.inner().layers.lock().get(&key) {
            return Ok(layer.clone());
        }
        let blob = wanted.layer.blob.clone();
        if !self.content().contains(&blob.digest).await? {
            source.fetch(&blob).await?;
        }
        // Archives come in parallel; each is unpacked when what lies below it is there, because a
        // layer may link to files of lower ones and leave out directories that they have.
        let below = self.image_of(&lower, &source, &info).await?;
        source.progress(&blob, LayerPhase::Extracting);
        let size = self.apply(&wanted, &below).await?;
        let mut document = LayerDocument::new(info, wanted.below.map(|chain| key_of(&chain)), size);
        document.use_count = 0;
        document.diff_id = Some(wanted.layer.diff_id);
        document.chain = Some(wanted.chain);
        document.blobs = vec![blob.clone()];
        let layer = self.insert(key, document);
        source.progress(&blob, LayerPhase::Extracted);
        Ok(layer)
    }

    /// The type is spelled out because the extraction of a layer may end up here again.
    fn image_of<'a>(
        &'a self,
        lower: &'a [Wanted],
        source: &'a Arc<dyn LayerSource>,
        info: &'a LayerInfo,
    ) -> BoxFuture<'a, Result<ImmutableRef, CacheError>> {
        let layers: Vec<ImageLayer> = lower.iter().map(|wanted| wanted.layer.clone()).collect();
        Box::pin(async move { self.image(&layers, source, info).await })
    }

    /// Unpacks a layer's archive and returns its size on disk in bytes.
    async fn apply(&self, wanted: &Wanted, below: &ImmutableRef) -> Result<u64, CacheError> {
        // The name of an image's layer comes again: one that is being removed has to be gone first.
        let removals = self.inner().removals.read().await;
        let ingest = self.snapshotter().ingest(wanted.key()).await?;
        drop(removals);
        let archive = self.content().open(&wanted.layer.blob.digest).await?.into_read();
        let directory = ingest.directory().clone();
        let view = if below.is_empty() { None } else { Some(self.view(below).await?) };
        let unpack = move || -> Result<Applied, CacheError> {
            let below: Option<RootDir> = view.as_ref().map(|view| view.root()).transpose()?;
            let archive = snapshot::decompress(archive).map_err(CacheError::from_error)?;
            Ok(snapshot::apply(archive, &directory, below.as_ref())?)
        };
        let applied = tasks::blocking("unpack layer", unpack).await??;
        if applied.diff_id != wanted.layer.diff_id {
            let (expected, actual) = (wanted.layer.diff_id, applied.diff_id);
            let blob = wanted.layer.blob.digest;
            return Err(CacheError::from_error(WrongLayer { blob, expected, actual }));
        }
        Ok(ingest.commit().await?.bytes)
    }
}

/// A layer with its place in the image.
#[derive(Debug, Clone)]
struct Wanted {
    chain: ChainId,
    below: Option<ChainId>,
    layer: ImageLayer,
}

impl Wanted {
    fn key(&self) -> LayerKey {
        key_of(&self.chain)
    }
}

fn key_of(chain: &ChainId) -> LayerKey {
    // 64 hexadecimal digits: always a key.
    LayerKey::new(&chain.digest().hex()).unwrap_or_else(|error| unreachable!("{error}"))
}
