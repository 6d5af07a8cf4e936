//! An executor for tests that runs nothing, and is stricter than the one that does.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tasks::Task;
use tokio::sync::watch;

use crate::{
    ContainerId, ExecSpec, Executor, ExecutorError, ExitStatus, GuestMount, Output, ProcessIo,
    ProcessSpec, Running, SetupError, Signal, TerminalSize,
};

/// What a process of a [`FakeExecutor`] does.
#[derive(Debug, Clone)]
pub struct FakeProcess {
    /// What it writes.
    pub stdout: Vec<Bytes>,
    /// What it writes besides.
    pub stderr: Vec<Bytes>,
    /// How it ends; none if it runs until it is killed.
    pub status: Option<ExitStatus>,
}

impl FakeProcess {
    /// Returns a process that says nothing and ends with `code`.
    pub const fn exits(code: u8) -> Self {
        Self { stdout: Vec::new(), stderr: Vec::new(), status: Some(ExitStatus::Code(code)) }
    }

    /// Returns a process that says nothing and runs until it is killed.
    pub const fn hangs() -> Self {
        Self { stdout: Vec::new(), stderr: Vec::new(), status: None }
    }

    /// Returns the same process, writing `text` too.
    #[must_use]
    pub fn says(mut self, text: impl Into<Bytes>) -> Self {
        self.stdout.push(text.into());
        self
    }
}

type Script = dyn Fn(&ProcessSpec) -> Result<FakeProcess, SetupError> + Send + Sync;

/// Runs nothing: a script says what each process would do. Refuses what the production executor merely
/// happens to put up with, such as mounts in the wrong order. Clones share what they saw.
#[derive(Clone)]
pub struct FakeExecutor {
    script: Arc<Script>,
    seen: Arc<Mutex<Vec<ProcessSpec>>>,
    running: Arc<Mutex<BTreeSet<ContainerId>>>,
}

impl fmt::Debug for FakeExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeExecutor").field("running", &self.running).finish_non_exhaustive()
    }
}

impl FakeExecutor {
    /// Returns an executor whose processes do what `script` says. The script may write files: it is
    /// called when the process would start.
    pub fn new(
        script: impl Fn(&ProcessSpec) -> Result<FakeProcess, SetupError> + Send + Sync + 'static,
    ) -> Self {
        Self { script: Arc::new(script), seen: Arc::default(), running: Arc::default() }
    }

    /// Returns the processes that were started so far.
    pub fn started(&self) -> Vec<ProcessSpec> {
        self.seen.lock().clone()
    }

    /// Returns the names of the containers that run.
    pub fn running(&self) -> Vec<ContainerId> {
        self.running.lock().iter().cloned().collect()
    }
}

#[async_trait]
impl Executor for FakeExecutor {
    async fn start(
        &self,
        spec: ProcessSpec,
        io: ProcessIo,
    ) -> Result<Box<dyn Running>, ExecutorError> {
        check(&spec).map_err(ExecutorError::Invalid)?;
        let claim = Claim::new(&self.running, &spec.id)?;
        let process = (self.script)(&spec)?;
        let (mut spec, mut seen) = (spec, self.seen.lock());
        let held = std::mem::take(&mut spec.held);
        seen.push(spec.clone());
        let kept = (claim, held);
        Ok(Box::new(FakeRunning::new(spec, process, io, kept, self.script.clone())))
    }
}

/// Says what is wrong with a description.
fn check(spec: &ProcessSpec) -> Result<(), String> {
    if spec.args.first().is_none_or(String::is_empty) {
        return Err("no command".to_owned());
    }
    if let Some(bad) = spec.env.iter().find(|variable| variable.find('=').is_none_or(|at| at == 0))
    {
        return Err(format!("{bad:?} is not `NAME=value`"));
    }
    if spec.root.readonly {
        return Err("the root itself is read-only; use `root_readonly`".to_owned());
    }
    for (index, (target, mount)) in spec.mounts.iter().enumerate() {
        let later = spec.mounts.iter().skip(index + 1);
        if target.is_root() {
            return Err("`/` is given as the root, not as a mount".to_owned());
        }
        if let Some((other, _)) = later.clone().find(|(other, _)| target.starts_with(other)) {
            return Err(format!("`{target}` is mounted before `{other}`, which would cover it"));
        }
        if let GuestMount::File { mode, .. } | GuestMount::Tmpfs { mode, .. } = mount
            && mode & !0o7777 != 0
        {
            return Err(format!("{mode:o} has more than permission bits"));
        }
    }
    Ok(())
}

/// A container's name, taken while it runs.
#[derive(Debug)]
struct Claim {
    id: ContainerId,
    running: Arc<Mutex<BTreeSet<ContainerId>>>,
}

impl Claim {
    fn new(
        running: &Arc<Mutex<BTreeSet<ContainerId>>>,
        id: &ContainerId,
    ) -> Result<Self, ExecutorError> {
        if running.lock().insert(id.clone()) {
            Ok(Self { id: id.clone(), running: running.clone() })
        } else {
            Err(ExecutorError::Invalid(format!("container `{id}` already runs")))
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.running.lock().remove(&self.id);
    }
}

struct FakeRunning {
    spec: ProcessSpec,
    script: Arc<Script>,
    kill: watch::Sender<Option<i32>>,
    ended: watch::Receiver<Option<ExitStatus>>,
    _task: Task<()>,
}

impl fmt::Debug for FakeRunning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeRunning").field("id", &self.spec.id).finish_non_exhaustive()
    }
}

