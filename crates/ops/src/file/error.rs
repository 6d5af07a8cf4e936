//! Why an action on a tree failed.

use std::io;

use mount::PathError;

/// Why an action on a tree failed. Paths are those of the Dockerfile or the graph, not the host's.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A system call failed.
    #[error("{action} {path}")]
    Io {
        /// What was attempted, as clients know it: `lstat`, `mkdir`, `copy`.
        action: &'static str,
        /// On what.
        path: String,
        /// The kernel's answer.
        #[source]
        source: Cause,
    },
    /// A path, a pattern, a mode or an owner of the action cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// A directory is in the place of a file, or the other way round.
    #[error("cannot copy {from} over {path}: {expected} is in the way")]
    InTheWay {
        /// The file's or directory's path in the source.
        from: String,
        /// The path in the target.
        path: String,
        /// What is there.
        expected: &'static str,
    },
    /// No file matches.
    #[error("{0}: not found")]
    NotFound(String),
    /// The archive to be unpacked is damaged.
    #[error("unpack {path}")]
    Archive {
        /// The archive.
        path: String,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
}

/// The kernel's answer in the words that clients know: `no such file or directory`.
#[derive(Debug)]
pub struct Cause(pub io::Error);

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = self.0.to_string();
        // "No such file or directory (os error 2)"
        let text = text.split(" (os error").next().unwrap_or_default();
        let mut characters = text.chars();
        match characters.next() {
            Some(first) => write!(f, "{}{}", first.to_lowercase(), characters.as_str()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Cause {}

impl FileError {
    pub(crate) fn io(action: &'static str, path: impl ToString) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_string();
        move |source| Self::Io { action, path, source: Cause(source) }
    }
}

impl From<PathError> for FileError {
    fn from(error: PathError) -> Self {
        Self::Invalid(error.to_string())
    }
}
