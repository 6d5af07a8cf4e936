//! One computation per key, for as many callers as ask for it.

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use dashmap::{DashMap, Entry};
use futures::FutureExt as _;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::task::{JoinError, Task, panic_message, spawn};

/// Runs one computation per key at a time: whoever asks while it runs joins it, and all get a clone
/// of its value. When the last of them stops waiting (its future is dropped) the computation is
/// cancelled at its next await, unless it is in a [`Critical::section`]. Who asks after it has ended
/// starts a new one: nothing is remembered. Clones share their computations.
pub struct Flight<K, V> {
    runs: Arc<Runs<K, V>>,
}

type Runs<K, V> = DashMap<K, Arc<Run<V>>>;

impl<K, V> fmt::Debug for Flight<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight").finish_non_exhaustive()
    }
}

impl<K, V> Clone for Flight<K, V> {
    fn clone(&self) -> Self {
        Self { runs: self.runs.clone() }
    }
}

impl<K: Eq + Hash, V> Default for Flight<K, V> {
    fn default() -> Self {
        Self { runs: Arc::default() }
    }
}

/// One computation.
#[derive(Debug)]
struct Run<V> {
    // A plain mutex: held for a count, never over an await. Where both are needed it is taken after
    // the lock of the map's shard.
    state: Arc<Mutex<State>>,
    // The sender belongs to the computation: if that ends without a value, receivers are told.
    outcome: watch::Receiver<Option<Result<V, String>>>,
}

#[derive(Debug, Default)]
struct State {
    waiters: usize,
    sections: usize,
    /// Cancelled or finished: nobody may join any more.
    ended: bool,
    task: Option<Task<()>>,
}

/// Lets a computation protect a part of itself from being cancelled.
#[derive(Debug, Clone)]
pub struct Critical {
    state: Arc<Mutex<State>>,
}

impl Critical {
    /// Runs `work` to its end even if the last caller leaves meanwhile; the computation is then
    /// cancelled right after it. Meant for short steps that must not be left half done, such as the
    /// publishing of a finished file. `name` says which, in the log.
    pub async fn section<T>(&self, name: &'static str, work: impl Future<Output = T>) -> T {
        let section = Section::enter(&self.state);
        let value = work.await;
        if section.leave() {
            tracing::debug!(
                section = name,
                "nobody waits any more: stopped after a critical section"
            );
            // The task was aborted: it ends here.
            std::future::pending::<()>().await;
        }
        value
    }
}

/// Counts a section as left also if its work panics.
struct Section<'a>(&'a Mutex<State>);

impl<'a> Section<'a> {
    fn enter(state: &'a Mutex<State>) -> Self {
        state.lock().sections += 1;
        Self(state)
    }

    /// Ends the section; returns true if the computation is to stop now.
    fn leave(self) -> bool {
        let state = self.0;
        drop(self);
        let mut state = state.lock();
        let stop = state.waiters == 0 && state.sections == 0;
        if stop {
            state.ended = true;
            state.task.take();
        }
        stop
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        self.0.lock().sections -= 1;
    }
}

impl<K, V> Flight<K, V>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Returns a flight in which nothing runs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the value of the computation for `key`: of the one that runs, or else of `start`,
    /// which becomes a task with this `name`. Drop the future to stop waiting.
    ///
    /// # Errors
    /// Returns an error if the computation panics or the program is ending.
    pub async fn join<F, Fut>(&self, name: &'static str, key: K, start: F) -> Result<V, JoinError>
    where
        F: FnOnce(Critical) -> Fut + Send + 'static,
        Fut: Future<Output = V> + Send + 'static,
    {
        let waiter = self.board(name, key, start);
        let mut outcome = waiter.run.outcome.clone();
        let Ok(value) = outcome.wait_for(Option::is_some).await else {
            return Err(JoinError::Stopped { name });
        };
        match &*value {
            Some(Ok(value)) => Ok(value.clone()),
            Some(Err(message)) => Err(JoinError::Panicked { name, message: message.clone() }),
            // Not what was waited for; said as an end rather than by a panic.
            None => Err(JoinError::Stopped { name }),
        }
    }

    /// Returns true if a computation for `key` is running.
    pub fn is_running(&self, key: &K) -> bool {
        self.runs.get(key).is_some_and(|run| !run.state.lock().ended)
    }

    fn board<F, Fut>(&self, name: &'static str, key: K, start: F) -> Waiter<K, V>
    where
        F: FnOnce(Critical) -> Fut + Send + 'static,
        Fut: Future<Output = V> + Send + 'static,
    {
        let run = match self.runs.entry(key.clone()) {
            Entry::Occupied(mut entry) => {
                if !entry.get().add_waiter() {
                    entry.insert(self.launch(name, key.clone(), start));
                }
                entry.get().clone()
            }
            Entry::Vacant(entry) => entry.insert(self.launch(name, key.clone(), start)).clone(),
        };
        Waiter { flight: self.clone(), key, run }
    }

    /// Starts the computation, with one waiter. Nothing of the caller's runs in here: the map's shard
    /// is locked.
    fn launch<F, Fut>(&self, name: &'static str, key: K, start: F) -> Arc<Run<V>>
    where
        F: FnOnce(Critical) -> Fut + Send + 'static,
        Fut: Future<Output = V> + Send + 'static,
    {
        let (sender, outcome) = watch::channel(None);
        let state = Arc::new(Mutex::new(State { waiters: 1, ..State::default() }));
        let run = Arc::new(Run { state: state.clone(), outcome });
        let listed = Listed { runs: self.runs.clone(), key, state: state.clone() };
        let critical = Critical { state: state.clone() };
        let task = spawn(name, async move {
            let work = AssertUnwindSafe(async move { start(critical).await });
            let outcome = work.catch_unwind().await.map_err(|panic| panic_message(&*panic));
            // Taken off the map before anyone hears of the value: who asks after that starts anew.
            drop(listed);
            sender.send_replace(Some(outcome));
        });
        state.lock().task = Some(task);
        run
    }
}

impl<V> Run<V> {
    /// Counts one more waiter, unless the computation has ended.
    fn add_waiter(&self) -> bool {
        let mut state = self.state.lock();
        if !state.ended {
            state.waiters += 1;
        }
        !state.ended
    }
}

/// Takes a computation off the map when it ends, in whatever way.
struct Listed<K: Eq + Hash, V> {
    runs: Arc<Runs<K, V>>,
    key: K,
    state: Arc<Mutex<State>>,
}

impl<K: Eq + Hash, V> Drop for Listed<K, V> {
    fn drop(&mut self) {
        self.state.lock().ended = true;
        self.runs.remove_if(&self.key, |_, run| Arc::ptr_eq(&run.state, &self.state));
    }
}

/// One caller's place; leaving it may end the computation.
struct Waiter<K: Eq + Hash, V> {
    flight: Flight<K, V>,
    key: K,
    run: Arc<Run<V>>,
}

impl<K: Eq + Hash, V> Drop for Waiter<K, V> {
    fn drop(&mut self) {
        let mut state = self.run.state.lock();
        state.waiters -= 1;
        if state.waiters > 0 || state.sections > 0 || state.ended {
            return;
        }
        state.ended = true;
        let task = state.task.take();
        drop(state);
        // Off the map at once, not only when the task has noticed.
        self.flight.runs.remove_if(&self.key, |_, run| Arc::ptr_eq(run, &self.run));
        drop(task);
    }
}

#[cfg(test)]
#[path = "flight_tests.rs"]
mod tests;
