//! What can go wrong between us and a registry.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use digests::Digest;

use crate::CredentialsError;

/// What was asked of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// To find what a reference stands for.
    Resolve,
    /// To fetch a manifest or an index.
    FetchManifest,
    /// To fetch a blob.
    FetchBlob,
    /// To take a blob.
    PushBlob,
    /// To take a manifest or an index.
    PushManifest,
    /// To issue a token.
    Authorize,
}

impl Action {
    const fn verb(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::FetchManifest => "fetch manifest",
            Self::FetchBlob => "fetch blob",
            Self::PushBlob => "push blob",
            Self::PushManifest => "push manifest",
            Self::Authorize => "get a token for",
        }
    }

    /// Returns true if the action changes the registry.
    pub const fn is_push(self) -> bool {
        matches!(self, Self::PushBlob | Self::PushManifest)
    }
}

/// What was attempted: the action, its object, and the host that was asked.
///
/// Displays as ``fetch blob `sha256:…` of `library/busybox` from `mirror.example` ``.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What was asked.
    pub action: Action,
    /// The host that was asked: the registry's or a mirror's.
    pub host: String,
    /// The repository.
    pub repository: String,
    /// The tag or digest.
    pub object: String,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { action, host, repository, object } = self;
        let preposition = if action.is_push() { "to" } else { "from" };
        write!(f, "{} `{object}` of `{repository}` {preposition} `{host}`", action.verb())
    }
}

/// Why a registry did not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// There is no such manifest, blob or repository, or we may not know of it.
    #[error("{name}: not found")]
    NotFound {
        /// The full name of what is not there.
        name: String,
    },
    /// The registry refuses: it wants other credentials, or the ones it got do not suffice.
    #[error(
        "{} access denied, repository does not exist or may require authorization: {message}",
        if .attempt.action.is_push() { "push" } else { "pull" }
    )]
    Denied {
        /// What was attempted.
        attempt: Box<Attempt>,
        /// What the registry says.
        message: String,
    },
    /// The registry answers with an error.
    #[error("failed to {attempt}: unexpected status {status}{}", after_colon(.message))]
    Status {
        /// What was attempted.
        attempt: Box<Attempt>,
        /// The HTTP status.
        status: u16,
        /// What the registry says; may be empty.
        message: String,
    },
    /// The host cannot be reached, or the connection broke too often.
    #[error("failed to {attempt}")]
    Connection {
        /// What was attempted.
        attempt: Box<Attempt>,
        /// What happened to the connection.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The host went silent.
    #[error("failed to {attempt}: nothing was heard for {after:?}")]
    Stalled {
        /// What was attempted.
        attempt: Box<Attempt>,
        /// How long we waited.
        after: Duration,
    },
    /// The registry's answer is not what the protocol has there.
    #[error("failed to {attempt}: {problem}")]
    Garbage {
        /// What was attempted.
        attempt: Box<Attempt>,
        /// What is wrong with the answer.
        problem: String,
    },
    /// Mirrors were asked before the registry, and did not have it either.
    #[error("{}", was_asked(.mirrors))]
    Mirrored {
        /// The mirrors' hosts, in the order in which they were asked, with what they said.
        mirrors: Vec<(String, String)>,
        /// What the registry itself said.
        #[source]
        source: Box<RegistryError>,
    },
    /// The credentials could not be had.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The blob to push could not be read.
    #[error("failed to read blob `{digest}` to push it")]
    Source {
        /// The blob.
        digest: Digest,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// A file named in the configuration of a host is of no use.
    #[error("failed to use `{}` as {purpose} for registry `{host}`", path.display())]
    File {
        /// The registry's host.
        host: String,
        /// What the file is for.
        purpose: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The configuration of a host makes no sense.
    #[error("registry `{host}` cannot be used: {problem}")]
    Config {
        /// The registry's host.
        host: String,
        /// What is wrong.
        problem: String,
    },
}

impl RegistryError {
    /// Returns true if there is no such thing in the registry.
    pub fn is_not_found(&self) -> bool {
        matches!(self.of_registry(), Self::NotFound { .. })
    }

    /// Returns true if the registry wants other credentials.
    pub fn is_denied(&self) -> bool {
        matches!(self.of_registry(), Self::Denied { .. })
    }

    /// Returns what the registry itself said.
    fn of_registry(&self) -> &Self {
        match self {
            Self::Mirrored { source, .. } => source.of_registry(),
            error => error,
        }
    }

    /// Returns the message with the messages of its causes.
    pub(crate) fn full_text(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        text
    }
}

fn was_asked(mirrors: &[(String, String)]) -> String {
    let mirrors =
        mirrors.iter().map(|(host, said)| format!("mirror `{host}` was asked first ({said})"));
    mirrors.collect::<Vec<_>>().join(", ")
}

fn after_colon(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}
