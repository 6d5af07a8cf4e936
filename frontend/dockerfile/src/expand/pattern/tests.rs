//! The matcher against two others: one that simply tries everything, and regular expressions.

use proptest::prelude::*;
use regex::Regex;

use super::*;

/// Returns every end of a match of `pieces` at the start of `text`, by trying all.
fn all_ends(pieces: &[Piece], text: &[char]) -> Vec<usize> {
    let Some((first, rest)) = pieces.split_first() else {
        return vec![0];
    };
    let one_more = |pieces: &[Piece]| match text.split_first() {
        Some((c, after))
            if *first == Piece::Exactly(*c)
                || !matches!(first, Piece::Exactly(_)) && *c != '\n' =>
        {
            all_ends(pieces, after).into_iter().map(|end| end + 1).collect()
        }
        Some(_) | None => Vec::new(),
    };
    match first {
        Piece::Many => {
            let mut ends = all_ends(rest, text);
            ends.extend(one_more(pieces));
            ends
        }
        Piece::Exactly(_) | Piece::One => one_more(rest),
    }
}

/// Returns what is left of `value` without a prefix, by trying all.
fn naive_without_prefix(value: &str, pattern: &str, reach: Reach) -> String {
    let chars: Vec<char> = value.chars().collect();
    let ends = all_ends(&pieces(pattern).unwrap(), &chars).into_iter();
    let end = if reach == Reach::Shortest { ends.min() } else { ends.max() };
    chars[end.unwrap_or(0)..].iter().collect()
}

/// Returns what is left of `value` without a suffix, by trying all.
fn naive_without_suffix(value: &str, pattern: &str, reach: Reach) -> String {
    let chars: Vec<char> = value.chars().collect();
    let pieces = pieces(pattern).unwrap();
    let matches =
        |start: &usize| all_ends(&pieces, &chars[*start..]).contains(&(chars.len() - start));
    let mut starts = 0..=chars.len();
    let start = match reach {
        Reach::Shortest => starts.rfind(matches),
        Reach::Longest => starts.find(matches),
    };
    chars[..start.unwrap_or(chars.len())].iter().collect()
}

/// Returns the regular expression that a pattern is the same as.
fn regex(pattern: &str, star: &str) -> Regex {
    let piece = |piece: Piece| match piece {
        Piece::Exactly(c) => regex::escape(c.encode_utf8(&mut [0; 4])),
        Piece::One => ".".to_owned(),
        Piece::Many => star.to_owned(),
    };
    let text: String = pieces(pattern).unwrap().into_iter().map(piece).collect();
    Regex::new(&text).unwrap()
}

/// Patterns without mistakes in them.
const PATTERN: &str = r"([abñ.\n]|\*|\*|\?|\\\*|\\\?|\\\\|\\/|\\\}){0,6}";
const VALUE: &str = "[abñ.*?/}\\\\\n]{0,9}";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_prefix_is_removed_as_by_trying_all(value in VALUE, pattern in PATTERN) {
        for reach in [Reach::Shortest, Reach::Longest] {
            let expected = naive_without_prefix(&value, &pattern, reach);
            prop_assert_eq!(without_prefix(&value, &pattern, reach).unwrap(), expected);
        }
    }

    #[test]
    fn a_suffix_is_removed_as_by_trying_all(value in VALUE, pattern in PATTERN) {
        for reach in [Reach::Shortest, Reach::Longest] {
            let expected = naive_without_suffix(&value, &pattern, reach);
            prop_assert_eq!(without_suffix(&value, &pattern, reach).unwrap(), expected);
        }
    }

    #[test]
    fn a_prefix_is_removed_as_by_a_regular_expression(value in VALUE, pattern in PATTERN) {
        for (reach, star) in [(Reach::Shortest, ".*?"), (Reach::Longest, ".*")] {
            let found = regex(&pattern, star).find(&value).filter(|found| found.start() == 0);
            let expected = found.map_or(value.as_str(), |found| &value[found.end()..]);
            prop_assert_eq!(without_prefix(&value, &pattern, reach).unwrap(), expected);
        }
    }

    #[test]
    fn matches_are_replaced_as_by_a_regular_expression(value in VALUE, pattern in PATTERN) {
        let regex = regex(&pattern, ".*");
        let first = regex.replace(&value, regex::NoExpand("<>"));
        prop_assert_eq!(first_replaced(&value, &pattern, "<>").unwrap(), first);
        let all = regex.replace_all(&value, regex::NoExpand("<>"));
        prop_assert_eq!(all_replaced(&value, &pattern, "<>").unwrap(), all);
    }

    #[test]
    fn templates_are_those_of_regular_expressions(
        value in VALUE,
        template in r"(\$|\$0|\$\{0\}|\$\{a\}|\$\$|[a1. ]){0,6}",
    ) {
        let expected = regex("a", ".*").replace_all(&value, template.as_str());
        prop_assert_eq!(all_replaced(&value, "a", &template).unwrap(), expected);
    }
}

/// What takes a matcher that goes back again and again longer than anybody waits.
#[test]
fn the_time_grows_with_the_text_alone() {
    let value = "a".repeat(100_000);
    let pattern = format!("{}b", "*a".repeat(30));
    assert_eq!(without_prefix(&value, &pattern, Reach::Longest).unwrap(), value);
    assert_eq!(without_suffix(&value, &pattern, Reach::Shortest).unwrap(), value);
    assert_eq!(all_replaced(&value, &pattern, "x").unwrap(), value);
}

#[test]
fn a_replacement_does_not_fill_the_memory() {
    let value = "a".repeat(LONGEST / 2);
    let result = all_replaced(&value, "a", &value);
    assert!(matches!(result, Err(ExpandError::TooLong)));
}

#[test]
fn a_replacement_of_all_names_what_was_matched() {
    for (replacement, expected) in [
        ("<$0>", "x<ab>y"),
        ("${0}${0}", "xababy"),
        ("$1$name${2}", "xy"),
        ("$0a", "xy"),
        ("$$0", "x$0y"),
        ("$", "x$y"),
        ("$.${a", "x$.${ay"),
        (r"\$0", r"x\aby"),
        ("$00", "xy"),
    ] {
        assert_eq!(all_replaced("xaby", "ab", replacement).unwrap(), expected, "{replacement}");
    }
}
