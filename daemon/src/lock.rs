//! One daemon per root.

use std::path::PathBuf;

use filelock::{FileLock, Holder, Label, LockError, Mode};
use jiff::Timestamp;
use mount::HostPath;

/// Why the root is not ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootError {
    /// Another daemon uses it.
    #[error(
        "the root `{root}` is in use by {holder}: stop that daemon, or choose another `--root`"
    )]
    InUse {
        /// The root.
        root: HostPath,
        /// Who uses it.
        holder: String,
    },
    /// The lock cannot be taken for another reason.
    #[error("cannot lock the root `{root}`")]
    Lock {
        /// The root.
        root: HostPath,
        /// The reason.
        #[source]
        source: LockError,
    },
    /// A directory is missing and cannot be made.
    #[error("cannot create the directory `{}`", path.display())]
    Create {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
}

/// Makes the root if it is missing, and takes it for as long as the lock is held. Blocks, briefly.
pub(crate) fn take(root: &HostPath) -> Result<FileLock, RootError> {
    create(root)?;
    let label = Label { build: "larderd".to_owned(), step: String::new() };
    let path = root.join("lock");
    FileLock::try_acquire(path.as_path(), Mode::Exclusive, Some(&Holder::here(label))).map_err(
        |source| match source {
            LockError::Held { holder, .. } => {
                let holder = holder.as_ref().map_or("another process".to_owned(), describe);
                RootError::InUse { root: root.clone(), holder }
            }
            source => RootError::Lock { root: root.clone(), source },
        },
    )
}

/// Makes a directory that only we may enter.
pub(crate) fn create(path: &HostPath) -> Result<(), RootError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o711);
    builder
        .create(path.as_path())
        .map_err(|source| RootError::Create { path: path.as_path().to_owned(), source })
}

fn describe(holder: &Holder) -> String {
    let since = Timestamp::try_from(holder.since)
        .map(|since| format!(" since {since:.0}"))
        .unwrap_or_default();
    format!("process {}{since}", holder.pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_told_who_has_the_root() {
        let directory = tempfile::tempdir().unwrap();
        let root = HostPath::new(directory.path().join("a/b")).unwrap();
        let held = take(&root).unwrap();
        let error = take(&root).unwrap_err().to_string();
        let pid = format!("is in use by process {} since 2", std::process::id());
        assert!(error.contains(&pid) && error.contains("--root"), "{error}");
        drop(held);
        drop(take(&root).unwrap());
    }
}
