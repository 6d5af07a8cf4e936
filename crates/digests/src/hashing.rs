//! Hashing of values for cache keys: framed by us, the same on every machine and in every version.
//!
//! The rules: a length goes before every sequence and text, a variant's number before its fields, a
//! map is fed in the order of its keys. So no two different values feed the same bytes, and a key
//! never depends on `Debug`, on JSON, or on how protobuf happens to be encoded.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use crate::Digest;

/// A value that can be part of a cache key.
pub trait ContentHash {
    /// Feeds the value to `hasher` by the rules of this module.
    fn hash(&self, hasher: &mut StableHasher);
}

/// Collects framed values and ends in a digest.
#[derive(Debug, Clone)]
pub struct StableHasher(Sha256);

impl StableHasher {
    /// Starts a hash. `domain` says what is hashed and which version of the rules applies
    /// (`"exec.v1"`), so that keys of different kinds never meet.
    pub fn new(domain: &str) -> Self {
        let mut hasher = Self(Sha256::new());
        domain.hash(&mut hasher);
        hasher
    }

    /// Feeds one value.
    pub fn feed(&mut self, value: &(impl ContentHash + ?Sized)) -> &mut Self {
        value.hash(self);
        self
    }

    /// Feeds the number of an enum's variant; its fields follow.
    pub fn variant(&mut self, number: u8) -> &mut Self {
        self.0.update([number]);
        self
    }

    /// Feeds bytes without a length: only for values of a fixed size.
    pub fn fixed(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(bytes);
        self
    }

    /// Returns the digest of all that was fed.
    pub fn finish(&self) -> Digest {
        Digest::from_bytes(self.0.clone().finalize().into())
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl ContentHash for $number {
            fn hash(&self, hasher: &mut StableHasher) {
                hasher.fixed(&self.to_be_bytes());
            }
        }
    )*};
}
numbers!(u8, u16, u32, u64, i32, i64);

impl ContentHash for bool {
    fn hash(&self, hasher: &mut StableHasher) {
        hasher.variant(u8::from(*self));
    }
}

impl ContentHash for str {
    fn hash(&self, hasher: &mut StableHasher) {
        self.as_bytes().hash(hasher);
    }
}

impl ContentHash for String {
    fn hash(&self, hasher: &mut StableHasher) {
        self.as_str().hash(hasher);
    }
}

impl ContentHash for Digest {
    fn hash(&self, hasher: &mut StableHasher) {
        hasher.fixed(self.as_bytes());
    }
}

impl<T: ContentHash> ContentHash for [T] {
    fn hash(&self, hasher: &mut StableHasher) {
        (self.len() as u64).hash(hasher);
        self.iter().for_each(|item| item.hash(hasher));
    }
}

impl<T: ContentHash> ContentHash for Vec<T> {
    fn hash(&self, hasher: &mut StableHasher) {
        self.as_slice().hash(hasher);
    }
}

impl<T: ContentHash> ContentHash for Option<T> {
    fn hash(&self, hasher: &mut StableHasher) {
        match self {
            None => {
                hasher.variant(0);
            }
            Some(value) => value.hash(hasher.variant(1)),
        }
    }
}

impl<K: ContentHash, V: ContentHash> ContentHash for BTreeMap<K, V> {
    fn hash(&self, hasher: &mut StableHasher) {
        (self.len() as u64).hash(hasher);
        for (key, value) in self {
            key.hash(hasher);
            value.hash(hasher);
        }
    }
}

impl<T: ContentHash> ContentHash for BTreeSet<T> {
    fn hash(&self, hasher: &mut StableHasher) {
        (self.len() as u64).hash(hasher);
        self.iter().for_each(|item| item.hash(hasher));
    }
}

impl<T: ContentHash + ?Sized> ContentHash for &T {
    fn hash(&self, hasher: &mut StableHasher) {
        (**self).hash(hasher);
    }
}

impl<A: ContentHash, B: ContentHash> ContentHash for (A, B) {
    fn hash(&self, hasher: &mut StableHasher) {
        self.0.hash(hasher);
        self.1.hash(hasher);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(values: &[&str]) -> Digest {
        StableHasher::new("test").feed(values).finish()
    }

    #[test]
    fn framing_keeps_neighbours_apart() {
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&[]), key(&[""]));
        assert_ne!(StableHasher::new("a").finish(), StableHasher::new("b").finish());
    }

    #[test]
    fn a_key_is_the_same_in_every_version() {
        let map = BTreeMap::from([("k".to_owned(), Some(7u32)), ("l".to_owned(), None)]);
        let digest = StableHasher::new("golden.v1").feed(&map).feed(&true).finish();
        assert_eq!(
            digest.to_string(),
            "sha256:e3dfbc70b810a292fc26abebc794a7461441409f3cabce7e56f3ddf80ac71c4c",
            "a change here rebuilds everything that any user has cached"
        );
    }
}
