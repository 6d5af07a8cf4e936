//! Bringing a directory of the client to us.

use std::fmt;
use std::sync::Arc;

use tonic::Request;

use crate::call::append;
use crate::fsutil::{Differ, KeptTree, Synced};
use crate::{Session, SessionError, TransferError};

pub(crate) const DIFF_COPY: &str = "/moby.filesync.v1.FileSync/DiffCopy";

/// Which of the client's directories is wanted, and what of it.
///
/// The client applies the patterns; what arrives is the filtered tree.
#[derive(Debug, Clone, Default)]
pub struct SyncRequest {
    /// The name under which the client knows the directory: `context`, `dockerfile`, …
    pub name: String,
    /// Patterns of what to send; empty for everything.
    pub include: Vec<String>,
    /// Patterns of what to leave out.
    pub exclude: Vec<String>,
    /// Paths to send together with whatever their symbolic links lead to.
    pub follow_paths: Vec<String>,
    /// What is compared to find out whether a file has changed.
    pub differ: Differ,
    /// Take only the metadata of most files.
    pub metadata_only: Option<MetadataOnly>,
    /// Compute the SHA-256 of each file's content while it passes by.
    pub digest_content: bool,
}

/// In a metadata-only transfer, says whose content is wanted nevertheless.
#[derive(Clone)]
pub struct MetadataOnly(pub Arc<dyn Fn(&[u8]) -> bool + Send + Sync>);

impl fmt::Debug for MetadataOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MetadataOnly")
    }
}

impl Session {
    /// Brings `destination` to the state of the client's directory: only what changed since it was
    /// last synced travels.
    ///
    /// `progress` is told, again and again, how many bytes of the protocol have arrived so far. If
    /// this fails in the middle, or is dropped, the next sync repairs the tree.
    ///
    /// # Errors
    /// Returns an error if the client fails, leaves, or breaks the protocol, or if the tree cannot
    /// be written.
    pub async fn sync_directory(
        &self,
        request: SyncRequest,
        destination: &KeptTree,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Synced, TransferError> {
        let _ = (request, destination, progress);
        unimplemented!()
    }
}
