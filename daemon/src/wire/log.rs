//! The log of a finished build as a blob: each message with its length before it (protocol page
//! `control.md` §7).

use ::bridge::{BuildError, Kind};
use ::progress::Event;
use builder::LogCodec;
use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use proto::control::StatusResponse;

use super::progress;

/// Writes logs and errors in the form that clients read.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WireCodec;

impl LogCodec for WireCodec {
    fn encode(&self, events: &[Event]) -> Bytes {
        let mut blob = BytesMut::new();
        for message in progress::status_messages(events.iter().cloned()) {
            let text = message.encode_to_vec();
            // A message is cut long before this many bytes.
            blob.put_u32_le(u32::try_from(text.len()).unwrap_or(u32::MAX));
            blob.put_slice(&text);
        }
        blob.freeze()
    }

    fn decode(&self, bytes: &[u8]) -> Result<Vec<Event>, BuildError> {
        let mut events = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (length, after) = rest.split_first_chunk().ok_or_else(damaged)?;
            let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| damaged())?;
            let (message, after) = after.split_at_checked(length).ok_or_else(damaged)?;
            let message = StatusResponse::decode(message).map_err(|_| damaged())?;
            events.extend(progress::events(message));
            rest = after;
        }
        Ok(events)
    }

    fn encode_error(&self, error: &BuildError) -> Bytes {
        gateway::wire::to_rpc(error).encode_to_vec().into()
    }
}

fn damaged() -> BuildError {
    BuildError::new(Kind::Internal, "the build's log is damaged")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::progress::tests::every_kind;
    use super::*;

    #[test]
    fn a_log_round_trips() {
        let blob = WireCodec.encode(&every_kind());
        assert_eq!(WireCodec.decode(&blob).unwrap(), every_kind());
        assert!(WireCodec.decode(&WireCodec.encode(&[])).unwrap().is_empty());
    }

    #[test]
    fn a_cut_log_is_damaged() {
        let blob = WireCodec.encode(&every_kind());
        for length in 1..blob.len() {
            let error = WireCodec.decode(&blob[..length]).unwrap_err();
            assert_eq!(error.message(), "the build's log is damaged");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = WireCodec.decode(&bytes);
        }
    }
}
