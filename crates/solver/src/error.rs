//! What goes wrong while solving: the operation's own error, and the vertex it belongs to.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use digests::VertexDigest;

use crate::JobId;

/// Why an operation gave no result: the operation's own error, shared by all who waited for it.
///
/// Displays as the error it carries, and gives it back by [`OpError::downcast_ref`].
#[derive(Clone)]
pub struct OpError {
    cause: Arc<dyn Error + Send + Sync>,
    blame: Blame,
    attempted: Option<&'static str>,
    /// What the operation worked on, for others to know. In a box: errors are moved far more often than this
    /// is looked at.
    remains: Option<Box<Arc<dyn Any + Send + Sync>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Blame {
    Operation,
    Cancelled,
    Lost(JobId),
}

/// The text by which clients know that work was cancelled.
#[derive(Debug, thiserror::Error)]
#[error("context canceled")]
struct Cancelled;

impl OpError {
    /// Wraps an operation's error.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::of(Arc::from(cause.into()), Blame::Operation)
    }

    /// Says that the work was stopped because it was no longer wanted.
    pub fn cancelled() -> Self {
        Self::of(Arc::new(Cancelled), Blame::Cancelled)
    }

    /// Says that the operation failed because something that `job` brought along went away, such as
    /// its client. If another job wants the vertex too, the solver tries again without `job`.
    pub fn lost(job: JobId, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::of(Arc::from(cause.into()), Blame::Lost(job))
    }

    fn of(cause: Arc<dyn Error + Send + Sync>, blame: Blame) -> Self {
        Self { cause, blame, attempted: None, remains: None }
    }

    /// Says what is left of the operation, for whoever looks into why it failed. It is kept as long as the
    /// error is: by the graph, until no job wants the vertex.
    #[must_use]
    pub fn leaving<T: Any + Send + Sync>(self, remains: T) -> Self {
        Self { remains: Some(Box::new(Arc::new(remains))), ..self }
    }

    /// Returns what is left of the operation, if it is a `T`.
    pub fn remains<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        Arc::clone(self.remains.as_deref()?).downcast().ok()
    }

    /// Says what the solver wanted of the operation, which is not its work itself. It comes first in the text.
    pub(crate) fn during(self, attempted: &'static str) -> Self {
        if self.is_cancelled() { self } else { Self { attempted: Some(attempted), ..self } }
    }

    /// Returns the operation's error if it is a `T`.
    pub fn downcast_ref<T: Error + 'static>(&self) -> Option<&T> {
        self.cause.downcast_ref()
    }

    /// Returns true if the work was stopped because it was no longer wanted.
    pub fn is_cancelled(&self) -> bool {
        self.blame == Blame::Cancelled
    }

    /// Returns the job whose going away made the operation fail.
    pub fn lost_job(&self) -> Option<&JobId> {
        match &self.blame {
            Blame::Lost(job) => Some(job),
            Blame::Operation | Blame::Cancelled => None,
        }
    }

    /// Returns the message and the messages of its causes, joined as a client shows them.
    pub fn full_text(&self) -> String {
        let mut text = self.attempted.map_or_else(String::new, |what| format!("{what}: "));
        text.push_str(&self.cause.to_string());
        let mut cause = self.cause.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.cause, f)
    }
}

impl fmt::Debug for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpError({:?}, {:?})", self.blame, self.cause)
    }
}

impl Error for OpError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.source()
    }
}

/// Why an edge has no result: the first vertex at or below it that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{name}` failed")]
pub struct SolveError {
    /// The vertex that failed.
    pub vertex: VertexDigest,
    /// Its name.
    pub name: String,
    /// What it failed with.
    pub source: OpError,
}

impl SolveError {
    /// Returns true if the work was stopped rather than gone wrong.
    pub fn is_cancelled(&self) -> bool {
        self.source.is_cancelled()
    }
}
