//! Times in documents: RFC 3339 with nanoseconds and a zone, as Go reads and prints them.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const DAY: i64 = 86_400;
/// The first and the last second that four digits of a year can say.
const FIRST: i64 = -62_167_219_200;
const LAST: i64 = 253_402_300_799;

/// An instant, with the zone in which it was written.
///
/// Displays as `2006-01-02T15:04:05.999999999Z` or with `+07:00` for the zone, without trailing zeros
/// in the fraction. Ordered by instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    seconds: i64,
    nanoseconds: u32,
    offset_minutes: i16,
}

/// A text that is not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed time `{0}`: expected a text such as `2006-01-02T15:04:05Z`")]
pub struct TimeError(String);

impl Time {
    /// Returns the instant so many seconds after (or before) 1970, in UTC. Instants outside of the
    /// years 0 to 9999 become the nearest one inside.
    pub fn from_unix(seconds: i64) -> Self {
        Self { seconds: seconds.clamp(FIRST, LAST), nanoseconds: 0, offset_minutes: 0 }
    }

    /// Returns the same second with this many nanoseconds (at most 999,999,999).
    #[must_use]
    pub fn with_nanoseconds(self, nanoseconds: u32) -> Self {
        Self { nanoseconds: nanoseconds.min(999_999_999), ..self }
    }

    /// Returns the seconds since 1970.
    pub const fn unix_seconds(&self) -> i64 {
        self.seconds
    }

    /// Returns the nanoseconds since the last full second.
    pub const fn subsecond_nanoseconds(&self) -> u32 {
        self.nanoseconds
    }
}

impl From<SystemTime> for Time {
    fn from(time: SystemTime) -> Self {
        let (seconds, nanoseconds) = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => (i64::try_from(after.as_secs()), after.subsec_nanos()),
            Err(error) => {
                let before = error.duration();
                let seconds = i64::try_from(before.as_secs()).map(|seconds| -seconds);
                match before.subsec_nanos() {
                    0 => (seconds, 0),
                    fraction => (seconds.map(|seconds| seconds - 1), 1_000_000_000 - fraction),
                }
            }
        };
        Self::from_unix(seconds.unwrap_or(LAST)).with_nanoseconds(nanoseconds)
    }
}

impl From<Time> for SystemTime {
    fn from(time: Time) -> Self {
        let whole = Duration::from_secs(time.seconds.unsigned_abs());
        let fraction = Duration::from_nanos(time.nanoseconds.into());
        // Four digits of a year fit a system time by far.
        if time.seconds < 0 { UNIX_EPOCH - whole + fraction } else { UNIX_EPOCH + whole + fraction }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = self.seconds + i64::from(self.offset_minutes) * 60;
        let (year, month, day) = civil(local.div_euclid(DAY));
        let second = local.rem_euclid(DAY);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if self.nanoseconds != 0 {
            let fraction = format!("{:09}", self.nanoseconds);
            write!(f, ".{}", fraction.trim_end_matches('0'))?;
        }
        match self.offset_minutes {
            0 => f.write_str("Z"),
            offset => {
                let sign = if offset < 0 { '-' } else { '+' };
                let offset = offset.unsigned_abs();
                write!(f, "{sign}{:02}:{:02}", offset / 60, offset % 60)
            }
        }
    }
}

impl FromStr for Time {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        parse(text.as_bytes()).ok_or_else(|| TimeError(text.chars().take(64).collect()))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

fn parse(text: &[u8]) -> Option<Time> {
    let (date_time, rest) = text.split_at_checked(19)?;
    let [year, month, day] = numbers(date_time.get(..10)?, b'-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(date_time.get(11..)?, b':', [2, 2, 2])?;
    if date_time[10] != b'T' || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_since_1970(year, month, day);
    // A day that the month does not have comes back as one of the next month.
    if !(1..=12).contains(&month) || day < 1 || civil(days) != (year, month, day) {
        return None;
    }
    let (nanoseconds, zone) = fraction(rest)?;
    let offset_minutes = offset(zone)?;
    let local = days * DAY + hour * 3600 + minute * 60 + second;
    let seconds = local - i64::from(offset_minutes) * 60;
    Some(Time { seconds, nanoseconds, offset_minutes })
}

/// Reads three decimal numbers of fixed widths with a separator between them.
fn numbers(text: &[u8], separator: u8, widths: [usize; 3]) -> Option<[i64; 3]> {
    let mut parts = text.split(|byte| *byte == separator);
    let mut found = [0; 3];
    for (number, width) in found.iter_mut().zip(widths) {
        *number = decimal(parts.next()?, width)?;
    }
    parts.next().is_none().then_some(found)
}

fn decimal(digits: &[u8], width: usize) -> Option<i64> {
    if digits.len() != width || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
}

/// Splits `.123Z` into nanoseconds and the zone. Digits beyond the ninth are dropped.
fn fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    let Some((b'.' | b',', rest)) = text.split_first() else { return Some((0, text)) };
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 {
        return None;
    }
    let digits = rest.iter().take(count).chain(std::iter::repeat(&b'0')).take(9);
    let nanoseconds = digits.fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    Some((nanoseconds, &rest[count..]))
}

/// Reads `Z` or `+07:00` as minutes east of UTC.
fn offset(zone: &[u8]) -> Option<i16> {
    let (sign, rest) = zone.split_first()?;
    let sign = match sign {
        b'Z' if rest.is_empty() => return Some(0),
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let hours = decimal(rest.get(..2)?, 2)?;
    let minutes = decimal(rest.get(3..)?, 2)?;
    if rest[2] != b':' || hours > 24 || minutes > 59 {
        return None;
    }
    i16::try_from(sign * (hours * 60 + minutes)).ok()
}

/// Returns the year, month and day of a day counted from 1970, by the Gregorian calendar.
///
/// Counts in eras of 400 years that begin on 1 March, so that the leap day is the last of its year.
const fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// Returns the day, counted from 1970: the inverse of [`civil`].
const fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}
