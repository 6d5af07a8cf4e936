//! What became of a case, as lines; and what is different between two of them.

use std::fmt;

use super::chance::same;

/// What became of a case: each line says where it was seen, and what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    lines: Vec<String>,
}

/// A line that only one side has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The other side has it.
    Theirs(String),
    /// Our side has it.
    Ours(String),
}

impl Outcome {
    /// Adds what was seen at a place; several lines are several.
    pub fn add(&mut self, place: &str, text: &str) {
        self.lines.extend(text.lines().map(|line| format!("{place}: {}", line.trim_end())));
    }

    /// Applies `change` to each line.
    pub fn map(&mut self, change: impl Fn(&str) -> String) {
        for line in &mut self.lines {
            *line = change(line);
        }
    }

    /// Keeps the lines that are wanted.
    pub fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.lines.retain(|line| wanted(line));
    }

    /// Returns its lines.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Returns what is different in `ours` from `theirs`, in order.
    pub fn compare(theirs: &Self, ours: &Self) -> Vec<Difference> {
        let (theirs, ours) = (&theirs.lines, &ours.lines);
        let same_start = theirs.iter().zip(ours).take_while(|(a, b)| same(a, b)).count();
        let (theirs, ours) = (&theirs[same_start..], &ours[same_start..]);
        let common = longest_common(theirs, ours);
        let mut found = Vec::new();
        let (mut i, mut j) = (0, 0);
        while i < theirs.len() || j < ours.len() {
            if i < theirs.len() && j < ours.len() && same(&theirs[i], &ours[j]) {
                (i, j) = (i + 1, j + 1);
            } else if j == ours.len() || (i < theirs.len() && common[i + 1][j] >= common[i][j + 1])
            {
                found.push(Difference::Theirs(theirs[i].clone()));
                i += 1;
            } else {
                found.push(Difference::Ours(ours[j].clone()));
                j += 1;
            }
        }
        found
    }
}

/// Returns for each pair of suffixes how many lines they have in common, in order.
fn longest_common(a: &[String], b: &[String]) -> Vec<Vec<u32>> {
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            table[i][j] = if same(&a[i], &b[j]) {
                table[i + 1][j + 1] + 1
            } else {
                table[i + 1][j].max(table[i][j + 1])
            };
        }
    }
    table
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Theirs(line) => write!(f, "theirs {line}"),
            Self::Ours(line) => write!(f, "ours   {line}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(text: &str) -> Outcome {
        let mut outcome = Outcome::default();
        outcome.add("x", text);
        outcome
    }

    #[test]
    fn only_what_differs_is_found() {
        let theirs = outcome("a\nb\nc\nd\n");
        let ours = outcome("a\nc\ne\nd\n");
        let found = Outcome::compare(&theirs, &ours);
        assert_eq!(
            found,
            [Difference::Theirs("x: b".to_owned()), Difference::Ours("x: e".to_owned())]
        );
        assert!(Outcome::compare(&ours, &ours).is_empty());
        assert_eq!(Outcome::compare(&outcome(""), &outcome("a\n")).len(), 1);
    }
}
