//! The one error that a build ends with, and what it carries for the client.
//!
//! The answer to "whose fault is it" is the [`Kind`]; what a client shows beside the message (the
//! lines of the Dockerfile, the exit status) are [`Detail`]s, in the order in which layers of the
//! build added them, innermost first. The daemon turns this into a gRPC status in one place
//! (protocol page `control.md` §9).

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use digests::VertexDigest;
use progress::SourceExcerpt;

/// Whose fault an error is, and so how it is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What the user asked for cannot be built: a failing step, a wrong Dockerfile, a missing file.
    User,
    /// The request itself is malformed.
    InvalidRequest,
    /// Something named in the request does not exist.
    NotFound,
    /// The request asks for a feature this daemon lacks.
    Unsupported,
    /// The client, or the daemon's end, stopped the build.
    Cancelled,
    /// A peer did not appear in time.
    TimedOut,
    /// The machine is out of something: disk, memory, processes.
    Exhausted,
    /// The daemon is shutting down or not ready.
    Unavailable,
    /// The policy of the daemon or the build forbids it.
    Denied,
    /// The thing already exists.
    AlreadyExists,
    /// Our own fault.
    Internal,
}

/// What a client can show or use beside the message.
#[derive(Debug, Clone, PartialEq)]
pub enum Detail {
    /// A place in the user's file.
    Source(SourceExcerpt),
    /// The vertex that failed.
    Vertex(VertexDigest),
    /// The exit status of the process that failed.
    Exit(u32),
    /// The operation that failed.
    Solve {
        /// The serialized operation, as received; empty if there is none.
        op: Bytes,
        /// Ids of the results that it started from, for containers; empty where there was none.
        input_ids: Vec<String>,
        /// Ids of what it worked on, as it left that: one a mount, or an action on files.
        mount_ids: Vec<String>,
        /// Which part of it failed, if it has parts.
        part: Option<FailedPart>,
        /// The vertex's description.
        description: Vec<(String, String)>,
    },
    /// The frontend that failed.
    Frontend {
        /// `dockerfile.v0` or `gateway.v0`.
        name: String,
        /// The frontend's image, if it has one.
        source: String,
    },
    /// A capability that the frontend lacks.
    FrontendCapability(String),
    /// A subrequest that the frontend does not know.
    Subrequest(String),
    /// A detail that a client or another frontend made and that we pass on as it came.
    Opaque {
        /// The type, as in `google.protobuf.Any`.
        type_url: String,
        /// The value.
        value: Bytes,
    },
}

/// The part of an operation that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailedPart {
    /// An action on files, by its place.
    Action(usize),
    /// The look at the content of an input, by its place.
    Content(usize),
}

impl Detail {
    /// Returns whether it is a place in the user's file, also one that somebody else found.
    pub fn is_source(&self) -> bool {
        match self {
            Self::Source(_) => true,
            Self::Opaque { type_url, .. } => type_url.ends_with("/errdefs.Source+json"),
            Self::Vertex(_)
            | Self::Exit(_)
            | Self::Solve { .. }
            | Self::Frontend { .. }
            | Self::FrontendCapability(_)
            | Self::Subrequest(_) => false,
        }
    }
}

/// Why a build, or a question to it, failed. Cheap to clone: many waiters get the same one.
#[derive(Debug, Clone)]
pub struct BuildError(Arc<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    kind: Kind,
    message: String,
    details: Vec<Detail>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl BuildError {
    /// Returns an error with a message for the user.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner { kind, message: message.into(), details: Vec::new(), source: None }))
    }

    /// Returns an error that says `error` and all its causes, joined by `: `.
    pub fn from_error(kind: Kind, error: impl Error + Send + Sync + 'static) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(next) = cause {
            let text = next.to_string();
            // Some errors repeat their cause in their own message.
            if !message.contains(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            cause = next.source();
        }
        let source: Option<Arc<dyn Error + Send + Sync>> = Some(Arc::new(error));
        Self(Arc::new(Inner { kind, message, details: Vec::new(), source }))
    }

    /// Returns the error of work that was stopped; clients know its text.
    pub fn cancelled() -> Self {
        Self::new(Kind::Cancelled, "context canceled")
    }

    /// Returns whose fault it is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Returns the text for the user.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the details, innermost first.
    pub fn details(&self) -> &[Detail] {
        &self.0.details
    }

    /// Returns the error with one more detail, outside all others.
    #[must_use]
    pub fn with_detail(self, detail: Detail) -> Self {
        self.edit(|inner| inner.details.push(detail))
    }

    /// Returns the error with `prefix: ` before its message.
    #[must_use]
    pub fn context(self, prefix: impl fmt::Display) -> Self {
        self.edit(|inner| inner.message = format!("{prefix}: {}", inner.message))
    }

    fn edit(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl Error for BuildError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // The causes' texts are in the message already (`from_error`).
        None
    }
}

impl BuildError {
    /// Returns the error this one was made from, if it is an `E`.
    pub fn cause<E: Error + 'static>(&self) -> Option<&E> {
        self.0.source.as_ref()?.downcast_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read `{0}`")]
    struct Outer(&'static str, #[source] std::io::Error);

    #[test]
    fn causes_are_told_once_and_kept() {
        let error = Outer("a", std::io::Error::other("disk on fire"));
        let error = BuildError::from_error(Kind::Internal, error)
            .with_detail(Detail::Exit(3))
            .context("step 1");
        assert_eq!(error.to_string(), "step 1: cannot read `a`: disk on fire");
        assert_eq!(error.details(), [Detail::Exit(3)]);
        assert!(error.cause::<Outer>().is_some());
        assert!(error.cause::<BuildError>().is_none());
    }
}
