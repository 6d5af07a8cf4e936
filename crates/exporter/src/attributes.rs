//! Settings of an export, as clients write them.

use std::collections::BTreeMap;

use bytes::Bytes;
use snapshot::Compression;

use crate::ExportError;

/// What is known of a result, by key.
pub(crate) type Metadata = BTreeMap<String, Bytes>;

const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;

/// The settings of one request. Those that nobody asks for are ignored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes<'a>(pub(crate) &'a BTreeMap<String, String>);

impl<'a> Attributes<'a> {
    pub(crate) fn text(self, name: &str) -> Option<&'a str> {
        self.0.get(name).map(String::as_str)
    }

    /// Returns a switch: one that is there without a value is on.
    pub(crate) fn switch(self, name: &str, default: bool) -> Result<bool, ExportError> {
        match self.text(name) {
            Some("") => Ok(true),
            _ => Ok(self.boolean(name)?.unwrap_or(default)),
        }
    }

    /// Returns a truth value, if there is one.
    pub(crate) fn boolean(self, name: &str) -> Result<Option<bool>, ExportError> {
        self.text(name)
            .map(|value| parse_bool(value).ok_or_else(|| wrong(name, value, "`true` or `false`")))
            .transpose()
    }

    /// Returns which time is to take the place of later ones.
    pub(crate) fn epoch(self) -> Result<Epoch, ExportError> {
        const NAME: &str = "source-date-epoch";
        match self.text(NAME) {
            None => Ok(Epoch::AsResult),
            Some("") => Ok(Epoch::Keep),
            Some(value) => {
                let seconds = value.parse().map_err(|_| wrong(NAME, value, "seconds since 1970"));
                Ok(Epoch::At(seconds?))
            }
        }
    }

    /// Returns how layers are to be compressed.
    pub(crate) fn compression(self) -> Result<Compression, ExportError> {
        const NAME: &str = "compression";
        let level = self.level()?;
        match self.text(NAME) {
            None | Some("gzip") => Ok(Compression::Gzip(gzip_level(level)?)),
            Some("zstd") => Ok(Compression::Zstd(zstd_level(level)?)),
            Some("uncompressed") => Ok(Compression::Uncompressed),
            Some(value) => Err(wrong(NAME, value, "`gzip`, `zstd` or `uncompressed`")),
        }
    }

    fn level(self) -> Result<Option<i64>, ExportError> {
        let value = self.text(LEVEL);
        let parse = |value: &str| value.parse().map_err(|_| wrong(LEVEL, value, "a whole number"));
        value.map(parse).transpose()
    }
}

const LEVEL: &str = "compression-level";

fn gzip_level(level: Option<i64>) -> Result<u32, ExportError> {
    match level {
        None | Some(-1) => Ok(GZIP_LEVEL),
        Some(level) => u32::try_from(level)
            .ok()
            .filter(|level| *level <= 9)
            .ok_or_else(|| wrong(LEVEL, &level.to_string(), "a level of gzip from 0 to 9")),
    }
}

fn zstd_level(level: Option<i64>) -> Result<i32, ExportError> {
    match level {
        None | Some(0) => Ok(ZSTD_LEVEL),
        Some(level) => i32::try_from(level)
            .ok()
            .filter(|level| (1..=22).contains(level))
            .ok_or_else(|| wrong(LEVEL, &level.to_string(), "a level of zstd from 0 to 22")),
    }
}

/// Reads a truth value as Go's `strconv.ParseBool` does.
fn parse_bool(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

pub(crate) fn wrong(attribute: &str, value: &str, expected: &'static str) -> ExportError {
    ExportError::Attribute { attribute: attribute.to_owned(), value: value.to_owned(), expected }
}

/// Which time takes the place of later ones, as the request has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Epoch {
    /// The one that the result brings.
    #[default]
    AsResult,
    /// None, whatever the result brings.
    Keep,
    /// This one, in seconds since 1970.
    At(i64),
}

impl Epoch {
    /// Returns the time for the part of a result that is for `platform`: what the request says, else
    /// what the metadata say of all, else of the platform, else `fallback`.
    pub(crate) fn of(
        self,
        metadata: &Metadata,
        platform: &str,
        fallback: Option<i64>,
    ) -> Result<Option<i64>, ExportError> {
        const KEY: &str = "source.date.epoch";
        match self {
            Self::At(seconds) => return Ok(Some(seconds)),
            Self::Keep => return Ok(None),
            Self::AsResult => {}
        }
        let found = metadata.get(KEY).or_else(|| metadata.get(&format!("{KEY}/{platform}")));
        let Some(found) = found.filter(|value| !value.is_empty()) else { return Ok(fallback) };
        let text = String::from_utf8_lossy(found);
        text.parse().map(Some).map_err(|_| {
            let reason = "expected seconds since 1970";
            ExportError::Result(format!("invalid SOURCE_DATE_EPOCH `{text}` of result: {reason}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn truth_has_many_spellings() {
        for (value, expected) in
            [("1", true), ("t", true), ("TRUE", true), ("0", false), ("False", false), ("", true)]
        {
            let given = attributes(&[("push", value)]);
            assert_eq!(Attributes(&given).switch("push", false).unwrap(), expected, "{value}");
        }
        let given = attributes(&[("push", "yes"), ("oci-artifact", "")]);
        let error = Attributes(&given).switch("push", false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid value `yes` of exporter attribute `push`: expected `true` or `false`"
        );
        assert!(Attributes(&given).boolean("oci-artifact").is_err());
        assert!(Attributes(&given).switch("other", true).unwrap());
    }

    #[test]
    fn compression_and_its_level() {
        for (pairs, expected) in [
            (&[][..], Some(Compression::Gzip(6))),
            (&[("compression", "gzip"), ("compression-level", "9")], Some(Compression::Gzip(9))),
            (&[("compression-level", "-1")], Some(Compression::Gzip(6))),
            (&[("compression-level", "10")], None),
            (&[("compression-level", "fast")], None),
            (&[("compression", "zstd")], Some(Compression::Zstd(3))),
            (&[("compression", "zstd"), ("compression-level", "22")], Some(Compression::Zstd(22))),
            (&[("compression", "zstd"), ("compression-level", "23")], None),
            (&[("compression", "uncompressed")], Some(Compression::Uncompressed)),
            (&[("compression", "lzma")], None),
        ] {
            let given = attributes(pairs);
            let found = Attributes(&given).compression();
            assert_eq!(found.ok(), expected, "{pairs:?}");
        }
    }

    #[test]
    fn the_time_is_the_first_that_is_said() {
        let metadata = |pairs: &[(&str, &'static str)]| -> Metadata {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), Bytes::from(*value))).collect()
        };
        let both = metadata(&[("source.date.epoch", "1"), ("source.date.epoch/linux/amd64", "2")]);
        let one = metadata(&[("source.date.epoch/linux/amd64", "2")]);
        for (epoch, metadata, platform, expected) in [
            (Epoch::At(5), &both, "linux/amd64", Some(5)),
            (Epoch::Keep, &both, "linux/amd64", None),
            (Epoch::AsResult, &both, "linux/amd64", Some(1)),
            (Epoch::AsResult, &one, "linux/amd64", Some(2)),
            (Epoch::AsResult, &one, "linux/arm64", Some(9)),
        ] {
            assert_eq!(epoch.of(metadata, platform, Some(9)).unwrap(), expected);
        }
        let bad = metadata(&[("source.date.epoch", "soon")]);
        let error = Epoch::AsResult.of(&bad, "linux/amd64", None).unwrap_err();
        assert!(error.to_string().contains("`soon`"), "{error}");
    }
}
