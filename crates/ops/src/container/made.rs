//! A container that was made: its mounts, and its main process once there is one.

use std::sync::Arc;

use async_trait::async_trait;
use bridge::{BuildError, ContainerProcess, Detail, Kind, MadeContainer, Process, ProcessStreams};
use executor::{
    ContainerId, ExecSpec, ExitStatus, ExtraHost, GuestMount, Input, Network, Output, ProcessIo,
    ProcessSpec, Running, Signal, UserSpec,
};
use futures::FutureExt as _;
use mount::{GuestPath, Mount, MountSource, OverlayUpper, RootDir};
use parking_lot::Mutex;
use volumes::Outcome;

use super::contained::Contained;
use super::{not_run, told};
use crate::process::{self, Owner, Patron, Prepared};
use crate::{Services, failure};

/// What terminals are called where nobody says so.
const TERMINAL: &str = "TERM=xterm";

/// What a container is made of.
pub(super) struct Parts {
    pub(super) owner: Owner,
    pub(super) network: Network,
    pub(super) hostname: Option<String>,
    pub(super) extra_hosts: Vec<ExtraHost>,
    pub(super) prepared: Prepared,
}

/// A container of the executor.
pub(super) struct ProcessContainer {
    services: Arc<Services>,
    owner: Owner,
    network: Network,
    hostname: Option<String>,
    extra_hosts: Vec<ExtraHost>,
    root: Mount,
    root_readonly: bool,
    mounts: Vec<(GuestPath, GuestMount)>,
    trees: Vec<Option<Mount>>,
    /// What is mounted. The executor holds it too, until nothing is left of the container; taken out
    /// when the container is released. Held for a look only.
    prepared: Arc<Mutex<Option<Prepared>>>,
    /// Held while the main process starts, so that there is one.
    main: tokio::sync::Mutex<Main>,
}

/// The main process of a container.
enum Main {
    /// There was none yet.
    Unborn,
    /// It runs, or has ended.
    Begun(Arc<dyn Running>),
    /// The container is gone.
    Released,
}

impl std::fmt::Debug for ProcessContainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcessContainer").field("owner", &self.owner).finish_non_exhaustive()
    }
}

impl ProcessContainer {
    pub(super) fn new(services: Arc<Services>, parts: Parts) -> Self {
        let Parts { owner, network, hostname, extra_hosts, mut prepared } = parts;
        Self {
            services,
            owner,
            network,
            hostname,
            extra_hosts,
            root: prepared.root.clone(),
            root_readonly: prepared.root_readonly,
            mounts: std::mem::take(&mut prepared.mounts),
            trees: std::mem::take(&mut prepared.trees),
            prepared: Arc::new(Mutex::new(Some(prepared))),
            main: tokio::sync::Mutex::new(Main::Unborn),
        }
    }

    /// Returns what a process is told and given.
    async fn describe(&self, process: ContainerProcess) -> Result<ExecSpec, BuildError> {
        let mut env = process.env;
        let has_terminal = env.iter().any(|variable| variable.starts_with("TERM="));
        if process.tty && !has_terminal {
            env.push(TERMINAL.to_owned());
        }
        let clients = Patron::Container(&self.owner).clients(&self.services.sessions);
        let secrets = process::secret_env(&clients, &process.secret_env).await;
        env.extend(secrets.map_err(told)?);
        Ok(ExecSpec {
            args: process.args,
            env,
            cwd: GuestPath::new(&process.cwd).map_err(|error| told(failure(error)))?,
            user: UserSpec::new(process.user),
            security: process::security(process.security),
            tty: process.tty,
        })
    }

    fn main_spec(&self, process: ExecSpec) -> Result<ProcessSpec, BuildError> {
        let id = ContainerId::new(self.services.new_container_name());
        let id = id.map_err(|error| BuildError::from_error(Kind::Internal, error))?;
        let ExecSpec { args, env, cwd, user, security, tty } = process;
        let mut spec = ProcessSpec::new(id, self.root.clone(), args);
        (spec.env, spec.cwd, spec.user, spec.security, spec.tty) = (env, cwd, user, security, tty);
        spec.root_readonly = self.root_readonly;
        spec.mounts.clone_from(&self.mounts);
        spec.network = self.network;
        spec.hostname.clone_from(&self.hostname);
        spec.extra_hosts.clone_from(&self.extra_hosts);
        spec.held.hold(self.prepared.clone());
        Ok(spec)
    }

