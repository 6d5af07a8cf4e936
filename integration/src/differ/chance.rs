//! What a daemon says by chance, which is no difference between two.
//!
//! The original suggests the nearest of the words that would have been right, and looks for it in an order that
//! changes from call to call. Of several that are equally near it suggests any.

use strsim::levenshtein as distance;

/// Begins what is suggested.
const SUGGESTS: &str = " (did you mean ";
/// Ends what is suggested.
const ENDS: &str = "?)";
/// How many letters may be otherwise in what is suggested.
const FARTHEST: usize = 2;

/// A line with a suggestion in it.
struct Suggestion<'a> {
    before: &'a str,
    word: &'a str,
    after: &'a str,
}

/// Returns whether one side may say a line where the other says another: they are the same but for a suggestion,
/// and what is suggested in each is as near to a word of the line.
pub(crate) fn same(theirs: &str, ours: &str) -> bool {
    theirs == ours
        || match (Suggestion::read(theirs), Suggestion::read(ours)) {
            (Some(theirs), Some(ours)) => theirs.is_as_near_as(&ours),
            (None, _) | (_, None) => false,
        }
}

impl<'a> Suggestion<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (before, rest) = line.split_once(SUGGESTS)?;
        let (word, after) = rest.split_once(ENDS)?;
        Some(Self { before, word, after })
    }

    fn is_as_near_as(&self, other: &Self) -> bool {
        let as_near = |word| {
            let far = distance(word, self.word);
            far <= FARTHEST && far == distance(word, other.word)
        };
        (self.before, self.after) == (other.before, other.after) && words(self.before).any(as_near)
    }
}

/// Returns the words of a text, among which is the wrong one.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let apart = |c: char| !c.is_alphanumeric() && !"_-".contains(c);
    text.split(apart).map(|word| word.trim_matches('-')).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_put_in_left_out_and_changed() {
        for (from, to, expected) in [
            ("", "", 0),
            ("", "ab", 2),
            ("ab", "", 2),
            ("RNU", "RUN", 2),
            ("RNU", "ENV", 2),
            ("form", "from", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(from, to), expected, "{from} {to}");
        }
    }

    #[test]
    fn of_suggestions_that_are_as_near_any_will_do() {
        let line = |word: &str, rest: &str| {
            format!("error: line 2: unknown instruction: RNU (did you mean {word}?){rest}")
        };
        assert!(same(&line("RUN", ""), &line("ENV", "")));
        assert!(same(&line("RUN", " there"), &line("ENV", " there")));
        assert!(!same(&line("RUN", " there"), &line("ENV", "")));
        assert!(!same(&line("RUN", ""), &line("FROM", "")), "farther");
        assert!(!same(&line("RUN", ""), "error: line 2: unknown instruction: RNU"));
        assert!(!same(&line("RUN", ""), &line("ENV", "").replace("line 2", "line 3")));
    }
}
