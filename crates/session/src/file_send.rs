//! One file for the client: an archive that was built.

use std::collections::BTreeMap;

use crate::{Session, SessionError};

pub(crate) const DIFF_COPY: &str = "/moby.filesync.v1.FileSend/DiffCopy";

/// A file on its way to the client. Dropping it before [`FileSender::finish`] breaks it off.
#[derive(Debug)]
#[must_use = "a file is complete only once it is finished"]
pub struct FileSender {}

/// What became of a file that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The client has it.
    Stored,
    /// The client had it already and took nothing.
    Skipped,
}

impl Session {
    /// Opens the client's output file of exporter `exporter_id`, telling it `metadata` (the
    /// exporter's response).
    ///
    /// # Errors
    /// Returns [`SessionError::Unsupported`] if the client takes no files. A client that refuses
    /// this one says so only when something is written, or at the end.
    pub async fn send_file(
        &self,
        exporter_id: usize,
        metadata: &BTreeMap<String, String>,
    ) -> Result<FileSender, SessionError> {
        let _ = (exporter_id, metadata);
        unimplemented!()
    }
}

impl FileSender {
    /// Says that the file is complete and waits until the client has stored it.
    ///
    /// # Errors
    /// Returns an error if the client failed, now or while the file was written.
    pub async fn finish(self) -> Result<Outcome, SessionError> {
        unimplemented!()
    }
}
