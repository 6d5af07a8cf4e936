//! The two traits of this crate.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::{
    ContainerId, ExecSpec, ExecutorError, ExitStatus, ProcessIo, ProcessSpec, Signal, TerminalSize,
};

/// Starts processes in namespaces of their own.
#[async_trait]
pub trait Executor: Send + Sync + Debug {
    /// Starts the process that `spec` describes and returns a guard on it.
    ///
    /// Returns once the process itself runs: everything that can fail before that is an error here.
    /// Dropping the future is like dropping the guard: nothing stays behind. What must not be let go
    /// before the last process is dead goes into [`ProcessSpec::held`].
    ///
    /// # Errors
    /// Returns [`ExecutorError::Setup`] if the container cannot be what `spec` says, and another
    /// error if the fault is ours or the machine's.
    async fn start(
        &self,
        spec: ProcessSpec,
        io: ProcessIo,
    ) -> Result<Box<dyn Running>, ExecutorError>;
}

/// A started process.
///
/// Dropping the guard kills the process and all its descendants, unmounts everything and removes
/// the cgroup, in the background; [`stop`](Self::stop) does the same and waits for it.
#[must_use = "the process is killed when its guard is dropped"]
#[async_trait]
pub trait Running: Send + Sync + Debug {
    /// Returns the container's name.
    fn id(&self) -> &ContainerId;

    /// Waits until the process has ended, everything it wrote was delivered, and its mounts and
    /// cgroup are gone. May be called by several, may be dropped and called again.
    ///
    /// # Errors
    /// Returns an error if the process's fate cannot be known.
    async fn wait(&self) -> Result<ExitStatus, ExecutorError>;

    /// Kills the process and all its descendants, and then waits as [`wait`](Self::wait) does.
    ///
    /// # Errors
    /// Returns an error if the process's fate cannot be known.
    async fn stop(&self) -> Result<ExitStatus, ExecutorError>;

    /// Sends a signal to the process (the first of its container). As the first process of a
    /// container, it only receives signals that it handles, and `KILL`.
    ///
    /// # Errors
    /// Returns [`ExecutorError::NotRunning`] if it has ended.
    fn signal(&self, signal: Signal) -> Result<(), ExecutorError>;

    /// Changes the size of the process's terminal.
    ///
    /// # Errors
    /// Returns [`ExecutorError::NoTerminal`] if the process was started without one.
    fn resize(&self, size: TerminalSize) -> Result<(), ExecutorError>;

    /// Starts another process in the same container. It ends with the first at the latest.
    ///
    /// # Errors
    /// As [`Executor::start`]; [`ExecutorError::NotRunning`] if the first process has ended.
    async fn exec(&self, spec: ExecSpec, io: ProcessIo) -> Result<Box<dyn Running>, ExecutorError>;
}
