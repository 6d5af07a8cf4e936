//! What a file contains, hashed as fast as it arrives.
//!
//! Registries know files by SHA-256, which without instructions of its own costs more than all else
//! that is done with a small file. What only our cache keys know is hashed by BLAKE3.

use std::fmt;

use crate::{ContentHash, StableHasher};

/// The content of a file, for cache keys: equal for equal bytes. It is nothing that anybody else knows
/// the file by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileContent([u8; 32]);

/// Computes the [`FileContent`] of bytes that come in parts.
#[derive(Debug, Clone, Default)]
pub struct FileHasher(blake3::Hasher);

impl FileContent {
    /// Returns what a file of these bytes contains.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(blake3::hash(bytes.as_ref()).into())
    }
}

impl FileHasher {
    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns what a file of all bytes so far contains.
    pub fn finish(&self) -> FileContent {
        FileContent(self.0.finalize().into())
    }
}

impl fmt::Debug for FileContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl ContentHash for FileContent {
    fn hash(&self, hasher: &mut StableHasher) {
        hasher.fixed(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_of_nothing_is_the_known_one() {
        let empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(format!("{:?}", FileContent::of(b"")), empty);
    }

    #[test]
    fn parts_are_the_same_as_the_whole() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|number| number as u8).collect();
        let mut hasher = FileHasher::default();
        for part in bytes.chunks(777) {
            hasher.update(part);
        }
        assert_eq!(hasher.finish(), FileContent::of(&bytes));
        assert_ne!(hasher.finish(), FileContent::of(&bytes[1..]));
    }
}
