//! The one door through which work starts.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;
use tracing::Instrument as _;

/// Why a task gave no result.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The task's code panicked; the panic was logged where it happened.
    #[error("task `{name}` panicked: {message}")]
    Panicked {
        /// The task's name.
        name: &'static str,
        /// The panic's message.
        message: String,
    },
    /// The runtime is ending.
    #[error("task `{name}` was stopped because the program is ending")]
    Stopped {
        /// The task's name.
        name: &'static str,
    },
}

/// A running task. Dropping it stops the task at its next await; awaiting it gives its result.
#[must_use = "a task stops when its handle is dropped"]
#[derive(Debug)]
pub struct Task<T> {
    name: &'static str,
    handle: JoinHandle<T>,
    detached: bool,
}

/// Starts `future` as a task of its own.
pub fn spawn<F>(name: &'static str, future: F) -> Task<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let span = tracing::debug_span!("task", name);
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    let handle = tokio::spawn(future.instrument(span));
    Task { name, handle, detached: false }
}

/// Runs `work`, which may block on a disk, a lock or a system call, on a thread meant for that.
///
/// The work cannot be interrupted: if the caller goes away, it still runs to its end.
///
/// # Errors
/// Returns an error if `work` panics or the program is ending.
pub async fn blocking<T, F>(name: &'static str, work: F) -> Result<T, JoinError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let span = tracing::Span::current();
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    let handle = tokio::task::spawn_blocking(move || span.in_scope(work));
    handle.await.map_err(|error| join_error(name, error))
}

impl<T> Task<T> {
    /// Lets the task run on without an owner: only for work that bounds itself and that nobody
    /// waits for, such as clean-up after a guard was dropped.
    pub fn detach(mut self) {
        self.detached = true;
    }

    /// Asks the task to stop at its next await.
    pub fn abort(&self) {
        self.handle.abort();
    }

    /// Returns true if the task has ended.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let name = self.name;
        Pin::new(&mut self.handle).poll(context).map_err(|error| join_error(name, error))
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if !self.detached {
            self.handle.abort();
        }
    }
}

fn join_error(name: &'static str, error: tokio::task::JoinError) -> JoinError {
    match error.try_into_panic() {
        Ok(panic) => JoinError::Panicked { name, message: panic_message(&*panic) },
        Err(_) => JoinError::Stopped { name },
    }
}

/// Returns what a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::{Notify, oneshot};

    use super::*;

    #[tokio::test]
    async fn dropping_the_handle_stops_the_task() {
        let (sender, receiver) = oneshot::channel::<()>();
        let started = Arc::new(Notify::new());
        let begun = started.clone();
        let task = spawn("test", async move {
            begun.notify_one();
            std::future::pending::<()>().await;
            drop(sender);
        });
        started.notified().await;
        drop(task);
        assert!(receiver.await.is_err());
    }

    #[tokio::test]
    async fn a_panic_is_an_error_with_its_message() {
        let error = spawn("test", async { panic!("boom {}", 1) }).await.unwrap_err();
        assert_eq!(error.to_string(), "task `test` panicked: boom 1");
        let error = blocking("test", || panic!("bang")).await.map(|(): ()| ()).unwrap_err();
        assert_eq!(error.to_string(), "task `test` panicked: bang");
    }
}
