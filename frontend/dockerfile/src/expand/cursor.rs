//! A text that is read from the left.

/// What is still to be read of a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    /// Returns the begin of a text.
    pub(super) const fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// Returns the next character; it is still to be read.
    pub(super) fn peek(&self) -> Option<char> {
        self.0.chars().next()
    }

    /// Reads the next character.
    pub(super) fn next(&mut self) -> Option<char> {
        let mut chars = self.0.chars();
        let next = chars.next();
        self.0 = chars.as_str();
        next
    }

    /// Reads the next character if it is this one.
    pub(super) fn next_if_eq(&mut self, wanted: char) -> Option<char> {
        self.0 = self.0.strip_prefix(wanted)?;
        Some(wanted)
    }

    /// Reads the next character, as a text that is empty at the end.
    pub(super) fn take_one(&mut self) -> &'a str {
        let whole = self.0;
        self.next();
        &whole[..whole.len() - self.0.len()]
    }

    /// Reads all characters before the first that is not wanted.
    pub(super) fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.0.find(|c| !wanted(c)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }
}
