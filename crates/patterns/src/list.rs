//! A list of patterns of which the last that matches decides.

use crate::{Glob, PatternError};

/// The patterns of an ignore file, or of an include or exclude list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PatternList {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    glob: Glob,
    takes_back: bool,
}

impl PatternList {
    /// Compiles the patterns. White space around one is dropped, an empty one is skipped, and each is
    /// cleaned as a path (`./a//b/` is `a/b`); a leading `!` takes back what earlier ones matched.
    ///
    /// # Errors
    /// Returns an error for a malformed pattern or a lone `!`.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, PatternError> {
        let mut compiled = Vec::new();
        for pattern in patterns {
            let pattern = pattern.as_ref().trim();
            if pattern.is_empty() {
                continue;
            }
            let (takes_back, text) = match pattern.strip_prefix('!') {
                Some("") => {
                    let reason = "nothing after the `!`";
                    return Err(PatternError { pattern: pattern.to_owned(), reason });
                }
                Some(rest) => (true, rest),
                None => (false, pattern),
            };
            let glob = Glob::crossing(&clean(text))?;
            compiled.push(Pattern { glob, takes_back });
        }
        Ok(Self { patterns: compiled })
    }

    /// Returns true if there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Returns true if some pattern takes back: then something below a matched directory may still
    /// not match.
    pub fn takes_back(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.takes_back)
    }

    /// Returns true if `path`, relative and clean, matches, itself or by a directory it is in.
    pub fn matches(&self, path: &str) -> bool {
        let mut matched = false;
        for pattern in &self.patterns {
            // A pattern that would change nothing need not be tried.
            if pattern.takes_back == matched && pattern.matches_with_parents(path) {
                matched = !pattern.takes_back;
            }
        }
        matched
    }
}

impl Pattern {
    fn matches_with_parents(&self, path: &str) -> bool {
        let parents = path.match_indices('/').map(|(at, _)| &path[..at]);
        self.glob.matches(path) || parents.into_iter().any(|parent| self.glob.matches(parent))
    }
}

/// Cleans a pattern as a path, relative to the root: no `.`, no `//`, no `/` at either end.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(patterns: &[&str], path: &str) -> bool {
        PatternList::new(patterns).unwrap().matches(path)
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        assert!(matches(&["*.log"], "a.log"));
        assert!(!matches(&["*.log"], "d/a.log"));
        assert!(matches(&["**/*.log"], "d/a.log"));
        assert!(!matches(&["*.log", "!keep.log"], "keep.log"));
        assert!(matches(&["!keep.log", "*.log"], "keep.log"));
    }

    #[test]
    fn what_matches_a_directory_matches_all_below() {
        assert!(matches(&["node_modules"], "node_modules/a/b"));
        assert!(matches(&["/node_modules/"], "node_modules/a"));
        assert!(!matches(&["node_modules", "!node_modules/keep"], "node_modules/keep/x"));
        assert!(matches(&["*", "!src"], "other"));
        assert!(!matches(&["*", "!src"], "src/main.rs"));
        assert!(!matches(&["a"], "ab"));
    }

    #[test]
    fn empty_and_wrong_patterns() {
        assert!(PatternList::new(&["", "  "]).unwrap().is_empty());
        assert!(PatternList::new(&["!"]).is_err());
        assert!(PatternList::new(&["["]).is_err());
        assert!(PatternList::new(&["a", " !b "]).unwrap().takes_back());
    }

    /// Whether a pattern matches a path, by its text and by trying every split. `first` is true at its beginning.
    fn naive(pattern: &str, path: &str, first: bool) -> bool {
        let splits = || (0..=path.len()).map(|at| path.split_at(at));
        if let Some(rest) = pattern.strip_prefix("**") {
            let (rest, slash) = match rest.strip_prefix('/') {
                Some(rest) => (rest, true),
                None => (rest, false),
            };
            let literal = !rest.contains(['*', '?']);
            if rest.is_empty() || (first && !slash && literal) {
                return path.ends_with(rest);
            }
            return splits()
                .any(|(a, b)| (a.is_empty() || a.ends_with('/')) && naive(rest, b, false));
        }
        if let Some(rest) = pattern.strip_prefix('*') {
            return splits().any(|(a, b)| !a.contains('/') && naive(rest, b, false));
        }
        let (mut pattern, mut path) = (pattern.chars(), path.chars());
        match (pattern.next(), path.next()) {
            (None, None) => true,
            (Some('?'), Some(c)) => c != '/' && naive(pattern.as_str(), path.as_str(), false),
            (Some(a), Some(b)) => a == b && naive(pattern.as_str(), path.as_str(), false),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn lists_agree_with_the_definition(
            patterns in prop::collection::vec("!?[ab*?]{1,4}(/[ab*?]{1,3}){0,2}", 0..4),
            path in "[ab]{1,2}(/[ab]{1,2}){0,3}",
        ) {
            let parts: Vec<_> = path.split('/').collect();
            let prefixes: Vec<_> = (1..=parts.len()).map(|end| parts[..end].join("/")).collect();
            let mut expected = false;
            for pattern in &patterns {
                let bare = pattern.strip_prefix('!').unwrap_or(pattern);
                if prefixes.iter().any(|prefix| naive(bare, prefix, true)) {
                    expected = !pattern.starts_with('!');
                }
            }
            prop_assert_eq!(PatternList::new(&patterns).unwrap().matches(&path), expected);
        }
    }
}
