//! The shell's rules for words, as far as a Dockerfile follows them.

use std::collections::BTreeSet;

use super::Variables;
use super::collected::Collected;
use super::cursor::Cursor;
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
        let (collected, matched, unmatched) = self.process(text, variables, Collected::whole())?;
        Ok(Expansion { text: collected.text, matched, unmatched })
    }

    /// Expands a text and splits it at white space that is not quoted.
    ///
    /// # Errors
    /// Says what is wrong with a quote or a substitution.
    pub fn words(&self, text: &str, variables: &dyn Variables) -> Result<Vec<String>, ExpandError> {
        let (collected, ..) = self.process(text, variables, Collected::words())?;
        Ok(collected.into_words())
    }

    /// Returns whether a character can stand for something else than itself. A `<` matters to where words end, no
    /// more.
    fn is_special(&self, c: char) -> bool {
        c == '$' || c == self.escape || (matches!(c, '\'' | '"') && !self.ignore_quotes)
    }

    /// Returns what was read, and the variables that were asked for: those that are set, and those that are not.
    fn process(
        &self,
        text: &str,
        variables: &dyn Variables,
        mut collected: Collected,
    ) -> Result<(Collected, BTreeSet<String>, BTreeSet<String>), ExpandError> {
        let mut run = Run {
            lexer: *self,
            raw_escapes: self.raw_escapes,
            rest: Cursor::new(text),
            variables,
            depth: 0,
            matched: BTreeSet::new(),
            unmatched: BTreeSet::new(),
        };
        match run.until(None, self.raw_escapes, &mut collected) {
            Ok(()) => Ok((collected, run.matched, run.unmatched)),
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
    rest: Cursor<'a>,
    variables: &'a dyn Variables,
    depth: usize,
    matched: BTreeSet<String>,
    unmatched: BTreeSet<String>,
}

impl<'a> Run<'a> {
    /// Reads up to the character `stop`, or to the end if there is none.
    fn until(
        &mut self,
        stop: Option<char>,
        raw_escapes: bool,
        collected: &mut Collected,
    ) -> Result<(), ExpandError> {
        if self.depth == DEEPEST {
            return Err(ExpandError::TooDeep);
        }
        self.depth += 1;
        let before = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        let result = self.until_inner(stop, collected);
        self.raw_escapes = before;
        self.depth -= 1;
        result
    }

    fn until_inner(
        &mut self,
        stop: Option<char>,
        collected: &mut Collected,
    ) -> Result<(), ExpandError> {
        let lexer = self.lexer;
        while let Some(c) = self.rest.peek() {
            if stop == Some(c) {
                self.rest.next();
                return Ok(());
            }
            match c {
                '$' => collected.push_splitting(&self.dollar()?),
                '<' => collected.push_whole(&self.possible_heredoc()),
                '\'' if !lexer.ignore_quotes => collected.push_whole(&self.single_quoted()?),
                '"' if !lexer.ignore_quotes => collected.push_whole(&self.double_quoted()?),
                c if c == lexer.escape => self.escaped(collected),
                _ => collected.push_splitting(
                    self.rest.take_while(|c| !lexer.is_special(c) && c != '<' && stop != Some(c)),
                ),
            }
            if collected.text.len() > LONGEST {
                return Err(ExpandError::TooLong);
            }
        }
        stop.map_or(Ok(()), |stop| Err(missing(stop)))
    }

    /// Reads a part of a substitution. If the text ends there, that is what is told, whatever else is wrong.
    fn part(&mut self, stop: char, raw_escapes: bool) -> Result<String, ExpandError> {
        let mut collected = Collected::whole();
        match self.until(Some(stop), raw_escapes, &mut collected) {
            Ok(()) => Ok(collected.text),
            Err(error @ (ExpandError::TooDeep | ExpandError::TooLong)) => Err(error),
            Err(_) if self.rest.peek().is_none() => Err(missing(stop)),
            Err(error) => Err(error),
        }
    }

    /// Reads an escape and what it escapes.
    fn escaped(&mut self, collected: &mut Collected) {
        let escape = self.rest.next();
        if let Some(escape) = escape.filter(|_| self.raw_escapes) {
            collected.push(escape);
        }
        if let Some(next) = self.rest.next() {
            collected.push(next);
        }
    }

    fn single_quoted(&mut self) -> Result<String, ExpandError> {
        let mut text = String::new();
        let opening = self.rest.next();
        text.extend(opening.filter(|_| self.lexer.raw_quotes));
        text.push_str(self.rest.take_while(|c| c != '\''));
        let closing = self.rest.next().ok_or(ExpandError::Unclosed("single-quote"))?;
        text.extend(Some(closing).filter(|_| self.lexer.raw_quotes));
        Ok(text)
    }

    fn double_quoted(&mut self) -> Result<String, ExpandError> {
        let escape = self.lexer.escape;
        let mut text = String::new();
        let opening = self.rest.next();
        text.extend(opening.filter(|_| self.lexer.raw_quotes));
        loop {
            match self.rest.peek() {
                None => return Err(ExpandError::Unclosed("double-quote")),
                Some('"') => {
                    text.extend(self.rest.next().filter(|_| self.lexer.raw_quotes));
                    return Ok(text);
                }
                Some('$') => text.push_str(&self.dollar()?),
                Some(c) if c == escape => self.quoted_escape(&mut text),
                Some(_) => {
                    text.push_str(self.rest.take_while(|c| c != '"' && c != '$' && c != escape));
                }
            }
        }
    }

    /// Between double quotes an escape counts before a quote, a dollar sign and itself only.
    fn quoted_escape(&mut self, text: &mut String) {
        let escape = self.lexer.escape;
        self.rest.next();
        if self.raw_escapes {
            text.push(escape);
        }
        match self.rest.peek() {
            None => {}
            Some(next) if next == '"' || next == '$' || next == escape => {
                self.rest.next();
                text.push(next);
            }
            Some(_) => text.push(escape),
        }
    }

    /// Keeps the white space of `<< EOF` together with its word.
    fn possible_heredoc(&mut self) -> String {
        let mut text = String::from("<");
        self.rest.next();
        if self.rest.next_if_eq('<').is_none() {
            return text;
        }
        text.push('<');
        text.push_str(self.rest.take_while(|c| matches!(c, '\t' | '\r' | ' ')));
        text
    }

    fn dollar(&mut self) -> Result<String, ExpandError> {
        self.rest.next();
        if self.rest.next_if_eq('{').is_some() {
            return self.substitution();
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        match self.lookup(name) {
            None if self.lexer.keep_unset => Ok(format!("${name}")),
            value => Ok(value.unwrap_or_default()),
        }
    }

    /// Reads what follows `${`.
    fn substitution(&mut self) -> Result<String, ExpandError> {
        match self.rest.peek() {
            None => return Err(missing('}')),
            Some('{' | '}' | ':') => return Err(ExpandError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.rest.next() {
            // The end of the text is shown as a character that is none.
            None => Err(ExpandError::Modifier("\u{fffd}".to_owned())),
            Some('}') => match self.lookup(name) {
                None if self.lexer.keep_unset => Ok(format!("${{{name}}}")),
                value => Ok(value.unwrap_or_default()),
            },
            Some(':') => match self.rest.next() {
                None => Err(missing('}')),
                Some(modifier) => self.modified(name, modifier, true),
            },
            Some('/') => self.replacement(name),
            Some(modifier) => self.modified(name, modifier, false),
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
        let all = self.rest.next_if_eq('/').is_some();
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

    fn name(&mut self) -> &'a str {
        match self.rest.peek() {
            Some(c) if c.is_numeric() => self.rest.take_while(char::is_numeric),
            // The shell's special parameters, none of which is ever set here.
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => self.rest.take_one(),
            Some(_) | None => self.rest.take_while(|c| c.is_alphanumeric() || c == '_'),
        }
    }

    fn lookup(&mut self, name: &str) -> Option<String> {
        let value = self.variables.value(name).map(str::to_owned);
        let names = if value.is_some() { &mut self.matched } else { &mut self.unmatched };
        if !names.contains(name) {
            names.insert(name.to_owned());
        }
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

#[cfg(test)]
mod tests;
