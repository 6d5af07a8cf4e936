//! Results kept: references to snapshots and blobs, their keys, age and end.
//!
//! A build's result is an [`ImmutableRef`]: a stack of layers, or a client's directory. [`Refs`] is the
//! table of layers, [`LocalTrees`] the pool of clients' directories, [`CacheIndex`] finds results by
//! their keys for the solver, [`MetaStore`] keeps it all across restarts, and [`plan`] decides what is
//! removed when space runs out. What the operations are that make results is known to others.

mod archive;
mod checksum;
mod collector;
mod combine;
mod document;
mod error;
mod image;
mod index;
mod lending;
mod local;
mod meta;
mod prune;
mod refs;
mod remains;
mod removal;

pub use archive::{ArchiveOptions, LayerArchive};
pub use checksum::{Checksums, KnownFile};
pub use collector::Collector;
pub use document::LayerInfo;
pub use error::CacheError;
pub use image::{ImageLayer, LayerPhase, LayerSource};
pub use index::CacheIndex;
pub use lending::Loan;
pub use local::{LocalTree, LocalTrees};
pub use meta::{MetaError, MetaStore, Rows, Table};
pub use prune::{PruneRequest, RecordKind, UsageRecord, plan};
pub use refs::{ImmutableRef, MutableRef, Refs, TreeView};
pub use remains::{FailedPart, Leftover, Remains};
