//! Images: what a name stands for, and its file system.

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use cache::{CacheError, ImageLayer, ImmutableRef, LayerInfo, LayerPhase, LayerSource, RecordKind};
use digests::{ChainId, Digest, StableHasher};
use llb::SourceOp;
use oci::{Descriptor, ImageConfig, Index, Manifest, Platform, Raw, media};
use progress::Status;
use session::SessionId;
use solver::{CacheMap, Op, OpContext, OpError};

use super::origin::{Origin, Place};
use crate::clients::Clients;
use crate::{OperationError, Services, failure};

/// An image that was found.
#[derive(Debug, Clone)]
pub(crate) struct FoundImage {
    /// What the name points to: an index, or the manifest itself.
    pub(crate) top: Digest,
    pub(crate) manifest: Raw<Manifest>,
    pub(crate) config: Raw<ImageConfig>,
}

/// Where and in whose name an image is looked for.
pub(crate) struct ImageFinder<'a> {
    pub(crate) services: &'a Services,
    pub(crate) origin: &'a Origin,
    pub(crate) platform: Platform,
}

impl ImageFinder<'_> {
    /// Finds the image. What is named by digest and here already is taken from our own store, without
    /// asking anybody.
    pub(crate) async fn find(&self) -> Result<FoundImage, OpError> {
        let (descriptor, bytes) = match self.origin.pinned() {
            Some(digest) if self.services.has_blob(&digest).await? => {
                let bytes = self.services.read_blob(&digest).await?;
                let media_type = media::detect(&bytes).unwrap_or_default();
                (Descriptor::new(media_type, digest, bytes.len() as u64), Some(bytes))
            }
            _ => self.origin.resolve().await?,
        };
        let bytes = match bytes {
            Some(bytes) => {
                self.services.keep_blob(&descriptor, bytes.clone()).await?;
                bytes
            }
            None => self.document(&descriptor).await?,
        };
        let manifest = if media::is_index(&descriptor.media_type) {
            let chosen = self.choose(descriptor.digest, bytes)?;
            self.document(&chosen).await?
        } else {
            bytes
        };
        let wrong = |error: oci::DocumentError| self.damaged(&error);
        let manifest = Raw::<Manifest>::parse(manifest).map_err(wrong)?;
        let config = self.blob(&manifest.config).await?;
        let config = Raw::<ImageConfig>::parse(config).map_err(wrong)?;
        Ok(FoundImage { top: descriptor.digest, manifest, config })
    }

    fn damaged(&self, error: &oci::DocumentError) -> OpError {
        let (name, what) = (self.origin.to_string(), error.to_string());
        failure(OperationError::Image { name, what })
    }

    fn choose(&self, digest: Digest, bytes: Bytes) -> Result<Descriptor, OpError> {
        let index = Raw::<Index>::parse(bytes).map_err(|error| self.damaged(&error))?;
        self.platform.matcher().best(&index.manifests).cloned().ok_or_else(|| {
            let platforms = index.manifests.iter().filter_map(|one| one.platform.as_ref());
            let available = platforms.map(Platform::short).collect::<Vec<_>>().join(", ");
            failure(OperationError::Platform { digest, available })
        })
    }

    /// Returns a manifest or an index, from our own store if it is there.
    async fn document(&self, descriptor: &Descriptor) -> Result<Bytes, OpError> {
        if self.services.has_blob(&descriptor.digest).await? {
            return self.services.read_blob(&descriptor.digest).await;
        }
        let bytes = self.origin.document(descriptor).await?;
        self.services.keep_blob(descriptor, bytes.clone()).await?;
        Ok(bytes)
    }

    async fn blob(&self, descriptor: &Descriptor) -> Result<Bytes, OpError> {
        if !self.services.has_blob(&descriptor.digest).await? {
            let fetched = self.origin.fetch(self.services, descriptor, &|_| {}).await;
            fetched.map_err(failure)?;
        }
        self.services.read_blob(&descriptor.digest).await
    }
}

/// The operation that brings in an image.
#[derive(Debug)]
pub(crate) struct ImageSource {
    services: Arc<Services>,
    place: Place,
    platform: Platform,
    layer_limit: Option<usize>,
    checksum: Option<Digest>,
    kind: RecordKind,
    found: OnceLock<FoundImage>,
}

impl ImageSource {
    pub(crate) fn new(
        services: Arc<Services>,
        source: &SourceOp,
        platform: Platform,
    ) -> Result<Self, OpError> {
        let wrong = |reason: String| {
            failure(OperationError::Source { identifier: source.identifier.clone(), reason })
        };
        let place = Place::parse(source).map_err(wrong)?;
        let limit = source.attribute("image.layerlimit").or(source.attribute("oci.layerlimit"));
        let layer_limit = match limit {
            None => None,
            Some(text) => {
                let limit = text.parse::<usize>().ok().filter(|limit| *limit > 0);
                Some(limit.ok_or_else(|| wrong(format!("invalid layer limit `{text}`")))?)
            }
        };
        let checksum = match source.attribute("image.checksum") {
            None => None,
            Some(text) => Some(text.parse().map_err(|error| wrong(format!("{error}")))?),
        };
        let kind = match source.attribute("image.recordtype") {
            Some("internal") => RecordKind::Internal,
            Some("frontend") => RecordKind::Frontend,
            _ => RecordKind::Regular,
        };
        let found = OnceLock::new();
        Ok(Self { services, place, platform, layer_limit, checksum, kind, found })
    }

