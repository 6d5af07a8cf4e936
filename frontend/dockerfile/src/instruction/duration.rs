//! Durations as `HEALTHCHECK` takes them: `1h30m`, `1.5s`.

use std::time::Duration;

use crate::quote::quoted;

const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a duration; a sign before it is passed over.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration {}", quoted(text));
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let nanoseconds = match UNITS.iter().find(|(name, _)| *name == unit) {
            Some((_, nanoseconds)) => *nanoseconds,
            None if unit.is_empty() => {
                return Err(format!("time: missing unit in duration {}", quoted(text)));
            }
            None => {
                let (unit, text) = (quoted(unit), quoted(text));
                return Err(format!("time: unknown unit {unit} in duration {text}"));
            }
        };
        total = total
            .checked_add(scaled(whole, fraction, nanoseconds).ok_or_else(invalid)?)
            .ok_or_else(invalid)?;
        rest = after;
    }
    // The image configuration holds nanoseconds in a signed 64-bit number.
    let nanoseconds = i64::try_from(total).map_err(|_| invalid())?;
    Ok(Duration::from_nanos(nanoseconds.unsigned_abs()))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn scaled(whole: &str, fraction: &str, unit: u128) -> Option<u128> {
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // No unit has more than 14 digits of nanoseconds.
    let kept = &fraction[..fraction.len().min(18)];
    let scale = 10_u128.pow(u32::try_from(kept.len()).ok()?);
    let part: u128 = if kept.is_empty() { 0 } else { kept.parse().ok()? };
    whole.checked_mul(unit)?.checked_add(part * unit / scale)
}

/// Writes a duration as image histories have it: `1h30m0s`, `1.5s`, `200ms`.
pub(crate) fn format_duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    match nanoseconds {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => format!("{}\u{b5}s", decimal(nanoseconds, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(nanoseconds, 1_000_000)),
        _ => {
            let seconds = decimal(nanoseconds % 60_000_000_000, 1_000_000_000);
            let minutes = nanoseconds / 60_000_000_000;
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

fn decimal(value: u128, unit: u128) -> String {
    let (whole, mut rest) = (value / unit, value % unit);
    let mut text = whole.to_string();
    if rest > 0 {
        text.push('.');
    }
    while rest > 0 {
        rest *= 10;
        text.push_str(&(rest / unit).to_string());
        rest %= unit;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, shown) in [
            ("0", "0s"),
            ("30s", "30s"),
            ("1h30m", "1h30m0s"),
            ("90s", "1m30s"),
            ("1.5s", "1.5s"),
            (".5s", "500ms"),
            ("1ms", "1ms"),
            ("1500us", "1.5ms"),
            ("100h", "100h0m0s"),
        ] {
            assert_eq!(parse_duration(text).map(format_duration), Ok(shown.to_owned()), "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("", "time: invalid duration \"\""),
            ("-+1s", "time: invalid duration \"-+1s\""),
            ("-1x", "time: unknown unit \"x\" in duration \"-1x\""),
            ("x", "time: invalid duration \"x\""),
            ("3", "time: missing unit in duration \"3\""),
            ("3x", "time: unknown unit \"x\" in duration \"3x\""),
            ("9999999999h", "time: invalid duration \"9999999999h\""),
        ] {
            assert_eq!(parse_duration(text), Err(expected.to_owned()), "{text}");
        }
    }
}
