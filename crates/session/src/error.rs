//! What can go wrong between us and a client.

use std::fmt;
use std::io;

use crate::SessionId;

/// Why a session could not be found, or a call inside it failed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// A text cannot be a session id.
    #[error("invalid session id {0:?}")]
    InvalidId(String),
    /// The client did not connect in time.
    #[error("no active session for {0}: context deadline exceeded")]
    NotFound(SessionId),
    /// The build has no session at all.
    #[error("no active sessions")]
    NoneActive,
    /// The HTTP/2 connection inside the tunnel could not be opened.
    #[error("cannot open session `{id}`")]
    Handshake {
        /// The session.
        id: SessionId,
        /// What the connection said.
        #[source]
        source: hyper::Error,
    },
    /// The client left, or stopped answering, before the call was done.
    #[error("session `{0}` ended: the client is gone")]
    Ended(SessionId),
    /// The client did not list the method.
    #[error("method {0} not supported by the client")]
    Unsupported(&'static str),
    /// The client answered with an error.
    #[error("{message}")]
    Refused {
        /// The method that was called.
        method: &'static str,
        /// The kind of the error.
        refusal: Refusal,
        /// The client's words.
        message: String,
    },
    /// The call broke off, or its answer could not be read, while the session lives on.
    #[error("call of {method} broke off")]
    Broken {
        /// The method that was called.
        method: &'static str,
        /// What happened to it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The client answered with something that makes no sense.
    #[error("unexpected answer to {method}: {reason}")]
    Unexpected {
        /// The method that was called.
        method: &'static str,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The client forwards no key under this id.
    #[error("no SSH key \"{0}\" forwarded from the client")]
    NoSshKey(String),
    /// A local step on behalf of a call failed.
    #[error("cannot {action}")]
    Local {
        /// What was attempted, and on what.
        action: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The kind of a client's refusal: the gRPC codes that callers tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The thing asked for does not exist.
    NotFound,
    /// The thing to be made exists already.
    AlreadyExists,
    /// The client does not serve the method.
    Unimplemented,
    /// The client serves the method, but not now.
    Unavailable,
    /// The client stopped the call.
    Cancelled,
    /// Any other code.
    Other,
}

impl SessionError {
    /// Returns the kind of the client's refusal, if this is one.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(*refusal),
            _ => None,
        }
    }

    /// Returns true if the client neither serves the method nor has the thing asked for.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Unsupported(_) | Self::NoSshKey(_))
            || matches!(self.refusal(), Some(Refusal::NotFound | Refusal::Unimplemented))
    }
}

/// Why a tree of files did not arrive, or could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The call itself failed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The client gave up and said why.
    #[error("error from {peer}: {message}")]
    Peer {
        /// The client's part in the transfer.
        peer: Peer,
        /// The client's words.
        message: String,
    },
    /// The client broke the protocol, by mistake or on purpose.
    #[error("invalid transfer: {0}")]
    Protocol(String),
    /// A file of ours could not be read or written.
    #[error("cannot {action} `{path}`")]
    Disk {
        /// What was attempted.
        action: &'static str,
        /// The path inside the tree.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The work on the disk was stopped.
    #[error("the transfer was stopped")]
    Stopped(#[source] tasks::JoinError),
}

/// The client's part in a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// It owns the files.
    Sender,
    /// It writes the files.
    Receiver,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sender => "sender",
            Self::Receiver => "receiver",
        })
    }
}

impl TransferError {
    pub(crate) fn disk(
        action: &'static str,
        path: impl AsRef<[u8]>,
        source: impl Into<io::Error>,
    ) -> Self {
        let path = String::from_utf8_lossy(path.as_ref()).into_owned();
        Self::Disk { action, path, source: source.into() }
    }
}
