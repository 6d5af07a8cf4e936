//! Shell patterns, as in `${name#pattern}`: `*`, `?` and escapes, no brackets.

use regex::Regex;

use super::ExpandError;

/// How much of the value a `*` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// As little as possible.
    Shortest,
    /// As much as possible.
    Longest,
}

/// Removes what matches at the start of `value`.
pub(super) fn without_prefix(
    value: &str,
    pattern: &str,
    reach: Reach,
) -> Result<String, ExpandError> {
    let found = compile(pattern, reach, true)?.find(value);
    Ok(found.map_or(value, |found| &value[found.end()..]).to_owned())
}

/// Removes what matches at the end of `value`.
pub(super) fn without_suffix(
    value: &str,
    pattern: &str,
    reach: Reach,
) -> Result<String, ExpandError> {
    // A regular expression finds the leftmost match, never the shortest one at the right: so both
    // are turned round.
    let reversed: String = value.chars().rev().collect();
    let rest = without_prefix(&reversed, &reversed_pattern(pattern), reach)?;
    Ok(rest.chars().rev().collect())
}

/// Replaces the first match, or all of them.
pub(super) fn replaced(
    value: &str,
    pattern: &str,
    replacement: &str,
    all: bool,
) -> Result<String, ExpandError> {
    let regex = compile(pattern, Reach::Longest, false)?;
    let literal = regex::NoExpand(replacement);
    let text = if all { regex.replace_all(value, literal) } else { regex.replace(value, literal) };
    Ok(text.into_owned())
}

fn compile(pattern: &str, reach: Reach, anchored: bool) -> Result<Regex, ExpandError> {
    let mut out = String::with_capacity(pattern.len() + 4);
    if anchored {
        out.push('^');
    }
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' if reach == Reach::Longest => out.push_str(".*"),
            '*' => out.push_str(".*?"),
            '?' => out.push('.'),
            // The end of the pattern has to be escaped in it, which is not part of the pattern.
            '\\' if matches!(chars.peek(), Some('}' | '/')) => {}
            '\\' => match chars.next() {
                Some(next @ ('*' | '?' | '\\')) => {
                    out.push('\\');
                    out.push(next);
                }
                next => {
                    return Err(ExpandError::PatternEscape {
                        pattern: pattern.to_owned(),
                        escaped: next.map(String::from).unwrap_or_default(),
                    });
                }
            },
            _ => out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    Regex::new(&out).map_err(|source| ExpandError::Pattern {
        pattern: pattern.to_owned(),
        source: Box::new(source),
    })
}

/// Turns a pattern round, each escape still before what it escapes.
fn reversed_pattern(pattern: &str) -> String {
    let mut pieces = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        let escaped = if c == '\\' { chars.next() } else { None };
        pieces.push((c, escaped));
    }
    pieces.into_iter().rev().flat_map(|(c, escaped)| std::iter::once(c).chain(escaped)).collect()
}
