//! Blobs on disk, by digest, whole or not at all.
//!
//! A [`ContentStore`] holds immutable bytes under their SHA-256. A blob comes in through an
//! [`Ingest`], which checks what it was promised before the blob becomes visible; from then on it is
//! read through a [`Reader`]. What the bytes mean, and when they are no longer wanted, is known to
//! others.

mod disk;
mod ingest;
mod reader;
mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use disk::DiskStore;
pub use ingest::{Ingest, IngestSink};
pub use reader::{BlobRead, Reader};
pub use store::{BlobInfo, ContentError, ContentStore};

#[cfg(test)]
mod tests;