    /// Ends the use of what is mounted, of which nothing is left.
    async fn let_go(&self, outcome: Option<Outcome>) -> Result<(), BuildError> {
        let prepared = self.prepared.lock().take();
        let Some(mut prepared) = prepared else { return Ok(()) };
        let Some(leases) = prepared.leases.take() else { return Ok(()) };
        let ended = match outcome {
            Some(outcome) => leases.finish(outcome).await,
            None => leases.discard().await,
        };
        ended.map_err(|error| told(failure(error)))
    }
}

impl Drop for ProcessContainer {
    fn drop(&mut self) {
        if let Main::Begun(running) = self.main.get_mut() {
            // Who waits for it still holds it. If it has ended by itself, that is as good.
            let _ = running.signal(Signal::KILL);
        }
    }
}

#[async_trait]
impl MadeContainer<RootDir> for ProcessContainer {
    async fn start(
        &self,
        process: ContainerProcess,
        streams: ProcessStreams,
    ) -> Result<Box<dyn Process>, BuildError> {
        let process = self.describe(process).await?;
        let io = io_of(streams);
        let mut main = self.main.lock().await;
        let begun = match &*main {
            Main::Released => return Err(gone()),
            Main::Begun(running) => Some(running.clone()),
            Main::Unborn => None,
        };
        let Some(begun) = begun else {
            let started = self.services.executor.start(self.main_spec(process)?, io).await;
            let running: Arc<dyn Running> = Arc::from(started.map_err(not_run)?);
            *main = Main::Begun(running.clone());
            return Ok(Box::new(Contained::new(running)));
        };
        // Its end shall not have to wait for who starts another.
        drop(main);
        let running = begun.exec(process, io).await.map_err(not_run)?;
        Ok(Box::new(Contained::new(Arc::from(running))))
    }

    async fn look(&self, mount: usize) -> Result<RootDir, BuildError> {
        let tree = self.trees.get(mount).ok_or_else(|| {
            let text = format!("the container has {} mounts, none at {mount}", self.trees.len());
            BuildError::new(Kind::InvalidRequest, text)
        })?;
        let tree = tree.clone().ok_or_else(|| {
            let text = format!("mount {mount} is one that only the container's processes see");
            BuildError::new(Kind::InvalidRequest, text)
        })?;
        if self.prepared.lock().is_none() {
            return Err(gone());
        }
        let opened = tasks::blocking("look into container", move || {
            let opened = mount::detached::open(&readable(tree)).map_err(failure)?;
            opened.root().map_err(failure)
        });
        opened.await.map_err(|error| told(failure(error)))?.map_err(told)
    }

    async fn release(&self) -> Result<(), BuildError> {
        let main = std::mem::replace(&mut *self.main.lock().await, Main::Released);
        let Main::Begun(running) = main else { return self.let_go(None).await };
        let own = running.wait().now_or_never();
        let stopped = running.stop().await;
        let outcome = match &own {
            Some(Ok(ExitStatus::Code(0))) => Outcome::Succeeded,
            Some(Ok(ExitStatus::Code(_))) => Outcome::Failed,
            Some(Ok(ExitStatus::Signal(_) | ExitStatus::OutOfMemory) | Err(_)) | None => {
                Outcome::Killed
            }
        };
        let let_go = self.let_go(Some(outcome)).await;
        stopped.map_err(not_run)?;
        let_go?;
        match own.transpose().map_err(not_run)?.map(ExitStatus::code) {
            None | Some(0) => Ok(()),
            Some(code) => Err(BuildError::new(Kind::User, format!("exit code: {code}"))
                .with_detail(Detail::Exit(code))),
        }
    }
}

fn gone() -> BuildError {
    BuildError::new(Kind::NotFound, "the container was released")
}

fn io_of(streams: ProcessStreams) -> ProcessIo {
    let output = |sender: Option<_>| sender.map_or(Output::Discard, Output::Chunks);
    ProcessIo {
        stdin: streams.stdin.map_or(Input::Null, Input::Chunks),
        stdout: output(streams.stdout),
        stderr: output(streams.stderr),
    }
}

/// Returns a mount that shows the same tree and writes nothing. What a process writes at this moment
/// may be missing in it.
fn readable(mount: Mount) -> Mount {
    let source = match mount.source {
        MountSource::Overlay { mut lower, upper: Some(OverlayUpper { upper, .. }) } => {
            lower.insert(0, upper);
            MountSource::Overlay { lower, upper: None }
        }
        source @ (MountSource::Overlay { .. }
        | MountSource::Bind(_)
        | MountSource::Tmpfs { .. }) => source,
    };
    Mount { source, readonly: true }
}
