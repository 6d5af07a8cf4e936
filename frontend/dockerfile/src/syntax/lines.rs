//! Which lines of the file something was written on.

use std::fmt;

/// A stretch of lines, counted from 1, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lines {
    /// The first line.
    pub first: u32,
    /// The last line.
    pub last: u32,
}

impl Lines {
    /// Returns the stretch from `first` to `last`; one line if `last` comes before `first`.
    pub const fn new(first: u32, last: u32) -> Self {
        Self { first, last: if last < first { first } else { last } }
    }

    /// Returns one line.
    pub const fn one(line: u32) -> Self {
        Self { first: line, last: line }
    }

    /// Returns each line as a range of its own, as clients expect locations.
    pub fn ranges(self) -> Vec<bridge::Range> {
        (self.first..=self.last).map(|line| whole_lines(line, line)).collect()
    }
}

impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

fn whole_lines(first: u32, last: u32) -> bridge::Range {
    let number = |line| i32::try_from(line).unwrap_or(i32::MAX);
    bridge::Range::lines(number(first), number(last))
}
