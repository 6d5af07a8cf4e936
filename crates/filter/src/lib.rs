//! Filter expressions over records, as clients write them.
//!
//! `docker buildx du --filter`, `prune --filter`, the worker list and the build history share one
//! syntax (protocol page `control.md` §6), that of containerd:
//!
//! ```text
//! filter   = selector ("," selector)*          all must hold
//! selector = field [operator value]            without an operator: the field is present
//! field    = name ("." name)*                  a name may be "quoted"
//! operator = "==" | "!=" | "~="                "~=" matches a regular expression
//! value    = bare text | "quoted" | /quoted/ | |quoted|
//! ```
//!
//! A list of filters holds if one of them does; an empty list, and an empty filter, hold always.

mod parse;

pub use parse::FilterError;

use regex::Regex;

/// A record that can be filtered.
pub trait Fields {
    /// Returns the value of the field at `path`, none if it is not present.
    fn field(&self, path: &[String]) -> Option<String>;
}

/// Filters of which one must hold.
#[derive(Debug, Clone, Default)]
pub struct Filter(Vec<Vec<Selector>>);

#[derive(Debug, Clone)]
pub(crate) struct Selector {
    path: Vec<String>,
    test: Test,
}

#[derive(Debug, Clone)]
pub(crate) enum Test {
    Present,
    Equal(String),
    NotEqual(String),
    Matches(Regex),
}

impl Filter {
    /// Parses a list of filters.
    ///
    /// # Errors
    /// Returns an error that quotes the filter and says what is wrong where.
    pub fn parse<S: AsRef<str>>(filters: &[S]) -> Result<Self, FilterError> {
        let filters = filters.iter().map(AsRef::as_ref);
        filters.map(parse::selectors).collect::<Result<_, _>>().map(Self)
    }

    /// Returns true if the filter holds for `record`.
    pub fn matches(&self, record: &impl Fields) -> bool {
        self.0.is_empty() || self.0.iter().any(|all| all.iter().all(|one| one.matches(record)))
    }
}

impl Selector {
    fn matches(&self, record: &impl Fields) -> bool {
        let value = record.field(&self.path);
        match (&self.test, value) {
            (Test::Present, value) => value.is_some(),
            (Test::Equal(wanted), value) => value.as_ref() == Some(wanted),
            (Test::NotEqual(unwanted), value) => value.as_ref() != Some(unwanted),
            (Test::Matches(regex), Some(value)) => regex.is_match(&value),
            (Test::Matches(_), None) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    struct Record(BTreeMap<&'static str, &'static str>);

    impl Fields for Record {
        fn field(&self, path: &[String]) -> Option<String> {
            self.0.get(path.join("/").as_str()).map(|value| (*value).to_owned())
        }
    }

    fn holds(filters: &[&str]) -> bool {
        let record = Record(BTreeMap::from([
            ("type", "exec.cachemount"),
            ("description", "cached mount /root/.cache, by \"x\""),
            ("inuse", ""),
            ("labels/a.b", "c"),
        ]));
        Filter::parse(filters).unwrap().matches(&record)
    }

    #[test]
    fn each_form_holds_and_fails_to() {
        for (filters, expected) in [
            (&[][..], true),
            (&[""], true),
            (&["type==exec.cachemount"], true),
            (&["type==regular"], false),
            (&["type!=regular"], true),
            (&["missing!=x"], true),
            (&["missing~=x"], false),
            (&["inuse"], true),
            (&["shared"], false),
            (&["type==regular", "inuse"], true),
            (&["type==regular,inuse"], false),
            (&["type==exec.cachemount,inuse"], true),
            (&["description~=^cached mount .*cache"], true),
            (&["description==\"cached mount /root/.cache, by \\\"x\\\"\""], true),
            (&["description~=/root.*cache/"], true),
            (&["description~=|/root/|"], true),
            (&["labels.\"a.b\"==c"], true),
            (&["labels.a.b==c"], false),
        ] {
            assert_eq!(holds(filters), expected, "{filters:?}");
        }
    }

    #[test]
    fn wrong_filters_are_quoted_in_the_error() {
        for filter in ["==x", "type=x", "type==\"open", "type~=(", "a..b==c", "type==x,", "type==,"]
        {
            let error = Filter::parse(&[filter]).unwrap_err().to_string();
            assert!(error.contains(filter), "{error}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text: String) {
            let _ = Filter::parse(&[text]);
        }
    }
}
