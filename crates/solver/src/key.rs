//! The names under which results are found again.
//!
//! A [`KeyId`] names a result; it is computed from the operation and the keys of its inputs alone, so
//! the same build computes the same keys on any machine. A [`LinkKey`] says "this operation, with
//! *this* in slot *n*", and leads to the `KeyId`s of results that were made so. A result is found if
//! for every slot some key of the input leads to it. An input may have several keys: from its
//! definition, from what a lookup found, and from its content. So an operation whose inputs came
//! about differently but are the same is found without trying every combination.

use std::fmt;
use std::str::FromStr;

use digests::{ContentHash, Digest, DigestError, StableHasher};

use crate::{CacheMap, ContentKey};

/// The name of a result in a [`CacheStore`](crate::CacheStore), or of some content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(Digest);

/// The name of the link "operation and output, slot, key of the input, part of it that is used".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkKey(Digest);

macro_rules! name {
    ($name:ident) => {
        impl $name {
            /// Says that `digest` is of this kind: for stores that read back what they wrote.
            pub const fn from_digest(digest: Digest) -> Self {
                Self(digest)
            }

            /// Returns the plain digest.
            pub const fn digest(&self) -> Digest {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<Self, DigestError> {
                text.parse().map(Self)
            }
        }

        impl ContentHash for $name {
            fn hash(&self, hasher: &mut StableHasher) {
                self.0.hash(hasher);
            }
        }
    };
}
name!(KeyId);
name!(LinkKey);

/// What an operation makes of its inputs, before one output is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BaseKey(Digest);

/// What identifies work in flight: edges that come to the same are served by one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RunKey(Digest);

impl RunKey {
    pub(crate) const fn new(digest: Digest) -> Self {
        Self(digest)
    }
}

impl KeyId {
    /// Returns the key of an input by its content.
    pub fn of_content(content: Digest) -> Self {
        Self(StableHasher::new("solver.content.v1").feed(&content).finish())
    }

    /// Returns the key that a result has by its definition: the operation, the output, and the
    /// definition keys of its inputs in the order of their slots.
    pub fn of_definition(map: &CacheMap, output: u32, inputs: &[Self]) -> Self {
        BaseKey::of(map, inputs).output(output)
    }
}

impl BaseKey {
    pub(crate) fn of(map: &CacheMap, inputs: &[KeyId]) -> Self {
        let mut hasher = StableHasher::new("solver.definition.v1");
        hasher.feed(&map.digest).feed(&(inputs.len() as u64));
        for (input, key) in map.inputs.iter().zip(inputs) {
            hasher.feed(&input.selector).feed(key);
        }
        Self(hasher.finish())
    }

    pub(crate) fn output(&self, output: u32) -> KeyId {
        KeyId(StableHasher::new("solver.output.v1").feed(&self.0).feed(&output).finish())
    }
}

impl LinkKey {
    /// Returns the name of the link for a `key` that the input in `slot` has by definition.
    pub fn by_definition(map: &CacheMap, output: u32, slot: usize, key: KeyId) -> Self {
        let selector = map.inputs.get(slot).and_then(|input| input.selector);
        Self::of(map, output, slot, key, selector)
    }

    /// Returns the name of the link for a `key` that the input in `slot` has by its content. The
    /// selector is left out: what the content is matters, not where it lay.
    pub fn by_content(map: &CacheMap, output: u32, slot: usize, key: KeyId) -> Self {
        Self::of(map, output, slot, key, None)
    }

    fn of(map: &CacheMap, output: u32, slot: usize, key: KeyId, selector: Option<Digest>) -> Self {
        let mut hasher = StableHasher::new("solver.link.v1");
        hasher.feed(&map.digest).feed(&output).feed(&(slot as u64)).feed(&key).feed(&selector);
        Self(hasher.finish())
    }
}

impl CacheMap {
    /// Returns true if the input in `slot` may also be found by its content.
    pub(crate) fn is_by_content(&self, slot: usize) -> bool {
        self.inputs.get(slot).is_some_and(|input| input.content == ContentKey::ByContent)
    }
}
