//! The shell's rules for words, as far as a Dockerfile follows them.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::str::Chars;

use super::Variables;
use super::pattern::{Reach, all_replaced, first_replaced, without_prefix, without_suffix};
use crate::quote::quoted;

/// How deep `${a:-${b:-…}}` may go: far beyond any real file, and well within the stack.
const DEEPEST: usize = 100;
/// How long a result may get: repeated doubling would otherwise fill the memory.
pub(super) const LONGEST: usize = 4 << 20;

/// Why a word cannot be expanded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExpandError {
    /// A quote is open at the end.
    #[error("unexpected end of statement while looking for matching {0}")]
    Unclosed(&'static str),
    /// A `${` without its `}`, or without the `/` between pattern and replacement.
    #[error("syntax error: missing {0}")]
    Missing(&'static str),
    /// `${}`, `${:x}`, `${{x}`.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// `${name=word}` and other forms that are not of this language.
    #[error("unsupported modifier ({0}) in substitution")]
    Modifier(String),
    /// `${name?message}` with an unset name.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// What the file says about it.
        message: String,
    },
    /// A pattern escapes a character that needs none.
    #[error("invalid pattern ({pattern}) in substitution: invalid escape '\\{escaped}'")]
    PatternEscape {
        /// The pattern.
        pattern: String,
        /// The character after the backslash.
        escaped: String,
    },
    /// Substitutions within substitutions.
    #[error("substitutions are nested more than {DEEPEST} deep")]
    TooDeep,
    /// A result of unreasonable size.
    #[error("the expanded text is longer than {LONGEST} bytes")]
    TooLong,
    /// Any of these, with the word it happened in.
    #[error("failed to process {}", quoted(.word))]
    In {
        /// The word.
        word: String,
        /// The variables that were asked for up to there and not set.
        unmatched: BTreeSet<String>,
        /// What is wrong with it.
        source: Box<ExpandError>,
    },
}

impl ExpandError {
    /// Returns the variables that were asked for before the word went wrong, and were not set.
    pub fn unmatched(&self) -> &BTreeSet<String> {
        static NONE: BTreeSet<String> = BTreeSet::new();
        if let Self::In { unmatched, .. } = self { unmatched } else { &NONE }
    }
}

/// What became of a word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expansion {
    /// The text.
    pub text: String,
    /// The variables that were asked for and set.
    pub matched: BTreeSet<String>,
    /// The variables that were asked for and not set.
    pub unmatched: BTreeSet<String>,
}

/// How words are read.
#[derive(Debug, Clone, Copy)]
pub struct Lexer {
    escape: char,
    raw_quotes: bool,
    raw_escapes: bool,
    ignore_quotes: bool,
    keep_unset: bool,
}

impl Lexer {
    /// Returns a lexer that removes quotes, resolves escapes and expands every variable.
    pub const fn new(escape: char) -> Self {
        Self {
            escape,
            raw_quotes: false,
            raw_escapes: false,
            ignore_quotes: false,
            keep_unset: false,
        }
    }

    /// Leaves quotes in the text.
    #[must_use]
    pub const fn raw_quotes(self) -> Self {
        Self { raw_quotes: true, ..self }
    }

    /// Leaves escapes in the text.
    #[must_use]
    pub const fn raw_escapes(self) -> Self {
        Self { raw_escapes: true, ..self }
    }

    /// Takes quotes for ordinary characters.
    #[must_use]
    pub const fn ignore_quotes(self) -> Self {
        Self { ignore_quotes: true, ..self }
    }

    /// Leaves variables that are not set as they are written.
    #[must_use]
    pub const fn keep_unset(self) -> Self {
        Self { keep_unset: true, ..self }
    }

