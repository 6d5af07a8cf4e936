//! The daemon's end of a connection to a keeper: frames, without blocking.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::frame::{self, Frame};

/// One end of a connection that carries frames. A message that was begun must be finished: only one
/// task sends, and only one receives.
#[derive(Debug)]
pub(crate) struct Link(UnixStream);

impl Link {
    /// Takes a connected stream socket.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        let stream = std::os::unix::net::UnixStream::from(socket);
        stream.set_nonblocking(true)?;
        Ok(Self(UnixStream::from_std(stream)?))
    }

    /// Sends one message.
    pub(crate) async fn send<T: Serialize>(
        &self,
        message: &T,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let frame = frame::encode(message, bytes)?;
        self.send_bytes(&frame, descriptors).await
    }

    /// Sends bytes as they are.
    pub(crate) async fn send_bytes(
        &self,
        bytes: &[u8],
        mut descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let send = || frame::send_some(self.0.as_fd(), rest, descriptors);
            let sent = self.0.async_io(Interest::WRITABLE, send).await?;
            descriptors = &[];
            rest = rest.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    /// Receives one message; none if the other end is closed.
    pub(crate) async fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<Frame<T>>> {
        let mut descriptors = Vec::new();
        let mut header = [0; frame::HEADER];
        if !self.fill(&mut header, &mut descriptors).await? {
            return Ok(None);
        }
        let (text, raw) = frame::lengths(header)?;
        let mut body = vec![0; text + raw];
        if !self.fill(&mut body, &mut descriptors).await? {
            return Ok(None);
        }
        frame::decode(body, text, descriptors).map(Some)
    }

    /// Tells the other end that nothing more is sent.
    pub(crate) fn hang_up(&self) {
        // It may have hung up first.
        let _ = rustix::net::shutdown(self.0.as_fd(), rustix::net::Shutdown::Write);
    }

    /// Waits until the other end is closed, whatever it says before.
    pub(crate) async fn drain(&self) {
        let (mut buffer, mut descriptors) = ([0; 256], Vec::new());
        loop {
            let receive = || frame::receive_some(self.0.as_fd(), &mut buffer, &mut descriptors);
            match self.0.async_io(Interest::READABLE, receive).await {
                Ok(0) | Err(_) => return,
                Ok(_) => descriptors.clear(),
            }
        }
    }

    /// Ends the connection and waits, for a moment, until the other end is closed. Blocks.
    pub(crate) fn part(&self) {
        self.hang_up();
        let deadline = Timespec { tv_sec: 2, tv_nsec: 0 };
        let mut polled = [PollFd::new(&self.0, PollFlags::RDHUP)];
        // If it takes longer, the next executor finds what is left.
        let _ = poll(&mut polled, Some(&deadline));
    }

    /// Fills `buffer`; false if the end came first.
    async fn fill(&self, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<bool> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let receive = || frame::receive_some(self.0.as_fd(), rest, descriptors);
            match self.0.async_io(Interest::READABLE, receive).await {
                Ok(0) => return Ok(false),
                Ok(count) => filled += count,
                // The keeper died with something unread.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
