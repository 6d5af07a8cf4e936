//! One file for the client: an archive that was built.

use std::collections::BTreeMap;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use proto::filesync::BytesMessage;
use proto::filesync::file_send_client::FileSendClient;
use tasks::Task;
use tokio::io::AsyncWrite;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::PollSender;
use tonic::Request;

use crate::call::{ORIGIN, append};
use crate::{Refusal, Session, SessionError};

pub(crate) const DIFF_COPY: &str = "/moby.filesync.v1.FileSend/DiffCopy";

/// Which of a build's outputs a call is about.
pub(crate) const EXPORTER_ID: &str = "buildkit-attachable-exporter-id";

/// Goes before each key of the exporter's response.
const METADATA_PREFIX: &str = "exporter-md-";

/// The most bytes in one message; clients accept 4 MiB.
const MESSAGE_SIZE: usize = 256 << 10;

/// How many messages wait for the client before the writer has to.
const MESSAGES: usize = 8;

/// A file on its way to the client. Dropping it before [`FileSender::finish`] breaks it off.
///
/// When a write fails, [`FileSender::finish`] tells why.
#[derive(Debug)]
#[must_use = "a file is complete only once it is finished"]
pub struct FileSender {
    messages: PollSender<BytesMessage>,
    /// Says that the end of the messages is the end of the file.
    complete: oneshot::Sender<()>,
    call: Task<Result<Outcome, SessionError>>,
    /// How the call ended, once a write has found that it has.
    ended: Option<Result<Outcome, SessionError>>,
}

/// What became of a file that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The client has it.
    Stored,
    /// The client had it already and took nothing.
    Skipped,
}

impl Session {
    /// Opens the client's output file of exporter `exporter_id`, telling it `metadata` (the
    /// exporter's response).
    ///
    /// # Errors
    /// Returns [`SessionError::Unsupported`] if the client takes no files. A client that refuses
    /// this one says so only when something is written, or at the end.
    pub fn send_file(
        &self,
        exporter_id: usize,
        metadata: &BTreeMap<String, String>,
    ) -> Result<FileSender, SessionError> {
        self.require(DIFF_COPY)?;
        let (sender, receiver) = mpsc::channel(MESSAGES);
        let (complete, completed) = oneshot::channel();
        let mut request = Request::new(until_complete(receiver, completed));
        append(request.metadata_mut(), DIFF_COPY, EXPORTER_ID, &exporter_id.to_string())?;
        for (key, value) in metadata {
            let key = format!("{METADATA_PREFIX}{key}");
            append(request.metadata_mut(), DIFF_COPY, &key, value)?;
        }
        let call = tasks::spawn("send-file", call(self.clone(), request));
        Ok(FileSender { messages: PollSender::new(sender), complete, call, ended: None })
    }
}

/// Returns the messages, and ends only if the file is complete: a client takes the end of our side
/// for the end of the file, so one that is broken off must not end before its call is dropped.
fn until_complete(
    messages: mpsc::Receiver<BytesMessage>,
    completed: oneshot::Receiver<()>,
) -> impl Stream<Item = BytesMessage> + Send + 'static {
    let end = futures::stream::once(async {
        if completed.await.is_err() {
            std::future::pending::<()>().await;
        }
    });
    ReceiverStream::new(messages).chain(end.filter_map(|()| std::future::ready(None)))
}

/// Makes the call and waits for its end: the client may not answer before it has everything.
async fn call(
    session: Session,
    request: Request<impl Stream<Item = BytesMessage> + Send + 'static>,
) -> Result<Outcome, SessionError> {
    let mut client = FileSendClient::with_origin(session.channel(), ORIGIN.clone());
    let ended = match client.diff_copy(request).await {
        Ok(answer) => {
            let mut answers = answer.into_inner();
            loop {
                match answers.next().await {
                    Some(Ok(_)) => {}
                    Some(Err(status)) => break Err(status),
                    None => break Ok(()),
                }
            }
        }
        Err(status) => Err(status),
    };
    match ended.map_err(|status| session.failure(DIFF_COPY, status)) {
        Ok(()) => Ok(Outcome::Stored),
        Err(error) if error.refusal() == Some(Refusal::AlreadyExists) => Ok(Outcome::Skipped),
        Err(error) => Err(error),
    }
}

impl FileSender {
    /// Says that the file is complete and waits until the client has stored it.
    ///
    /// # Errors
    /// Returns an error if the client failed, now or while the file was written.
    pub async fn finish(self) -> Result<Outcome, SessionError> {
        let Self { messages, complete, call, ended } = self;
        // If the call is over already, its end is known below.
        let _ = complete.send(());
        drop(messages);
        match ended {
            Some(ended) => ended,
            None => joined(call.await),
        }
    }

    /// Waits for the end of the call; returns true if the client wants nothing.
    fn poll_skipped(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        if self.ended.is_none() {
            self.ended = Some(joined(ready!(Pin::new(&mut self.call).poll(context))));
        }
        Poll::Ready(matches!(self.ended, Some(Ok(Outcome::Skipped))))
    }
}

fn joined(
    ended: Result<Result<Outcome, SessionError>, tasks::JoinError>,
) -> Result<Outcome, SessionError> {
    ended.unwrap_or_else(|source| {
        Err(SessionError::Broken { method: DIFF_COPY, source: Box::new(source) })
    })
}

impl AsyncWrite for FileSender {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let length = buffer.len().min(MESSAGE_SIZE);
        let sent = match ready!(self.messages.poll_reserve(context)) {
            Ok(()) if length == 0 => return Poll::Ready(Ok(0)),
            Ok(()) => {
                let data = Bytes::copy_from_slice(&buffer[..length]);
                self.messages.send_item(BytesMessage { data })
            }
            closed => closed,
        };
        if sent.is_ok() {
            return Poll::Ready(Ok(length));
        }
        // The call is over. If the client has the file already, the rest goes nowhere.
        if ready!(self.poll_skipped(context)) {
            Poll::Ready(Ok(length))
        } else {
            Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, "the client stopped")))
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Does nothing: only [`FileSender::finish`] completes the file.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
