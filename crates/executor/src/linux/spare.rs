//! A container that is made before anybody asks for it.
//!
//! Half of what a short step costs is the making of its container, most of which does not depend on what
//! runs in it. So while a process runs, a container of the same shape is made for whoever comes next. It
//! sees the host's mounts as they were when it was begun: if they have changed, it is of no use.

use std::fs::File;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::link::Link;
use super::message::Shape;

/// A container that waits for its plan.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The connection to its keeper, on which nothing is under way.
    pub link: Arc<Link>,
    shape: Shape,
    mounts: Mounts,
}

impl Prepared {
    /// Takes the connection to the keeper of a container of `shape`, begun after `mounts` was opened.
    pub(crate) const fn new(link: Arc<Link>, shape: Shape, mounts: Mounts) -> Self {
        Self { link, shape, mounts }
    }

    /// Returns true if it is of `shape`, and the host's mounts are as it sees them.
    pub(crate) fn serves(&self, shape: &Shape) -> bool {
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
        let prepared =
            Prepared::new(Arc::new(Link::new(ours).unwrap()), shape(own_network), Mounts::watch());
        (prepared, Link::new(theirs).unwrap())
    }

    #[tokio::test]
    async fn only_its_like_is_served() {
        let (prepared, keeper) = container(false);
        assert!(prepared.serves(&shape(false)));
        assert!(!prepared.serves(&shape(true)));
        let unknown = Prepared { mounts: Mounts(None), ..prepared };
        assert!(!unknown.serves(&shape(false)));
        drop(unknown);
        keeper.drain().await;
    }
}
