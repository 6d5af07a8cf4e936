//! The end of trees: they are renamed first, so that it can take its time.

use std::sync::Arc;

use mount::HostPath;
use rustix::fs::CWD;
use tokio::sync::watch;

use crate::walk::TreeError;
use crate::{SnapshotError, node};

/// The trees that are being removed.
#[derive(Debug, Default)]
pub(crate) struct Removals(watch::Sender<Going>);

#[derive(Debug, Default)]
struct Going {
    /// How many pieces of work are not done.
    begun: usize,
    /// How many hold removals back.
    guards: usize,
    /// What is held back.
    held: Vec<HostPath>,
}

/// One piece of work, until dropped.
struct Begun(Arc<Removals>);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.0.send_modify(|going| going.begun -= 1);
    }
}

/// Holds removals back: what was to be removed meanwhile begins to go when the last guard is dropped.
#[derive(Debug)]
#[must_use = "removals are held back for as long as this lives"]
pub struct HeldRemovals(Arc<Removals>);

impl Drop for HeldRemovals {
    fn drop(&mut self) {
        let mut trees = Vec::new();
        self.0.0.send_modify(|going| {
            going.guards -= 1;
            if going.guards == 0 && !going.held.is_empty() {
                going.begun += 1;
                trees.append(&mut going.held);
            }
        });
        if !trees.is_empty() {
            start(trees, Begun(self.0.clone()));
        }
    }
}

impl Removals {
    /// Holds back the removals that begin from now on.
    pub(crate) fn hold(self: &Arc<Self>) -> HeldRemovals {
        self.0.send_modify(|going| going.guards += 1);
        HeldRemovals(self.clone())
    }

    /// Removes trees in the background, or here and now where there is no runtime.
    pub(crate) fn begin(self: &Arc<Self>, mut trees: Vec<HostPath>) {
        if trees.is_empty() {
            return;
        }
        self.0.send_modify(|going| {
            if going.guards > 0 {
                going.held.append(&mut trees);
            } else {
                going.begun += 1;
            }
        });
        if !trees.is_empty() {
            start(trees, Begun(self.clone()));
        }
    }

    /// Waits until nothing is being removed, and nothing is held back.
    pub(crate) async fn finish(&self) {
        let done = |going: &Going| going.begun == 0 && going.held.is_empty();
        // The sender is ours.
        let _ = self.0.subscribe().wait_for(done).await;
    }
}

fn start(trees: Vec<HostPath>, begun: Begun) {
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn what_is_held_back_goes_after_the_last_guard() {
        let directory = tempfile::tempdir().unwrap();
        let tree = |name: &str| {
            fs::create_dir_all(directory.path().join(name).join("below")).unwrap();
            HostPath::new(directory.path().join(name)).unwrap()
        };
        let removals = Arc::new(Removals::default());
        let guards = [removals.hold(), removals.hold()];
        let trees = vec![tree("a"), tree("b")];
        removals.begin(trees.clone());
        let waiting = tasks::spawn("reclaim", {
            let removals = removals.clone();
            async move { removals.finish().await }
        });
        for guard in guards {
            assert!(trees.iter().all(|tree| tree.as_path().exists()));
            drop(guard);
        }
        waiting.await.unwrap();
        assert!(!trees.iter().any(|tree| tree.as_path().exists()));
        let later = tree("c");
        removals.begin(vec![later.clone()]);
        removals.finish().await;
        assert!(!later.as_path().exists());
    }
}
