//! The clients that an operation may ask: those of the builds that want its result now.

use session::{SecretBytes, Session, SessionError, SessionGroup, SessionId, Sessions};
use solver::{JobId, OpContext, OpError};

use crate::failure;

/// The clients of the builds that want a vertex, in the order in which they came.
#[derive(Debug)]
pub(crate) struct Clients {
    sessions: Sessions,
    ids: Vec<(JobId, SessionId)>,
}

impl Clients {
    /// Returns the clients of those who want the vertex of `context` now.
    pub(crate) fn of(sessions: &Sessions, context: &OpContext) -> Self {
        let mut ids = Vec::new();
        for job in context.jobs() {
            if let Ok(group) = job.tag.downcast::<SessionGroup>() {
                ids.extend(group.ids().iter().map(|id| (job.id.clone(), id.clone())));
            }
        }
        Self { sessions: sessions.clone(), ids }
    }

    /// Returns the clients with these ids, for a question that is no operation.
    pub(crate) fn asking(sessions: &Sessions, ids: &[String]) -> Self {
        let ids = ids.iter().filter_map(|id| SessionId::new(id.as_str()).ok());
        let ids = ids.map(|id| (JobId::new(id.to_string()), id)).collect();
        Self { sessions: sessions.clone(), ids }
    }

    /// Returns the same clients, with the one that is said to have what is wanted at the front.
    pub(crate) fn preferring(mut self, named: Option<&SessionId>) -> Self {
        let Some(named) = named else { return self };
        let at = self.ids.iter().position(|(_, id)| id == named);
        let job = self.ids.get(at.unwrap_or(0)).map(|(job, _)| job.clone());
        if let Some(at) = at {
            self.ids.remove(at);
        }
        self.ids.splice(0..0, job.map(|job| (job, named.clone())));
        self
    }

    /// Returns the ids with the builds they came with.
    pub(crate) fn ids(&self) -> &[(JobId, SessionId)] {
        &self.ids
    }

    /// Connects to one client; if it is gone, the build that brought it is to blame.
    pub(crate) async fn connect(&self, job: &JobId, id: &SessionId) -> Result<Session, OpError> {
        self.sessions.get(id).await.map_err(|error| OpError::lost(job.clone(), error))
    }

    /// Returns the value of a secret from the first client that has it.
    pub(crate) async fn secret(&self, id: &str) -> Result<Option<SecretBytes>, OpError> {
        let mut last = None;
        for (job, session) in &self.ids {
            let session = match self.connect(job, session).await {
                Ok(session) => session,
                Err(error) => {
                    last = Some(error);
                    continue;
                }
            };
            match session.secret(id).await {
                Ok(Some(secret)) => return Ok(Some(secret)),
                Ok(None) => {}
                Err(error) => last = Some(blame(job, &session, error)),
            }
        }
        last.map_or(Ok(None), Err)
    }

    /// Returns the first client that forwards the agent `id`; none if there is none and that is fine.
    pub(crate) async fn with_agent(
        &self,
        id: &str,
        optional: bool,
    ) -> Result<Option<Session>, OpError> {
        let id = if id.is_empty() { "default" } else { id };
        let mut last = None;
        for (job, session) in &self.ids {
            let session = self.connect(job, session).await?;
            match session.check_ssh(id).await {
                Ok(()) => return Ok(Some(session)),
                Err(error) if error.is_absent() && optional => {}
                Err(error) => last = Some(blame(job, &session, error)),
            }
        }
        match last {
            Some(error) => Err(error),
            None if optional => Ok(None),
            None => Err(failure(SessionError::NoSshKey(id.to_owned()))),
        }
    }
}

/// Says whose fault a client's failure is: the build's whose client left, or the operation's.
pub(crate) fn blame(job: &JobId, session: &Session, error: SessionError) -> OpError {
    if session.is_closed() { OpError::lost(job.clone(), error) } else { failure(error) }
}