    async fn find(&self, context: &OpContext) -> Result<&FoundImage, OpError> {
        if let Some(found) = self.found.get() {
            return Ok(found);
        }
        let origin = self.place.origin(&self.services, context);
        let platform = self.platform.clone();
        let finder = ImageFinder { services: &self.services, origin: &origin, platform };
        let found = finder.find().await?;
        if let Some(expected) = self.checksum
            && found.manifest.digest() != expected
            && found.top != expected
        {
            let (name, actual) = (self.place.to_string(), found.manifest.digest());
            return Err(failure(OperationError::ImageChecksum { name, expected, actual }));
        }
        Ok(self.found.get_or_init(|| found))
    }

    fn layers(&self, found: &FoundImage) -> Result<Vec<ImageLayer>, OpError> {
        let (blobs, ids) = (&found.manifest.layers, &found.config.rootfs.diff_ids);
        if blobs.len() != ids.len() {
            let what = format!(
                "the manifest has {} layers, but the configuration has {}",
                blobs.len(),
                ids.len()
            );
            let name = self.place.to_string();
            return Err(failure(OperationError::Image { name, what }));
        }
        let layers = blobs.iter().zip(ids);
        let layers = layers.map(|(blob, id)| ImageLayer { diff_id: *id, blob: blob.clone() });
        Ok(layers.take(self.layer_limit.unwrap_or(usize::MAX)).collect())
    }
}

#[async_trait]
impl Op<ImmutableRef> for ImageSource {
    async fn cache_map(&self, context: &OpContext) -> Result<CacheMap, OpError> {
        let found = self.find(context).await?;
        let chain = ChainId::of(self.layers(found)?.into_iter().map(|layer| layer.diff_id));
        let mut hasher = StableHasher::new("image.v1");
        hasher.feed(&chain);
        let (digest, pin) = (hasher.finish(), Some(found.top.to_string()));
        Ok(CacheMap { digest, inputs: Vec::new(), volatile: false, pin })
    }

    async fn content_key(
        &self,
        _context: &OpContext,
        _slot: usize,
        _input: &ImmutableRef,
    ) -> Result<Option<Digest>, OpError> {
        Ok(None)
    }

    async fn exec(
        &self,
        context: &OpContext,
        _inputs: Vec<ImmutableRef>,
    ) -> Result<Vec<ImmutableRef>, OpError> {
        let found = self.find(context).await?;
        let layers = self.layers(found)?;
        let resolved = self.place.resolved(found.top);
        let now = SystemTime::now();
        context.status(whole(format!("resolve {resolved}"), now));
        let source: Arc<dyn LayerSource> = Arc::new(Puller {
            services: self.services.clone(),
            origin: self.place.origin(&self.services, context),
            context: context.clone(),
        });
        let description = format!("pulled from {resolved}");
        let info = LayerInfo { description, kind: self.kind };
        let image = self.services.refs.image(&layers, &source, &info).await.map_err(failure)?;
        Ok(vec![image])
    }
}

/// A counter that is complete as soon as it is shown.
fn whole(id: String, now: SystemTime) -> Status {
    Status {
        vertex: Digest::of(b""),
        id,
        name: String::new(),
        current: 0,
        total: 0,
        timestamp: now,
        started: Some(now),
        completed: Some(SystemTime::now()),
    }
}

/// Pulls the layers of one image for one operation.
#[derive(Debug)]
struct Puller {
    services: Arc<Services>,
    origin: Origin,
    context: OpContext,
}

impl Puller {
    fn report(
        &self,
        id: String,
        name: &str,
        current: u64,
        total: u64,
        started: SystemTime,
        done: bool,
    ) {
        let now = SystemTime::now();
        self.context.status(Status {
            vertex: Digest::of(b""),
            id,
            name: name.to_owned(),
            current: i64::try_from(current).unwrap_or(i64::MAX),
            total: i64::try_from(total).unwrap_or(i64::MAX),
            timestamp: now,
            started: Some(started),
            completed: done.then_some(now),
        });
    }
}

#[async_trait]
impl LayerSource for Puller {
    async fn fetch(&self, blob: &Descriptor) -> Result<(), CacheError> {
        let started = SystemTime::now();
        let id = blob.digest.to_string();
        let shown = parking_lot::Mutex::new(started);
        self.report(id.clone(), "", 0, blob.size, started, false);
        let progress = |received: u64| {
            // A line every 150 ms is enough for people.
            let mut last = shown.lock();
            if last.elapsed().is_ok_and(|since| since.as_millis() >= 150) {
                *last = SystemTime::now();
                drop(last);
                self.report(id.clone(), "", received, blob.size, started, false);
            }
        };
        self.origin.fetch(&self.services, blob, &progress).await?;
        self.report(id.clone(), "", blob.size, blob.size, started, true);
        Ok(())
    }

    fn progress(&self, blob: &Descriptor, phase: LayerPhase) {
        let id = format!("extracting {}", blob.digest);
        let done = phase == LayerPhase::Extracted;
        self.report(id, "extracting", 0, 0, SystemTime::now(), done);
    }
}

/// Returns who a registry is asked for, for the clients of an operation.
pub(crate) fn client_ids(services: &Services, context: &OpContext) -> Vec<SessionId> {
    let clients = Clients::of(&services.sessions, context);
    clients.ids().iter().map(|(_, id)| id.clone()).collect()
}
