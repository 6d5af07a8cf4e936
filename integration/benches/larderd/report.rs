//! One line for each thing that was measured.

use std::time::Duration;

/// Prints what was measured.
pub(crate) struct Report(());

impl Report {
    /// Prints the head of the table.
    pub(crate) fn begin() -> Self {
        println!("{:<58} {:>12} {:>12} {:>8}", "", "ours", "floor", "ratio");
        Self(())
    }

    /// Prints a time beside the least it could be.
    pub(crate) fn against(&self, what: &str, ours: Duration, floor: Duration) {
        let ratio = ours.as_secs_f64() / floor.as_secs_f64();
        println!("{what:<58} {:>12} {:>12} {ratio:>8.2}", shown(ours), shown(floor));
    }

    /// Prints a time beside the most that it should be.
    pub(crate) fn within(&self, what: &str, ours: Duration, limit: Duration) {
        println!("{what:<58} {:>12} {:>12} {:>8}", shown(ours), "", format!("<{}", shown(limit)));
    }

    /// Prints an amount of bytes beside the most that it should be.
    pub(crate) fn bytes(&self, what: &str, ours: u64, limit: u64) {
        let megabytes = |bytes: u64| format!("{:.1}MB", bytes as f64 / 1e6);
        let limit = format!("<{}", megabytes(limit));
        println!("{what:<58} {:>12} {:>12} {limit:>8}", megabytes(ours), "");
    }
}

fn shown(time: Duration) -> String {
    if time < Duration::from_millis(10) {
        format!("{}us", time.as_micros())
    } else {
        format!("{:.1}ms", time.as_secs_f64() * 1e3)
    }
}

/// Returns the middle one.
pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
