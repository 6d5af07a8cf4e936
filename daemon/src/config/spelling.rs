//! Which known word somebody may have meant.

/// Returns the word of `known` that `word` is a part of, or else the one that takes the fewest changes.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    known.iter().copied().min_by_key(|known| {
        let known = known.to_ascii_lowercase();
        (!known.contains(&word), distance(&word, &known))
    })
}

/// Returns how many letters must be put in, taken out or replaced to make one word of the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
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
