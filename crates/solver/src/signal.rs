//! What goes into an edge's machine and comes out of it.

use std::sync::Arc;

use crate::key::{BaseKey, RunKey};
use crate::{CacheMap, KeyId, LinkKey, NewRecord, SolveError};

/// How far an edge is wanted to go, or has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Goal {
    /// Nobody wants it.
    #[default]
    Nothing,
    /// Its keys by definition, and what they match.
    Keys,
    /// A matching record, by definition or by content; or the certainty that there is none.
    Matches,
    /// Its result.
    Result,
}

/// What an edge tells those who asked for it.
#[derive(Debug, Clone)]
pub(crate) struct Report<R> {
    pub(crate) level: Goal,
    /// The key by definition.
    pub(crate) id: KeyId,
    /// Whether lookups may use `id`, here and above.
    pub(crate) trusted: bool,
    /// The records that it matches.
    pub(crate) matches: Vec<KeyId>,
    pub(crate) result: Option<R>,
}

impl<R> Report<R> {
    /// Returns the one key that stands for the edge when work in flight is compared.
    pub(crate) fn canonical(&self) -> KeyId {
        self.matches.first().copied().unwrap_or(self.id)
    }
}

/// What happened to an edge.
#[derive(Debug)]
pub(crate) enum Event<R> {
    /// The furthest goal of those who want this edge.
    Wanted(Goal),
    Mapped(Arc<CacheMap>),
    Input {
        slot: usize,
        report: Report<R>,
    },
    InputFailed {
        slot: usize,
        error: SolveError,
    },
    /// The answers to the last query, in its order.
    Found(Vec<Vec<KeyId>>),
    Loaded(Option<R>),
    Content {
        slot: usize,
        key: Option<KeyId>,
    },
    /// The operation was run, as what `base` says; perhaps for another edge with the same inputs.
    Executed {
        base: BaseKey,
        result: R,
    },
    Saved,
    /// Work of this edge failed.
    Failed(SolveError),
}

/// What an edge asks for.
#[derive(Debug)]
pub(crate) enum Effect<R> {
    /// Ask the operation for its cache map.
    Map,
    /// Want the input in `slot` as far as `goal`; [`Goal::Nothing`] takes it back.
    Ask {
        slot: usize,
        goal: Goal,
    },
    Query(Vec<LinkKey>),
    Load(KeyId),
    Content {
        slot: usize,
        input: R,
    },
    Exec {
        run: RunKey,
        base: BaseKey,
        inputs: Vec<R>,
    },
    Save {
        record: NewRecord,
        result: R,
    },
    Link(NewRecord),
    /// Stop all work of this edge except saving.
    Stop,
}
