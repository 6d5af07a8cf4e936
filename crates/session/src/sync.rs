//! Bringing a directory of the client to us.

use std::error::Error as _;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use http::uri::PathAndQuery;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status, Streaming};

use crate::call::append;
use crate::fsutil::{
    Differ, KeptTree, Packet, ReceiveOptions, Reception, Selection, Synced, receive,
};
use crate::{Session, SessionError, TransferError};

const DIFF_COPY: &str = "/moby.filesync.v1.FileSync/DiffCopy";

/// How many packets that have arrived are handed to the disk at once.
const BATCH: usize = 64;

/// How many batches wait for the disk before the client has to.
const BATCHES: usize = 4;

/// How long a client has to end the call after it was told of an error.
const FAREWELL: Duration = Duration::from_secs(1);

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
    /// Compute what each file contains while it passes by; see [`crate::ReceivedFile`].
    pub digest_content: bool,
}

/// In a metadata-only transfer, says whose content is wanted nevertheless.
///
/// All entries are then listed in the file `.fsutil-metadata` at the top of the tree.
#[derive(Clone)]
pub struct MetadataOnly(Selection);

impl MetadataOnly {
    /// Takes a test of paths (relative to the tree): true for those whose content is wanted.
    pub fn except(is_wanted: impl Fn(&[u8]) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is_wanted))
    }
}

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
    /// be written. [`crate::Refusal::NotFound`] means that the client has no such directory.
    pub async fn sync_directory(
        &self,
        request: SyncRequest,
        destination: &KeptTree,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Synced, TransferError> {
        self.require(DIFF_COPY)?;
        let (replies, outgoing) = mpsc::unbounded_channel();
        let mut call = Request::new(UnboundedReceiverStream::new(outgoing));
        describe(&request, call.metadata_mut())?;
        let incoming = self.exchange(DIFF_COPY, call).await?;
        let (batches, packets) = mpsc::channel(BATCHES);
        let tree = destination.clone();
        let options = ReceiveOptions {
            differ: request.differ,
            metadata_only: request.metadata_only.map(|only| only.0),
            digest_content: request.digest_content,
        };
        let worker = tasks::blocking("sync-directory", move || {
            let received = receive(&tree, options, packets, &replies);
            if let Err(error) = &received {
                let _ = replies.send(Packet::error(told(error)));
            }
            // Dropping `replies` ends our side of the call.
            received
        });
        let pump = self.pump(incoming, batches, progress);
        let (pumped, received) = tokio::join!(pump, worker);
        match (received.map_err(TransferError::Stopped)??, pumped) {
            // After the end of the transfer nothing that happens to the call matters.
            (Reception::Complete(synced), Ok(bytes) | Err((bytes, _))) => {
                Ok(Synced { bytes, ..synced })
            }
            (Reception::CutOff, Err((_, error))) => Err(error.into()),
            (Reception::CutOff, Ok(_)) => {
                let reason = "the client ended the call before the transfer was done";
                Err(TransferError::Protocol(reason.to_owned()))
            }
        }
    }

    /// Hands what arrives to the disk until the call ends; returns the number of bytes, which also
    /// goes with an error.
    async fn pump(
        &self,
        incoming: Streaming<Packet>,
        batches: mpsc::Sender<Vec<Packet>>,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<u64, (u64, SessionError)> {
        let mut bytes = 0;
        let mut chunks = incoming.ready_chunks(BATCH);
        loop {
            let chunk = tokio::select! {
                chunk = chunks.next() => chunk,
                // The disk's side is done, well or badly, and has told the client, who ends the call.
                () = batches.closed() => {
                    let _ = tokio::time::timeout(FAREWELL, chunks.for_each(|_| async {})).await;
                    return Ok(bytes);
                }
            };
            let Some(chunk) = chunk else { return Ok(bytes) };
            let mut batch = Vec::with_capacity(chunk.len());
            let mut failure = None;
            for packet in chunk {
                match packet {
                    Ok(packet) => {
                        bytes += packet.encoded_len() as u64;
                        batch.push(packet);
                    }
                    Err(status) => failure = Some(status),
                }
            }
            progress(bytes);
            // If this fails, the next round finds the disk's side done.
            let _ = batches.send(batch).await;
            if let Some(status) = failure {
                return Err((bytes, self.failure(DIFF_COPY, status)));
            }
        }
    }

    /// Opens a call in which both sides speak packets.
    pub(crate) async fn exchange(
        &self,
        method: &'static str,
        request: Request<impl Stream<Item = Packet> + Send + 'static>,
    ) -> Result<Streaming<Packet>, SessionError> {
        let mut client = self.grpc();
        let codec = tonic_prost::ProstCodec::<Packet, Packet>::default();
        let path = PathAndQuery::from_static(method);
        let answer: Result<_, Status> = client.streaming(request, path, codec).await;
        Ok(answer.map_err(|status| self.failure(method, status))?.into_inner())
    }
}

/// Returns an error and its causes, for the peer.
pub(crate) fn told(error: &TransferError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let _ = write!(text, ": {next}");
        cause = next.source();
    }
    text
}

fn describe(request: &SyncRequest, metadata: &mut MetadataMap) -> Result<(), SessionError> {
    append_all(metadata, "dir-name", std::slice::from_ref(&request.name))?;
    append_all(metadata, "include-patterns", &request.include)?;
    append_all(metadata, "exclude-patterns", &request.exclude)?;
    append_all(metadata, "followpaths", &request.follow_paths)
}

/// Adds all values of one key; if a header cannot carry one of them, all are escaped.
fn append_all(
    metadata: &mut MetadataMap,
    key: &str,
    values: &[String],
) -> Result<(), SessionError> {
    if values.iter().all(|value| fits_header(value)) {
        return values.iter().try_for_each(|value| append(metadata, DIFF_COPY, key, value));
    }
    append(metadata, DIFF_COPY, &format!("{key}-encoded"), "1")?;
    values.iter().try_for_each(|value| append(metadata, DIFF_COPY, key, &escape(value)))
}

fn fits_header(value: &str) -> bool {
    value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && value.trim() == value
}

/// Escapes a value as in the query of a URL.
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len() * 3);
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte));
            }
            b' ' => escaped.push('+'),
            _ => {
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_header_cannot_carry_is_escaped() {
        let request = SyncRequest {
            name: "context".to_owned(),
            exclude: vec!["a b".to_owned(), "über/*".to_owned()],
            follow_paths: vec!["src dir".to_owned()],
            ..SyncRequest::default()
        };
        let mut metadata = MetadataMap::new();
        describe(&request, &mut metadata).unwrap();
        let values = |key: &str| -> Vec<_> {
            metadata.get_all(key).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(values("dir-name"), ["context"]);
        assert_eq!(values("exclude-patterns"), ["a+b", "%C3%BCber%2F%2A"]);
        assert_eq!(values("exclude-patterns-encoded"), ["1"]);
        assert_eq!(values("followpaths"), ["src dir"]);
        assert!(values("followpaths-encoded").is_empty());
        assert!(values("include-patterns").is_empty());
    }

    #[test]
    fn line_breaks_and_outer_spaces_are_escaped_too() {
        assert!(!fits_header("a\nb") && !fits_header(" a") && !fits_header("a "));
        assert_eq!(escape("a\nb "), "a%0Ab+");
    }
}
