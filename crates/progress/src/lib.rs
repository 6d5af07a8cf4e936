//! What a build says while it runs.
//!
//! A build's mechanisms report [`Event`]s to a [`ProgressSink`]; a [`Feed`] keeps them and lets any
//! number of readers replay the build from its start and then follow it. The crate knows nothing of
//! the wire that carries events to a client.

mod event;
mod feed;

pub use event::{
    Event, Group, Level, Log, LogStream, Position, Range, SourceExcerpt, Status, Timestamp, Vertex,
    Warning,
};
pub use feed::{Feed, FeedReader, NullSink, ProgressSink};
