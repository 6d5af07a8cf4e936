//! One client's connection, as the rest of the build holds it.

use std::collections::HashSet;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::connection::Channel;
use crate::{SessionError, SessionId};

/// A client that serves us its files, secrets and keys. Clones share one connection.
///
/// Every call fails with [`SessionError::Ended`] once the client has left.
#[derive(Debug, Clone)]
pub struct Session(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: SessionId,
    shared_key: String,
    /// In lower case: clients and daemons differ in how they spell a method.
    methods: HashSet<String>,
    channel: Channel,
    life: Life,
}

/// What has happened in a session's life, for those who wait for it.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    /// Set once the client has answered us.
    pub(crate) heard: CancellationToken,
    /// Set once the client has left.
    pub(crate) ended: CancellationToken,
}

impl Session {
    pub(crate) fn new(
        id: SessionId,
        shared_key: String,
        methods: &[String],
        channel: Channel,
        life: Life,
    ) -> Self {
        let methods = methods.iter().map(|method| method.to_ascii_lowercase()).collect();
        Self(Arc::new(Inner { id, shared_key, methods, channel, life }))
    }

    /// Returns the id the client chose.
    pub fn id(&self) -> &SessionId {
        &self.0.id
    }

    /// Returns what tells apart two directories of one name: `<base name>:<node>`, or nothing.
    pub fn shared_key(&self) -> &str {
        &self.0.shared_key
    }

    /// Returns true if the client listed `method` (`/package.Service/Method`, in any case).
    ///
    /// Only the file services list theirs reliably; the others are called and may refuse.
    pub fn supports(&self, method: &str) -> bool {
        self.0.methods.contains(&method.to_ascii_lowercase())
    }

    /// Waits until the client has left; returns at once if it already has.
    pub async fn closed(&self) {
        self.0.life.ended.cancelled().await;
    }

    /// Waits until the client has heard us, as its first answer shows, or has left.
    pub async fn heard(&self) {
        let Life { heard, ended } = &self.0.life;
        tokio::select! {
            () = heard.cancelled() => {}
            () = ended.cancelled() => {}
        }
    }

    /// Returns true once the client has left.
    pub fn is_closed(&self) -> bool {
        self.0.life.ended.is_cancelled()
    }

    pub(crate) fn channel(&self) -> Channel {
        self.0.channel.clone()
    }

    pub(crate) fn ended(&self) -> &CancellationToken {
        &self.0.life.ended
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn require(&self, method: &'static str) -> Result<(), SessionError> {
        if self.supports(method) { Ok(()) } else { Err(SessionError::Unsupported(method)) }
    }
}
