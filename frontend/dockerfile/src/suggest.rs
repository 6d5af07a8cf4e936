//! "Did you mean …?": the nearest of the words that would have been right.

use strsim::levenshtein as distance;

/// How many edits away a word may be and still be meant.
const FARTHEST: usize = 2;

/// Whether two words that differ in case alone are the same word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    /// They are not.
    Matters,
    /// They are; the suggestion follows the case of the wrong word.
    Ignored,
}

/// Returns the option nearest to `word`, if it is near at all.
///
/// A word that is among the options needs no suggestion: what is wrong must be something else.
pub(crate) fn nearest<'a>(
    word: &str,
    options: impl IntoIterator<Item = &'a str>,
    case: Case,
) -> Option<String> {
    let fold = |text: &str| match case {
        Case::Matters => text.to_owned(),
        Case::Ignored => text.to_lowercase(),
    };
    let folded = fold(word);
    let options: Vec<_> = options.into_iter().map(fold).collect();
    if options.contains(&folded) {
        return None;
    }
    // Of two options as near, the one with the same letters is meant: `RNU` is `RUN`, not `ENV`.
    let rank = |option: &String| (distance(&folded, option), strangers(&folded, option));
    let near = options.into_iter().filter(|option| distance(&folded, option) <= FARTHEST);
    near.min_by_key(rank).map(|option| match case {
        Case::Ignored if word == word.to_uppercase() && word != folded => option.to_uppercase(),
        Case::Ignored | Case::Matters => option,
    })
}

/// Returns ` (did you mean …?)`, or nothing.
pub(crate) fn hint<'a>(
    word: &str,
    options: impl IntoIterator<Item = &'a str>,
    case: Case,
) -> String {
    nearest(word, options, case).map(|near| format!(" (did you mean {near}?)")).unwrap_or_default()
}

/// Counts the characters of `a` that `b` lacks.
fn strangers(a: &str, b: &str) -> usize {
    let mut rest: Vec<char> = b.chars().collect();
    let mut count = 0;
    for c in a.chars() {
        match rest.iter().position(|other| *other == c) {
            Some(at) => {
                rest.swap_remove(at);
            }
            None => count += 1,
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_near_word_is_suggested() {
        let keywords = ["RUN", "COPY", "FROM", "ENTRYPOINT"];
        assert_eq!(nearest("RNU", keywords, Case::Ignored).as_deref(), Some("RUN"));
        assert_eq!(nearest("entrypont", keywords, Case::Ignored).as_deref(), Some("entrypoint"));
        assert_eq!(nearest("FOOBAR", keywords, Case::Ignored), None);
        assert_eq!(nearest("run", keywords, Case::Ignored), None);
        assert_eq!(hint("form", ["from"], Case::Matters), " (did you mean from?)");
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
