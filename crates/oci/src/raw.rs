//! A document together with the bytes it came in.

use std::ops::Deref;

use bytes::Bytes;
use digests::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Descriptor, json};

/// A JSON document that is found by the digest of its bytes.
pub trait Document: DeserializeOwned + Serialize {
    /// What the document is called in errors.
    const NAME: &'static str;

    /// Returns an error if the document is well-formed but cannot be what it claims to be.
    ///
    /// # Errors
    /// See [`DocumentError`].
    fn check(&self) -> Result<(), DocumentError>;
}

/// Why some bytes are not the document they should be.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The bytes are not JSON of the right shape.
    #[error("malformed image {document}")]
    Malformed {
        /// What the document should be.
        document: &'static str,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The document is of a schema that we do not read.
    #[error("image {document} has schema version {version}, only 2 is supported")]
    Schema {
        /// What the document should be.
        document: &'static str,
        /// The version it states.
        version: u32,
    },
    /// The document could be read as one of another kind, too.
    #[error("image {document} has the unexpected member `{member}`")]
    Ambiguous {
        /// What the document should be.
        document: &'static str,
        /// The member that belongs to another kind.
        member: &'static str,
    },
    /// The document says that it is of another kind.
    #[error("image {document} says that its media type is `{stated}`")]
    MediaType {
        /// What the document should be.
        document: &'static str,
        /// What it states.
        stated: String,
    },
}

/// A document, the bytes it came in, and their digest. The bytes are never made again from the
/// value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw<T> {
    value: T,
    bytes: Bytes,
    digest: Digest,
}

impl<T: Document> Raw<T> {
    /// Reads a document.
    ///
    /// # Errors
    /// Returns an error if the bytes are not such a document.
    pub fn parse(bytes: Bytes) -> Result<Self, DocumentError> {
        let value: T = serde_json::from_slice(&bytes)
            .map_err(|source| DocumentError::Malformed { document: T::NAME, source })?;
        value.check()?;
        let digest = Digest::of(&bytes);
        Ok(Self { value, bytes, digest })
    }

    /// Encodes a document that we made, compactly.
    ///
    /// # Errors
    /// Returns an error if the value cannot be written as JSON.
    pub fn encode(value: T) -> Result<Self, DocumentError> {
        let encoded = json::encode(&value);
        Self::made(value, encoded)
    }

    /// Encodes a document that we made, indented, as builders write manifests and indexes.
    ///
    /// # Errors
    /// Returns an error if the value cannot be written as JSON.
    pub fn encode_indented(value: T) -> Result<Self, DocumentError> {
        let encoded = json::encode_indented(&value);
        Self::made(value, encoded)
    }

    fn made(value: T, encoded: serde_json::Result<Vec<u8>>) -> Result<Self, DocumentError> {
        let bytes: Bytes = encoded
            .map_err(|source| DocumentError::Malformed { document: T::NAME, source })?
            .into();
        let digest = Digest::of(&bytes);
        Ok(Self { value, bytes, digest })
    }
}

impl<T> Raw<T> {
    /// Returns the document.
    pub const fn value(&self) -> &T {
        &self.value
    }

    /// Returns the document without its bytes.
    pub fn into_value(self) -> T {
        self.value
    }

    /// Returns the bytes.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns the digest of the bytes.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns a descriptor of the bytes.
    pub fn descriptor(&self, media_type: impl Into<String>) -> Descriptor {
        Descriptor::new(media_type, self.digest, self.bytes.len() as u64)
    }
}

impl<T> Deref for Raw<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}
