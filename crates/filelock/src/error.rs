//! Why a lock was not taken.

use std::io;
use std::path::PathBuf;

use crate::Holder;

/// Why a lock was not taken, or not let go.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else holds it.
    #[error("lock `{}` is held by {}", path.display(), holder.as_ref().map_or("another process".to_owned(), Holder::to_string))]
    Held {
        /// The lock's file.
        path: PathBuf,
        /// Who holds it; none if it is held in shared mode or its holder left no name.
        holder: Option<Holder>,
    },
    /// The wait was called off.
    #[error("the wait for lock `{}` was cancelled", path.display())]
    Cancelled {
        /// The lock's file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot {action} lock `{}`", path.display())]
    System {
        /// What was attempted.
        action: &'static str,
        /// The lock's file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}
