//! The end of the program, said once and heard everywhere.

use std::sync::Arc;

use tokio::sync::watch;

/// Tells any number of listeners that the program is ending. Clones share one state.
#[derive(Debug, Clone)]
pub struct Shutdown(Arc<watch::Sender<bool>>);

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// Returns a handle on a program that is not ending yet.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Says that the program is ending. Saying it twice changes nothing.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Returns true once the program is ending.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the program is ending; returns at once if it already is.
    pub async fn begun(&self) {
        let mut receiver = self.0.subscribe();
        // The sender lives in `self`, so this cannot fail while we wait.
        let _ = receiver.wait_for(|ending| *ending).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everyone_hears_it_early_or_late() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.has_begun());
        let ((), ()) = tokio::join!(shutdown.begun(), async { shutdown.clone().begin() });
        shutdown.begun().await;
        assert!(shutdown.has_begun());
    }
}
