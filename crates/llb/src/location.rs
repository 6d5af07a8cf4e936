//! Where in the user's files an operation comes from.

use bytes::Bytes;

/// A file of the user's, and the places in it that made a vertex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceLocation {
    /// The name of the file as the user knows it.
    pub filename: String,
    /// Its language: `Dockerfile`.
    pub language: String,
    /// Its whole content.
    pub data: Bytes,
    /// The places in it.
    pub ranges: Vec<Range>,
}

/// A stretch of a text file, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    /// The first position.
    pub start: Position,
    /// The last position.
    pub end: Position,
}

impl Range {
    /// Returns the range of whole lines from `first` to `last`, counted from 1.
    pub const fn lines(first: i32, last: i32) -> Self {
        Self {
            start: Position { line: first, character: 0 },
            end: Position { line: last, character: 0 },
        }
    }
}

/// A place in a text file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line, counted from 1.
    pub line: i32,
    /// The column, counted from 0; 0 as well when unknown.
    pub character: i32,
}
