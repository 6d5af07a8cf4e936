//! What is done when nobody waits for it: deleting, publishing for the dead, putting layers together.

use std::sync::Arc;

use mount::HostPath;

use crate::Outcome;
use crate::ending::Ending;
use crate::gate::Orphan;
use crate::hold::Hold;
use crate::settle::{self, Haste};
use crate::store::{Store, Volume};
use crate::tree;

/// Work for later.
#[derive(Debug)]
pub(crate) struct Tidying {
    store: Arc<Store>,
    trash: Vec<HostPath>,
    adopted: Vec<Hold>,
    deep: Vec<Volume>,
    haste: Haste,
}

impl Tidying {
    /// Returns work that gives way to others.
    pub(crate) const fn new(store: Arc<Store>) -> Self {
        let haste = Haste::GiveWay;
        Self { store, trash: Vec::new(), adopted: Vec::new(), deep: Vec::new(), haste }
    }

    /// Returns the same work, to be done when it is called for and not another time.
    pub(crate) fn thorough(self) -> Self {
        Self { haste: Haste::Wait, ..self }
    }

    pub(crate) fn add(
        &mut self,
        volume: &Volume,
        trash: Vec<HostPath>,
        orphans: Vec<Orphan>,
        deep: bool,
    ) {
        self.trash.extend(trash);
        self.adopt(volume, orphans);
        if deep {
            self.deep.push(volume.clone());
        }
    }

    pub(crate) fn adopt(&mut self, volume: &Volume, orphans: Vec<Orphan>) {
        self.adopted.extend(orphans.into_iter().map(|orphan| Hold::adopt(volume.clone(), orphan)));
    }

    /// Begins the work in the background.
    pub(crate) fn start(self) {
        if self.trash.is_empty() && self.adopted.is_empty() && self.deep.is_empty() {
            return;
        }
        tasks::spawn("volumes.tidy", async move {
            if let Err(error) = tasks::blocking("volumes.tidy", move || self.run()).await {
                tracing::warn!(%error, "volumes were not tidied up");
            }
        })
        .detach();
    }

    /// Does the work, and what comes of it.
    pub(crate) fn run(mut self) {
        for hold in std::mem::take(&mut self.adopted) {
            let volume = hold.volume.clone();
            match hold.end(Ending::Outcome(Outcome::Killed)) {
                Ok(left) => {
                    self.trash.extend(left.trash);
                    if left.deep {
                        self.deep.push(volume);
                    }
                }
                Err(error) => tracing::warn!(volume.id = %volume.key,
                    error = &error as &dyn std::error::Error, "a dead holder's layer is lost"),
            }
        }
        for volume in std::mem::take(&mut self.deep) {
            match settle::settle(&volume, self.haste) {
                Ok(trash) => self.trash.extend(trash),
                Err(error) => tracing::warn!(volume.id = %volume.key,
                    error = &error as &dyn std::error::Error, "layers were not put together"),
            }
        }
        delete(&self.store, &self.trash);
    }
}

/// Deletes what was moved out of the way. What cannot be deleted is left to the next sweep.
pub(crate) fn delete(store: &Store, trash: &[HostPath]) {
    for path in trash {
        let deleted = store
            .disk
            .before(crate::Step::Remove, path.as_path())
            .and_then(|()| tree::remove_all(path.as_path()));
        if let Err(error) = deleted {
            tracing::warn!(path = %path, %error, "not deleted");
        }
    }
}
