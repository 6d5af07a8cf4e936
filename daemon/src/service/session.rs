//! A client's session: a connection inside a call, in which we are the one who asks.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::session::{SessionGuard, Sessions, Tunnel};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use proto::control::BytesMessage;
use tokio::sync::mpsc;
use tonic::{Request, Status, Streaming};

use crate::{status, wire};

/// How many messages may wait to be sent.
const BACKLOG: usize = 16;

/// What we say to the client. While it lasts, the session does; it ends when the client has said its
/// last, and what is still waiting to be said then is not said.
#[derive(Debug)]
pub(crate) struct SessionStream {
    outbound: mpsc::Receiver<Bytes>,
    guard: SessionGuard,
}

/// Opens a client's session.
pub(super) async fn open(
    sessions: &Sessions,
    request: Request<Streaming<BytesMessage>>,
) -> Result<SessionStream, Status> {
    let registration = wire::registration(request.metadata()).map_err(status::of)?;
    let inbound = request.into_inner().map(|message| match message {
        Ok(message) => Ok(message.data),
        Err(error) => Err(io::Error::other(error)),
    });
    let (sender, outbound) = mpsc::channel(BACKLOG);
    let opened = sessions.register(registration, Tunnel::new(inbound, sender)).await;
    let guard = opened.map_err(|error| Status::unavailable(error.to_string()))?;
    Ok(SessionStream { outbound, guard })
}

impl Stream for SessionStream {
    type Item = Result<BytesMessage, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let data = ready!(self.outbound.poll_recv(context));
        let heard = data.filter(|_| !self.guard.session().is_closed());
        Poll::Ready(heard.map(|data| Ok(BytesMessage { data })))
    }
}
