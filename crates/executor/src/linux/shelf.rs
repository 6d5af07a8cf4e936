//! Something that is kept for whoever needs it next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tasks::Task;

/// How long a thing waits for somebody to need it.
const PATIENCE: Duration = Duration::from_secs(2);

/// The place of one thing. Nobody having come for it for a while, it goes.
#[derive(Debug)]
pub(crate) struct Shelf<T> {
    slot: Mutex<Slot<T>>,
    /// How many were kept.
    kept: AtomicU64,
}

#[derive(Debug, Default)]
enum Slot<T> {
    #[default]
    Empty,
    Taken {
        number: u64,
        thing: Box<T>,
        /// Ends the waiting. Dropped with the thing.
        _clearing: Task<()>,
    },
    /// Nothing is kept any more.
    Closed,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { slot: Mutex::default(), kept: AtomicU64::default() }
    }
}

impl<T: Send + 'static> Shelf<T> {
    /// Returns what is kept.
    pub(crate) fn take(&self) -> Option<T> {
        let mut slot = self.slot.lock();
        if matches!(*slot, Slot::Closed) {
            return None;
        }
        match std::mem::take(&mut *slot) {
            Slot::Taken { thing, .. } => Some(*thing),
            Slot::Empty | Slot::Closed => None,
        }
    }

    /// Returns true if nothing that `serves` is kept, and something may be.
    pub(crate) fn lacks(&self, serves: impl FnOnce(&T) -> bool) -> bool {
        match &*self.slot.lock() {
            Slot::Empty => true,
            Slot::Taken { thing, .. } => !serves(thing),
            Slot::Closed => false,
        }
    }

    /// Keeps a thing, instead of another one, for a while; must be called within a runtime.
    pub(crate) fn keep(self: &Arc<Self>, thing: T) {
        let number = self.kept.fetch_add(1, Ordering::Relaxed);
        let shelf = Arc::downgrade(self);
        let clearing = tasks::spawn("clear shelf", async move {
            tokio::time::sleep(PATIENCE).await;
            if let Some(shelf) = shelf.upgrade() {
                shelf.clear(number);
            }
        });
        let mut slot = self.slot.lock();
        if !matches!(*slot, Slot::Closed) {
            *slot = Slot::Taken { number, thing: Box::new(thing), _clearing: clearing };
        }
    }

    fn clear(&self, number: u64) {
        let mut slot = self.slot.lock();
        if matches!(&*slot, Slot::Taken { number: kept, .. } if *kept == number) {
            *slot = Slot::Empty;
        }
    }

    /// Returns what is kept, after which nothing is.
    pub(crate) fn close(&self) -> Option<T> {
        match std::mem::replace(&mut *self.slot.lock(), Slot::Closed) {
            Slot::Taken { thing, .. } => Some(*thing),
            Slot::Empty | Slot::Closed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_thing_does_not_wait_for_ever() {
        let shelf = Arc::new(Shelf::default());
        shelf.keep(1);
        shelf.keep(2);
        assert!(!shelf.lacks(|thing| *thing == 2));
        assert!(shelf.lacks(|thing| *thing == 1));
        assert_eq!((shelf.take(), shelf.take()), (Some(2), None));
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<()>(1);
        let shelf = Arc::new(Shelf::default());
        shelf.keep(sender);
        assert_eq!(receiver.recv().await, None);
        assert!(shelf.take().is_none());
    }

    #[tokio::test]
    async fn nothing_is_kept_after_the_end() {
        let shelf = Arc::new(Shelf::default());
        shelf.keep(1);
        assert_eq!(shelf.close(), Some(1));
        assert!(!shelf.lacks(|_| false));
        shelf.keep(2);
        assert_eq!((shelf.take(), shelf.close()), (None, None));
    }
}
