//! Finds the cheapest way to an edge's result: dedupe, cache, or run.
//!
//! A [`Job`] asks for an [`Edge`] of a graph whose operations ([`Op`]) the solver knows only by their
//! keys. It computes keys from the definitions first, and loads nothing but the one result that was
//! asked for if they are known. Where they are not, it compares the content of inputs; what remains
//! is run. Jobs share one graph: equal work is done once and stops when nobody waits for it.
//!
//! The decisions are made by pure state machines, one per edge, with no clock, disk or runtime;
//! a thin shell carries out what they ask for. The crate has never heard of a file.

mod audience;
mod context;
mod engine;
mod error;
mod graph;
mod key;
mod loader;
mod machine;
mod node;
mod op;
mod order;
mod perform;
mod signal;
mod slot;
mod solver;
mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod vertex;

pub use context::{InterestedJob, JobId, OpContext};
pub use error::{OpError, SolveError};
pub use key::{KeyId, LinkKey};
pub use op::{CacheMap, ContentKey, InputKey, Op, OpResolver};
pub use solver::{Job, Record, Solver, SolverOptions};
pub use store::{CacheStore, NewRecord, StoreError};
pub use vertex::{Edge, Vertex};

#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod timelines;
