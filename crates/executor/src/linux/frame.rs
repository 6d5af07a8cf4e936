//! How messages travel between the daemon and its helper: one frame each, descriptors along.
//!
//! A frame is the length of a JSON text, the length of the raw bytes after it (each 32 bits, big-endian),
//! the text, and the bytes. Descriptors come with the first byte.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The two lengths.
pub(crate) const HEADER: usize = 8;
/// As many descriptors as any message carries.
const DESCRIPTORS: usize = 4;
/// No message is larger; a length beyond is a sign of a broken stream.
const LARGEST: usize = 256 << 20;

/// A received message.
#[derive(Debug)]
pub(crate) struct Frame<T> {
    /// What it says.
    pub message: T,
    /// The raw bytes with it.
    pub bytes: Vec<u8>,
    /// The descriptors with it.
    pub descriptors: Vec<OwnedFd>,
}

/// Returns the bytes of a frame.
pub(crate) fn encode<T: Serialize>(message: &T, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let too_large = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let mut frame = vec![0; HEADER];
    serde_json::to_writer(&mut frame, message)?;
    let text = u32::try_from(frame.len() - HEADER).map_err(too_large)?;
    let raw = u32::try_from(bytes.len()).map_err(too_large)?;
    frame.splice(..HEADER, text.to_be_bytes().into_iter().chain(raw.to_be_bytes()));
    frame.extend_from_slice(bytes);
    Ok(frame)
}

/// Returns the lengths of the text and of the raw bytes.
pub(crate) fn lengths(header: [u8; HEADER]) -> io::Result<(usize, usize)> {
    let [a, b, c, d, e, f, g, h] = header;
    let text = u32::from_be_bytes([a, b, c, d]) as usize;
    let raw = u32::from_be_bytes([e, f, g, h]) as usize;
    if text + raw > LARGEST { Err(io::ErrorKind::InvalidData.into()) } else { Ok((text, raw)) }
}

/// Returns the message of a frame's body.
pub(crate) fn decode<T: DeserializeOwned>(
    mut body: Vec<u8>,
    text: usize,
    descriptors: Vec<OwnedFd>,
) -> io::Result<Frame<T>> {
    let bytes = body.split_off(text.min(body.len()));
    Ok(Frame { message: serde_json::from_slice(&body)?, bytes, descriptors })
}

/// Sends some of `bytes`, all of `descriptors` with the first; returns how many bytes went.
pub(crate) fn send_some(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
}

/// Receives some bytes into `buffer` and adds what descriptors come with them; 0 at the end.
pub(crate) fn receive_some(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(buffer)];
    let received = recvmsg(socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_frame_round_trips(text in ".{0,40}", raw in vec(any::<u8>(), 0..40)) {
            let frame = encode(&(&text, 7), &raw).unwrap();
            let (header, body) = frame.split_at(HEADER);
            let (length, raw_length) = lengths(header.try_into().unwrap()).unwrap();
            prop_assert_eq!((length + raw_length, raw_length), (body.len(), raw.len()));
            let decoded: Frame<(String, i32)> = decode(body.to_vec(), length, Vec::new()).unwrap();
            prop_assert_eq!(decoded.message, (text, 7));
            prop_assert_eq!(decoded.bytes, raw);
        }

        #[test]
        fn garbage_is_an_error(body in vec(any::<u8>(), 0..40), text in 0_usize..60) {
            let _ = decode::<(String, i32)>(body, text, Vec::new());
        }
    }

    #[test]
    fn absurd_lengths_are_refused() {
        assert!(lengths([0xFF; HEADER]).is_err());
    }
}
