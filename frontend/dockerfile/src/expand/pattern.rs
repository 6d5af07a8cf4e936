//! Shell patterns, as in `${name#pattern}`: `*`, `?` and escapes, no brackets.
//!
//! Neither `*` nor `?` takes a line feed; one that is written in the pattern is matched like any character. A search
//! takes time in proportion to the length of the text and, at worst, to that of the pattern: it is bounded for any
//! Dockerfile, and nothing is compiled.

use std::ops::Range;

use super::ExpandError;
use super::lexer::LONGEST;

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
    let found = Search::new(pattern)?.at_start(value, reach);
    Ok(found.map_or(value, |end| &value[end..]).to_owned())
}

/// Removes what matches at the end of `value`.
pub(super) fn without_suffix(
    value: &str,
    pattern: &str,
    reach: Reach,
) -> Result<String, ExpandError> {
    // A search goes from the left, and would find the longest match at the right first: so both are turned round.
    let reversed: String = value.chars().rev().collect();
    let rest = without_prefix(&reversed, &reversed_pattern(pattern), reach)?;
    Ok(rest.chars().rev().collect())
}

/// Replaces the first match, which takes as much as it can.
pub(super) fn first_replaced(
    value: &str,
    pattern: &str,
    replacement: &str,
) -> Result<String, ExpandError> {
    Ok(match Search::new(pattern)?.anywhere(value, 0) {
        Some(found) => format!("{}{replacement}{}", &value[..found.start], &value[found.end..]),
        None => value.to_owned(),
    })
}

/// Replaces all matches, each of which takes as much as it can. In the replacement `$0` is what was matched.
pub(super) fn all_replaced(
    value: &str,
    pattern: &str,
    replacement: &str,
) -> Result<String, ExpandError> {
    let mut search = Search::new(pattern)?;
    let template = template(replacement);
    let mut text = String::with_capacity(value.len());
    let mut from = 0;
    let mut copied = None;
    while let Some(found) = search.anywhere(value, from) {
        if found.is_empty() && copied == Some(found.start) {
            // Nothing between two matches that touch is no match of its own.
            let Some(next) = value[found.start..].chars().next() else { break };
            from = found.start + next.len_utf8();
            continue;
        }
        text.push_str(&value[copied.unwrap_or(0)..found.start]);
        for part in &template {
            text.push_str(part.unwrap_or(&value[found.clone()]));
            if text.len() > LONGEST {
                return Err(ExpandError::TooLong);
            }
        }
        copied = Some(found.end);
        from = found.end;
    }
    text.push_str(&value[copied.unwrap_or(0)..]);
    Ok(text)
}

/// Splits a replacement at what stands for the matched text: none in the result.
///
/// `$0` and `${0}` do, `$$` is a dollar sign, other names stand for nothing, and a dollar sign before anything else
/// for itself.
fn template(replacement: &str) -> Vec<Option<&str>> {
    let mut parts = Vec::new();
    let mut rest = replacement;
    while let Some(at) = rest.find('$') {
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            parts.push(Some(&rest[..=at]));
            rest = after;
        } else if let Some((name, after)) = template_name(after) {
            parts.push(Some(&rest[..at]));
            if name == "0" {
                parts.push(None);
            }
            rest = after;
        } else {
            parts.push(Some(&rest[..=at]));
            rest = after;
        }
    }
    parts.push(Some(rest));
    parts
}

/// Returns the name at the start of a text, in braces or not, and what follows it.
fn template_name(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('{');
    let name = inner.unwrap_or(text);
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
    let (name, after) = name.split_at(end);
    let after = if inner.is_some() { after.strip_prefix('}')? } else { after };
    (!name.is_empty()).then_some((name, after))
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

/// One piece of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    /// This character.
    Exactly(char),
    /// Any one character but a line feed.
    One,
    /// Any number of characters but line feeds.
    Many,
}

fn pieces(pattern: &str) -> Result<Vec<Piece>, ExpandError> {
    let mut pieces = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' => pieces.push(Piece::Many),
            '?' => pieces.push(Piece::One),
            // The end of the pattern has to be escaped in it, which is not part of the pattern.
            '\\' if matches!(chars.peek(), Some('}' | '/')) => {}
            '\\' => match chars.next() {
                Some(next @ ('*' | '?' | '\\')) => pieces.push(Piece::Exactly(next)),
                next => {
                    return Err(ExpandError::PatternEscape {
                        pattern: pattern.to_owned(),
                        // The end of the pattern is shown as a character that is none.
                        escaped: next.unwrap_or('\u{fffd}').to_string(),
                    });
                }
            },
            _ => pieces.push(Piece::Exactly(c)),
        }
    }
    Ok(pieces)
}

