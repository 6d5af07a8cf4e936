//! The client's ssh agent, behind a socket of ours.

use std::io;
use std::os::unix::fs::PermissionsExt as _;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use mount::HostPath;
use proto::ssh::ssh_client::SshClient;
use proto::ssh::{BytesMessage, CheckAgentRequest};
use tasks::Task;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::io::{ReaderStream, StreamReader};
use tonic::{Request, Streaming};

use crate::call::{ORIGIN, append};
use crate::connection::Channel;
use crate::{Refusal, Session, SessionError};

const CHECK_AGENT: &str = "/moby.sshforward.v1.SSH/CheckAgent";
const FORWARD_AGENT: &str = "/moby.sshforward.v1.SSH/ForwardAgent";

/// The id that is meant when none is given.
const DEFAULT_ID: &str = "default";

/// How much of one connection travels in one message.
const CHUNK_SIZE: usize = 32 << 10;

/// Where the agent is to be reached by a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshSocket {
    /// The socket's path, in an existing directory that only we can reach; nothing is there yet.
    pub path: HostPath,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its permission bits.
    pub mode: u32,
}

/// A socket behind which the client's agent answers. It goes away when this is dropped.
#[must_use = "forwarding ends when the guard is dropped"]
#[derive(Debug)]
pub struct SshForward {
    path: HostPath,
    _acceptor: Task<()>,
}

impl SshForward {
    /// Returns the socket's path.
    pub fn path(&self) -> &HostPath {
        &self.path
    }
}

impl Drop for SshForward {
    fn drop(&mut self) {
        match std::fs::remove_file(self.path.as_path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::debug!(%error, path = %self.path, "cannot remove an agent's socket");
            }
            _ => {}
        }
    }
}

impl Session {
    /// Asks whether the client forwards the agent `id` (empty means `default`).
    ///
    /// # Errors
    /// Returns [`SessionError::NoSshKey`] if it forwards none.
    pub async fn check_ssh(&self, id: &str) -> Result<(), SessionError> {
        let request = CheckAgentRequest { id: id.to_owned() };
        match self.ssh().check_agent(request).await {
            Ok(_) => Ok(()),
            Err(status) => Err(match self.failure(CHECK_AGENT, status) {
                error if error.refusal() == Some(Refusal::Unimplemented) => {
                    SessionError::NoSshKey(if id.is_empty() { DEFAULT_ID } else { id }.to_owned())
                }
                error => error,
            }),
        }
    }

    /// Listens on `socket` and joins each connection to the client's agent `id`.
    ///
    /// # Errors
    /// Returns an error if the socket cannot be made.
    pub fn forward_ssh(&self, id: &str, socket: SshSocket) -> Result<SshForward, SessionError> {
        let id = if id.is_empty() { DEFAULT_ID } else { id }.to_owned();
        let listener = listen(&socket).map_err(|source| SessionError::Local {
            action: format!("listen for ssh on `{}`", socket.path),
            source,
        })?;
        let acceptor = tasks::spawn("ssh-forward", accept(self.clone(), id, listener));
        Ok(SshForward { path: socket.path, _acceptor: acceptor })
    }

    fn ssh(&self) -> SshClient<Channel> {
        SshClient::with_origin(self.channel(), ORIGIN.clone())
            .max_decoding_message_size(proto::MAX_MESSAGE_SIZE)
    }
}

fn listen(socket: &SshSocket) -> io::Result<UnixListener> {
    let path = socket.path.as_path();
    let listener = UnixListener::bind(path)?;
    std::os::unix::fs::lchown(path, Some(socket.uid), Some(socket.gid))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(socket.mode))?;
    Ok(listener)
}

/// Serves connections until the guard is dropped; they end with it, or with the session.
async fn accept(session: Session, id: String, listener: UnixListener) {
    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((connection, _)) => {
                    connections.push(relay(&session, &id, connection));
                }
                Err(error) => {
                    tracing::warn!(session.id = %session.id(), %error, "ssh forwarding stopped");
                    return;
                }
            },
            Some(()) = connections.next() => {}
            () = session.closed() => return,
        }
    }
}

/// Joins one connection to the agent; the end of one direction is passed on as a half-close.
async fn relay(session: &Session, id: &str, connection: UnixStream) {
    if let Err(error) = try_relay(session, id, connection).await {
        tracing::debug!(session.id = %session.id(), %error, "an ssh connection broke off");
    }
}

async fn try_relay(
    session: &Session,
    id: &str,
    connection: UnixStream,
) -> Result<(), SessionError> {
    let (reader, writer) = connection.into_split();
    // A connection that fails under us ends like one that was closed.
    let outgoing = ReaderStream::with_capacity(reader, CHUNK_SIZE)
        .take_while(|chunk| futures::future::ready(chunk.is_ok()))
        .filter_map(|chunk| futures::future::ready(chunk.ok()))
        .map(|data: Bytes| BytesMessage { data });
    let mut request = Request::new(outgoing);
    append(request.metadata_mut(), FORWARD_AGENT, "buildkit.ssh.id", id)?;
    let answer = session.ssh().forward_agent(request).await;
    let answer = answer.map_err(|status| session.failure(FORWARD_AGENT, status))?;
    deliver(answer.into_inner(), writer).await.map_err(|source| SessionError::Local {
        action: "pass on what the ssh agent said".to_owned(),
        source,
    })
}

async fn deliver(incoming: Streaming<BytesMessage>, mut writer: OwnedWriteHalf) -> io::Result<()> {
    let chunks = incoming.map(|message| message.map(|m| m.data).map_err(io::Error::other));
    tokio::io::copy_buf(&mut StreamReader::new(Box::pin(chunks)), &mut writer).await?;
    writer.shutdown().await
}
