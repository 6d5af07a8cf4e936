//! Numbers in flags and options, and what is said of texts that are none.

use std::num::{IntErrorKind, ParseIntError};
use std::str::FromStr;

use crate::quote::quoted;

/// Reads a number that may have a sign.
pub(crate) fn signed<T: FromStr<Err = ParseIntError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| wrong("ParseInt", text, &error))
}

/// Reads a number without a sign.
pub(crate) fn unsigned<T: FromStr<Err = ParseIntError>>(text: &str) -> Result<T, String> {
    // A plus is part of a number to the standard library.
    let digits = text.strip_prefix('+').map_or(text, |_| "");
    digits.parse().map_err(|error| wrong("ParseUint", text, &error))
}

fn wrong(function: &str, text: &str, error: &ParseIntError) -> String {
    let reason = match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
        _ => "invalid syntax",
    };
    format!("strconv.{function}: parsing {}: {reason}", quoted(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_and_mistakes_named() {
        assert_eq!(signed::<i64>("-5"), Ok(-5));
        assert_eq!(unsigned::<u64>("5"), Ok(5));
        for (found, expected) in [
            (signed::<i64>("x"), "strconv.ParseInt: parsing \"x\": invalid syntax"),
            (signed::<i64>(""), "strconv.ParseInt: parsing \"\": invalid syntax"),
            (
                signed::<i32>("5000000000").map(i64::from),
                "strconv.ParseInt: parsing \"5000000000\": value out of range",
            ),
            (
                unsigned::<u32>("+5").map(i64::from),
                "strconv.ParseUint: parsing \"+5\": invalid syntax",
            ),
        ] {
            assert_eq!(found, Err(expected.to_owned()));
        }
    }
}
