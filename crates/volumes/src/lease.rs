//! A step's volumes, held until it ends.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use mount::Mount;

use crate::ending::{Ending, Leftovers};
use crate::hold::Hold;
use crate::store::Store;
use crate::{Notice, Outcome, VolumeError, tidy};

/// A step's volumes. They end in [`Leases::conclude`] or [`Leases::finish`], in [`Leases::publish`], or
/// in [`Leases::discard`].
///
/// Dropped without one of these, they end as if the step had been killed: what was written to
/// `private` and `locked` volumes with layers of their own is thrown away, what was written to
/// `shared` ones is kept, and what was written in place is there anyway.
#[must_use = "a lease ends when it is dropped, and what was written may be thrown away"]
#[derive(Debug)]
pub struct Leases {
    store: Arc<Store>,
    /// One for each volume.
    holds: Vec<Hold>,
    /// For each mount that was asked for: its place in `holds`, and whether it is read-only.
    mounts: Vec<(usize, bool)>,
    /// True once the caller has them all.
    complete: bool,
}

impl Leases {
    pub(crate) const fn new(store: Arc<Store>, mounts: Vec<(usize, bool)>) -> Self {
        Self { store, holds: Vec::new(), mounts, complete: false }
    }

    pub(crate) fn push(&mut self, hold: Hold) {
        self.holds.push(hold);
    }

    pub(crate) fn complete(mut self) -> Self {
        self.complete = true;
        self
    }

    /// Returns what is to be mounted for the mount at `index` of the request; none if there is none.
    pub fn mount(&self, index: usize) -> Option<Mount> {
        let (hold, readonly) = *self.mounts.get(index)?;
        let mount = self.holds.get(hold)?.mount();
        Some(if readonly { mount.read_only() } else { mount })
    }

    /// Returns how many mounts there are: as many as were asked for.
    pub fn len(&self) -> usize {
        self.mounts.len()
    }

    /// Returns true if no mounts were asked for.
    pub fn is_empty(&self) -> bool {
        self.mounts.is_empty()
    }

    /// Returns open files that keep the volumes taken for as long as any process has them open, even
    /// if this one dies. A process that is to work on the volumes inherits them, so that nobody else
    /// begins before all that were started with them are gone. An end here ends the leases all the same.
    ///
    /// # Errors
    /// If the system has no more room for open files.
    pub fn inheritable(&self) -> Result<Vec<OwnedFd>, VolumeError> {
        self.holds.iter().filter_map(|hold| hold.lock_again().transpose()).collect()
    }

    /// Publishes what was written to all volumes.
    ///
    /// # Errors
    /// The first failure; a volume whose publish fails is as it was before the step.
    pub async fn publish(self) -> Result<(), VolumeError> {
        self.end(Ending::Publish).await.map(|_| ())
    }

    /// Throws away what was written to all volumes, except in place.
    ///
    /// # Errors
    /// The first failure; the volumes are given up all the same.
    pub async fn discard(self) -> Result<(), VolumeError> {
        self.end(Ending::Discard).await.map(|_| ())
    }

    /// Publishes or throws away, for each volume as its policy says about such an `outcome`. Returns
    /// what the step's user is to be told.
    ///
    /// # Errors
    /// The first failure; a volume whose publish fails is as it was before the step.
    pub async fn conclude(self, outcome: Outcome) -> Result<Vec<Notice>, VolumeError> {
        self.end(Ending::Outcome(outcome)).await
    }

    /// As [`Leases::conclude`], where there is no user to be told anything.
    ///
    /// # Errors
    /// As [`Leases::conclude`].
    pub async fn finish(self, outcome: Outcome) -> Result<(), VolumeError> {
        self.conclude(outcome).await.map(|_| ())
    }

    async fn end(mut self, ending: Ending) -> Result<Vec<Notice>, VolumeError> {
        let store = self.store.clone();
        let mut holds = std::mem::take(&mut self.holds);
        let failed = !holds.is_empty() && ending == Ending::Outcome(Outcome::Failed);
        holds.retain_mut(|hold| !hold.end_at_once(ending));
        let mut notices = Vec::new();
        if !holds.is_empty() {
            let store = store.clone();
            let work = move || end_all(&store, holds, ending);
            let (ended, tidying) =
                tasks::blocking("volumes.end", work).await.map_err(VolumeError::Stopped)?;
            tidying.start();
            notices = ended?;
        }
        if failed {
            // Only a hint at why it may have failed: that it is not known is no failure.
            let free = tasks::blocking("volumes.free", move || store.free()).await;
            notices.extend(free.ok().and_then(Result::ok).and_then(Notice::of_free));
        }
        Ok(notices)
    }
}

impl Drop for Leases {
    fn drop(&mut self) {
        if self.holds.is_empty() {
            return;
        }
        let ending = if self.complete { Ending::Outcome(Outcome::Killed) } else { Ending::Unused };
        let (holds, store) = (std::mem::take(&mut self.holds), self.store.clone());
        if tokio::runtime::Handle::try_current().is_err() {
            log(end_all(&store, holds, ending).0);
            return;
        }
        tasks::spawn("volumes.abandon", async move {
            let work = move || end_all(&store, holds, ending);
            if let Ok((first, tidying)) = tasks::blocking("volumes.end", work).await {
                log(first);
                tidying.start();
            }
        })
        .detach();
    }
}

fn log(ended: Result<Vec<Notice>, VolumeError>) {
    if let Err(error) = ended {
        tracing::warn!(error = &error as &dyn std::error::Error, "an abandoned lease ended badly");
    }
}

/// Ends all uses, each whatever becomes of the others. Returns the first failure, or what the step's
/// user is to be told.
fn end_all(
    store: &Arc<Store>,
    holds: Vec<Hold>,
    ending: Ending,
) -> (Result<Vec<Notice>, VolumeError>, tidy::Tidying) {
    let mut first = Ok(Vec::new());
    let mut tidying = tidy::Tidying::new(store.clone());
    for hold in holds {
        let volume = hold.volume.clone();
        match (hold.end(ending), &mut first) {
            (Ok(Leftovers { trash, orphans, deep, notices }), first) => {
                tidying.add(&volume, trash, orphans, deep);
                if let Ok(told) = first {
                    told.extend(notices);
                }
            }
            (Err(error), Ok(_)) => first = Err(error),
            (Err(error), Err(_)) => log(Err(error)),
        }
    }
    (first, tidying)
}
