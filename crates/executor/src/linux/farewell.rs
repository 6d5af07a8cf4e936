//! The end of a process that nobody waits for.

use std::sync::Arc;

use parking_lot::Mutex;

use super::link::Link;
use super::shelf::Shelf;
use crate::Held;

/// A connection to a keeper, with what must outlive what it keeps. However it is dropped, the values
/// are let go when the keeper is done, and not before.
#[derive(Debug)]
pub(crate) struct Farewell {
    link: Arc<Link>,
    state: Arc<Mutex<State>>,
    /// Where the keeper waits to be of use again; none if it is to end.
    idle: Option<Arc<Shelf<Arc<Link>>>>,
}

/// How far the keeper is.
#[derive(Debug)]
enum State {
    /// It may keep something.
    Busy(Held),
    /// It has said that nothing is left, and waits for the next order.
    Idle,
    /// Nothing is left, and it waits for nothing.
    Over,
}

impl Farewell {
    /// Binds `held` to the keeper at the other end of `link`.
    pub(crate) fn new(link: Arc<Link>, held: Held, idle: Option<Arc<Shelf<Arc<Link>>>>) -> Self {
        Self { link, state: Arc::new(Mutex::new(State::Busy(held))), idle }
    }

    /// Returns the connection.
    pub(crate) const fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Returns a handle by which the values are let go when the keeper has said that it is done.
    pub(crate) fn release(&self) -> Release {
        Release(self.state.clone())
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        let state = std::mem::replace(&mut *self.state.lock(), State::Over);
        let runs = tokio::runtime::Handle::try_current().is_ok();
        if let (State::Idle, Some(idle), true) = (&state, &self.idle, runs) {
            return idle.keep(self.link.clone());
        }
        // The keeper takes this as the order to kill.
        self.link.hang_up();
        // Without a runtime the program is ending; the kernel takes care of the rest.
        let (State::Busy(held), true) = (state, runs) else { return };
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
pub(crate) struct Release(Arc<Mutex<State>>);

impl Release {
    /// Lets go: the keeper has said that it could not begin.
    pub(crate) fn failed(&self) {
        self.now(State::Over);
    }

    /// Lets go: the keeper has said that nothing is left, and waits for the next order.
    pub(crate) fn done(&self) {
        self.now(State::Idle);
    }

    fn now(&self, state: State) {
        let before = std::mem::replace(&mut *self.0.lock(), state);
        drop(before);
    }
}
