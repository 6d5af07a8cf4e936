//! Containers beside the steps of a build: what a frontend runs, looks into and lets go (protocol page
//! `gateway.md` §4).
//!
//! A [`Containers`] makes a [`Container`] of results of its build; the first process started in it is
//! its main process, all others live inside that one's container. Letting go of a guard kills.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use llb::{ExtraHost, Mount, NetMode, SecretEnv, SecurityMode};
use oci::Platform;
use tokio::sync::mpsc;

use crate::{BuildError, FileRange, FileStat, RefHandle};

/// Makes containers of the results of one build. They end with the build at the latest.
#[async_trait]
pub trait Containers: Send + Sync + Debug {
    /// Makes a container in which nothing runs yet. Results that it mounts are built first.
    ///
    /// # Errors
    /// Returns an error if a mount cannot be what it should, or the build may not have it.
    async fn create(&self, request: ContainerRequest) -> Result<Arc<dyn Container>, BuildError>;
}

/// A container, as a value.
#[derive(Debug, Clone, Default)]
pub struct ContainerRequest {
    /// What is mounted, in the order by which [`Container::read_file`] counts; one of them at `/`.
    pub mounts: Vec<ContainerMount>,
    /// Files that appear inside, readable by the superuser alone: path and content.
    pub files: Vec<(String, Bytes)>,
    /// The network that its processes see.
    pub network: NetMode,
    /// Which machine its programs are for; none is the daemon's own.
    pub platform: Option<Platform>,
    /// More entries for `/etc/hosts`.
    pub extra_hosts: Vec<ExtraHost>,
    /// The host name; empty is the default.
    pub hostname: String,
}

/// Something mounted in a container. What is written to a bind mount is lost with the container.
#[derive(Debug, Clone)]
pub struct ContainerMount {
    /// What kind of mount, and where; its input and output mean nothing here.
    pub mount: Mount,
    /// The result that it shows, or starts from; empty for an empty directory.
    pub reference: RefHandle,
}

/// A container. Dropping the last of it ends its processes, as [`Container::release`] does.
#[async_trait]
pub trait Container: Send + Sync + Debug {
    /// Starts a process: the main one, or one more beside it. Returns when it runs.
    ///
    /// # Errors
    /// Returns an error if it cannot run, or if the main process has ended.
    async fn start(
        &self,
        process: ContainerProcess,
        streams: ProcessStreams,
    ) -> Result<Box<dyn Process>, BuildError>;

    /// Returns the content of a regular file of a mount, as [`crate::Bridge::read_file`] does.
    async fn read_file(
        &self,
        mount: usize,
        path: &str,
        range: Option<FileRange>,
    ) -> Result<Bytes, BuildError>;

    /// Returns the children of a directory of a mount, as [`crate::Bridge::read_dir`] does.
    async fn read_dir(
        &self,
        mount: usize,
        path: &str,
        include: Option<&str>,
    ) -> Result<Vec<FileStat>, BuildError>;

    /// Returns what is at a path of a mount, as [`crate::Bridge::stat_file`] does.
    async fn stat_file(&self, mount: usize, path: &str) -> Result<FileStat, BuildError>;

    /// Ends all its processes and lets go of its mounts; nothing can be done with it afterwards.
    ///
    /// # Errors
    /// Returns how the main process had failed, if it had.
    async fn release(&self) -> Result<(), BuildError>;
}

/// A process, as a value.
#[derive(Debug, Clone, Default)]
pub struct ContainerProcess {
    /// The command and its arguments.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Variables whose values are secrets of the client's.
    pub secret_env: Vec<SecretEnv>,
    /// The working directory; created when missing.
    pub cwd: String,
    /// `user[:group]`; empty is the superuser.
    pub user: String,
    /// How it is confined.
    pub security: SecurityMode,
    /// True to give it a terminal: everything it says comes out of `stdout` then.
    pub tty: bool,
}

/// The streams of a process; what is missing is empty, or goes nowhere.
#[derive(Debug, Default)]
pub struct ProcessStreams {
    /// What it reads; the end of file comes when the sender is dropped.
    pub stdin: Option<mpsc::Receiver<Bytes>>,
    /// What it says. When the channel is full the process waits.
    pub stdout: Option<mpsc::Sender<Bytes>>,
    /// What it says besides.
    pub stderr: Option<mpsc::Sender<Bytes>>,
}

/// A running process. Dropping it kills the process.
#[must_use = "the process is killed when this is dropped"]
#[async_trait]
pub trait Process: Send + Sync + Debug {
    /// Waits for its end, and until all that it said was delivered; returns its exit status, which is
    /// 128 and the signal's number if a signal ended it.
    async fn wait(&self) -> Result<u32, BuildError>;

    /// Sends it a signal, by name or number: `TERM`, `15`.
    fn signal(&self, signal: &str) -> Result<(), BuildError>;

    /// Changes the size of its terminal.
    fn resize(&self, rows: u16, columns: u16) -> Result<(), BuildError>;
}
