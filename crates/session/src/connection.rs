//! The HTTP/2 connection inside a tunnel, with us as its client.
//!
//! It is made once and never again: a session that was lost cannot come back under its old id
//! unless the client opens a new tunnel.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::body::Body;

/// Room for one stream's incoming data, so that one file never waits for another's window.
const STREAM_WINDOW: u32 = 8 << 20;

/// Room for the incoming data of all streams together.
const CONNECTION_WINDOW: u32 = 32 << 20;

/// The largest frame that we accept; clients send up to 1 MiB.
const FRAME_SIZE: u32 = 1 << 20;

/// What is buffered of our own data on one stream.
const SEND_BUFFER: usize = 1 << 20;

/// Room for headers and trailers: a refusal may carry its details there.
const HEADER_LIST_SIZE: u32 = 1 << 20;

/// The client end of the connection, as gRPC clients use it. Clones share the connection.
#[derive(Debug, Clone)]
pub(crate) struct Channel(SendRequest<Body>);

/// Starts HTTP/2 on `io`: sends the preface without waiting for the peer's.
///
/// The returned future drives the connection and ends with it. Once `ended` is set the connection
/// fails at its next read or write; when the peer closes its side, `ended` is set.
pub(crate) async fn open<I>(
    io: I,
    ended: CancellationToken,
) -> Result<(Channel, impl Future<Output = Result<(), hyper::Error>> + Send), hyper::Error>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let io = Watched { io, stop: Box::pin(ended.clone().cancelled_owned()), ended };
    let (requests, connection) = http2::Builder::new(NamedTasks)
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_SIZE)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEADER_LIST_SIZE)
        .handshake(TokioIo::new(io))
        .await?;
    Ok((Channel(requests), connection))
}

impl tower::Service<http::Request<Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        // Requests queue inside the connection; one that is closed says so in `call`.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// Runs the connection's own tasks; they end with the connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NamedTasks;

impl<F> hyper::rt::Executor<F> for NamedTasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        tasks::spawn("session-http2", future).detach();
    }
}

/// A pipe that sets `ended` when the peer closes it, and breaks when `ended` is set by others.
struct Watched<I> {
    io: I,
    /// Wakes the connection's reader when the session is ended from our side.
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    ended: CancellationToken,
}

impl<I> Watched<I> {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.stop.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        let before = buffer.filled().len();
        let done = pin!(&mut self.io).poll_read(context, buffer);
        let closed = match &done {
            Poll::Ready(Ok(())) => buffer.filled().len() == before && buffer.remaining() > 0,
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        };
        if closed {
            self.ended.cancel();
        }
        done
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        pin!(&mut self.io).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        pin!(&mut self.io).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.io).poll_shutdown(context)
    }
}
