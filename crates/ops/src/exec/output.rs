//! What a step writes, on its way to those who watch.
//!
//! A step may write without end. What is shown is limited (protocol page `control.md` §4.5): to
//! 2 MiB in all and 200 KiB in a second. What is over the limit is left out, once said so; if the step
//! fails, the end of it is shown after all, because that is where the reason is.

use std::collections::VecDeque;

use bytes::Bytes;
use progress::LogStream;
use tokio::time::{Duration, Instant};

/// The most that is shown of a step, bytes.
const MAX_TOTAL: usize = 2 << 20;
/// The most that is shown in a second, bytes.
const MAX_PER_SECOND: usize = 200 << 10;
/// How much of the end is kept for a step that fails, bytes.
const TAIL: usize = 256 << 10;

/// Decides what of a step's output is shown.
#[derive(Debug)]
pub(super) struct Clipper {
    shown: usize,
    window: Instant,
    in_window: usize,
    clipping: bool,
    tail: VecDeque<(LogStream, Bytes)>,
    tail_size: usize,
}

impl Clipper {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            shown: 0,
            window: now,
            in_window: 0,
            clipping: false,
            tail: VecDeque::new(),
            tail_size: 0,
        }
    }

    /// Takes a piece of output; returns what is to be shown for it.
    pub(super) fn take(&mut self, stream: LogStream, data: Bytes, now: Instant) -> Option<Bytes> {
        if now.duration_since(self.window) >= Duration::from_secs(1) {
            self.window = now;
            self.in_window = 0;
            // The total, once used up, stays so.
            self.clipping &= self.shown >= MAX_TOTAL;
        }
        if !self.clipping {
            let over_total = self.shown + data.len() > MAX_TOTAL;
            if !over_total && self.in_window + data.len() <= MAX_PER_SECOND {
                self.shown += data.len();
                self.in_window += data.len();
                return Some(data);
            }
            self.clipping = true;
            if over_total {
                self.shown = MAX_TOTAL;
            }
            let limit = if over_total { "2MiB" } else { "200KiB/s" };
            self.keep(stream, data);
            let notice = format!("\n[output clipped, log limit {limit} reached]\n");
            return Some(Bytes::from(notice));
        }
        self.keep(stream, data);
        None
    }

    /// Returns the end of what was left out, for a step that failed.
    pub(super) fn into_tail(self) -> impl Iterator<Item = (LogStream, Bytes)> {
        self.tail.into_iter()
    }

    fn keep(&mut self, stream: LogStream, data: Bytes) {
        self.tail_size += data.len();
        self.tail.push_back((stream, data));
        while self.tail_size > TAIL {
            let Some((stream, mut first)) = self.tail.pop_front() else { return };
            let over = self.tail_size - TAIL;
            if first.len() > over {
                let rest = first.split_off(over);
                self.tail.push_front((stream, rest));
                self.tail_size -= over;
            } else {
                self.tail_size -= first.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUT: LogStream = LogStream::Stdout;

    #[test]
    fn a_little_is_shown_as_it_is() {
        let now = Instant::now();
        let mut clipper = Clipper::new(now);
        assert_eq!(clipper.take(OUT, "hello".into(), now), Some("hello".into()));
        assert_eq!(clipper.into_tail().count(), 0);
    }

    #[test]
    fn a_flood_is_clipped_once_a_second_and_its_end_is_kept() {
        let start = Instant::now();
        let mut clipper = Clipper::new(start);
        let piece = Bytes::from(vec![b'x'; 100 << 10]);
        assert!(clipper.take(OUT, piece.clone(), start).is_some());
        assert!(clipper.take(OUT, piece.clone(), start).is_some());
        let notice = clipper.take(OUT, piece.clone(), start).unwrap();
        assert!(notice.starts_with(b"\n[output clipped, log limit 200KiB/s reached]"));
        assert_eq!(clipper.take(OUT, piece.clone(), start), None);
        let later = start + Duration::from_secs(1);
        assert_eq!(clipper.take(OUT, piece, later).map(|data| data.len()), Some(100 << 10));
        let tail: usize = clipper.into_tail().map(|(_, data)| data.len()).sum();
        assert_eq!(tail, 200 << 10);
    }

    #[test]
    fn the_total_ends_for_good_and_the_tail_is_bounded() {
        let mut now = Instant::now();
        let mut clipper = Clipper::new(now);
        let piece = Bytes::from(vec![b'x'; 128 << 10]);
        let mut shown = 0;
        for _ in 0..100 {
            now += Duration::from_secs(1);
            shown += clipper.take(OUT, piece.clone(), now).map_or(0, |data| data.len());
        }
        assert!((MAX_TOTAL..MAX_TOTAL + 100).contains(&shown), "{shown}");
        let end = Bytes::from("the reason");
        assert_eq!(clipper.take(OUT, end.clone(), now), None);
        let tail: Vec<_> = clipper.into_tail().map(|(_, data)| data).collect();
        assert_eq!(tail.iter().map(Bytes::len).sum::<usize>(), TAIL);
        assert_eq!(tail.last(), Some(&end));
    }
}
