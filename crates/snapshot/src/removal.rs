//! The end of trees: they are renamed first, so that it can take its time.

use std::sync::Arc;

use mount::HostPath;
use rustix::fs::CWD;
use tokio::sync::watch;

use crate::walk::TreeError;
use crate::{SnapshotError, node};

/// The trees that are being removed.
#[derive(Debug, Default)]
pub(crate) struct Removals {
    /// How many pieces of work are not done.
    begun: watch::Sender<usize>,
}

/// One piece of work, until dropped.
struct Begun(Arc<Removals>);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.begun.send_modify(|count| *count -= 1);
    }
}

impl Removals {
    /// Removes trees in the background, or here and now where there is no runtime.
    pub(crate) fn begin(self: &Arc<Self>, trees: Vec<HostPath>) {
        if trees.is_empty() {
            return;
        }
        self.begun.send_modify(|count| *count += 1);
        let begun = Begun(self.clone());
        let work = move || {
            for tree in trees {
                if let Err(error) = remove_tree(&tree) {
                    tracing::warn!(path = %tree, error = &error as &dyn std::error::Error, "left until the next start");
                }
            }
            drop(begun);
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

    /// Waits until nothing is being removed.
    pub(crate) async fn finish(&self) {
        // The sender is ours.
        let _ = self.begun.subscribe().wait_for(|count| *count == 0).await;
    }
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
