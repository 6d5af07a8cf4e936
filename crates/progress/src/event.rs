//! The things a build can say (protocol page `control.md` §4).

use bytes::Bytes;
use digests::Digest;

/// A moment in wall-clock time, as clients show it.
pub type Timestamp = std::time::SystemTime;

/// One thing that a build said.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A vertex was announced, started, or ended. Later events of the same digest replace earlier ones.
    Vertex(Vertex),
    /// A counter of a vertex moved.
    Status(Status),
    /// A step wrote output.
    Log(Log),
    /// Something the user should look at.
    Warning(Warning),
}

/// The state of one line of the client's display.
#[derive(Debug, Clone, PartialEq)]
pub struct Vertex {
    /// Its identity; for a vertex of the build graph the digest of its operation.
    pub digest: Digest,
    /// The vertices whose results it uses.
    pub inputs: Vec<Digest>,
    /// What the client shows: `[stage-1 2/5] RUN make`.
    pub name: String,
    /// True if the result came from the cache.
    pub cached: bool,
    /// When work began; none while it is only announced.
    pub started: Option<Timestamp>,
    /// When work ended; none while it runs.
    pub completed: Option<Timestamp>,
    /// Why it failed. Text that ends in `context canceled` shows as cancelled.
    pub error: Option<String>,
    /// The group whose single line stands for all its members.
    pub group: Option<Group>,
}

/// Vertices that a client shows as one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What makes vertices members of the same group.
    pub id: String,
    /// The name shown for the group.
    pub name: String,
    /// A weak member alone does not make the group's line appear.
    pub weak: bool,
}

/// A counter within a vertex.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// The vertex it belongs to; the client drops it if that was never announced.
    pub vertex: Digest,
    /// The text shown: `transferring context:`. Identifies the counter within its vertex.
    pub id: String,
    /// The action: `transferring`, `extracting`.
    pub name: String,
    /// Units done, usually bytes.
    pub current: i64,
    /// Units in all; 0 if not known.
    pub total: i64,
    /// When this was said.
    pub timestamp: Timestamp,
    /// When the action began.
    pub started: Option<Timestamp>,
    /// When the action ended.
    pub completed: Option<Timestamp>,
}

/// Which of its two outputs a step wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStream {
    /// File descriptor 1.
    Stdout,
    /// File descriptor 2.
    Stderr,
}

/// A piece of output of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// The vertex that wrote.
    pub vertex: Digest,
    /// Where it wrote to.
    pub stream: LogStream,
    /// When it was read.
    pub timestamp: Timestamp,
    /// What it wrote, not split at lines.
    pub data: Bytes,
}

/// How loud a warning is; buildx shows level 1 by default.
pub type Level = i64;

/// Something the user should look at, with the place in their file.
#[derive(Debug, Clone, PartialEq)]
pub struct Warning {
    /// The vertex it is shown under.
    pub vertex: Digest,
    /// How loud it is.
    pub level: Level,
    /// One line.
    pub short: String,
    /// Further lines.
    pub detail: Vec<String>,
    /// Where to read more.
    pub url: String,
    /// The file and the place in it.
    pub source: Option<SourceExcerpt>,
}

/// A file of the user's and places in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceExcerpt {
    /// The name of the file as the user knows it.
    pub filename: String,
    /// Its language: `Dockerfile`.
    pub language: String,
    /// Its whole content.
    pub data: Bytes,
    /// The places meant.
    pub ranges: Vec<Range>,
}

/// A stretch of a text file, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Range {
    /// The first position.
    pub start: Position,
    /// The last position.
    pub end: Position,
}

impl Range {
    /// Returns the range of whole lines from `first` to `last`, counted from 1.
    pub const fn lines(first: i32, last: i32) -> Self {
        Self {
            start: Position { line: first, character: 0 },
            end: Position { line: last, character: 0 },
        }
    }
}

/// A place in a text file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Counted from 1.
    pub line: i32,
    /// Counted from 0.
    pub character: i32,
}