    /// Expands a text and keeps it in one piece.
    ///
    /// # Errors
    /// Says what is wrong with a quote or a substitution.
    pub fn expand(&self, text: &str, variables: &dyn Variables) -> Result<Expansion, ExpandError> {
        // Most words say what they mean.
        if text.len() <= LONGEST && !text.contains(|c| self.is_special(c)) {
            return Ok(Expansion { text: text.to_owned(), ..Expansion::default() });
        }
        self.process(text, variables).map(|(expansion, _)| expansion)
    }

    /// Expands a text and splits it at white space that is not quoted.
    ///
    /// # Errors
    /// Says what is wrong with a quote or a substitution.
    pub fn words(&self, text: &str, variables: &dyn Variables) -> Result<Vec<String>, ExpandError> {
        self.process(text, variables).map(|(_, words)| words)
    }

    /// Returns whether a character can stand for something else than itself. A `<` matters to where words end, no
    /// more.
    fn is_special(&self, c: char) -> bool {
        c == '$' || c == self.escape || (matches!(c, '\'' | '"') && !self.ignore_quotes)
    }

    fn process(
        &self,
        text: &str,
        variables: &dyn Variables,
    ) -> Result<(Expansion, Vec<String>), ExpandError> {
        let mut run = Run {
            lexer: *self,
            raw_escapes: self.raw_escapes,
            chars: text.chars().peekable(),
            variables,
            depth: 0,
            matched: BTreeSet::new(),
            unmatched: BTreeSet::new(),
        };
        match run.until(None, self.raw_escapes) {
            Ok((text, words)) => {
                let (matched, unmatched) = (run.matched, run.unmatched);
                Ok((Expansion { text, matched, unmatched }, words))
            }
            Err(error) => {
                let (word, unmatched) = (text.to_owned(), run.unmatched);
                Err(ExpandError::In { word, unmatched, source: Box::new(error) })
            }
        }
    }
}

struct Run<'a> {
    lexer: Lexer,
    raw_escapes: bool,
    chars: Peekable<Chars<'a>>,
    variables: &'a dyn Variables,
    depth: usize,
    matched: BTreeSet<String>,
    unmatched: BTreeSet<String>,
}

