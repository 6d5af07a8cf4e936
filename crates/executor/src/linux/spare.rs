//! A container that is made before anybody asks for it.
//!
//! Half of what a short step costs is the making of its container, most of which does not depend on what
//! runs in it. So while a process runs, a container of the same shape is made for whoever comes next. It
//! sees the host's mounts as they were when it was begun: if they have changed, it is of no use. Nobody
//! having come for a while, it goes.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tasks::Task;

use super::link::Link;
use super::message::Shape;

/// How long a container waits for somebody to need it.
const PATIENCE: Duration = Duration::from_secs(2);

/// A container that waits for its plan.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The connection to its keeper, on which nothing is under way.
    pub link: Link,
    shape: Shape,
    mounts: Mounts,
}

impl Prepared {
    /// Takes the connection to the keeper of a container of `shape`, begun after `mounts` was opened.
    pub(crate) const fn new(link: Link, shape: Shape, mounts: Mounts) -> Self {
        Self { link, shape, mounts }
    }

    fn serves(&self, shape: &Shape) -> bool {
        self.shape == *shape && !self.mounts.have_changed()
    }
}

/// The host's mounts, by which it is seen whether they change.
#[derive(Debug)]
pub(crate) struct Mounts(Option<File>);

impl Mounts {
    /// Begins to watch.
    pub(crate) fn watch() -> Self {
        Self(File::open("/proc/self/mountinfo").ok())
    }

    /// Returns true if something was mounted or unmounted since, or if that cannot be known.
    fn have_changed(&self) -> bool {
        let Some(file) = &self.0 else { return true };
        let mut polled = [PollFd::new(file, PollFlags::PRI)];
        poll(&mut polled, Some(&Timespec::default())) != Ok(0)
    }
}

/// The place of the container that is kept.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    slot: Mutex<Slot>,
    /// How many were kept.
    kept: AtomicU64,
}

#[derive(Debug, Default)]
enum Slot {
    #[default]
    Empty,
    Taken {
        number: u64,
        prepared: Box<Prepared>,
        /// Ends the waiting. Dropped with the container.
        _clearing: Task<()>,
    },
    /// Nothing is kept any more.
    Closed,
}

impl Spare {
    /// Returns the container that is kept, if it is of `shape` and still of use. If not, it goes.
    pub(crate) fn take(&self, shape: &Shape) -> Option<Prepared> {
        let mut slot = self.slot.lock();
        if matches!(*slot, Slot::Closed) {
            return None;
        }
        match std::mem::take(&mut *slot) {
            Slot::Taken { prepared, .. } => Some(*prepared).filter(|it| it.serves(shape)),
            Slot::Empty | Slot::Closed => None,
        }
    }

    /// Returns true if a container of `shape` is not kept already.
    pub(crate) fn wants(&self, shape: &Shape) -> bool {
        match &*self.slot.lock() {
            Slot::Empty => true,
            Slot::Taken { prepared, .. } => !prepared.serves(shape),
            Slot::Closed => false,
        }
    }

    /// Keeps a container, instead of another one, for a while.
    pub(crate) fn keep(self: &Arc<Self>, prepared: Prepared) {
        let number = self.kept.fetch_add(1, Ordering::Relaxed);
        let spare = Arc::downgrade(self);
        let clearing = tasks::spawn("spare container", async move {
            tokio::time::sleep(PATIENCE).await;
            if let Some(spare) = spare.upgrade() {
                spare.clear(number);
            }
        });
        let mut slot = self.slot.lock();
        if !matches!(*slot, Slot::Closed) {
            *slot = Slot::Taken { number, prepared: Box::new(prepared), _clearing: clearing };
        }
    }

    fn clear(&self, number: u64) {
        let mut slot = self.slot.lock();
        if matches!(&*slot, Slot::Taken { number: kept, .. } if *kept == number) {
            *slot = Slot::Empty;
        }
    }

    /// Returns the container that is kept, after which none is.
    pub(crate) fn close(&self) -> Option<Prepared> {
        match std::mem::replace(&mut *self.slot.lock(), Slot::Closed) {
            Slot::Taken { prepared, .. } => Some(*prepared),
            Slot::Empty | Slot::Closed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::channel::socket_pair;
    use super::super::kernel::Usual;
    use super::*;
    use crate::{Resources, Security};

    fn shape(own_network: bool) -> Shape {
        Shape {
            security: Security::Sandbox,
            own_network,
            shm_size: 1,
            usual: Usual { proc: true, dev: true, sys: true },
            cgroup_parent: None,
            resources: Resources::default(),
        }
    }

    /// A container and the end that its keeper has.
    fn container(own_network: bool) -> (Prepared, Link) {
        let (ours, theirs) = socket_pair().unwrap();
        let prepared = Prepared::new(Link::new(ours).unwrap(), shape(own_network), Mounts::watch());
        (prepared, Link::new(theirs).unwrap())
    }

    #[tokio::test]
    async fn only_its_like_is_served() {
        let spare = Arc::new(Spare::default());
        assert!(spare.wants(&shape(false)));
        let (prepared, _keeper) = container(false);
        spare.keep(prepared);
        assert!(!spare.wants(&shape(false)));
        assert!(spare.take(&shape(false)).is_some());
        assert!(spare.take(&shape(false)).is_none());
        let (prepared, keeper) = container(false);
        spare.keep(prepared);
        assert!(spare.wants(&shape(true)));
        assert!(spare.take(&shape(true)).is_none());
        keeper.drain().await;
        let unknown = Prepared { mounts: Mounts(None), ..container(false).0 };
        spare.keep(unknown);
        assert!(spare.take(&shape(false)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn it_does_not_wait_for_ever() {
        let spare = Arc::new(Spare::default());
        let (prepared, keeper) = container(false);
        spare.keep(prepared);
        keeper.drain().await;
        assert!(spare.take(&shape(false)).is_none());
    }

    #[tokio::test]
    async fn nothing_is_kept_after_the_end() {
        let spare = Arc::new(Spare::default());
        let (prepared, _keeper) = container(false);
        spare.keep(prepared);
        assert!(spare.close().is_some());
        assert!(!spare.wants(&shape(false)));
        let (prepared, keeper) = container(false);
        spare.keep(prepared);
        keeper.drain().await;
        assert!(spare.take(&shape(false)).is_none());
        assert!(spare.close().is_none());
    }
}
