//! A record of events with many readers, each of which sees the whole from the start.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::Event;

/// Where a mechanism reports to. Reporting never blocks and never fails.
pub trait ProgressSink: Send + Sync + std::fmt::Debug {
    /// Reports one event.
    fn emit(&self, event: Event);
}

/// A sink that forgets.
#[derive(Debug, Clone, Copy, Default)]
pub struct NullSink;

impl ProgressSink for NullSink {
    fn emit(&self, _event: Event) {}
}

/// Keeps what a build said. Clones share one record.
#[derive(Debug, Clone, Default)]
pub struct Feed(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    // A plain mutex: it is held for a push or for the copy of a slice, never over an await.
    record: Mutex<Record>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Record {
    events: Vec<Event>,
    closed: bool,
}

impl Feed {
    /// Returns an empty, open feed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that nothing more will come. Events after this are dropped.
    pub fn close(&self) {
        self.0.record.lock().closed = true;
        self.0.changed.notify_waiters();
    }

    /// Returns true once [`Feed::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.0.record.lock().closed
    }

    /// Returns all that was said so far.
    pub fn snapshot(&self) -> Vec<Event> {
        self.0.record.lock().events.clone()
    }

    /// Returns a reader that begins at the first event.
    pub fn reader(&self) -> FeedReader {
        FeedReader { feed: self.clone(), next: 0 }
    }
}

impl ProgressSink for Feed {
    fn emit(&self, event: Event) {
        let mut record = self.0.record.lock();
        if record.closed {
            return;
        }
        record.events.push(event);
        drop(record);
        self.0.changed.notify_waiters();
    }
}

/// One reader's place in a [`Feed`].
#[derive(Debug)]
pub struct FeedReader {
    feed: Feed,
    next: usize,
}

impl FeedReader {
    /// Returns the events since the last call, at least one; waits for them; none at the end.
    pub async fn next_batch(&mut self) -> Option<Vec<Event>> {
        loop {
            let changed = self.feed.0.changed.notified();
            tokio::pin!(changed);
            // Registered before looking, or an event between the look and the wait would be missed.
            changed.as_mut().enable();
            {
                let record = self.feed.0.record.lock();
                if self.next < record.events.len() {
                    let batch = record.events[self.next..].to_vec();
                    self.next = record.events.len();
                    return Some(batch);
                }
                if record.closed {
                    return None;
                }
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use digests::Digest;

    use super::*;
    use crate::{Log, LogStream};

    fn log(text: &str) -> Event {
        Event::Log(Log {
            vertex: Digest::of("v"),
            stream: LogStream::Stdout,
            timestamp: std::time::UNIX_EPOCH,
            data: Bytes::copy_from_slice(text.as_bytes()),
        })
    }

    #[tokio::test]
    async fn a_late_reader_sees_everything_and_then_the_end() {
        let feed = Feed::new();
        feed.emit(log("a"));
        feed.emit(log("b"));
        let mut reader = feed.reader();
        assert_eq!(reader.next_batch().await, Some(vec![log("a"), log("b")]));
        feed.emit(log("c"));
        feed.close();
        feed.emit(log("dropped"));
        assert_eq!(reader.next_batch().await, Some(vec![log("c")]));
        assert_eq!(reader.next_batch().await, None);
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken() {
        let feed = Feed::new();
        let mut reader = feed.reader();
        let (batch, ()) = tokio::join!(reader.next_batch(), async { feed.emit(log("x")) });
        assert_eq!(batch, Some(vec![log("x")]));
        let (end, ()) = tokio::join!(reader.next_batch(), async { feed.close() });
        assert_eq!(end, None);
    }
}
