//! Counters under the line of an export: what is being done, and that it is done.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use digests::Digest;
use progress::{Event, ProgressSink, Status, Timestamp};

use crate::ExportContext;

/// How often a number is told at most: more is not seen.
const INTERVAL: Duration = Duration::from_millis(100);

/// Where the counters of one export are reported.
#[derive(Debug, Clone)]
pub(crate) struct Counters {
    sink: Arc<dyn ProgressSink>,
    vertex: Digest,
}

impl Counters {
    pub(crate) fn new(context: &ExportContext) -> Self {
        Self { sink: context.progress.clone(), vertex: context.vertex }
    }

    /// Shows something that is done in one go. It is done when the counter is dropped.
    pub(crate) fn start(&self, id: impl Into<String>) -> Counter {
        self.begin(id.into(), "")
    }

    /// Shows a transfer to the client, which is told of its bytes.
    pub(crate) fn transfer(&self, id: impl Into<String>) -> Counter {
        self.begin(id.into(), "transferring")
    }

    fn begin(&self, id: String, name: &'static str) -> Counter {
        let started = SystemTime::now();
        let counter =
            Counter { counters: self.clone(), id, name, started, current: 0, told: Instant::now() };
        counter.tell(None);
        counter
    }
}

/// One thing that is being done.
#[must_use = "it counts as done when this is dropped"]
#[derive(Debug)]
pub(crate) struct Counter {
    counters: Counters,
    id: String,
    name: &'static str,
    started: Timestamp,
    current: u64,
    told: Instant,
}

impl Counter {
    /// Notes how far it is.
    pub(crate) fn advance(&mut self, current: u64) {
        self.current = current;
        if self.told.elapsed() >= INTERVAL {
            self.told = Instant::now();
            self.tell(None);
        }
    }

    fn tell(&self, completed: Option<Timestamp>) {
        self.counters.sink.emit(Event::Status(Status {
            vertex: self.counters.vertex,
            id: self.id.clone(),
            name: self.name.to_owned(),
            current: i64::try_from(self.current).unwrap_or(i64::MAX),
            total: 0,
            timestamp: completed.unwrap_or_else(SystemTime::now),
            started: Some(self.started),
            completed,
        }));
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.tell(Some(SystemTime::now()));
    }
}
