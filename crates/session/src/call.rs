//! What all calls inside a session have in common.

use std::error::Error as _;
use std::sync::LazyLock;

use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue};
use tonic::{Code, Status};

use crate::connection::Channel;
use crate::{Refusal, Session, SessionError};

/// Scheme and authority of every request; no address is behind it.
pub(crate) static ORIGIN: LazyLock<http::Uri> =
    LazyLock::new(|| http::Uri::from_static("http://localhost"));

impl Session {
    /// Returns a client for methods whose messages are not those of `proto`.
    pub(crate) fn grpc(&self) -> Grpc<Channel> {
        Grpc::with_origin(self.channel(), ORIGIN.clone())
            .max_decoding_message_size(proto::MAX_MESSAGE_SIZE)
            .max_encoding_message_size(proto::MAX_MESSAGE_SIZE)
    }

    /// Sorts out why a call failed: the client's refusal, its departure, or a broken stream.
    pub(crate) fn failure(&self, method: &'static str, status: Status) -> SessionError {
        // A status that the client sent has no cause; one that was made on our side has.
        if status.source().is_some() {
            return if self.is_closed() {
                SessionError::Ended(self.id().clone())
            } else {
                SessionError::Broken { method, source: Box::new(status) }
            };
        }
        let refusal = match status.code() {
            Code::NotFound => Refusal::NotFound,
            Code::AlreadyExists => Refusal::AlreadyExists,
            Code::Unimplemented => Refusal::Unimplemented,
            Code::Unavailable => Refusal::Unavailable,
            Code::Cancelled => Refusal::Cancelled,
            _ => Refusal::Other,
        };
        SessionError::Refused { method, refusal, message: status.message().to_owned() }
    }
}

/// Adds `key: value` to a request's metadata.
///
/// # Errors
/// Returns an error if the two cannot be sent as a header.
pub(crate) fn append(
    metadata: &mut MetadataMap,
    method: &'static str,
    key: &str,
    value: &str,
) -> Result<(), SessionError> {
    let refused = |what: &str| SessionError::Unexpected {
        method,
        reason: format!("{what} cannot be sent as a header: {key:?}: {value:?}"),
    };
    let name: MetadataKey<Ascii> =
        key.to_ascii_lowercase().parse().map_err(|_| refused("the name"))?;
    let value: MetadataValue<Ascii> = value.parse().map_err(|_| refused("the value"))?;
    metadata.append(name, value);
    Ok(())
}
