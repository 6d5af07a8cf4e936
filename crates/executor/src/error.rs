//! What can go wrong before, around and instead of a process.

use std::io;

use serde::{Deserialize, Serialize};

/// Why a process could not be started or watched. A process that ran and failed is no error: see
/// [`ExitStatus`](crate::ExitStatus).
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The container could not be set up as described, or its command could not be found.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The description contradicts itself or asks for what this executor does not do.
    #[error("invalid process description: {0}")]
    Invalid(String),
    /// The helper program could not be started.
    #[error("cannot start the helper program `{program}`")]
    Helper {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The helper could not be spoken to.
    #[error("lost contact with the helper of container `{id}` while {doing}")]
    Contact {
        /// The container's name.
        id: String,
        /// What was being done.
        doing: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The executor's directory or cgroups could not be prepared or swept.
    #[error("cannot {doing} `{path}`")]
    State {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The process has already ended.
    #[error("container `{0}` is not running")]
    NotRunning(String),
    /// The process has no terminal.
    #[error("container `{0}` has no terminal")]
    NoTerminal(String),
}

/// Why a container could not be set up. The process itself never ran.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum SetupError {
    /// A bare command name is in no directory of `PATH`.
    #[error("exec: {0:?}: executable file not found in $PATH")]
    CommandNotFound(String),
    /// The command exists, or was named by a path, but cannot be executed.
    #[error("exec: {command:?}: {reason}")]
    CommandNotExecutable {
        /// The command as resolved.
        command: String,
        /// The kernel's reason.
        reason: String,
    },
    /// A user name is not in the image.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    UserNotFound(String),
    /// A group name is not in the image.
    #[error("unable to find group {0}: no matching entries in group file")]
    GroupNotFound(String),
    /// A numeric id is out of range, or a user file of the image cannot be used.
    #[error("cannot use user `{user}`: {reason}")]
    UserInvalid {
        /// The user as given.
        user: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something could not be mounted.
    #[error("cannot mount `{target}`: {reason}")]
    Mount {
        /// The path inside the container.
        target: String,
        /// Which step failed and the kernel's reason.
        reason: String,
    },
    /// The working directory could not be created or entered.
    #[error("cannot use working directory `{path}`: {reason}")]
    WorkingDirectory {
        /// The path inside the container.
        path: String,
        /// The kernel's reason.
        reason: String,
    },
    /// Another step of the setup failed.
    #[error("cannot {step}: {reason}")]
    Step {
        /// What was being done.
        step: String,
        /// The kernel's reason.
        reason: String,
    },
}
