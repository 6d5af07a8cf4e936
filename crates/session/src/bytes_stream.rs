//! Bytes that a client streams to us.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

use crate::SessionError;

/// A stream of bytes from the client; dropping it tells the client to stop.
pub struct ByteStream(BoxStream<'static, Result<Bytes, SessionError>>);

impl ByteStream {
    pub(crate) fn new(
        chunks: impl Stream<Item = Result<Bytes, SessionError>> + Send + 'static,
    ) -> Self {
        Self(chunks.boxed())
    }

    /// Returns the same bytes as a reader; a [`SessionError`] becomes the cause of its error.
    pub fn into_reader(self) -> impl AsyncRead + Send + Unpin + 'static {
        StreamReader::new(self.0.map(|chunk| chunk.map_err(io::Error::other)))
    }
}

impl Stream for ByteStream {
    type Item = Result<Bytes, SessionError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(context)
    }
}

impl std::fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ByteStream").finish_non_exhaustive()
    }
}
