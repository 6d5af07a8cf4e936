//! Digests that mean different things are different types, so that one is never passed for another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{ContentHash, Digest, DigestError, StableHasher};

macro_rules! kin {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Digest);

        impl $name {
            /// Says that `digest` is of this kind.
            pub const fn new(digest: Digest) -> Self {
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

kin! {
    /// The digest of a vertex of a build graph: of the bytes of its operation as they were received
    /// (protocol page `llb.md` §2).
    VertexDigest
}
kin! {
    /// The digest of an uncompressed layer archive (OCI image specification, "Layer DiffID").
    DiffId
}
kin! {
    /// The digest of a stack of layers (OCI image specification, "Layer ChainID").
    ChainId
}

impl ChainId {
    /// Returns the identity of a stack of one layer.
    pub const fn base(layer: DiffId) -> Self {
        Self(layer.digest())
    }

    /// Returns the identity of this stack with `layer` on top:
    /// `sha256("<this chain id> <layer's diff id>")`.
    pub fn append(&self, layer: DiffId) -> Self {
        Self(Digest::of(format!("{self} {layer}")))
    }

    /// Returns the identity of a stack of layers, lowest first; none for an empty stack.
    pub fn of(layers: impl IntoIterator<Item = DiffId>) -> Option<Self> {
        layers.into_iter().fold(None, |chain, layer| {
            Some(chain.map_or_else(|| Self::base(layer), |below: Self| below.append(layer)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_ids_follow_the_specification() {
        let (a, b) = (DiffId::new(Digest::of("a")), DiffId::new(Digest::of("b")));
        assert_eq!(ChainId::of([]), None);
        assert_eq!(ChainId::of([a]).unwrap().digest(), a.digest());
        assert_eq!(ChainId::of([a, b]).unwrap().digest(), Digest::of(format!("{a} {b}")));
    }
}
