//! When to try again, and when to give up.

use std::time::Duration;

use crate::Timing;

/// Counts failures in a row and says how long to wait after each.
#[derive(Debug)]
pub(crate) struct Backoff {
    timing: Timing,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(timing: &Timing) -> Self {
        Self { timing: timing.clone(), failures: 0 }
    }

    /// Forgets the failures: there was some success.
    pub(crate) const fn reset(&mut self) {
        self.failures = 0;
    }

    /// Returns how long to wait after one more failure; none to give up. `asked` is what the registry
    /// asked for.
    pub(crate) fn after_failure(&mut self, asked: Option<Duration>) -> Option<Duration> {
        self.failures += 1;
        if self.failures >= self.timing.attempts {
            return None;
        }
        let doubled = 1u32.checked_shl(self.failures - 1).unwrap_or(u32::MAX);
        let delay = self.timing.first_delay.saturating_mul(doubled);
        Some(asked.map_or(delay, |asked| asked.max(delay)).min(self.timing.longest_delay))
    }
}

/// Returns true for an HTTP status that may be another one the next time.
pub(crate) const fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_end() {
        let timing = Timing {
            attempts: 5,
            first_delay: Duration::from_secs(1),
            longest_delay: Duration::from_secs(3),
            ..Timing::default()
        };
        let mut backoff = Backoff::new(&timing);
        let waits: Vec<_> = std::iter::from_fn(|| backoff.after_failure(None)).collect();
        assert_eq!(waits, [1, 2, 3, 3].map(Duration::from_secs));
        assert_eq!(backoff.after_failure(None), None);
    }

    #[test]
    fn a_registry_may_ask_for_a_longer_wait_within_bounds() {
        let timing = Timing::default();
        let wait = |asked| Backoff::new(&timing).after_failure(Some(Duration::from_secs(asked)));
        assert_eq!(wait(2), Some(Duration::from_secs(2)));
        assert_eq!(wait(0), Some(timing.first_delay));
        assert_eq!(wait(1 << 40), Some(timing.longest_delay));
    }
}
