//! The name of a layer.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest key. File names are limited to 255 bytes, and ours get a suffix.
const LONGEST: usize = 64;

/// The name of a layer: 1 to 64 characters of `a-z`, `0-9`, `-` and `_`, the first one a letter or a
/// digit, so that it is a safe file name with room for suffixes that begin with a dot. Cheap to clone:
/// a stack is a list of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerKey(Arc<str>);

/// Why a text is not a layer's key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "layer key {0:?} is not 1 to {LONGEST} of a-z, 0-9, `-`, `_`, beginning with a letter or digit"
)]
pub struct KeyError(String);

impl LayerKey {
    /// Takes a text as a key.
    ///
    /// # Errors
    /// Returns an error if it is not one.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let first = text.bytes().next().is_some_and(plain);
        let rest = text.bytes().all(|byte| plain(byte) || byte == b'-' || byte == b'_');
        if first && rest && text.len() <= LONGEST {
            return Ok(Self(text.into()));
        }
        Err(KeyError(text.chars().take(100).collect()))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for LayerKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::new(text)
    }
}

impl Serialize for LayerKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for LayerKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_safe_names_are_keys() {
        for text in ["a", "0", "9z-_", &"k".repeat(64)] {
            assert_eq!(LayerKey::new(text).unwrap().to_string(), text);
        }
        for text in ["", "-a", "_", ".", "..", "a.b", "a/b", "A", "ä", "a\0", &"k".repeat(65)] {
            assert!(LayerKey::new(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn keys_round_trip(text in "[a-z0-9][a-z0-9_-]{0,63}") {
            let key: LayerKey = text.parse().unwrap();
            let json = serde_json::to_string(&key).unwrap();
            prop_assert_eq!(serde_json::from_str::<LayerKey>(&json).unwrap(), key);
        }

        #[test]
        fn what_is_not_a_key_is_an_error_and_no_panic(text: String) {
            if let Ok(key) = LayerKey::new(&text) {
                prop_assert!(!key.as_str().contains(['/', '.', '\0']));
            }
        }
    }
}
