//! A byte pipe made of a stream of messages in each direction.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;
use tokio_util::sync::PollSender;

/// The most bytes that one outgoing message carries.
const MESSAGE_SIZE: usize = 64 << 10;

/// The pipe inside a session's stream: reads the messages that came in, writes messages to go out.
///
/// Where one message ends means nothing. There is no task behind it: a full outgoing channel holds
/// up the writer. Shutting down the write side, or dropping the tunnel, closes that channel. So does
/// the end of what comes in: a client that has said its last does not listen any more, and the usual
/// one takes what comes then for frames that it is not.
pub struct Tunnel {
    inbound: StreamReader<BoxStream<'static, io::Result<Bytes>>, Bytes>,
    outbound: PollSender<Bytes>,
}

impl Tunnel {
    /// Joins the two directions. The end of `inbound` is the end of the file for the reader.
    ///
    /// `outbound` wants room for about 16 messages.
    pub fn new(
        inbound: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        outbound: mpsc::Sender<Bytes>,
    ) -> Self {
        Self { inbound: StreamReader::new(Box::pin(inbound)), outbound: PollSender::new(outbound) }
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inbound).poll_read(context, buffer);
        let nothing = buffer.filled().len() == before && buffer.remaining() > 0;
        if nothing && matches!(read, Poll::Ready(Ok(()))) {
            self.outbound.close();
        }
        read
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(buffer)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let closed = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.outbound.poll_reserve(context)).map_err(closed)?;
        let total: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        let mut message = BytesMut::with_capacity(total.min(MESSAGE_SIZE));
        for buffer in buffers {
            let room = MESSAGE_SIZE - message.len();
            message.extend_from_slice(&buffer[..buffer.len().min(room)]);
        }
        let count = message.len();
        if count > 0 {
            self.outbound.send_item(message.freeze()).map_err(closed)?;
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outbound.close();
        Poll::Ready(Ok(()))
    }
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tunnel").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn tunnel_of(chunks: Vec<Vec<u8>>) -> (Tunnel, mpsc::Receiver<Bytes>) {
        let (sender, receiver) = mpsc::channel(4096);
        let chunks = chunks.into_iter().map(|chunk| Ok(Bytes::from(chunk)));
        (Tunnel::new(futures::stream::iter(chunks), sender), receiver)
    }

    #[tokio::test]
    async fn shutting_down_ends_the_outgoing_stream() {
        let (mut tunnel, mut receiver) = tunnel_of(Vec::new());
        tunnel.write_all(b"last words").await.unwrap();
        tunnel.shutdown().await.unwrap();
        assert_eq!(receiver.recv().await.unwrap(), "last words");
        assert!(receiver.recv().await.is_none());
        assert!(tunnel.write_all(b"more").await.is_err());
    }

    #[tokio::test]
    async fn nobody_to_hear_is_a_broken_pipe() {
        let (mut tunnel, receiver) = tunnel_of(Vec::new());
        drop(receiver);
        let error = tunnel.write_all(b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn who_has_said_its_last_is_told_nothing_more() {
        let (mut tunnel, mut receiver) = tunnel_of(vec![b"last words".to_vec()]);
        let mut read = Vec::new();
        tunnel.read_to_end(&mut read).await.unwrap();
        let error = tunnel.write_all(b"farewell").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert!(receiver.recv().await.is_none());
    }

    proptest! {
        #[test]
        fn bytes_pass_whatever_the_chunks(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..20),
            write in 1usize..300_000,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let expected: Vec<u8> = chunks.concat();
                let (mut tunnel, mut receiver) = tunnel_of(chunks);
                let sent: Vec<u8> = (0..write).map(|i| i as u8).collect();
                tunnel.write_all(&sent).await.unwrap();
                let mut read = Vec::new();
                tunnel.read_to_end(&mut read).await.unwrap();
                prop_assert_eq!(read, expected);
                drop(tunnel);
                let mut received = Vec::new();
                while let Some(message) = receiver.recv().await {
                    prop_assert!(!message.is_empty() && message.len() <= MESSAGE_SIZE);
                    received.extend_from_slice(&message);
                }
                prop_assert_eq!(received, sent);
                Ok(())
            })?;
        }
    }
}
