//! The flags of an instruction: which it knows, and what they say.

use crate::suggest::{Case, hint};

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// Nothing, or `true` or `false`.
    Bool,
    /// One value.
    Text,
    /// A value, as often as one likes.
    Texts,
}

/// Why the flags are wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// The instruction has no such flag.
    #[error("unknown flag: {flag}{}", hint(&flag[2..], known.iter().copied(), Case::Matters))]
    Unknown {
        /// The flag, with its dashes.
        flag: String,
        /// What would have been right.
        known: Vec<&'static str>,
    },
    /// A flag that can be given once was given twice.
    #[error("duplicate flag specified: {0}")]
    Duplicate(String),
    /// A flag lacks its value.
    #[error("missing a value on flag: {0}")]
    NoValue(String),
    /// A flag is neither true nor false.
    #[error("expecting boolean value for flag {flag}, not: {value}")]
    NotBool {
        /// The flag, with its dashes.
        flag: String,
        /// What it was given.
        value: String,
    },
}

/// Flags that were given, checked against those an instruction knows.
#[derive(Debug, Default)]
pub(super) struct Flags(Vec<(&'static str, String)>);

impl Flags {
    /// Checks the flags of an instruction that knows `known`.
    pub(super) fn read(
        given: &[String],
        known: &[(&'static str, Takes)],
    ) -> Result<Self, FlagError> {
        let mut flags = Self::default();
        for word in given {
            let (flag, value) = match word.split_once('=') {
                Some((flag, value)) => (flag, Some(value)),
                None => (word.as_str(), None),
            };
            let Some(&(name, takes)) = known.iter().find(|(name, _)| flag[2..] == **name) else {
                let known = known.iter().map(|(name, _)| *name).collect();
                return Err(FlagError::Unknown { flag: flag.to_owned(), known });
            };
            if takes != Takes::Texts && flags.text(name).is_some() {
                return Err(FlagError::Duplicate(flag.to_owned()));
            }
            let value = match (takes, value) {
                (Takes::Bool, None) => "true".to_owned(),
                (Takes::Bool, Some(value)) => bool_value(flag, value)?,
                (Takes::Text | Takes::Texts, Some(value)) => value.to_owned(),
                (Takes::Text | Takes::Texts, None) => {
                    return Err(FlagError::NoValue(flag.to_owned()));
                }
            };
            flags.0.push((name, value));
        }
        Ok(flags)
    }

    /// Returns a flag's value if it was given.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
    }

    /// Returns a flag's value, empty if it was not given.
    pub(super) fn text_or_empty(&self, name: &str) -> String {
        self.text(name).unwrap_or_default().to_owned()
    }

    /// Returns all values of a flag.
    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(key, _)| *key == name).map(|(_, value)| value.clone()).collect()
    }

    /// Returns what a flag says if it was given.
    pub(super) fn bool(&self, name: &str) -> Option<bool> {
        self.text(name).map(|value| value == "true")
    }
}

fn bool_value(flag: &str, value: &str) -> Result<String, FlagError> {
    match value.to_ascii_lowercase().as_str() {
        "" => Err(FlagError::NoValue(flag.to_owned())),
        lower @ ("true" | "false") => Ok(lower.to_owned()),
        _ => Err(FlagError::NotBool { flag: flag.to_owned(), value: value.to_owned() }),
    }
}

/// Reads a truth value in any of the spellings that options accept.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [(&str, Takes); 3] =
        [("link", Takes::Bool), ("from", Takes::Text), ("exclude", Takes::Texts)];

    fn read(words: &[&str]) -> Result<Flags, String> {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        Flags::read(&words, &KNOWN).map_err(|error| error.to_string())
    }

    #[test]
    fn each_kind_of_flag_takes_its_values() {
        let flags = read(&["--link", "--from=a=b", "--exclude=x", "--exclude=y"]).unwrap();
        assert_eq!(flags.bool("link"), Some(true));
        assert_eq!(flags.text("from"), Some("a=b"));
        assert_eq!(flags.texts("exclude"), ["x", "y"]);
        assert_eq!(read(&["--link=FALSE"]).unwrap().bool("link"), Some(false));
    }

    #[test]
    fn mistakes_are_named() {
        for (words, expected) in [
            (&["--form=x"][..], "unknown flag: --form (did you mean from?)"),
            (&["--zzzzzz"], "unknown flag: --zzzzzz"),
            (&["--from=a", "--from=b"], "duplicate flag specified: --from"),
            (&["--from"], "missing a value on flag: --from"),
            (&["--link="], "missing a value on flag: --link"),
            (&["--link=maybe"], "expecting boolean value for flag --link, not: maybe"),
        ] {
            assert_eq!(read(words).err().as_deref(), Some(expected));
        }
    }
}
