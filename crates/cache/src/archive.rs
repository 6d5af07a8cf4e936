//! Layers as archives: what exporters put into images.
//!
//! An archive of a layer is made once per compression, kept in the blob store, and shared by all who
//! want it, also by builds at the same time.

use std::collections::HashMap;
use std::io::{self, Write};

use bytes::{Bytes, BytesMut};
use content::Reader;
use digests::{DiffId, Digest};
use futures::future::try_join_all;
use mount::HostPath;
use oci::{Descriptor, media};
use snapshot::{Compression, LayerKey, WriteOptions};
use std::sync::Arc;
use tokio::sync::mpsc;

use crate::refs::Layer;
use crate::{CacheError, ImmutableRef, Refs};

/// How much is handed over at once while an archive is made, bytes.
const CHUNK: usize = 256 << 10;

/// How layers are to be archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveOptions {
    /// The compression of archives that have to be made.
    pub compression: Compression,
    /// True to make an archive with this compression also of layers that have another.
    pub force: bool,
    /// Later times in the archive become this one, in seconds since 1970.
    pub newest: Option<i64>,
}

/// A layer's archive in the blob store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerArchive {
    /// The archive.
    pub blob: Descriptor,
    /// The digest of the archive, uncompressed.
    pub diff_id: DiffId,
}

impl Refs {
    /// Returns an archive of each layer of `tree`, lowest first, making those that are missing, in
    /// parallel.
    ///
    /// # Errors
    /// Returns an error if a layer cannot be read or an archive cannot be kept.
    pub async fn archives(
        &self,
        tree: &ImmutableRef,
        options: ArchiveOptions,
    ) -> Result<Vec<LayerArchive>, CacheError> {
        let settled = self.settled(tree).await?;
        try_join_all(settled.layers().iter().map(|layer| self.archive(layer.clone(), options)))
            .await
    }

    /// Returns the archives that there are of each tree, as whole stacks, lowest first: one stack for each
    /// compression that any layer has. None for a tree of which a layer has no archive.
    ///
    /// # Errors
    /// Returns an error if the store of blobs cannot be read.
    pub async fn known_archives(
        &self,
        trees: &[ImmutableRef],
    ) -> Result<Vec<Vec<Vec<Descriptor>>>, CacheError> {
        // Trees of one build have most of their layers in common.
        let mut known: HashMap<LayerKey, Vec<Descriptor>> = HashMap::new();
        let mut stacks = Vec::with_capacity(trees.len());
        for tree in trees {
            for layer in tree.layers() {
                if !known.contains_key(&layer.key) {
                    let blobs = self.blobs_there(layer).await?;
                    known.insert(layer.key.clone(), blobs);
                }
            }
            let layers: Vec<_> =
                tree.layers().iter().filter_map(|one| known.get(&one.key)).collect();
            stacks.push(stacks_of(&layers));
        }
        Ok(stacks)
    }

    /// Returns the archives of a layer that are in the store.
    async fn blobs_there(&self, layer: &Layer) -> Result<Vec<Descriptor>, CacheError> {
        let blobs = layer.document.lock().blobs.clone();
        let mut there = Vec::with_capacity(blobs.len());
        for blob in blobs {
            if self.content().contains(&blob.digest).await? {
                there.push(plain(blob));
            }
        }
        Ok(there)
    }

    async fn archive(
        &self,
        layer: Arc<Layer>,
        options: ArchiveOptions,
    ) -> Result<LayerArchive, CacheError> {
        if let Some(known) = self.known_archive(&layer, options).await? {
            return Ok(known);
        }
        let name = format!("{:?}", options);
        let refs = self.clone();
        let key = layer.key.clone();
        let make = {
            let layer = layer.clone();
            move |_| async move { refs.make_archive(layer, options).await }
        };
        let blob = self.inner().archives.join("archive layer", (key, name), make).await??;
        let diff_id = diff_id_of(&blob).or(layer.diff_id());
        let diff_id = diff_id.unwrap_or(DiffId::new(blob.digest));
        Ok(LayerArchive { blob: plain(blob), diff_id })
    }

    async fn known_archive(
        &self,
        layer: &Layer,
        options: ArchiveOptions,
    ) -> Result<Option<LayerArchive>, CacheError> {
        let (blobs, diff_id) = {
            let document = layer.document.lock();
            (document.blobs.clone(), document.diff_id)
        };
        if options.newest.is_some() {
            return Ok(None);
        }
        let Some(diff_id) = diff_id else { return Ok(None) };
        let wanted = kind(options.compression);
        let fits = |blob: &&Descriptor| media::layer_compression(&blob.media_type) == Some(wanted);
        let candidates = blobs.iter().find(fits).into_iter();
        let candidates = candidates.chain(blobs.iter().filter(|_| !options.force));
        for blob in candidates {
            if self.content().contains(&blob.digest).await? {
                return Ok(Some(LayerArchive { blob: blob.clone(), diff_id }));
            }
        }
        Ok(None)
    }

