//! Which known word somebody may have meant.

use strsim::levenshtein as distance;

/// Returns the word of `known` that `word` is a part of, or else the one that takes the fewest changes.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    known.iter().copied().min_by_key(|known| {
        let known = known.to_ascii_lowercase();
        (!known.contains(&word), distance(&word, &known))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_the_one_meant() {
        let known = ["reservedSpace", "maxUsedSpace", "minFreeSpace", "gc"];
        assert_eq!(nearest("reservdSpace", &known), Some("reservedSpace"));
        assert_eq!(nearest("MAXUSEDSPACE", &known), Some("maxUsedSpace"));
        assert_eq!(nearest("reserved", &known), Some("reservedSpace"));
        assert_eq!(nearest("x", &[]), None);
    }

    #[test]
    fn changes_are_counted() {
        for (from, to, changes) in
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(from, to), changes, "{from} {to}");
        }
    }
}
