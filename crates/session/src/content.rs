//! The client's content stores, blob by blob.

use std::collections::BTreeMap;
use std::fmt;

use digests::Digest;
use tokio::io::AsyncRead;

use crate::{ByteStream, Session, SessionError};

/// Which of the client's content stores is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StoreId {
    /// A local cache, by the path as the attributes spell it.
    LocalCache(String),
    /// A named image layout, by the id the client chose.
    Layout(String),
    /// The output of an unpacked image layout.
    Export,
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LocalCache(path) => write!(f, "local:{path}"),
            Self::Layout(id) => write!(f, "oci:{id}"),
            Self::Export => f.write_str("export"),
        }
    }
}

/// A content store at the client's side.
#[derive(Debug, Clone)]
pub struct RemoteContent {
    session: Session,
    store: StoreId,
}

/// What a store knows of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Labels on it.
    pub labels: BTreeMap<String, String>,
}

/// The part of a blob that is wanted; the whole by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlobRange {
    /// Where it begins.
    pub offset: u64,
    /// How long it is; none for all the rest.
    pub size: Option<u64>,
}

/// A blob that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobWrite {
    /// The name of the transfer: `layer-<digest>`, `manifest-<digest>`, or the digest itself.
    pub reference: String,
    /// The digest that the bytes must have.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// Labels to set on the blob.
    pub labels: BTreeMap<String, String>,
}

impl Session {
    /// Returns one of the client's content stores; nothing is asked yet.
    pub fn content(&self, store: StoreId) -> RemoteContent {
        RemoteContent { session: self.clone(), store }
    }
}

impl RemoteContent {
    /// Returns what the store knows of a blob; none if it does not have it.
    ///
    /// # Errors
    /// Returns an error if the client fails in another way.
    pub async fn info(&self, digest: &Digest) -> Result<Option<BlobInfo>, SessionError> {
        let _ = digest;
        unimplemented!()
    }

    /// Returns bytes of a blob. The digest is not checked here.
    ///
    /// # Errors
    /// Returns an error if the client refuses; failures after that come out of the stream.
    pub async fn read(
        &self,
        digest: &Digest,
        range: BlobRange,
    ) -> Result<ByteStream, SessionError> {
        let _ = (digest, range);
        unimplemented!()
    }

    /// Writes a blob, continuing where the store has a part of it. One that it has already is done.
    ///
    /// # Errors
    /// Returns an error if the client fails, or `blob` ends early.
    pub async fn write(
        &self,
        write: &BlobWrite,
        blob: impl AsyncRead + Send + Unpin,
    ) -> Result<(), SessionError> {
        let _ = (write, blob, &self.session, &self.store);
        unimplemented!()
    }
}
