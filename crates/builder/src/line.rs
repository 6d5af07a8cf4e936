//! One line of the client's display for work that is not a vertex of the graph: an export, a question
//! to a registry.

use std::sync::Arc;
use std::time::SystemTime;

use digests::Digest;
use progress::{Event, ProgressSink, Vertex};

/// A line that has begun. Dropped without an end, it is shown as cancelled.
#[must_use = "a line that is dropped is shown as cancelled"]
#[derive(Debug)]
pub(crate) struct Line {
    sink: Arc<dyn ProgressSink>,
    vertex: Vertex,
    ended: bool,
}

impl Line {
    /// Begins a line. `identity` makes it the same line if it is begun twice.
    pub(crate) fn begin(
        sink: Arc<dyn ProgressSink>,
        identity: &str,
        name: impl Into<String>,
    ) -> Self {
        let vertex = Vertex {
            digest: Digest::of(identity),
            inputs: Vec::new(),
            name: name.into(),
            cached: false,
            started: Some(SystemTime::now()),
            completed: None,
            error: None,
            group: None,
        };
        sink.emit(Event::Vertex(vertex.clone()));
        Self { sink, vertex, ended: false }
    }

    /// Returns the line's digest, for counters that belong to it.
    pub(crate) const fn digest(&self) -> Digest {
        self.vertex.digest
    }

    /// Ends the line as `result` says, and returns that.
    pub(crate) fn end<T, E: std::fmt::Display>(mut self, result: Result<T, E>) -> Result<T, E> {
        self.finish(result.as_ref().err().map(ToString::to_string));
        result
    }

    fn finish(&mut self, error: Option<String>) {
        self.ended = true;
        self.vertex.completed = Some(SystemTime::now());
        self.vertex.error = error;
        self.sink.emit(Event::Vertex(self.vertex.clone()));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.ended {
            self.finish(Some("context canceled".to_owned()));
        }
    }
}
