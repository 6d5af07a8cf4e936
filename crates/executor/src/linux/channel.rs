//! The helper's end of a connection: frames, blocking.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::frame::{self, Frame};

/// One end of a connection that carries frames.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    /// Takes a connected stream socket.
    pub(crate) const fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Returns two connected ends.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socket_pair()?;
        Ok((Self(one), Self(other)))
    }

    /// Sends one message.
    pub(crate) fn send<T: Serialize>(
        &self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let frame = frame::encode(message, &[])?;
        let (mut sent, mut descriptors) = (0, descriptors);
        while let Some(rest) = frame.get(sent..).filter(|rest| !rest.is_empty()) {
            match frame::send_some(self.0.as_fd(), rest, descriptors) {
                Ok(count) => {
                    sent += count;
                    descriptors = &[];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Receives one message; none if the other end is closed.
    pub(crate) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<Frame<T>>> {
        let mut descriptors = Vec::new();
        let mut header = [0; frame::HEADER];
        if !self.fill(&mut header, &mut descriptors)? {
            return Ok(None);
        }
        let (text, raw) = frame::lengths(header)?;
        let mut body = vec![0; text + raw];
        if !self.fill(&mut body, &mut descriptors)? {
            return Ok(None);
        }
        frame::decode(body, text, descriptors).map(Some)
    }

    /// Fills `buffer`; false if the end came first.
    fn fill(&self, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<bool> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match frame::receive_some(self.0.as_fd(), rest, descriptors) {
                Ok(0) => return Ok(false),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Returns two connected stream sockets that no executed program inherits.
pub(crate) fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?)
}