/// A pattern that is looked for by following all ways to match it at the same time, character by character: no way is
/// gone twice.
#[derive(Debug)]
struct Search {
    pieces: Vec<Piece>,
    /// The ways at the current character, and those at the next one.
    ways: Ways,
    next: Ways,
}

impl Search {
    fn new(pattern: &str) -> Result<Self, ExpandError> {
        let pieces = pieces(pattern)?;
        let (ways, next) = (Ways::new(pieces.len()), Ways::new(pieces.len()));
        Ok(Self { pieces, ways, next })
    }

    /// Returns the end of what matches at the start of `value`.
    fn at_start(&mut self, value: &str, reach: Reach) -> Option<usize> {
        self.ways.clear();
        self.ways.add(&self.pieces, 0, 0);
        let mut end = None;
        for (at, c) in value.char_indices().map(Some).chain([None]).map(|next| split(value, next)) {
            if self.ways.matched().is_some() {
                end = Some(at);
                if reach == Reach::Shortest {
                    break;
                }
            }
            let Some(c) = c.filter(|_| !self.ways.is_empty()) else { break };
            self.step(c);
        }
        end
    }

    /// Returns the first match at or after `from`, a character boundary; of those with the same start the longest.
    fn anywhere(&mut self, value: &str, from: usize) -> Option<Range<usize>> {
        self.ways.clear();
        let mut found: Option<Range<usize>> = None;
        let rest = value[from..].char_indices().map(|(at, c)| (from + at, c));
        for (at, c) in rest.map(Some).chain([None]).map(|next| split(value, next)) {
            if found.is_none() {
                self.ways.add(&self.pieces, 0, at);
            }
            if let Some(start) = self.ways.matched() {
                found = Some(start..at);
                self.ways.forget_after(start);
            }
            let done = found.is_some() && self.ways.is_empty();
            let Some(c) = c.filter(|_| !done) else { break };
            self.step(c);
        }
        found
    }

    /// Goes on along each way by one character.
    fn step(&mut self, c: char) {
        self.next.clear();
        for &(place, start) in &self.ways.places {
            let after = match self.pieces[place] {
                Piece::Exactly(wanted) if wanted == c => place + 1,
                Piece::One if c != '\n' => place + 1,
                Piece::Many if c != '\n' => place,
                Piece::Exactly(_) | Piece::One | Piece::Many => continue,
            };
            self.next.add(&self.pieces, after, start);
        }
        std::mem::swap(&mut self.ways, &mut self.next);
    }
}

/// Returns where a character stands and the character; at the end, none.
fn split(value: &str, next: Option<(usize, char)>) -> (usize, Option<char>) {
    next.map_or((value.len(), None), |(at, c)| (at, Some(c)))
}

/// Ways to match a pattern, each at the place before a piece, with the start of its match.
///
/// The earlier the start, the earlier a way comes. Two ways at the same place go on alike, so only the first is kept.
#[derive(Debug)]
struct Ways {
    places: Vec<(usize, usize)>,
    /// By place, whether a way is there.
    taken: Vec<bool>,
    /// The start of the match of a way that is through the whole pattern.
    matched: Option<usize>,
}

impl Ways {
    fn new(pieces: usize) -> Self {
        Self { places: Vec::new(), taken: vec![false; pieces], matched: None }
    }

    fn clear(&mut self) {
        for (place, _) in self.places.drain(..) {
            self.taken[place] = false;
        }
        self.matched = None;
    }

    /// Adds a way at a place, and those that let a `*` there take nothing more.
    fn add(&mut self, pieces: &[Piece], mut place: usize, start: usize) {
        loop {
            let Some(taken) = self.taken.get_mut(place) else {
                self.matched.get_or_insert(start);
                return;
            };
            if std::mem::replace(taken, true) {
                return;
            }
            self.places.push((place, start));
            if pieces[place] != Piece::Many {
                return;
            }
            place += 1;
        }
    }

    fn matched(&self) -> Option<usize> {
        self.matched
    }

    fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Drops the ways whose match starts after `start`.
    fn forget_after(&mut self, start: usize) {
        while let Some((place, _)) = self.places.pop_if(|(_, other)| *other > start) {
            self.taken[place] = false;
        }
    }
}

#[cfg(test)]
mod tests;
