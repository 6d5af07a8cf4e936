//! A table of the configuration file, read key by key.
//!
//! Whoever reads a table asks for each key it knows, and then calls [`Section::finish`]: what was
//! never asked for is a mistake of the operator's, and is named with its line and with the nearest
//! key that was asked for. So the code that reads a key is also the list of keys.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use serde::de::IntoDeserializer as _;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::spelling::nearest;

/// Where in the configuration something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    path: PathBuf,
    line: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` line {}", self.path.display(), self.line)
    }
}

/// The text of the file, for finding lines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl Text<'_> {
    pub(super) fn place(&self, offset: usize) -> Place {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Place { path: self.path.to_owned(), line }
    }
}

/// A value that may be written as a number or as a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scalar {
    Number(i64),
    Text(String),
}

/// A table of the file.
#[derive(Debug)]
pub(super) struct Section<'a> {
    text: Text<'a>,
    /// As it is written between brackets; empty for the file itself.
    name: String,
    table: &'a DeTable<'a>,
    asked: RefCell<Vec<&'static str>>,
}

type Value<'a> = Spanned<DeValue<'a>>;

impl<'a> Section<'a> {
    pub(super) fn root(text: Text<'a>, table: &'a DeTable<'a>) -> Self {
        Self { text, name: String::new(), table, asked: RefCell::default() }
    }

    fn child(&self, key: &str, table: &'a DeTable<'a>) -> Self {
        let key = if key.contains(['.', ':', '/']) { format!("\"{key}\"") } else { key.to_owned() };
        let name = if self.name.is_empty() { key } else { format!("{}.{key}", self.name) };
        Self { text: self.text, name, table, asked: RefCell::default() }
    }

    /// Looks a key up. Case does not count, as with the reference.
    fn value(&self, key: &'static str) -> Option<&'a Value<'a>> {
        self.asked.borrow_mut().push(key);
        let exact = self.table.get(key);
        exact.or_else(|| {
            let mut entries = self.table.iter();
            entries.find(|(name, _)| name.get_ref().eq_ignore_ascii_case(key)).map(|(_, v)| v)
        })
    }

    fn bad(&self, key: &str, value: &Value<'_>, reason: impl Into<String>) -> ConfigError {
        ConfigError::Value {
            place: self.text.place(value.span().start),
            key: self.name_of(key),
            reason: reason.into(),
        }
    }

    fn name_of(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn wrong(&self, key: &str, value: &Value<'_>, expected: &str) -> ConfigError {
        let found = value.get_ref().type_str();
        self.bad(key, value, format!("expected {expected}, found {found}"))
    }

    /// Returns true if the key is there, whatever it says.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.value(key).is_some()
    }

    pub(super) fn text(&self, key: &'static str) -> Result<Option<String>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let text = value.get_ref().as_str().ok_or_else(|| self.wrong(key, value, "a text"))?;
        Ok(Some(text.to_owned()))
    }

    pub(super) fn boolean(&self, key: &'static str) -> Result<Option<bool>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        value.get_ref().as_bool().map(Some).ok_or_else(|| self.wrong(key, value, "true or false"))
    }

    /// Returns a number that is not negative.
    pub(super) fn number<N: TryFrom<i64>>(
        &self,
        key: &'static str,
    ) -> Result<Option<N>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let number = integer(value).ok_or_else(|| self.wrong(key, value, "a number"))?;
        let number = N::try_from(number)
            .map_err(|_| self.bad(key, value, format!("`{number}` is out of range")))?;
        Ok(Some(number))
    }

    pub(super) fn texts(&self, key: &'static str) -> Result<Option<Vec<String>>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let wrong = || self.wrong(key, value, "a list of texts");
        let list = value.get_ref().as_array().ok_or_else(wrong)?;
        let texts = list.iter().map(|item| item.get_ref().as_str().map(str::to_owned));
        texts.collect::<Option<_>>().map(Some).ok_or_else(wrong)
    }

    /// Returns the texts of a table of free keys.
    pub(super) fn text_map(
        &self,
        key: &'static str,
    ) -> Result<Option<BTreeMap<String, String>>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let wrong = || self.wrong(key, value, "a table of texts");
        let table = value.get_ref().as_table().ok_or_else(wrong)?;
        let texts = table.iter().map(|(name, text)| {
            Some((name.get_ref().to_string(), text.get_ref().as_str()?.to_owned()))
        });
        texts.collect::<Option<_>>().map(Some).ok_or_else(wrong)
    }

    /// Returns what `parse` makes of a number or a text.
    pub(super) fn scalar<T, E: std::fmt::Display>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&Scalar) -> Result<T, E>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let scalar = match (integer(value), value.get_ref().as_str()) {
            (Some(number), _) => Scalar::Number(number),
            (None, Some(text)) => Scalar::Text(text.to_owned()),
            (None, None) => return Err(self.wrong(key, value, "a number or a text")),
        };
        parse(&scalar).map(Some).map_err(|error| self.bad(key, value, error.to_string()))
    }

    /// Returns a text as what it stands for.
    pub(super) fn parsed<T: FromStr<Err: std::fmt::Display>>(
        &self,
        key: &'static str,
    ) -> Result<Option<T>, ConfigError> {
        self.text(key)?.map(|text| self.convert(key, || text.parse())).transpose()
    }

    /// Returns a text that is one of the words of an enumeration.
    pub(super) fn word<T: for<'de> Deserialize<'de>>(
        &self,
        key: &'static str,
    ) -> Result<Option<T>, ConfigError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let word: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
            text.as_str().into_deserializer();
        self.convert(key, || T::deserialize(word)).map(Some)
    }

    /// Runs a conversion whose failure is the fault of the value at `key`.
    pub(super) fn convert<T, E: std::fmt::Display>(
        &self,
        key: &'static str,
        convert: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, ConfigError> {
        convert().map_err(|error| {
            let at = self.table.get(key).map_or(0, |value| value.span().start);
            let place = self.text.place(at);
            ConfigError::Value { place, key: self.name_of(key), reason: error.to_string() }
        })
    }

    /// Returns a table within this one.
    pub(super) fn section(&self, key: &'static str) -> Result<Option<Self>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let table = value.get_ref().as_table().ok_or_else(|| self.wrong(key, value, "a table"))?;
        Ok(Some(self.child(key, table)))
    }

    /// Returns the tables within the table at `key`, whose names the operator chose.
    pub(super) fn named(&self, key: &'static str) -> Result<Vec<(String, Self)>, ConfigError> {
        let Some(outer) = self.section(key)? else { return Ok(Vec::new()) };
        let mut named = Vec::new();
        for (name, value) in outer.table {
            let name = name.get_ref().as_ref();
            let table = value.get_ref().as_table();
            let table = table.ok_or_else(|| outer.wrong(name, value, "a table"))?;
            named.push((name.to_owned(), outer.child(name, table)));
        }
        Ok(named)
    }

    /// Returns the tables of a list of tables.
    pub(super) fn list(&self, key: &'static str) -> Result<Vec<Self>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(Vec::new()) };
        let wrong = || self.wrong(key, value, "a list of tables");
        let list = value.get_ref().as_array().ok_or_else(wrong)?;
        let sections = list.iter().map(|item| Some(self.child(key, item.get_ref().as_table()?)));
        sections.collect::<Option<_>>().ok_or_else(wrong)
    }

    /// Checks that every key of the table was asked for: before what is missing is told, because it may
    /// be there under a wrong name.
    pub(super) fn finish(&self) -> Result<(), ConfigError> {
        let asked = self.asked.borrow();
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if !asked.iter().any(|asked| asked.eq_ignore_ascii_case(name)) {
                return Err(ConfigError::UnknownKey {
                    place: self.text.place(key.span().start),
                    key: name.to_owned(),
                    section: if self.name.is_empty() {
                        String::new()
                    } else {
                        format!(" in `[{}]`", self.name)
                    },
                    nearest: nearest(name, &asked).unwrap_or_default().to_owned(),
                });
            }
        }
        Ok(())
    }
}

fn integer(value: &Value<'_>) -> Option<i64> {
    let number = value.get_ref().as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}
