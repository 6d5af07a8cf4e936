//! What a volume is called, and how that becomes a directory's name.

use std::fmt;
use std::str::FromStr;

use digests::{Digest, StableHasher};
use serde::{Deserialize, Serialize};

/// Why a text is not the name of a volume.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A NUL byte, which no tool can pass on.
    #[error("volume {part} {shown:?} contains a NUL byte")]
    Nul {
        /// The part of the name: `namespace` or `id`.
        part: &'static str,
        /// The text, as far as it can be shown.
        shown: String,
    },
    /// Not the 64 hexadecimal digits of a volume's key.
    #[error("`{0}` is not the key of a volume: expected 64 lower-case hexadecimal digits")]
    Key(String),
}

/// The name of a volume: whose it is, what the user calls it, and what it was seeded with.
///
/// The id is data: any bytes but NUL. Nothing of it is ever part of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VolumeName {
    namespace: String,
    #[serde(with = "bytes_as_text")]
    id: Vec<u8>,
    variant: Option<VariantKey>,
}

impl VolumeName {
    /// Returns the name of volume `id` in `namespace`, of the variant that began empty.
    ///
    /// # Errors
    /// Returns an error if either contains a NUL byte.
    pub fn new(namespace: impl Into<String>, id: impl Into<Vec<u8>>) -> Result<Self, NameError> {
        let (namespace, id) = (namespace.into(), id.into());
        for (part, bytes) in [("namespace", namespace.as_bytes()), ("id", &id[..])] {
            if bytes.contains(&0) {
                let shown = String::from_utf8_lossy(bytes).into_owned();
                return Err(NameError::Nul { part, shown });
            }
        }
        Ok(Self { namespace, id, variant: None })
    }

    /// Returns the name of the variant that was seeded with the content `key`.
    pub fn with_variant(self, key: VariantKey) -> Self {
        Self { variant: Some(key), ..self }
    }

    /// Returns whose it is.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns what the user calls it.
    pub fn id(&self) -> &[u8] {
        &self.id
    }

    /// Returns the id as it is shown to people: bytes that are not UTF-8 are replaced.
    pub fn shown_id(&self) -> String {
        String::from_utf8_lossy(&self.id).into_owned()
    }

    /// Returns the content it was seeded with; none if it began empty.
    pub const fn variant(&self) -> Option<VariantKey> {
        self.variant
    }

    /// Returns the volume's key: the same on every machine, and never that of another name.
    pub fn key(&self) -> VolumeKey {
        let mut hasher = StableHasher::new("volume.v1");
        hasher.feed(&self.namespace).feed(self.id.as_slice());
        hasher.feed(&self.variant.map(|key| key.0));
        VolumeKey(hasher.finish())
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.shown_id())?;
        self.variant.map_or(Ok(()), |key| write!(f, "@{}", &key.0.hex()[..12]))
    }
}

/// The digest of the content that a variant of a volume is seeded with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VariantKey(Digest);

impl VariantKey {
    /// Says that `content` identifies a seed.
    pub const fn new(content: Digest) -> Self {
        Self(content)
    }

    /// Returns the digest of the content.
    pub const fn digest(&self) -> Digest {
        self.0
    }
}

/// The stable identity of a volume, a digest of its name; also the name of its directory.
///
/// Displays as 64 hexadecimal digits. The order of keys is the order in which a step takes volumes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeKey(Digest);

impl fmt::Display for VolumeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.hex())
    }
}

impl fmt::Debug for VolumeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VolumeKey {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refused = |_| NameError::Key(text.chars().take(100).collect());
        format!("sha256:{text}").parse().map(Self).map_err(refused)
    }
}

/// Bytes as a JSON text: themselves where they are UTF-8, else a list of numbers.
mod bytes_as_text {
    use serde::{Deserializer, Serializer};

    use super::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Form {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let form = match std::str::from_utf8(bytes) {
            Ok(text) => Form::Text(text.to_owned()),
            Err(_) => Form::Bytes(bytes.to_owned()),
        };
        form.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        Ok(match Form::deserialize(deserializer)? {
            Form::Text(text) => text.into_bytes(),
            Form::Bytes(bytes) => bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn any_id_is_a_plain_directory_name() {
        for id in ["", ".", "../x", "a/b", "🦀", &"x".repeat(4096), "-rf", "a\nb"] {
            let key = VolumeName::new("default", id).unwrap().key().to_string();
            assert!(key.len() == 64 && key.bytes().all(|c| c.is_ascii_hexdigit()), "{id}: {key}");
        }
        assert!(VolumeName::new("default", "a\0b").is_err());
        assert!(VolumeName::new("a\0", "b").is_err());
    }

    #[test]
    fn a_key_is_the_same_in_every_version() {
        let key = VolumeName::new("default", "/root/.cache").unwrap().key();
        assert_eq!(
            key.to_string(),
            "c41e6a746711b700ea61d33acf573a836d19cfed568431607993672177db094a",
            "a change here loses every volume that any user has"
        );
    }

    #[test]
    fn neighbours_and_variants_do_not_collide() {
        let name = |namespace: &str, id: &str| VolumeName::new(namespace, id).unwrap();
        assert_ne!(name("a", "bc").key(), name("ab", "c").key());
        assert_ne!(name("a", "/b").key(), name("a/", "b").key());
        let seeded = name("a", "b").with_variant(VariantKey::new(Digest::of("seed")));
        assert_ne!(seeded.key(), name("a", "b").key());
    }

    proptest! {
        #[test]
        fn names_round_trip_and_differ_when_their_keys_do(
            one in proptest::collection::vec(1u8.., 0..12),
            other in proptest::collection::vec(1u8.., 0..12),
        ) {
            let a = VolumeName::new("n", one).unwrap();
            let b = VolumeName::new("n", other).unwrap();
            prop_assert_eq!(a == b, a.key() == b.key());
            let json = serde_json::to_string(&a).unwrap();
            prop_assert_eq!(&serde_json::from_str::<VolumeName>(&json).unwrap(), &a);
            prop_assert_eq!(a.key().to_string().parse::<VolumeKey>().unwrap(), a.key());
        }

        #[test]
        fn parsing_a_key_never_panics(text: String) {
            let _ = text.parse::<VolumeKey>();
        }
    }
}