impl Run<'_> {
    /// Reads up to the character `stop`, or to the end if there is none.
    fn until(
        &mut self,
        stop: Option<char>,
        raw_escapes: bool,
    ) -> Result<(String, Vec<String>), ExpandError> {
        if self.depth == DEEPEST {
            return Err(ExpandError::TooDeep);
        }
        self.depth += 1;
        let before = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        let result = self.until_inner(stop);
        self.raw_escapes = before;
        self.depth -= 1;
        result
    }

    fn until_inner(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), ExpandError> {
        let mut text = String::new();
        let mut words = Words::default();
        while let Some(&c) = self.chars.peek() {
            if stop == Some(c) {
                self.chars.next();
                return Ok((text, words.finish()));
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    words.push_splitting(&value);
                    text.push_str(&value);
                }
                '<' => {
                    let taken = self.possible_heredoc();
                    words.push_whole(&taken);
                    text.push_str(&taken);
                }
                '\'' | '"' if !self.lexer.ignore_quotes => {
                    let inner =
                        if c == '"' { self.double_quoted()? } else { self.single_quoted()? };
                    words.push_whole(&inner);
                    text.push_str(&inner);
                }
                _ => self.ordinary(&mut text, &mut words),
            }
            if text.len() > LONGEST {
                return Err(ExpandError::TooLong);
            }
        }
        match stop {
            Some(stop) => Err(missing(stop)),
            None => Ok((text, words.finish())),
        }
    }

    /// Reads a part of a substitution. If the text ends there, that is what is told, whatever else is wrong.
    fn part(&mut self, stop: char, raw_escapes: bool) -> Result<String, ExpandError> {
        match self.until(Some(stop), raw_escapes) {
            Ok((text, _)) => Ok(text),
            Err(error @ (ExpandError::TooDeep | ExpandError::TooLong)) => Err(error),
            Err(_) if self.chars.peek().is_none() => Err(missing(stop)),
            Err(error) => Err(error),
        }
    }

    fn ordinary(&mut self, text: &mut String, words: &mut Words) {
        let Some(c) = self.chars.next() else {
            return;
        };
        if c != self.lexer.escape {
            words.push(c);
            text.push(c);
            return;
        }
        if self.raw_escapes {
            words.push_kept(c);
            text.push(c);
        }
        if let Some(next) = self.chars.next() {
            words.push_kept(next);
            text.push(next);
        }
    }

    fn single_quoted(&mut self) -> Result<String, ExpandError> {
        let mut text = String::new();
        let opening = self.chars.next();
        text.extend(opening.filter(|_| self.lexer.raw_quotes));
        loop {
            match self.chars.next() {
                None => return Err(ExpandError::Unclosed("single-quote")),
                Some('\'') => {
                    text.extend(Some('\'').filter(|_| self.lexer.raw_quotes));
                    return Ok(text);
                }
                Some(c) => text.push(c),
            }
        }
    }

    fn double_quoted(&mut self) -> Result<String, ExpandError> {
        let mut text = String::new();
        let opening = self.chars.next();
        text.extend(opening.filter(|_| self.lexer.raw_quotes));
        loop {
            match self.chars.peek().copied() {
                None => return Err(ExpandError::Unclosed("double-quote")),
                Some('"') => {
                    text.extend(self.chars.next().filter(|_| self.lexer.raw_quotes));
                    return Ok(text);
                }
                Some('$') => text.push_str(&self.dollar()?),
                Some(c) => {
                    self.chars.next();
                    self.quoted_char(c, &mut text);
                }
            }
        }
    }

    /// Between double quotes an escape counts before a quote, a dollar sign and itself only.
    fn quoted_char(&mut self, c: char, text: &mut String) {
        if c != self.lexer.escape {
            text.push(c);
            return;
        }
        if self.raw_escapes {
            text.push(c);
        }
        match self.chars.peek().copied() {
            None => {}
            Some(next) if next == '"' || next == '$' || next == self.lexer.escape => {
                self.chars.next();
                text.push(next);
            }
            Some(_) => text.push(c),
        }
    }

    /// Keeps the white space of `<< EOF` together with its word.
    fn possible_heredoc(&mut self) -> String {
        let mut text = String::from("<");
        self.chars.next();
        if self.chars.next_if_eq(&'<').is_none() {
            return text;
        }
        text.push('<');
        while let Some(blank) = self.chars.next_if(|c| matches!(c, '\t' | '\r' | ' ')) {
            text.push(blank);
        }
        text
    }

    fn dollar(&mut self) -> Result<String, ExpandError> {
        self.chars.next();
        if self.chars.next_if_eq(&'{').is_some() {
            return self.substitution();
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        match self.lookup(&name) {
            None if self.lexer.keep_unset => Ok(format!("${name}")),
            value => Ok(value.unwrap_or_default()),
        }
    }

    /// Reads what follows `${`.
    fn substitution(&mut self) -> Result<String, ExpandError> {
        match self.chars.peek() {
            None => return Err(missing('}')),
            Some('{' | '}' | ':') => return Err(ExpandError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.chars.next() {
            // The end of the text is shown as a character that is none.
            None => Err(ExpandError::Modifier("\u{fffd}".to_owned())),
            Some('}') => match self.lookup(&name) {
                None if self.lexer.keep_unset => Ok(format!("${{{name}}}")),
                value => Ok(value.unwrap_or_default()),
            },
            Some(':') => match self.chars.next() {
                None => Err(missing('}')),
                Some(modifier) => self.modified(&name, modifier, true),
            },
            Some('/') => self.replacement(&name),
            Some(modifier) => self.modified(&name, modifier, false),
        }
    }

    /// Reads what follows `${name-`; `colon` is true for `${name:-`, where empty counts as unset.
    fn modified(&mut self, name: &str, modifier: char, colon: bool) -> Result<String, ExpandError> {
        let shown = || if colon { format!(":{modifier}") } else { modifier.to_string() };
        let removes = matches!(modifier, '#' | '%');
        if if colon { removes } else { !removes && !matches!(modifier, '+' | '-' | '?') } {
            return Err(ExpandError::Modifier(shown()));
        }
        let word = self.part('}', removes)?;
        let value = self.lookup(name);
        if value.is_none() && self.lexer.keep_unset {
            return Ok(format!("${{{name}{}{word}}}", shown()));
        }
        let usable = value.clone().filter(|value| !(colon && value.is_empty()));
        match modifier {
            '-' => Ok(usable.unwrap_or(word)),
            '+' => Ok(usable.map(|_| word).unwrap_or_default()),
            '?' => usable.ok_or_else(|| ExpandError::Required {
                name: name.to_owned(),
                message: match (word.is_empty(), value.is_some()) {
                    (false, _) => word,
                    (true, false) => "is not allowed to be unset".to_owned(),
                    (true, true) => "is not allowed to be empty".to_owned(),
                },
            }),
            '#' | '%' => remove(&value.unwrap_or_default(), &word, modifier),
            _ => Err(ExpandError::Modifier(shown())),
        }
    }

    /// Reads what follows `${name/`.
    fn replacement(&mut self, name: &str) -> Result<String, ExpandError> {
        let all = self.chars.next_if_eq(&'/').is_some();
        let pattern = self.part('/', true)?;
        let replacement = self.part('}', true)?;
        match self.lookup(name) {
            None if self.lexer.keep_unset => Ok(format!("${{{name}/{pattern}/{replacement}}}")),
            value => {
                let value = value.unwrap_or_default();
                match all {
                    true => all_replaced(&value, &pattern, &replacement),
                    false => first_replaced(&value, &pattern, &replacement),
                }
            }
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.chars.peek() {
            Some(c) if c.is_numeric() => {
                while let Some(digit) = self.chars.next_if(|c| c.is_numeric()) {
                    name.push(digit);
                }
            }
            // The shell's special parameters, none of which is ever set here.
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.chars.next()),
            Some(_) | None => {
                while let Some(c) = self.chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    name.push(c);
                }
            }
        }
        name
    }

    fn lookup(&mut self, name: &str) -> Option<String> {
        let value = self.variables.value(name).map(str::to_owned);
        let names = if value.is_some() { &mut self.matched } else { &mut self.unmatched };
        names.insert(name.to_owned());
        value
    }
}

fn missing(stop: char) -> ExpandError {
    ExpandError::Missing(if stop == '/' { "'/' in ${}" } else { "'}'" })
}

/// A doubled `#` or `%` removes as much as it can.
fn remove(value: &str, word: &str, modifier: char) -> Result<String, ExpandError> {
    let (pattern, reach) = match word.strip_prefix(modifier) {
        Some(rest) => (rest, Reach::Longest),
        None => (word, Reach::Shortest),
    };
    if modifier == '%' {
        without_suffix(value, pattern, reach)
    } else {
        without_prefix(value, pattern, reach)
    }
}

/// Collects characters into words.
#[derive(Debug, Default)]
struct Words {
    done: Vec<String>,
    current: String,
}

impl Words {
    fn push(&mut self, c: char) {
        if c.is_whitespace() {
            if !self.current.is_empty() {
                self.done.push(std::mem::take(&mut self.current));
            }
        } else {
            self.current.push(c);
        }
    }

    fn push_kept(&mut self, c: char) {
        self.current.push(c);
    }

    fn push_splitting(&mut self, text: &str) {
        text.chars().for_each(|c| self.push(c));
    }

    fn push_whole(&mut self, text: &str) {
        self.current.push_str(text);
    }

    fn finish(mut self) -> Vec<String> {
        if !self.current.is_empty() {
            self.done.push(self.current);
        }
        self.done
    }
}

#[cfg(test)]
mod tests;
