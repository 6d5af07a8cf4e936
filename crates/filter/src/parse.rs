//! The parser: one pass over the characters, no backtracking.

use std::iter::Peekable;
use std::str::Chars;

use regex::Regex;

use crate::{Selector, Test};

/// Why a filter cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("invalid filter `{filter}`: {reason}")]
pub struct FilterError {
    filter: String,
    reason: String,
}

struct Parser<'a> {
    rest: Peekable<Chars<'a>>,
}

/// Parses one filter; an empty one has no selectors.
pub(crate) fn selectors(filter: &str) -> Result<Vec<Selector>, FilterError> {
    if filter.is_empty() {
        return Ok(Vec::new());
    }
    let mut parser = Parser { rest: filter.chars().peekable() };
    parser.list().map_err(|reason| FilterError { filter: filter.to_owned(), reason })
}

impl Parser<'_> {
    fn list(&mut self) -> Result<Vec<Selector>, String> {
        let mut list = vec![self.selector()?];
        while let Some(next) = self.rest.next() {
            if next != ',' {
                return Err(format!("expected `,` before `{next}`"));
            }
            list.push(self.selector()?);
        }
        Ok(list)
    }

    fn selector(&mut self) -> Result<Selector, String> {
        let path = self.path()?;
        let Some(first) = self.rest.next_if(|c| "=!~".contains(*c)) else {
            return Ok(Selector { path, test: Test::Present });
        };
        if self.rest.next() != Some('=') {
            return Err(format!("`{first}` is no operator: use `==`, `!=` or `~=`"));
        }
        let value = self.value(first == '~')?;
        let test = match first {
            '=' => Test::Equal(value),
            '!' => Test::NotEqual(value),
            _ => Test::Matches(Regex::new(&value).map_err(|error| error.to_string())?),
        };
        Ok(Selector { path, test })
    }

    fn path(&mut self) -> Result<Vec<String>, String> {
        let mut path = Vec::new();
        loop {
            let name = match self.rest.next_if_eq(&'"') {
                Some(quote) => self.quoted(quote)?,
                None => self.bare(|c| c.is_alphanumeric() || c == '_' || c == '-'),
            };
            if name.is_empty() {
                return Err("a field's name is missing".to_owned());
            }
            path.push(name);
            if self.rest.next_if_eq(&'.').is_none() {
                return Ok(path);
            }
        }
    }

    fn value(&mut self, is_pattern: bool) -> Result<String, String> {
        // Only a pattern may stand between slashes or bars: elsewhere a slash begins a plain path.
        let quotes = if is_pattern { "\"/|" } else { "\"" };
        if let Some(quote) = self.rest.next_if(|c| quotes.contains(*c)) {
            return self.quoted(quote);
        }
        let value = self.bare(|c| c != ',');
        if value.is_empty() { Err("a value is missing".to_owned()) } else { Ok(value) }
    }

    fn bare(&mut self, part: impl Fn(char) -> bool) -> String {
        std::iter::from_fn(|| self.rest.next_if(|c| part(*c))).collect()
    }

    fn quoted(&mut self, quote: char) -> Result<String, String> {
        let mut text = String::new();
        loop {
            match self.rest.next() {
                None => return Err(format!("the closing {quote} is missing")),
                Some(end) if end == quote => return Ok(text),
                Some('\\') => match self.rest.next() {
                    Some(escaped) if escaped == quote || escaped == '\\' && quote == '"' => {
                        text.push(escaped);
                    }
                    // A backslash before anything else belongs to the pattern.
                    Some(other) => text.extend(['\\', other]),
                    None => return Err(format!("the closing {quote} is missing")),
                },
                Some(other) => text.push(other),
            }
        }
    }
}
