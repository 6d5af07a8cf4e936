//! What is exported, and what is asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cache::ImmutableRef;
use digests::Digest;
use oci::Platform;
use progress::ProgressSink;
use session::SessionId;

use crate::Predicate;

/// A form of delivery, as the client asks for it (protocol page `control.md` §3.6).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExportRequest {
    /// `image`, `oci`, `docker`, `tar`, `local`.
    pub kind: String,
    /// Its settings; unknown ones are ignored.
    pub attributes: BTreeMap<String, String>,
}

/// A finished result.
#[derive(Debug, Clone, Default)]
pub struct ExportResult {
    /// The file systems.
    pub refs: ExportRefs,
    /// What is known about them, by key (protocol page `gateway.md` §8).
    pub metadata: BTreeMap<String, Bytes>,
    /// Statements about them, by platform id.
    pub attestations: BTreeMap<String, Vec<Statement>>,
    /// Time of everything that has none of its own, in seconds since 1970.
    pub source_date_epoch: Option<i64>,
}

/// The file systems of a result.
#[derive(Debug, Clone)]
pub enum ExportRefs {
    /// One, for the platform given.
    Single(ImmutableRef, Platform),
    /// One a platform, by platform id.
    ByPlatform(BTreeMap<String, (ImmutableRef, Platform)>),
}

impl Default for ExportRefs {
    fn default() -> Self {
        Self::Single(ImmutableRef::default(), Platform::new("linux", "amd64"))
    }
}

/// An in-toto statement's predicate about a file system of the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The type of the predicate: `https://slsa.dev/provenance/v1`.
    pub predicate_type: String,
    /// What it says.
    pub predicate: Predicate,
    /// The file it is written to by exporters of files: `provenance.json`.
    pub path: String,
    /// True if it is for images only.
    pub inline_only: bool,
    /// True if it is the list (SBOM) of what is in the result itself: images add to it in which layer that is.
    pub is_list: bool,
    /// What it speaks of; if nothing is named, of the result itself.
    pub subjects: Vec<StatementSubject>,
}

/// What a statement speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatementSubject {
    /// The result, and if this is not empty, under this name besides its own.
    Itself(String),
    /// Something that is known by its digests.
    Other {
        /// Its name; empty if it has none.
        name: String,
        /// Its digests.
        digests: Vec<Digest>,
    },
}

/// For whom, and under which line of the display, an export is made.
#[derive(Debug, Clone)]
pub struct ExportContext {
    /// The clients of the build.
    pub sessions: Vec<SessionId>,
    /// Where to report to.
    pub progress: Arc<dyn ProgressSink>,
    /// The vertex that counters belong to.
    pub vertex: Digest,
}
