//! Sizes with units: `64m`, `1.5GiB`.

/// Reads a size in bytes; units are powers of 1024.
pub(super) fn parse_size(text: &str) -> Option<i64> {
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')?;
    let (number, unit) = if text[end..].starts_with(' ') {
        (&text[..end], &text[end + 1..])
    } else {
        text.split_at(end + 1)
    };
    // Infinity and NaN are numbers to the standard library, but no sizes.
    if number.is_empty() || !number.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let value: f64 = number.parse().ok()?;
    let factor = 1024_f64.powi(unit_power(&unit.to_ascii_lowercase())?);
    let bytes = value * factor;
    // 2^63 as a float: beyond it the conversion would not be exact.
    #[expect(clippy::cast_possible_truncation, reason = "a fraction of a byte is dropped")]
    (bytes < 9_223_372_036_854_775_808.0).then_some(bytes as i64)
}

fn unit_power(unit: &str) -> Option<i32> {
    let mut chars = unit.chars();
    let power = match chars.next() {
        None => return Some(0),
        Some('b') => return chars.next().is_none().then_some(0),
        Some('k') => 1,
        Some('m') => 2,
        Some('g') => 3,
        Some('t') => 4,
        Some('p') => 5,
        Some(_) => return None,
    };
    matches!(chars.as_str(), "" | "b" | "ib").then_some(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        for (text, expected) in [
            ("0", Some(0)),
            ("42", Some(42)),
            ("42b", Some(42)),
            ("1k", Some(1024)),
            ("64m", Some(64 << 20)),
            ("64MB", Some(64 << 20)),
            ("1.5GiB", Some(3 << 29)),
            ("2 t", Some(2 << 40)),
            ("1p", Some(1 << 50)),
            ("", None),
            ("m", None),
            ("1mm", None),
            ("1x", None),
            ("-1", None),
            ("1e9p", None),
            ("99999999p", None),
        ] {
            assert_eq!(parse_size(text), expected, "{text}");
        }
    }
}
