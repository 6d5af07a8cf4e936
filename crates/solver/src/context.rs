//! What an operation is told about its surroundings: its vertex, who wants it, where to report.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use digests::Digest;
use progress::{Event, Log, LogStream, ProgressSink, Status};

use crate::Vertex;
use crate::audience::Audience;

/// The name of a job, chosen by whoever opens it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(Arc<str>);

impl JobId {
    /// Returns the id with this text.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A job that wants a vertex, and what the job brought along: the sessions of its client, say.
#[derive(Clone)]
pub struct InterestedJob {
    /// The job's name.
    pub id: JobId,
    /// What the job was opened with.
    pub tag: Arc<dyn Any + Send + Sync>,
}

impl fmt::Debug for InterestedJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InterestedJob({})", self.id)
    }
}

/// What an operation is told about its surroundings. Clones are the same context.
#[derive(Debug, Clone)]
pub struct OpContext {
    audience: Arc<Audience>,
}

impl OpContext {
    pub(crate) fn new(audience: Arc<Audience>) -> Self {
        Self { audience }
    }

    /// Returns the vertex.
    pub fn vertex(&self) -> &Arc<Vertex> {
        self.audience.vertex()
    }

    /// Returns the digest by which the vertex is known in the progress of its jobs: its own, except
    /// where a vertex that ignores the cache has a twin that does not.
    pub fn digest(&self) -> Digest {
        self.audience.digest()
    }

    /// Returns the jobs that want the vertex now, the one that wanted it first at the front. The
    /// answer changes as jobs come and go: ask again after a failure.
    pub fn jobs(&self) -> Vec<InterestedJob> {
        self.audience.jobs()
    }

    /// Returns a sink that tells every job that wants the vertex, now or later.
    pub fn progress(&self) -> Arc<dyn ProgressSink> {
        self.audience.clone()
    }

    /// Reports that a counter of the vertex moved. The vertex in `status` is filled in.
    pub fn status(&self, status: Status) {
        self.audience.emit(Event::Status(Status { vertex: self.digest(), ..status }));
    }

    /// Reports output of the vertex, read just now.
    pub fn log(&self, stream: LogStream, data: impl Into<Bytes>) {
        let timestamp = progress::Timestamp::now();
        let log = Log { vertex: self.digest(), stream, timestamp, data: data.into() };
        self.audience.emit(Event::Log(log));
    }
}
