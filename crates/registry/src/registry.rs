//! What one may ask of a registry.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use oci::{Descriptor, Reference};

use crate::{Access, RegistryError};

/// The most bytes that a manifest or an index may have.
pub const MANIFEST_LIMIT: u64 = 8 << 20;

/// Finds, fetches and pushes images, by the OCI distribution protocol.
///
/// The host and the repository come from the reference. Every call may be dropped at any time;
/// nothing half-done becomes visible in a registry.
#[async_trait]
pub trait Registry: fmt::Debug + Send + Sync {
    /// Finds the manifest or index that `reference` names: by its digest if it has one, else by its
    /// tag.
    async fn resolve(
        &self,
        reference: &Reference,
        access: &Access,
    ) -> Result<Resolved, RegistryError>;

    /// Fetches the manifest or index that `descriptor` points to. The bytes are verified and at most
    /// [`MANIFEST_LIMIT`].
    async fn manifest(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        access: &Access,
    ) -> Result<Bytes, RegistryError>;

    /// Fetches the blob that `descriptor` points to. The stream ends in an error unless it brought
    /// exactly as many bytes as the descriptor says; the reader verifies the digest.
    ///
    /// A broken transfer is continued where it broke, a bounded number of times.
    async fn blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        access: &Access,
    ) -> Result<BlobStream, RegistryError>;

    /// Pushes a blob, unless the repository has it or can have it from another repository.
    async fn push_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        push: BlobPush,
        access: &Access,
    ) -> Result<Pushed, RegistryError>;

    /// Pushes a manifest or index: under its digest if `reference` has one (which must be that of the
    /// bytes), else under its tag. What it points to must be there already.
    async fn push_manifest(
        &self,
        reference: &Reference,
        media_type: &str,
        manifest: Bytes,
        access: &Access,
    ) -> Result<(), RegistryError>;
}

/// What a reference stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Media type, digest and size of the manifest or index.
    pub descriptor: Descriptor,
    /// The bytes, verified, if they had to be fetched to find out.
    pub manifest: Option<Bytes>,
}

/// The bytes of a blob as they come.
pub type BlobStream = Pin<Box<dyn Stream<Item = Result<Bytes, RegistryError>> + Send>>;

/// Is told how many bytes of a blob have been sent so far. The number falls when a transfer has to
/// start again.
pub type SentBytes = Arc<dyn Fn(u64) + Send + Sync>;

/// A blob to push.
#[derive(Clone)]
pub struct BlobPush {
    /// Where the bytes are.
    pub source: BlobSource,
    /// A repository of the same host that is likely to have the blob.
    pub mount_from: Option<String>,
    /// Is told how far the transfer is.
    pub progress: Option<SentBytes>,
}

impl BlobPush {
    /// Returns a push of the bytes at `source`.
    pub fn new(source: BlobSource) -> Self {
        Self { source, mount_from: None, progress: None }
    }

    /// Returns the same push, that first tries to have the blob mounted from another repository.
    #[must_use]
    pub fn mounting_from(mut self, repository: impl Into<String>) -> Self {
        self.mount_from = Some(repository.into());
        self
    }

    /// Returns the same push with someone who is told how far it is.
    #[must_use]
    pub fn reporting_to(mut self, progress: SentBytes) -> Self {
        self.progress = Some(progress);
        self
    }
}

impl fmt::Debug for BlobPush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobPush")
            .field("source", &self.source)
            .field("mount_from", &self.mount_from)
            .finish_non_exhaustive()
    }
}

type Opener = Arc<dyn Fn() -> io::Result<File> + Send + Sync>;

/// Where the bytes of a blob are. They can be read more than once: a transfer may have to start
/// again.
#[derive(Clone)]
pub enum BlobSource {
    /// In memory.
    Bytes(Bytes),
    /// In a file, that is opened at its start each time.
    File(Opener),
}

impl BlobSource {
    /// Returns a source that reads the file at `path`.
    pub fn path(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self::opener(move || File::open(&path))
    }

    /// Returns a source that reads the file that `open` opens. It is called where blocking is
    /// allowed.
    pub fn opener(open: impl Fn() -> io::Result<File> + Send + Sync + 'static) -> Self {
        Self::File(Arc::new(open))
    }
}

impl fmt::Debug for BlobSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{} bytes in memory", bytes.len()),
            Self::File(_) => f.write_str("a file"),
        }
    }
}

/// How a pushed blob came to be in the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// Its bytes were sent.
    Uploaded,
    /// The repository had it.
    AlreadyThere,
    /// The host had it in another repository.
    Mounted,
}
