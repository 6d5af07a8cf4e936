//! The end of the daemon: no new builds, and a chance for those that run.

use std::sync::Arc;

use ::bridge::{BuildError, Kind};
use tokio::sync::watch;

/// Lets builds (or clients) in, until it is closed. Clones are the same gate.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<watch::Sender<State>>);

#[derive(Debug, Clone, Copy, Default)]
struct State {
    inside: usize,
    closed: bool,
}

/// One build that was let in.
#[must_use = "a build has left when its pass is dropped"]
#[derive(Debug)]
pub(crate) struct Pass(Arc<watch::Sender<State>>);

impl Gate {
    /// Returns an open gate.
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(State::default())))
    }

    /// Lets a build in.
    ///
    /// # Errors
    /// Returns an error once the gate is closed; clients try again elsewhere.
    pub(crate) fn enter(&self) -> Result<Pass, BuildError> {
        let entered = self.0.send_if_modified(|state| {
            state.inside += usize::from(!state.closed);
            !state.closed
        });
        if entered {
            return Ok(Pass(self.0.clone()));
        }
        Err(BuildError::new(Kind::Unavailable, "the daemon is shutting down"))
    }

    /// Lets no more builds in; returns how many are inside.
    pub(crate) fn close(&self) -> usize {
        self.0.send_modify(|state| state.closed = true);
        self.0.borrow().inside
    }

    /// Waits until nobody is inside.
    pub(crate) async fn empty(&self) {
        let mut state = self.0.subscribe();
        // The sender lives in `self`, so this cannot fail while we wait.
        let _ = state.wait_for(|state| state.inside == 0).await;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.send_modify(|state| state.inside -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_inside_may_finish() {
        let gate = Gate::new();
        let pass = gate.enter().unwrap();
        assert_eq!(gate.close(), 1);
        let refused = gate.enter().unwrap_err();
        assert_eq!(refused.kind(), Kind::Unavailable);
        let ((), ()) = tokio::join!(gate.empty(), async { drop(pass) });
        assert_eq!(gate.close(), 0);
    }
}
