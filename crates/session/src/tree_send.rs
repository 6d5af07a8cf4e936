//! A directory for the client: the files of a result.

use bytes::Bytes;
use mount::RootDir;

use crate::{Session, TransferError};

/// What becomes of files that the client has in the output directory already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SendMode {
    /// They stay, unless a sent one takes their place.
    #[default]
    Merge,
    /// They are deleted; the one stream must carry everything.
    Mirror,
}

/// One tree of a transfer.
#[derive(Debug)]
pub struct SendTree {
    /// The directory of the output that the tree goes into, such as `linux_amd64`; none for the top.
    pub prefix: Option<String>,
    /// The tree itself; none if there are only `files`.
    pub root: Option<RootDir>,
    /// More files at the top of the tree, by name: attestations. They replace what the tree has.
    pub files: Vec<(String, Bytes)>,
}

/// How trees are sent.
#[derive(Debug, Clone, Default)]
pub struct SendOptions {
    /// What becomes of files that are there already.
    pub mode: SendMode,
    /// Modification time of everything, in nanoseconds since the epoch; none to keep it.
    pub modified: Option<i64>,
}

/// What was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of the protocol, ours only.
    pub bytes: u64,
}

impl Session {
    /// Sends `trees`, one after the other in the order of their prefixes, to the client's output
    /// directory of exporter `exporter_id`.
    ///
    /// # Errors
    /// Returns an error if the client takes no files, fails or leaves, or if a tree cannot be read.
    pub async fn send_directory(
        &self,
        exporter_id: usize,
        trees: Vec<SendTree>,
        options: SendOptions,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Sent, TransferError> {
        let _ = (exporter_id, trees, options, progress);
        unimplemented!()
    }
}
