//! The two pipes of a process as one stream of bytes in both directions.

use std::io;

use bridge::ProcessStreams;
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};
use tokio_util::sync::PollSender;

/// So many pieces may be on their way in each direction.
const PIECES: usize = 16;

/// Returns the streams of a process, what is written to its standard error, and the conversation over
/// the other two.
pub(super) fn pipes()
-> (ProcessStreams, mpsc::Receiver<Bytes>, impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
    let (to_process, stdin) = mpsc::channel(PIECES);
    let (stdout, from_process) = mpsc::channel(PIECES);
    let (stderr, complaints) = mpsc::channel(PIECES);
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    let said = ReceiverStream::new(from_process).map(Ok::<Bytes, io::Error>);
    let reader = StreamReader::new(said);
    let writer = SinkWriter::new(CopyToBytes::new(PollSender::new(to_process).sink_map_err(gone)));
    let streams = ProcessStreams { stdin: Some(stdin), stdout: Some(stdout), stderr: Some(stderr) };
    (streams, complaints, tokio::io::join(reader, writer))
}
