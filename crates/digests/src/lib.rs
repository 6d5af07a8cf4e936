//! Content identity: digests, their typed kin, stable hashing.
//!
//! Everything in Larder that is found by what it contains is found by a type of this crate. It knows
//! nothing of files, images or graphs.

mod content;
mod digest;
mod hashing;
mod kin;

pub use content::{FileContent, FileHasher};
pub use digest::{Digest, DigestError, DigestWriter};
pub use hashing::{ContentHash, StableHasher};
pub use kin::{ChainId, DiffId, VertexDigest};