impl FakeRunning {
    fn new(
        spec: ProcessSpec,
        process: FakeProcess,
        io: ProcessIo,
        claim: impl Send + 'static,
        script: Arc<Script>,
    ) -> Self {
        let (kill, killed) = watch::channel(None);
        let (end, ended) = watch::channel(None);
        let task = tasks::spawn("fake process", async move {
            let status = live(process, io, killed).await;
            drop(claim);
            end.send_replace(Some(status));
        });
        Self { spec, script, kill, ended, _task: task }
    }

    fn not_running(&self) -> ExecutorError {
        ExecutorError::NotRunning(self.spec.id.to_string())
    }

    fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }
}

async fn live(
    process: FakeProcess,
    io: ProcessIo,
    mut killed: watch::Receiver<Option<i32>>,
) -> ExitStatus {
    let work = async {
        for (output, chunks) in [(io.stdout, process.stdout), (io.stderr, process.stderr)] {
            let Output::Chunks(sender) = output else { continue };
            for chunk in chunks {
                // As in production, a reader that went away changes nothing.
                let _ = sender.send(chunk).await;
            }
        }
        match process.status {
            Some(status) => status,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        status = work => status,
        signal = killed.wait_for(Option::is_some) => {
            ExitStatus::Signal(signal.ok().and_then(|signal| *signal).unwrap_or(libc::SIGKILL))
        }
    }
}

#[async_trait]
impl Running for FakeRunning {
    fn id(&self) -> &ContainerId {
        &self.spec.id
    }

    async fn wait(&self) -> Result<ExitStatus, ExecutorError> {
        let mut ended = self.ended.clone();
        let status = ended.wait_for(Option::is_some).await.map_err(|_| self.not_running())?;
        status.ok_or_else(|| self.not_running())
    }

    async fn stop(&self) -> Result<ExitStatus, ExecutorError> {
        self.kill.send_replace(Some(libc::SIGKILL));
        self.wait().await
    }

    fn signal(&self, signal: Signal) -> Result<(), ExecutorError> {
        if self.has_ended() {
            return Err(self.not_running());
        }
        // The first process of a container that handles no signals is ended by one alone.
        if signal == Signal::KILL {
            self.kill.send_replace(Some(signal.number()));
        }
        Ok(())
    }

    fn resize(&self, _: TerminalSize) -> Result<(), ExecutorError> {
        if self.spec.tty {
            Ok(())
        } else {
            Err(ExecutorError::NoTerminal(self.spec.id.to_string()))
        }
    }

    async fn exec(&self, spec: ExecSpec, io: ProcessIo) -> Result<Box<dyn Running>, ExecutorError> {
        if self.has_ended() {
            return Err(self.not_running());
        }
        let ExecSpec { args, env, cwd, user, security, tty } = spec;
        let spec = ProcessSpec { args, env, cwd, user, security, tty, ..self.spec.clone() };
        check(&spec).map_err(ExecutorError::Invalid)?;
        let process = (self.script)(&spec)?;
        Ok(Box::new(Self::new(spec, process, io, (), self.script.clone())))
    }
}

#[cfg(test)]
mod tests {
    use mount::{GuestPath, HostPath, Mount};

    use super::*;

    fn spec(id: &str) -> ProcessSpec {
        let root = Mount::bind(HostPath::new("/nowhere").unwrap());
        ProcessSpec::new(ContainerId::new(id).unwrap(), root, vec!["true".to_owned()])
    }

    #[tokio::test]
    async fn the_script_decides() {
        let executor = FakeExecutor::new(|_| Ok(FakeProcess::exits(3).says("hello")));
        let (out, mut stdout) = tokio::sync::mpsc::channel(1);
        let io = ProcessIo { stdout: Output::Chunks(out), ..ProcessIo::null() };
        let running = executor.start(spec("a"), io).await.unwrap();
        assert_eq!(stdout.recv().await.as_deref(), Some(&b"hello"[..]));
        assert_eq!(running.wait().await.unwrap(), ExitStatus::Code(3));
        assert!(executor.running().is_empty());
        assert_eq!(executor.started().len(), 1);
    }

    #[tokio::test]
    async fn a_process_hangs_until_it_is_killed() {
        let executor = FakeExecutor::new(|_| Ok(FakeProcess::hangs()));
        let running = executor.start(spec("a"), ProcessIo::null()).await.unwrap();
        assert!(executor.start(spec("a"), ProcessIo::null()).await.is_err(), "the name is taken");
        running.signal(Signal::TERM).unwrap();
        assert_eq!(running.stop().await.unwrap(), ExitStatus::Signal(9));
        assert!(running.signal(Signal::TERM).is_err());
    }

    #[tokio::test]
    async fn disorder_is_refused() {
        let executor = FakeExecutor::new(|_| Ok(FakeProcess::exits(0)));
        let tmpfs = || GuestMount::Tmpfs { size: None, mode: 0o755 };
        let path = |text: &str| GuestPath::new(text).unwrap();
        let mut bad = spec("a");
        bad.mounts = vec![(path("/a/b"), tmpfs()), (path("/a"), tmpfs())];
        assert!(executor.start(bad, ProcessIo::null()).await.is_err());
        let mut bad = spec("a");
        bad.env = vec!["NOTHING".to_owned()];
        assert!(executor.start(bad, ProcessIo::null()).await.is_err());
    }
}
