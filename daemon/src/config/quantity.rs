//! Amounts of disk and stretches of time, as operators write them.

use std::time::Duration;

use super::section::Scalar;

/// Why a text is not an amount or a stretch of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QuantityError {
    /// Not an amount of disk.
    #[error(
        "`{0}` is not an amount of disk: write bytes (512000000), a size (`10GB`) or a share (`10%`)"
    )]
    Amount(String),
    /// Not a stretch of time.
    #[error("`{0}` is not a duration: write seconds (172800) or a text like `48h` or `1h30m`")]
    Duration(String),
}

/// An amount of disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Amount {
    /// So many bytes.
    Bytes(u64),
    /// A share of the disk, in hundredths.
    Percent(u64),
}

const GIB: u64 = 1 << 30;

impl Amount {
    /// The amount that stands for no limit.
    pub(crate) const NONE: Self = Self::Bytes(0);

    pub(super) fn from_scalar(value: &Scalar) -> Result<Self, QuantityError> {
        match value {
            Scalar::Number(bytes) => u64::try_from(*bytes)
                .map(Self::Bytes)
                .map_err(|_| QuantityError::Amount(bytes.to_string())),
            Scalar::Text(text) => Self::parse(text),
        }
    }

    /// Parses bytes, a size with a unit of 1024, or a share.
    pub(super) fn parse(text: &str) -> Result<Self, QuantityError> {
        let wrong = || QuantityError::Amount(text.to_owned());
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Ok(Self::NONE);
        }
        if let Some(share) = trimmed.strip_suffix('%') {
            let share = share.trim().parse().map_err(|_| wrong())?;
            return if share <= 100 { Ok(Self::Percent(share)) } else { Err(wrong()) };
        }
        let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, unit) = trimmed.split_at(digits.unwrap_or(trimmed.len()));
        let scale = scale(unit.trim()).ok_or_else(wrong)?;
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(scale).map(Self::Bytes).ok_or_else(wrong);
        }
        let number: f64 = number.parse().map_err(|_| wrong())?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an amount with a fraction is an approximate one; the cast saturates"
        )]
        let bytes = (number * scale as f64) as u64;
        Ok(Self::Bytes(bytes))
    }

    /// Returns the number of bytes on a disk of `total` bytes; shares are rounded up to a gigabyte,
    /// as the reference does.
    pub(crate) fn bytes(self, total: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(0) => 0,
            Self::Percent(share) => (total / 100 * share / GIB + 1) * 1_000_000_000,
        }
    }
}

fn scale(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let power = match unit.strip_suffix('i').unwrap_or(unit) {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    Some(1 << (10 * power))
}

pub(super) fn duration_of(value: &Scalar) -> Result<Duration, QuantityError> {
    match value {
        Scalar::Number(seconds) => u64::try_from(*seconds)
            .map(Duration::from_secs)
            .map_err(|_| QuantityError::Duration(seconds.to_string())),
        Scalar::Text(text) => parse_duration(text),
    }
}

/// Parses whole seconds, or numbers with units: `1h30m`, `1.5s`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    let wrong = || QuantityError::Duration(text.to_owned());
    let trimmed = text.trim();
    if let Ok(seconds) = trimmed.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    if trimmed.is_empty() {
        return Ok(Duration::ZERO);
    }
    let parsed: jiff::SignedDuration = trimmed.parse().map_err(|_| wrong())?;
    Duration::try_from(parsed).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_have_the_units_of_the_reference() {
        for (text, amount) in [
            ("512000000", Amount::Bytes(512_000_000)),
            ("512MB", Amount::Bytes(512 << 20)),
            ("10GB", Amount::Bytes(10 << 30)),
            ("10g", Amount::Bytes(10 << 30)),
            ("10 GiB", Amount::Bytes(10 << 30)),
            ("1.5k", Amount::Bytes(1536)),
            ("0", Amount::NONE),
            ("", Amount::NONE),
            ("10%", Amount::Percent(10)),
        ] {
            assert_eq!(Amount::parse(text), Ok(amount), "{text}");
        }
        for text in ["GB", "10XB", "ten", "-1", "101%", "1.2.3GB", "99999999999PB", "%"] {
            assert_eq!(Amount::parse(text), Err(QuantityError::Amount(text.to_owned())), "{text}");
        }
        assert!(Amount::from_scalar(&Scalar::Number(-1)).is_err());
    }

    #[test]
    fn a_share_is_of_the_disk() {
        assert_eq!(Amount::Percent(10).bytes(100 * GIB), 11_000_000_000);
        assert_eq!(Amount::Percent(0).bytes(100 * GIB), 0);
        assert_eq!(Amount::Bytes(7).bytes(100), 7);
    }

    #[test]
    fn durations_are_seconds_or_texts() {
        for (text, duration) in [
            ("172800", Duration::from_secs(172_800)),
            ("48h", Duration::from_secs(172_800)),
            ("1h30m", Duration::from_secs(5400)),
            ("1.5s", Duration::from_millis(1500)),
            ("250ms", Duration::from_millis(250)),
            ("", Duration::ZERO),
        ] {
            assert_eq!(parse_duration(text), Ok(duration), "{text}");
        }
        for text in ["-1h", "soon", "1 fortnight"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(duration_of(&Scalar::Number(-1)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,20}") {
            let _ = Amount::parse(&text).map(|amount| amount.bytes(u64::MAX));
            let _ = parse_duration(&text);
        }
    }
}
