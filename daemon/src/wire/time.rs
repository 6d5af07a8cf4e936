//! Moments.

use std::time::{Duration, SystemTime};

use prost_types::Timestamp;

pub(super) fn to_wire(time: SystemTime) -> Timestamp {
    Timestamp::from(time)
}

pub(super) fn from_wire(time: Option<Timestamp>) -> Option<SystemTime> {
    // Moments beyond what this machine can count are as good as none.
    SystemTime::try_from(time?).ok()
}

/// Returns now, as a header says it: RFC 3339 with nanoseconds, in UTC.
pub(crate) fn current_timestamp() -> String {
    jiff::Timestamp::now().to_string()
}

/// Returns a stretch of time that travels as nanoseconds; negative ones are none.
pub(super) fn duration(nanoseconds: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn moments_round_trip() {
        for time in [UNIX_EPOCH, UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789)] {
            assert_eq!(from_wire(Some(to_wire(time))), Some(time));
        }
        assert_eq!(from_wire(None), None);
    }

    #[test]
    fn stretches_are_not_negative() {
        assert_eq!(duration(5), Duration::from_nanos(5));
        assert_eq!(duration(-5), Duration::ZERO);
    }
}
