//! One pattern, matched by walking all its positions at once, so that no pattern is slow.

use std::ops::RangeInclusive;

/// Why a text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern `{pattern}`: {reason}")]
pub struct PatternError {
    pub(crate) pattern: String,
    pub(crate) reason: &'static str,
}

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// This character.
    Literal(char),
    /// Any one character but `/`.
    One,
    /// Any characters but `/`.
    Many,
    /// Any characters.
    All,
    /// Nothing, or anything that ends in `/`.
    Directories,
    /// One character in or not in the ranges; only here can that be a `/`.
    Class { negated: bool, ranges: Vec<RangeInclusive<char>> },
}

impl Glob {
    /// Compiles a wildcard in which nothing crosses a `/`.
    ///
    /// # Errors
    /// Returns an error for an open `[` or a trailing `\`.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        Self::compile(pattern, false)
    }

    /// Compiles a pattern in which `**` crosses directories.
    pub(crate) fn crossing(pattern: &str) -> Result<Self, PatternError> {
        Self::compile(pattern, true)
    }

    fn compile(pattern: &str, crossing: bool) -> Result<Self, PatternError> {
        let characters: Vec<char> = pattern.chars().collect();
        let error = |reason| PatternError { pattern: pattern.to_owned(), reason };
        let mut tokens = Vec::new();
        let mut at = 0;
        while let Some(&character) = characters.get(at) {
            at += 1;
            match character {
                '*' if crossing && characters.get(at) == Some(&'*') => {
                    at += 1;
                    let slash = characters.get(at) == Some(&'/');
                    at += usize::from(slash);
                    let rest = characters.get(at..).unwrap_or_default();
                    // `**.log` is any name that ends so; before anything else whole directories are meant.
                    let ending = tokens.is_empty() && !slash && !rest.iter().any(is_special);
                    let any = ending || rest.is_empty();
                    tokens.push(if any { Token::All } else { Token::Directories });
                }
                '*' => tokens.push(Token::Many),
                '?' => tokens.push(Token::One),
                '[' => tokens.push(class(&characters, &mut at).map_err(error)?),
                '\\' => {
                    let escaped = characters.get(at).ok_or(error("a `\\` at the end"))?;
                    tokens.push(Token::Literal(*escaped));
                    at += 1;
                }
                literal => tokens.push(Token::Literal(literal)),
            }
        }
        Ok(Self { tokens })
    }

    /// Returns true if the pattern has no wildcard: it matches one text only.
    pub fn is_literal(&self) -> bool {
        self.tokens.iter().all(|token| matches!(token, Token::Literal(_)))
    }

    /// Returns true if the pattern matches all of `text`.
    pub fn matches(&self, text: &str) -> bool {
        let end = self.tokens.len();
        // Whether the walk can stand before token i; `end` means it has matched.
        let mut now = vec![false; end + 1];
        // Whether it stands inside the text that token i takes, for tokens that take a run.
        let mut inside = vec![false; end + 1];
        now[0] = true;
        self.skip_empty(&mut now);
        for character in text.chars() {
            let mut next = vec![false; end + 1];
            let mut next_inside = vec![false; end + 1];
            for (at, token) in self.tokens.iter().enumerate() {
                if !now[at] && !inside[at] {
                    continue;
                }
                match token {
                    Token::Literal(literal) => next[at + 1] |= *literal == character,
                    Token::One => next[at + 1] |= character != '/',
                    Token::Class { negated, ranges } => {
                        let listed = ranges.iter().any(|range| range.contains(&character));
                        next[at + 1] |= listed != *negated;
                    }
                    Token::Many => next[at] |= character != '/',
                    Token::All => next[at] = true,
                    Token::Directories => {
                        next_inside[at] = true;
                        next[at + 1] |= character == '/';
                    }
                }
            }
            self.skip_empty(&mut next);
            (now, inside) = (next, next_inside);
        }
        now[end]
    }

    /// Lets tokens that may match nothing be passed over.
    fn skip_empty(&self, standing: &mut [bool]) {
        for (at, token) in self.tokens.iter().enumerate() {
            if standing[at] && matches!(token, Token::Many | Token::All | Token::Directories) {
                standing[at + 1] = true;
            }
        }
    }
}

