//! The clients that are connected now.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use tasks::Task;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::health::HealthPolicy;
use crate::session::Life;
use crate::{Session, SessionError, SessionId, connection, health};

/// How long a lookup waits for a client that was announced but is not there yet.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client may take to come and to hear us before nobody waits for that any more.
const HEARING: Duration = Duration::from_secs(1);

/// All live sessions, by id. Clones share one table.
#[derive(Debug, Clone, Default)]
pub struct Sessions(Arc<Table>);

#[derive(Debug)]
struct Table {
    live: DashMap<SessionId, Session>,
    /// Wakes those who wait for a session that has not come yet.
    arrivals: watch::Sender<()>,
}

impl Default for Table {
    fn default() -> Self {
        Self { live: DashMap::new(), arrivals: watch::Sender::new(()) }
    }
}

/// What a client says of itself when it opens its stream.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The session's id (`x-docker-expose-session-uuid`).
    pub id: SessionId,
    /// What tells its directories apart (`x-docker-expose-session-sharedkey`).
    pub shared_key: String,
    /// The methods it serves (`x-docker-expose-session-grpc-method`, repeated).
    pub methods: Vec<String>,
    /// Interval and time limit of health checks, if it asked for its own
    /// (`x-buildkit-session-health-custom-timeout`).
    pub health_interval: Option<Duration>,
}

impl Sessions {
    /// Returns an empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts HTTP/2 on `io`, usually a [`crate::Tunnel`], and files the session under its id; a
    /// session of the same id that is there already is replaced.
    ///
    /// Does not wait for the client, only for room to write the first few bytes; so the caller may
    /// await this before it answers the call that carries the tunnel.
    ///
    /// # Errors
    /// Returns [`SessionError::Handshake`] if these bytes cannot be written.
    pub async fn register<I>(
        &self,
        registration: Registration,
        io: I,
    ) -> Result<SessionGuard, SessionError>
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Registration { id, shared_key, methods, health_interval } = registration;
        let ended = CancellationToken::new();
        let (channel, connection) = connection::open(io, ended.clone())
            .await
            .map_err(|source| SessionError::Handshake { id: id.clone(), source })?;
        let policy = HealthPolicy::new(health_interval);
        let life = Life { heard: CancellationToken::new(), ended: ended.clone() };
        let checks = health::watch(id.clone(), channel.clone(), policy, life.heard.clone());
        let session = Session::new(id.clone(), shared_key, &methods, channel, life);
        let driver = tasks::spawn("session", drive(id.clone(), connection, checks, ended));
        self.0.live.insert(id.clone(), session.clone());
        self.0.arrivals.send_replace(());
        tracing::debug!(session.id = %id, methods = methods.len(), "session opened");
        Ok(SessionGuard { table: self.0.clone(), session, _driver: driver })
    }

    /// Returns the session `id`, waiting up to [`LOOKUP_TIMEOUT`] for it: a client opens its
    /// session and asks for a build at the same time.
    ///
    /// # Errors
    /// Returns [`SessionError::NotFound`] if it does not come.
    pub async fn get(&self, id: &SessionId) -> Result<Session, SessionError> {
        let mut arrivals = self.0.arrivals.subscribe();
        let arrival = async {
            loop {
                arrivals.borrow_and_update();
                if let Some(session) = self.find(id) {
                    return session;
                }
                // The sender lives in `self`, so this cannot fail while we wait.
                let _ = arrivals.changed().await;
            }
        };
        tokio::time::timeout(LOOKUP_TIMEOUT, arrival)
            .await
            .map_err(|_| SessionError::NotFound(id.clone()))
    }

    /// Waits until the client of the session `id` has come and has heard us, or has left; but not for long.
    ///
    /// A client that leaves before it has read our greeting trips over it, and says so to its user.
    pub async fn heard(&self, id: &SessionId) {
        let heard = async {
            if let Ok(session) = self.get(id).await {
                session.heard().await;
            }
        };
        // Whether it did: who never comes, or is mute, is not waited for.
        let _ = tokio::time::timeout(HEARING, heard).await;
    }

    /// Returns the session `id` if it is there now.
    pub fn find(&self, id: &SessionId) -> Option<Session> {
        let session = self.0.live.get(id)?.clone();
        (!session.is_closed()).then_some(session)
    }

    /// Returns the number of sessions.
    pub fn len(&self) -> usize {
        self.0.live.len()
    }

    /// Returns true if nobody is connected.
    pub fn is_empty(&self) -> bool {
        self.0.live.is_empty()
    }
}

/// Drives a session's connection until the client leaves, stops answering, or is sent away.
async fn drive(
    id: SessionId,
    connection: impl Future<Output = Result<(), hyper::Error>>,
    checks: impl Future<Output = ()>,
    ended: CancellationToken,
) {
    tokio::select! {
        result = connection => match result {
            Ok(()) => tracing::debug!(session.id = %id, "session closed"),
            Err(error) => tracing::debug!(session.id = %id, %error, "session broke off"),
        },
        () = checks => {}
        () = ended.cancelled() => tracing::debug!(session.id = %id, "session ended"),
    }
    ended.cancel();
}

/// A session's place in the table. Letting go of it closes the connection.
#[must_use = "a session ends when its guard is dropped"]
#[derive(Debug)]
pub struct SessionGuard {
    table: Arc<Table>,
    session: Session,
    /// Owns the connection: dropped with the guard.
    _driver: Task<()>,
}

impl SessionGuard {
    /// Returns the session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Waits until the client has left.
    pub async fn closed(&self) {
        self.session.closed().await;
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.session.ended().cancel();
        let ours = |_: &SessionId, filed: &Session| filed.is_same(&self.session);
        self.table.live.remove_if(self.session.id(), ours);
    }
}

/// The sessions that a build may ask, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionGroup(Vec<SessionId>);

impl SessionGroup {
    /// Takes the ids, without repetitions.
    pub fn new(ids: impl IntoIterator<Item = SessionId>) -> Self {
        let mut group = Self::default();
        for id in ids {
            group.add(id);
        }
        group
    }

    /// Adds a session at the end, unless it is there already.
    pub fn add(&mut self, id: SessionId) {
        if !self.0.contains(&id) {
            self.0.push(id);
        }
    }

    /// Returns the ids in the order in which they are asked.
    pub fn ids(&self) -> &[SessionId] {
        &self.0
    }

    /// Asks `specified` first, then the others, until `ask` succeeds with one.
    ///
    /// # Errors
    /// Returns the last error; [`SessionError::NoneActive`] if there is nobody to ask.
    pub async fn any<T, E, F, A>(
        &self,
        sessions: &Sessions,
        specified: Option<&SessionId>,
        mut ask: A,
    ) -> Result<T, E>
    where
        A: FnMut(Session) -> F,
        F: Future<Output = Result<T, E>>,
        E: From<SessionError>,
    {
        let others = self.0.iter().filter(|id| Some(*id) != specified);
        let mut last = E::from(SessionError::NoneActive);
        for id in specified.into_iter().chain(others) {
            let answer = match sessions.get(id).await {
                Ok(session) => ask(session).await,
                Err(error) => Err(error.into()),
            };
            match answer {
                Ok(value) => return Ok(value),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}
