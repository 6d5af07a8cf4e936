//! The list of differences that are meant to be, as `docs/differences.md` has it.
//!
//! Each is a heading (`### …`), a block fenced as `differs`, and the reason. The lines of the block say in which
//! cases (`in lower/copy: *`) which lines are on one side only (`theirs error: old*`, `ours error: new*`). `*`
//! stands for anything. Without `in` it holds for all cases.

use std::cell::Cell;

use anyhow::Context as _;

use super::outcome::Difference;

/// The differences that are meant to be.
#[derive(Debug, Default)]
pub struct Known {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    title: String,
    cases: Vec<String>,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    theirs: bool,
    pattern: String,
    /// Whether a difference was like that.
    seen: Cell<bool>,
}

impl Known {
    /// Reads the list.
    ///
    /// # Errors
    /// Fails if a block has a line that is not understood, or no reason follows it.
    pub fn read(text: &str) -> anyhow::Result<Self> {
        let mut entries = Vec::new();
        let text = format!("\n{text}");
        for section in text.split("\n### ").skip(1) {
            let (title, rest) = section.split_once('\n').unwrap_or((section, ""));
            let Some((_, rest)) = rest.split_once("```differs\n") else { continue };
            let (block, reason) =
                rest.split_once("```").with_context(|| format!("`{title}`: no end"))?;
            let reason = reason.split("\n## ").next().unwrap_or_default();
            anyhow::ensure!(!reason.trim().is_empty(), "`{title}` has no reason");
            entries.push(Entry::read(title, block)?);
        }
        Ok(Self { entries })
    }

    /// Returns whether a difference in a case is on the list, and remembers that it was seen.
    pub fn has(&self, case: &str, difference: &Difference) -> bool {
        let mut found = false;
        for entry in self.entries.iter().filter(|entry| entry.is_about(case)) {
            for line in entry.lines.iter().filter(|line| line.is(difference)) {
                line.seen.set(true);
                found = true;
            }
        }
        found
    }

    /// Returns what is on the list for any of these cases and was not seen.
    pub fn unseen(&self, cases: &[String]) -> Vec<String> {
        let mut unseen = Vec::new();
        let asked = |entry: &&Entry| cases.iter().any(|case| entry.is_about(case));
        for entry in self.entries.iter().filter(asked) {
            for line in entry.lines.iter().filter(|line| !line.seen.get()) {
                let side = if line.theirs { "theirs" } else { "ours" };
                unseen.push(format!("{}: {side} {}", entry.title, line.pattern));
            }
        }
        unseen
    }
}

impl Entry {
    fn read(title: &str, block: &str) -> anyhow::Result<Self> {
        let mut entry =
            Self { title: title.trim().to_owned(), cases: Vec::new(), lines: Vec::new() };
        for text in block.lines() {
            let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
            let pattern = rest.trim_start().to_owned();
            let line = |theirs| Line { theirs, pattern: pattern.clone(), seen: Cell::new(false) };
            match word {
                "in" => entry.cases.push(pattern),
                "theirs" => entry.lines.push(line(true)),
                "ours" => entry.lines.push(line(false)),
                _ => anyhow::bail!("`{title}`: a line begins with `{word}`"),
            }
        }
        anyhow::ensure!(!entry.lines.is_empty(), "`{title}` says nothing");
        Ok(entry)
    }

    fn is_about(&self, case: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|pattern| matches(pattern, case))
    }
}

impl Line {
    fn is(&self, difference: &Difference) -> bool {
        match difference {
            Difference::Theirs(line) => self.theirs && matches(&self.pattern, line),
            Difference::Ours(line) => !self.theirs && matches(&self.pattern, line),
        }
    }
}

/// Returns whether a text is as a pattern says, in which `*` stands for anything.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == text };
    let Some(rest) = text.strip_prefix(head) else { return false };
    let Some((middle, last)) = tail.rsplit_once('*') else { return rest.ends_with(tail) };
    let Some(mut rest) = rest.strip_suffix(last) else { return false };
    for part in middle.split('*') {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_texts() {
        for (pattern, text, expected) in [
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "abc", true),
            ("a*b*c", "axxbxxc", true),
            ("a*b*c", "axxc", false),
            ("ab*bc", "abc", false),
            ("*", "", true),
            ("a*x*x*b", "axb", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_difference_is_on_the_list_or_not() {
        let text = "# Title\n\n### One\n\n```differs\nin a: *\ntheirs x: old*\nours x: new\n```\n\n\
            Because.\n\n## More\n\n### Two\n\n```differs\nours y: *\n```\n\nSo.\n";
        let known = Known::read(text).unwrap();
        assert!(known.has("a: case", &Difference::Theirs("x: older".to_owned())));
        assert!(!known.has("b: case", &Difference::Theirs("x: older".to_owned())));
        assert!(!known.has("a: case", &Difference::Ours("x: older".to_owned())));
        let asked = ["a: case".to_owned()];
        assert_eq!(known.unseen(&asked), ["One: ours x: new", "Two: ours y: *"]);
        assert_eq!(known.unseen(&["b: case".to_owned()]), ["Two: ours y: *"]);
        assert!(Known::read("### One\n```differs\nours x\n```\n").is_err(), "no reason");
        assert!(Known::read("### One\n```differs\nhers x\n```\nWhy.\n").is_err());
    }
}
