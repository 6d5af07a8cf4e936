//! JSON as Go writes it, so that our documents have the digests that other builders' have.
//!
//! Go escapes `<`, `>`, `&` and the two Unicode line separators, and writes `null` where it has an
//! absent list or map; the rest is as everywhere.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// A JSON object whose members are kept in their own bytes, in the order of their names: what Go
/// makes of an object that it reads into a map and writes again.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawObject(pub BTreeMap<String, Box<RawValue>>);

impl RawObject {
    /// Sets the member `name` to `value`.
    ///
    /// # Errors
    /// Returns an error if `value` cannot be written as JSON.
    pub fn set(&mut self, name: &str, value: &impl Serialize) -> serde_json::Result<()> {
        self.0.insert(name.to_owned(), serde_json::value::to_raw_value(value)?);
        Ok(())
    }
}

/// Returns `value` as compact JSON.
///
/// # Errors
/// Returns an error if the value cannot be written as JSON: a map whose keys are no texts.
pub fn encode(value: &(impl Serialize + ?Sized)) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(value).map(escape)
}

/// Returns `value` as JSON indented by two spaces.
///
/// # Errors
/// Returns an error if the value cannot be written as JSON: a map whose keys are no texts.
pub fn encode_indented(value: &(impl Serialize + ?Sized)) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).map(escape)
}

/// Escapes what Go escapes and serde does not. None of it occurs in JSON outside of texts, so this
/// may be done on the finished bytes.
fn escape(json: Vec<u8>) -> Vec<u8> {
    if !json.iter().any(|byte| matches!(byte, b'<' | b'>' | b'&' | 0xe2)) {
        return json;
    }
    let mut escaped = Vec::with_capacity(json.len() + 32);
    let mut rest = json.as_slice();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'<', _) => escaped.extend_from_slice(br"\u003c"),
            (b'>', _) => escaped.extend_from_slice(br"\u003e"),
            (b'&', _) => escaped.extend_from_slice(br"\u0026"),
            (0xe2, [0x80, last @ (0xa8 | 0xa9), after @ ..]) => {
                escaped.extend_from_slice(if *last == 0xa8 { br"\u2028" } else { br"\u2029" });
                rest = after;
            }
            (other, _) => escaped.push(other),
        }
    }
    escaped
}

/// Reads a value in whose place `null` means nothing, as Go does.
pub(crate) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A set of names as Go has it: an object whose members are empty objects.
pub(crate) mod name_set {
    use std::collections::{BTreeMap, BTreeSet};

    use serde::de::IgnoredAny;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize)]
    struct Empty {}

    pub(crate) fn serialize<S: Serializer>(
        names: &BTreeSet<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(names.iter().map(|name| (name, Empty {})))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<String>, D::Error> {
        let members = Option::<BTreeMap<String, IgnoredAny>>::deserialize(deserializer)?;
        Ok(members.unwrap_or_default().into_keys().collect())
    }
}

/// A duration as Go has it: a whole number of nanoseconds.
pub(crate) mod nanoseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        Ok(Duration::from_nanos(Option::<u64>::deserialize(deserializer)?.unwrap_or_default()))
    }
}
