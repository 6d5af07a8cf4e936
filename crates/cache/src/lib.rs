//! Results kept: references to snapshots and blobs, their keys, age and end.

mod meta;
mod prune;

pub use meta::{MetaError, MetaStore, Table};
pub use prune::{PruneRequest, RecordKind, UsageRecord, plan};
