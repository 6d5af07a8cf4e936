//! Why a result could not be kept, shown or removed.

use std::error::Error;
use std::io;
use std::sync::Arc;

use crate::MetaError;

/// Why a result could not be kept, shown or removed. Cheap to clone: many may wait for one thing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CacheError {
    /// A system call failed on a file of a tree.
    #[error("{action} {path}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The path, inside its tree.
        path: String,
        /// The kernel's answer.
        #[source]
        source: Arc<io::Error>,
    },
    /// A part that the cache is made of failed.
    #[error(transparent)]
    Part(Arc<dyn Error + Send + Sync>),
}

impl CacheError {
    pub(crate) fn io(action: &'static str, path: impl ToString, source: io::Error) -> Self {
        Self::Io { action, path: path.to_string(), source: Arc::new(source) }
    }

    /// Wraps the error of a part: a store, a keeper of layers.
    pub fn from_error(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Part(Arc::new(error))
    }

    /// Returns the system call's error at the root of this one, if there is one.
    pub fn io_error(&self) -> Option<&io::Error> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Part(_) => self.cause(),
        }
    }

    /// Returns true if the end of the program cut the work off.
    pub fn is_cut_off(&self) -> bool {
        matches!(self.cause(), Some(tasks::JoinError::Stopped { .. }))
    }

    /// Returns the first error of a type among a part's error and its causes.
    fn cause<T: Error + 'static>(&self) -> Option<&T> {
        let mut cause: Option<&(dyn Error + 'static)> = match self {
            Self::Io { .. } => None,
            Self::Part(error) => Some(error.as_ref()),
        };
        while let Some(error) = cause {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            cause = error.source();
        }
        None
    }

    /// Returns true if the disk is full.
    pub fn is_disk_full(&self) -> bool {
        self.io_error().is_some_and(|error| {
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        })
    }
}

macro_rules! parts {
    ($($error:ty),*) => {$(
        impl From<$error> for CacheError {
            fn from(error: $error) -> Self {
                Self::from_error(error)
            }
        }
    )*};
}
parts!(
    MetaError,
    snapshot::SnapshotError,
    content::ContentError,
    tasks::JoinError,
    mount::MountError,
    snapshot::ArchiveError
);
