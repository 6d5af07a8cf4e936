//! Between a layer and an OCI layer archive.

mod apply;
mod format;
mod header;
mod reader;
mod target;
mod write;

use std::io;
use std::path::PathBuf;

use digests::DiffId;

pub use apply::apply;
pub use write::write_layer;

use crate::walk::TreeError;

/// What was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The digest of the archive, uncompressed.
    pub diff_id: DiffId,
    /// The length of the archive, uncompressed.
    pub size: u64,
}

/// How a layer becomes an archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// No file is younger than this, in seconds since 1970: later times become this one
    /// (`rewrite-timestamp` with a `SOURCE_DATE_EPOCH`).
    pub newest: Option<i64>,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The digest of the archive, uncompressed.
    pub diff_id: DiffId,
    /// The length of the archive, uncompressed.
    pub size: u64,
}

/// Why an archive could not be unpacked or written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The archive does not follow the format.
    #[error("malformed archive at byte {offset}{}: {reason}", entry.as_ref().map(|e| format!(", entry {e:?}")).unwrap_or_default())]
    Malformed {
        /// Where the entry's header is.
        offset: u64,
        /// The entry's name, if it is known.
        entry: Option<PathBuf>,
        /// What is wrong.
        reason: &'static str,
    },
    /// An entry's name, or its target, leads outside the layer.
    #[error("entry {entry:?} of the archive leads outside the layer")]
    Outside {
        /// The entry.
        entry: PathBuf,
    },
    /// A hard link is to a file that is in no layer.
    #[error("entry {entry:?} of the archive is a hard link to {target:?}, which does not exist")]
    LinkTarget {
        /// The entry.
        entry: PathBuf,
        /// What it links to.
        target: PathBuf,
    },
    /// The archive could not be read.
    #[error("read the archive at byte {offset}")]
    Read {
        /// How much was read.
        offset: u64,
        /// Why; a decompressor's complaint, for example.
        #[source]
        source: io::Error,
    },
    /// The archive could not be written.
    #[error("write the archive")]
    Write(#[source] io::Error),
    /// A file of the layer could not be read or made.
    #[error("the layer's file system refuses")]
    Tree(#[from] TreeError),
}
