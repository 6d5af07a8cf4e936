//! What a store of blobs is, whoever keeps them.

use std::fmt::Debug;
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use async_trait::async_trait;
use digests::Digest;
use mount::HostPath;

use crate::{Ingest, Reader};

/// What is known of a blob without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobInfo {
    /// The digest of its bytes.
    pub digest: Digest,
    /// How many bytes it has.
    pub size: u64,
    /// When it became part of the store.
    pub created: SystemTime,
}

/// Immutable blobs by digest.
///
/// A blob is visible only when it is whole, and stays until it is removed. All calls may run at once,
/// for the same digest too: two ingests of one blob both succeed and leave one blob.
#[async_trait]
pub trait ContentStore: Send + Sync + Debug {
    /// Returns what is known of a blob; none if it is not here.
    async fn info(&self, digest: &Digest) -> Result<Option<BlobInfo>, ContentError>;

    /// Returns true if the blob is here.
    async fn contains(&self, digest: &Digest) -> Result<bool, ContentError> {
        Ok(self.info(digest).await?.is_some())
    }

    /// Opens a blob for reading. It stays readable while it is open, even if it is removed.
    ///
    /// # Errors
    /// [`ContentError::NotFound`] if it is not here.
    async fn open(&self, digest: &Digest) -> Result<Reader, ContentError>;

    /// Starts to take in a blob. What is promised here is checked when it is committed.
    async fn ingest(
        &self,
        expected: Option<Digest>,
        expected_size: Option<u64>,
    ) -> Result<Ingest, ContentError>;

    /// Reads a whole blob and compares it with its digest.
    ///
    /// # Errors
    /// [`ContentError::NotFound`] if it is not here, [`ContentError::Corrupt`] if it was truncated or
    /// edited. The blob stays where it is: to remove it is the caller's decision.
    async fn verify(&self, digest: &Digest) -> Result<(), ContentError> {
        self.open(digest).await?.verify().await
    }

    /// Removes a blob. Returns false if it was not here.
    async fn remove(&self, digest: &Digest) -> Result<bool, ContentError>;

    /// Returns all blobs, in the order of their digests.
    async fn list(&self) -> Result<Vec<BlobInfo>, ContentError>;

    /// Returns where the blob is, or would be, as a file; none if this store has no files.
    fn path(&self, digest: &Digest) -> Option<HostPath>;
}

/// Why a blob could not be stored, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The blob is not in the store.
    #[error("blob `{digest}` is not in the store")]
    NotFound {
        /// The blob.
        digest: Digest,
    },
    /// The bytes that came in are not the ones that were promised.
    #[error("expected a blob `{expected}`, but the {size} bytes that came are `{actual}`")]
    WrongDigest {
        /// What was promised.
        expected: Digest,
        /// What came.
        actual: Digest,
        /// How much came.
        size: u64,
    },
    /// More bytes came in than were promised.
    #[error("expected a blob of {expected} bytes, but {actual} or more came")]
    TooLong {
        /// How many were promised.
        expected: u64,
        /// How many had come when it was noticed.
        actual: u64,
    },
    /// Fewer bytes came in than were promised.
    #[error("expected a blob of {expected} bytes, but only {actual} came")]
    TooShort {
        /// How many were promised.
        expected: u64,
        /// How many came.
        actual: u64,
    },
    /// The bytes in the store are no longer the ones that were stored.
    #[error("blob `{digest}` is corrupt: its {size} bytes have the digest `{actual}`")]
    Corrupt {
        /// The blob.
        digest: Digest,
        /// What its bytes are now.
        actual: Digest,
        /// How many they are.
        size: u64,
    },
    /// A range outside the blob was asked for.
    #[error("blob `{digest}` of {size} bytes has no range of {length} bytes at {offset}")]
    Range {
        /// The blob.
        digest: Digest,
        /// How many bytes it has.
        size: u64,
        /// Where the range starts.
        offset: u64,
        /// How many bytes were asked for.
        length: usize,
    },
    /// An earlier write failed or was cancelled, so what came is not known to be whole.
    #[error("an earlier write of this blob failed or was cancelled; start a new ingest")]
    Abandoned,
    /// The file system refused.
    #[error("{action} `{path}`")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The work was cut off: the program is ending, or has an error of its own.
    #[error("work on a blob was cut off")]
    CutOff(#[from] tasks::JoinError),
}

impl ContentError {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
