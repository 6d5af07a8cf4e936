//! A connection over two pipes, of which there is only one.

use std::io;
use std::os::fd::AsFd as _;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::pipe;
use tonic::transport::{Channel, Endpoint, Error};

/// Returns standard input and output as one stream in both directions.
pub(crate) fn standard_streams() -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin> {
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    let output = io::stdout().as_fd().try_clone_to_owned()?;
    let (input, output) =
        (pipe::Receiver::from_owned_fd(input)?, pipe::Sender::from_owned_fd(output)?);
    Ok(tokio::io::join(input, output))
}

/// Opens the connection. Once it is lost it cannot be opened again.
pub(crate) async fn open<S>(streams: S) -> Result<Channel, Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut streams = Some(streams);
    let connector = tower::service_fn(move |_| {
        let once = streams.take().map(TokioIo::new);
        let lost = || io::Error::other("the connection to the builder is lost");
        std::future::ready(once.ok_or_else(lost))
    });
    Endpoint::from_static("http://localhost").connect_with_connector(connector).await
}
