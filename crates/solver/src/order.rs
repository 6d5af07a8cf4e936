//! What the graph orders, and the names of the things it speaks of.

use crate::{CacheMap, KeyId, LinkKey, NewRecord, OpError, SolveError};

/// A vertex in the shared graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct NodeId(pub(crate) u64);

/// An output of a vertex in the shared graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct EdgeId {
    pub(crate) node: NodeId,
    pub(crate) output: u32,
}

/// A piece of work that is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct WorkId(pub(crate) u64);

/// Someone outside who waits for a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BuildId(pub(crate) u64);

/// What the shell is to do.
#[derive(Debug)]
pub(crate) enum Order<R> {
    /// Do `task` for `node` and say how it went by [`Graph::done`].
    Start { work: WorkId, node: NodeId, task: Task<R> },
    /// Stop what was started.
    Stop(WorkId),
    /// `follower` waits for what `leader` runs.
    Follow { leader: NodeId, follower: NodeId },
    /// The build has its answer.
    Answer { build: BuildId, outcome: Result<R, SolveError> },
}

/// A piece of work.
#[derive(Debug)]
pub(crate) enum Task<R> {
    Map,
    Query(Vec<LinkKey>),
    Load(KeyId),
    Content { slot: usize, input: R },
    Exec { inputs: Vec<R> },
    Save { record: NewRecord, result: R },
    Link(NewRecord),
}

/// How a task went.
#[derive(Debug)]
pub(crate) enum Outcome<R> {
    Mapped(CacheMap),
    Found(Vec<Vec<KeyId>>),
    Loaded(Option<R>),
    Content(Option<KeyId>),
    Executed(Vec<R>),
    Kept,
    Failed(OpError),
}

impl<R> Outcome<R> {
    /// Returns the error of a task. One that answers another one's question is the shell's mistake.
    pub(crate) fn into_error(self) -> OpError {
        match self {
            Self::Failed(error) => error,
            Self::Mapped(_)
            | Self::Found(_)
            | Self::Loaded(_)
            | Self::Content(_)
            | Self::Executed(_)
            | Self::Kept => OpError::new("a task gave an answer to another question"),
        }
    }
}
