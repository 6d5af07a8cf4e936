//! The end of trees: they are renamed first, so that it can take its time.

use mount::HostPath;
use rustix::fs::CWD;

use crate::walk::TreeError;
use crate::{SnapshotError, node};

/// Removes trees in the background, or here and now where there is no runtime.
pub(crate) fn remove_later(trees: Vec<HostPath>) {
    if trees.is_empty() {
        return;
    }
    let work = move || {
        for tree in trees {
            if let Err(error) = remove_tree(&tree) {
                tracing::warn!(path = %tree, error = &error as &dyn std::error::Error, "left until the next start");
            }
        }
    };
    if tokio::runtime::Handle::try_current().is_err() {
        return work();
    }
    tasks::spawn("remove layers", async {
        // A panic or the program's end leaves the rest to the next start.
        let _ = tasks::blocking("remove layers", work).await;
    })
    .detach();
}

/// Removes a tree of any depth, if it is there; blocking.
pub(crate) fn remove_tree(path: &HostPath) -> Result<(), SnapshotError> {
    let name = path.as_path();
    match node::remove(CWD, name.as_os_str(), name) {
        Ok(_) => Ok(()),
        Err(TreeError { action, path: below, source }) => {
            Err(SnapshotError::Io { action, path: name.join(below), source })
        }
    }
}