/// Returns true for a character that does not just stand for itself.
fn is_special(character: &char) -> bool {
    matches!(character, '*' | '?' | '[' | ']' | '\\')
}

/// Parses a class after its `[`, up to and with its `]`.
fn class(characters: &[char], at: &mut usize) -> Result<Token, &'static str> {
    const OPEN: &str = "the `]` is missing";
    let member = |at: &mut usize| -> Result<char, &'static str> {
        let mut character = *characters.get(*at).ok_or(OPEN)?;
        *at += 1;
        if character == '\\' {
            character = *characters.get(*at).ok_or(OPEN)?;
            *at += 1;
        }
        Ok(character)
    };
    let negated = characters.get(*at) == Some(&'^');
    *at += usize::from(negated);
    let mut ranges = Vec::new();
    loop {
        if characters.get(*at) == Some(&']') && !ranges.is_empty() {
            *at += 1;
            return Ok(Token::Class { negated, ranges });
        }
        if matches!(characters.get(*at), Some('-' | ']')) {
            return Err("an empty class, or a `-` without a beginning");
        }
        let low = member(at)?;
        let mut high = low;
        if characters.get(*at) == Some(&'-') {
            *at += 1;
            high = member(at)?;
        }
        ranges.push(low..=high);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wildcards_stay_within_a_name() {
        for (pattern, text, expected) in [
            ("*.go", "a.go", true),
            ("*.go", "a/b.go", false),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a]x", "/x", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("*", "", true),
            ("**", "a/b", false),
            ("a*b*c", "aXbYbc", true),
            ("", "", true),
        ] {
            assert_eq!(Glob::new(pattern).unwrap().matches(text), expected, "{pattern} {text}");
        }
        for pattern in ["[", "[]", "[a", "[-a]", "a\\", "[a-"] {
            assert!(Glob::new(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn double_stars_cross_directories() {
        for (pattern, text, expected) in [
            ("**", "a/b", true),
            ("**/b", "b", true),
            ("**/b", "a/c/b", true),
            ("**/b", "ab", false),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("a/**/z", "a/z", true),
            ("a/**/z", "a/b/c/z", true),
            ("**.go", "a/b.go", true),
            ("a**/z", "az", true),
            ("**.go", "x.go", true),
            ("a**z", "az", true),
            ("a**z", "ab/z", true),
            ("a**z", "abz", false),
            ("**a*", "d/ab", true),
            ("**a*", "da", false),
            ("**a**", "d/a/b", true),
            ("**a**", "dab", false),
            ("***", "a/b", true),
            ("a[^b]c", "a/c", true),
        ] {
            assert_eq!(
                Glob::crossing(pattern).unwrap().matches(text),
                expected,
                "{pattern} {text}"
            );
        }
    }

    /// The definition, by trying every split.
    fn naive(tokens: &[Token], text: &[char]) -> bool {
        let Some((token, rest)) = tokens.split_first() else { return text.is_empty() };
        let splits = || (0..=text.len()).map(|at| text.split_at(at));
        match token {
            Token::Many => splits().any(|(a, b)| !a.contains(&'/') && naive(rest, b)),
            Token::All => splits().any(|(_, b)| naive(rest, b)),
            Token::Directories => {
                splits().any(|(a, b)| (a.is_empty() || a.ends_with(&['/'])) && naive(rest, b))
            }
            one => text.split_first().is_some_and(|(first, others)| {
                let takes = match one {
                    Token::Literal(literal) => literal == first,
                    Token::Class { negated, ranges } => {
                        ranges.iter().any(|range| range.contains(first)) != *negated
                    }
                    _ => *first != '/',
                };
                takes && naive(rest, others)
            }),
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_definition(pattern in "[ab/*?]{0,8}", text in "[ab/]{0,8}") {
            let glob = Glob::crossing(&pattern).unwrap();
            let characters: Vec<char> = text.chars().collect();
            prop_assert_eq!(glob.matches(&text), naive(&glob.tokens, &characters));
        }

        #[test]
        fn compiling_never_panics(pattern: String, text: String) {
            if let Ok(glob) = Glob::crossing(&pattern) {
                glob.matches(&text);
            }
        }
    }
}