    /// Makes an archive and remembers it; the descriptor carries the uncompressed digest.
    async fn make_archive(
        self,
        layer: Arc<Layer>,
        options: ArchiveOptions,
    ) -> Result<Descriptor, CacheError> {
        let files = self.snapshotter().layer(&layer.key).await?;
        let origin = match self.other_archive(&layer, options).await? {
            Some((blob, diff_id)) => Origin::Archive(blob, diff_id),
            None => Origin::Directory(files.directory().clone()),
        };
        let (sender, receiver) = mpsc::channel(8);
        let write = move || -> Result<DiffId, CacheError> {
            let sink = ChunkWriter { sender, gathered: BytesMut::with_capacity(CHUNK) };
            let mut compressor =
                snapshot::compress(sink, options.compression).map_err(CacheError::from_error)?;
            let diff_id = origin.write(&mut compressor, options)?;
            let mut sink = compressor.finish().map_err(CacheError::from_error)?;
            sink.flush().map_err(CacheError::from_error)?;
            Ok(diff_id)
        };
        let mut ingest = self.content().ingest(None, None).await?;
        let take = async {
            // Owned here, so that the writer hears of it when the store refuses.
            let mut receiver = receiver;
            while let Some(chunk) = receiver.recv().await {
                ingest.write(chunk).await?;
            }
            Ok::<_, CacheError>(ingest)
        };
        let (written, ingest) = tokio::join!(tasks::blocking("write layer", write), take);
        // If the store refused, the writer failed only because nobody listened any more.
        let ingest = ingest?;
        let diff_id = written??;
        let (digest, size) = ingest.commit().await?;
        let blob = Descriptor::new(kind(options.compression).oci_layer(), digest, size);
        if options.newest.is_none() {
            self.remember(&layer, &blob, diff_id);
        }
        Ok(with_diff_id(blob, diff_id))
    }

    fn remember(&self, layer: &Layer, blob: &Descriptor, diff_id: DiffId) {
        let mut document = layer.document.lock();
        if document.diff_id.is_some_and(|known| known != diff_id) {
            // The earlier archives are gone, and packed the same files differently.
            document.blobs.clear();
        }
        document.diff_id = Some(diff_id);
        document.blobs.retain(|other| other.digest != blob.digest);
        document.blobs.push(blob.clone());
        self.put(&layer.key, &document);
    }

    /// Returns an archive with another compression: packed again, the files of a layer would get
    /// another digest than the one by which images know it.
    async fn other_archive(
        &self,
        layer: &Layer,
        options: ArchiveOptions,
    ) -> Result<Option<(Reader, DiffId)>, CacheError> {
        let (blobs, diff_id) = {
            let document = layer.document.lock();
            (document.blobs.clone(), document.diff_id)
        };
        let Some(diff_id) = diff_id.filter(|_| options.newest.is_none()) else { return Ok(None) };
        for blob in blobs {
            if self.content().contains(&blob.digest).await? {
                return Ok(Some((self.content().open(&blob.digest).await?, diff_id)));
            }
        }
        Ok(None)
    }
}

/// Returns the stacks that the archives of these layers make: one for each compression. A layer without an
/// archive of it is in the stack with another.
fn stacks_of(layers: &[&Vec<Descriptor>]) -> Vec<Vec<Descriptor>> {
    let kind = |blob: &Descriptor| media::layer_compression(&blob.media_type);
    let mut stacks: Vec<Vec<Descriptor>> = Vec::new();
    let mut kinds = Vec::new();
    for blob in layers.iter().flat_map(|blobs| blobs.iter()) {
        if kinds.contains(&kind(blob)) {
            continue;
        }
        kinds.push(kind(blob));
        let of_kind = |blobs: &&Vec<Descriptor>| {
            blobs.iter().find(|other| kind(other) == kind(blob)).or(blobs.first()).cloned()
        };
        let stack: Option<Vec<_>> = layers.iter().map(of_kind).collect();
        stacks.extend(stack.filter(|stack| !stacks.contains(stack)));
    }
    stacks
}

/// What an archive is made from.
enum Origin {
    /// The layer's files.
    Directory(HostPath),
    /// An archive with another compression, and its uncompressed digest.
    Archive(Reader, DiffId),
}

impl Origin {
    fn write(self, target: &mut impl Write, options: ArchiveOptions) -> Result<DiffId, CacheError> {
        match self {
            Self::Directory(directory) => {
                let archive = WriteOptions { newest: options.newest };
                Ok(snapshot::write_layer(&directory, target, archive)?.diff_id)
            }
            Self::Archive(blob, diff_id) => {
                let archive = snapshot::decompress(blob.into_read());
                let mut archive = archive.map_err(CacheError::from_error)?;
                io::copy(&mut archive, target).map_err(CacheError::from_error)?;
                Ok(diff_id)
            }
        }
    }
}

const DIFF_ID: &str = "containerd.io/uncompressed";

fn with_diff_id(mut blob: Descriptor, diff_id: DiffId) -> Descriptor {
    blob.annotations.insert(DIFF_ID.to_owned(), diff_id.to_string());
    blob
}

fn diff_id_of(blob: &Descriptor) -> Option<DiffId> {
    blob.annotations.get(DIFF_ID)?.parse::<Digest>().ok().map(DiffId::new)
}

fn plain(mut blob: Descriptor) -> Descriptor {
    blob.annotations.remove(DIFF_ID);
    blob
}

const fn kind(compression: Compression) -> media::Compression {
    match compression {
        Compression::Uncompressed => media::Compression::None,
        Compression::Gzip(_) => media::Compression::Gzip,
        Compression::Zstd(_) => media::Compression::Zstd,
    }
}

/// Hands what is written to an asynchronous reader, in chunks, waiting for it when it is behind.
struct ChunkWriter {
    sender: mpsc::Sender<Bytes>,
    gathered: BytesMut,
}

impl Write for ChunkWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.gathered.extend_from_slice(buffer);
        if self.gathered.len() >= CHUNK {
            self.flush()?;
        }
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let chunk = self.gathered.split().freeze();
        self.sender.blocking_send(chunk).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
