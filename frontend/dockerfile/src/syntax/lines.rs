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

    /// Returns stretches in order, those that touch the same line as one.
    pub(crate) fn merged(mut all: Vec<Self>) -> Vec<Self> {
        all.sort_by_key(|lines| lines.first);
        let mut merged: Vec<Self> = Vec::with_capacity(all.len());
        for lines in all {
            match merged.last_mut() {
                Some(before) if lines.first <= before.last => {
                    before.last = before.last.max(lines.last);
                }
                _ => merged.push(lines),
            }
        }
        merged
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_that_touch_become_one() {
        let all = vec![Lines::new(5, 6), Lines::one(1), Lines::new(6, 8), Lines::one(7)];
        assert_eq!(Lines::merged(all), [Lines::one(1), Lines::new(5, 8)]);
    }
}
