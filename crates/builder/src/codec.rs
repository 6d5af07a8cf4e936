//! How what a build said is written down: the wire's business, so it is handed in.

use std::fmt::Debug;

use bridge::BuildError;
use bytes::Bytes;
use progress::Event;

/// The media type of a log (protocol page `control.md` §7).
pub const LOG_MEDIA_TYPE: &str = "application/vnd.buildkit.status.v0";
/// The media type of an error; its spelling is a fact.
pub const ERROR_MEDIA_TYPE: &str = "application/vnd.googeapis.google.rpc.status+proto";

/// Writes logs and errors in the form that clients read.
pub trait LogCodec: Send + Sync + Debug {
    /// Returns what a build said as a blob.
    fn encode(&self, events: &[Event]) -> Bytes;

    /// Returns what a blob says.
    ///
    /// # Errors
    /// Returns an error if the blob is damaged.
    fn decode(&self, bytes: &[u8]) -> Result<Vec<Event>, BuildError>;

    /// Returns an error with its details as a blob.
    fn encode_error(&self, error: &BuildError) -> Bytes;
}
