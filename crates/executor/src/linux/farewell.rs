//! The end of a process that nobody waits for.

use std::sync::Arc;

use parking_lot::Mutex;

use super::link::Link;
use crate::Held;

/// A connection to a keeper, with what must outlive what it keeps. However it is dropped, the values
/// are let go when the keeper is done, and not before.
#[derive(Debug)]
pub(crate) struct Farewell {
    link: Arc<Link>,
    held: Arc<Mutex<Option<Held>>>,
}

impl Farewell {
    /// Binds `held` to the keeper at the other end of `link`.
    pub(crate) fn new(link: Arc<Link>, held: Held) -> Self {
        Self { link, held: Arc::new(Mutex::new(Some(held))) }
    }

    /// Returns the connection.
    pub(crate) const fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Returns a handle by which the values are let go when the keeper has said that it is done.
    pub(crate) fn release(&self) -> Release {
        Release(self.held.clone())
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        // The keeper takes this as the order to kill.
        self.link.hang_up();
        let Some(held) = self.held.lock().take() else { return };
        if tokio::runtime::Handle::try_current().is_err() {
            // The program is ending; the kernel takes care of the rest.
            return;
        }
        let link = self.link.clone();
        let wait = async move {
            link.drain().await;
            drop(held);
        };
        tasks::spawn("farewell", wait).detach();
    }
}

/// Lets go of the values of a [`Farewell`].
#[derive(Debug)]
pub(crate) struct Release(Arc<Mutex<Option<Held>>>);

impl Release {
    /// Lets go: the keeper has said that nothing is left.
    pub(crate) fn now(&self) {
        let held = self.0.lock().take();
        drop(held);
    }
}
