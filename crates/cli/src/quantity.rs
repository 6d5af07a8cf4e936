//! Amounts of disk and stretches of time, as people write and read them.

use std::time::Duration;

const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];

/// Reads an amount of disk: bytes, or a number with a unit of 1024 as in the daemon's configuration.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not an amount: write bytes (`512000`) or a size (`5GB`)");
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let unit = unit.strip_suffix('i').unwrap_or(unit);
    let powers = ["", "k", "m", "g", "t", "p"];
    let power = powers.iter().position(|known| *known == unit).ok_or_else(wrong)?;
    let scale = 1_u64 << (10 * power);
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(scale).ok_or_else(wrong);
    }
    let (whole, fraction) = number.split_once('.').ok_or_else(wrong)?;
    let fraction = &fraction[..fraction.len().min(9)];
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let parts: u64 = fraction.parse().map_err(|_| wrong())?;
    let of = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| wrong())?);
    let below = u64::try_from(u128::from(parts) * u128::from(scale) / of).map_err(|_| wrong())?;
    whole.checked_mul(scale).and_then(|bytes| bytes.checked_add(below)).ok_or_else(wrong)
}

/// Reads a stretch of time: seconds, or numbers with units as in `1h30m` and `2d`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration: write seconds or a text like `48h`, `2d`");
    let mut rest = text.trim();
    if let Ok(seconds) = rest.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut sum = 0_u64;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let scale = match rest.as_bytes()[digits] {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86400,
            b'w' => 7 * 86400,
            _ => return Err(wrong()),
        };
        let part = number.checked_mul(scale).ok_or_else(wrong)?;
        sum = sum.checked_add(part).ok_or_else(wrong)?;
        rest = &rest[digits + 1..];
    }
    Ok(Duration::from_secs(sum))
}

/// Returns an amount of disk in three digits or so: `1.5GB`.
pub(crate) fn shown_size(bytes: u64) -> String {
    if bytes < 1000 {
        return format!("{bytes}B");
    }
    let (bytes, mut scale, mut unit) = (u128::from(bytes), 1_u128, 0);
    // What is rounded to a thousand of one unit is one of the next.
    while (bytes + scale / 2) / scale >= 1000 && unit + 1 < UNITS.len() {
        scale *= 1000;
        unit += 1;
    }
    let tenths = (bytes * 10 + scale / 2) / scale;
    match tenths {
        0..1000 => format!("{}.{}{}", tenths / 10, tenths % 10, UNITS[unit]),
        _ => format!("{}{}", (bytes + scale / 2) / scale, UNITS[unit]),
    }
}

/// Returns a stretch of time in one or two units: `3m20s`, `5h`, `12d`.
pub(crate) fn shown_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => two(seconds / 60, "m", seconds % 60, "s"),
        3600..172_800 => two(seconds / 3600, "h", seconds % 3600 / 60, "m"),
        _ => format!("{}d", seconds / 86400),
    }
}

fn two(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit}{small}{small_unit}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_as_the_daemon_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("1k", 1 << 10),
            ("5GB", 5 << 30),
            ("5gib", 5 << 30),
            ("1.5MB", 3 << 19),
            (" 2 TB ", 2 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "GB", "-1", "5XB", "1.2.3k", "99999999999PB", "."] {
            let refused = parse_size(text).unwrap_err();
            assert!(refused.contains(&format!("`{text}`")), "{refused}");
        }
    }

    #[test]
    fn durations_are_read() {
        for (text, seconds) in
            [("90", 90), ("48h", 172_800), ("1h30m", 5400), ("2d", 172_800), ("1w", 604_800)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "h", "5x", "1h5", "99999999999999999999s", "-1s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_in_three_digits_or_so() {
        for (bytes, shown) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.0kB"),
            (1536, "1.5kB"),
            (999_949, "1.0MB"),
            (123_456_789, "123MB"),
            (5_368_709_120, "5.4GB"),
            (u64::MAX, "18447PB"),
        ] {
            assert_eq!(shown_size(bytes), shown);
        }
    }

    #[test]
    fn durations_are_shown_in_two_units_at_most() {
        for (seconds, shown) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (200, "3m20s"),
            (3600, "1h"),
            (5400, "1h30m"),
            (172_800, "2d"),
        ] {
            assert_eq!(shown_duration(Duration::from_secs(seconds)), shown);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = (parse_size(&text), parse_duration(&text));
        }

        #[test]
        fn any_number_can_be_shown(number: u64) {
            let _ = (shown_size(number), shown_duration(Duration::from_secs(number)));
        }

        #[test]
        fn plain_numbers_are_themselves(number: u64) {
            prop_assert_eq!(parse_size(&number.to_string()), Ok(number));
            prop_assert_eq!(parse_duration(&number.to_string()), Ok(Duration::from_secs(number)));
        }
    }
}
