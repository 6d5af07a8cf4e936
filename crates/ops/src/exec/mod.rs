//! The operation that runs a process.

mod key;
mod output;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cache::ImmutableRef;
use digests::{Digest, StableHasher};
use executor::{
    ContainerId, ExecutorError, ExitStatus, Input, Output, ProcessIo, ProcessSpec, Resources,
    Running, SetupError, StubRemoval, UserSpec,
};
use llb::{ExecOp, Vertex};
use mount::GuestPath;
use parking_lot::Mutex;
use progress::LogStream;
use solver::{CacheMap, Op, OpContext, OpError};
use tokio::sync::mpsc;
use tokio::time::Instant;
use volumes::Outcome;

use crate::process::{self, Patron, Prepared, Preparer};
use crate::{OperationError, Services, failure};
use output::Clipper;

/// Runs a process.
#[derive(Debug)]
pub(crate) struct ExecOperation {
    pub(crate) services: Arc<Services>,
    pub(crate) vertex: Arc<Vertex>,
    pub(crate) op: ExecOp,
}

#[async_trait]
impl Op<ImmutableRef> for ExecOperation {
    async fn cache_map(&self, _context: &OpContext) -> Result<CacheMap, OpError> {
        let platform = self.vertex.platform.as_ref();
        Ok(key::cache_map(&self.op, platform, self.vertex.inputs.len()))
    }

    async fn content_key(
        &self,
        _context: &OpContext,
        slot: usize,
        input: &ImmutableRef,
    ) -> Result<Option<Digest>, OpError> {
        let Some(selectors) = key::content_selectors(&self.op).remove(&slot) else {
            return Ok(None);
        };
        let view = self.services.refs.view(input).await.map_err(failure)?;
        let sums = self.services.refs.checksums(input);
        let input = input.clone();
        let digest = move || -> Result<Digest, OpError> {
            let root = view.root().map_err(failure)?;
            let mut hasher = StableHasher::new("exec.content.v1");
            for selector in selectors {
                let path = GuestPath::new(&selector).map_err(failure)?;
                let digest = sums.digest(&root, &path).map_err(|_| {
                    let missing = crate::FileError::NotFound(format!("\"{path}\""));
                    failure(OperationError::checksum(&input, missing))
                        .leaving(crate::unread(slot, &input))
                })?;
                hasher.feed(&digest);
            }
            Ok(hasher.finish())
        };
        tasks::blocking("checksum mount", digest).await.map_err(failure)?.map(Some)
    }

    async fn exec(
        &self,
        context: &OpContext,
        inputs: Vec<ImmutableRef>,
    ) -> Result<Vec<ImmutableRef>, OpError> {
        self.services.require_platform(self.vertex.platform.as_ref())?;
        let cwd = GuestPath::new(&self.op.cwd).map_err(failure)?;
        let (services, mounts) = (&self.services, &self.op.mounts[..]);
        let patron = Patron::Step(context);
        let preparer = Preparer { services, patron, mounts, inputs: &inputs, cwd: &cwd };
        let env = self.environment(context).await?;
        let mut prepared = preparer.prepare().await?;
        let mut spec = self.spec(&mut prepared, cwd, env)?;
        // The executor holds everything the process works on until nothing of it is left, however it
        // ends: if this future is dropped, what was written is let go only then.
        let held = Arc::new(Mutex::new(Some(prepared)));
        spec.held.hold(held.clone());
        let status = self.run(context, spec).await;
        let Some(mut prepared) = held.lock().take() else { return Err(OpError::cancelled()) };
        if let Some(leases) = prepared.leases.take() {
            let outcome = match &status {
                Ok(ExitStatus::Code(0)) => Outcome::Succeeded,
                Ok(ExitStatus::Code(_)) => Outcome::Failed,
                Ok(ExitStatus::Signal(_) | ExitStatus::OutOfMemory) | Err(_) => Outcome::Killed,
            };
            for notice in leases.conclude(outcome).await.map_err(failure)? {
                context.log(LogStream::Stderr, format!("{notice}\n"));
            }
        }
        match status.and_then(|status| self.judge(status)) {
            Ok(()) => prepared.commit().await,
            Err(error) => Err(error.leaving(prepared.remains(mounts, &inputs))),
        }
    }
}

impl ExecOperation {
    fn command(&self) -> String {
        self.op.args.join(" ")
    }

    fn judge(&self, status: ExitStatus) -> Result<(), OpError> {
        let (command, code) = (self.command(), status.code());
        if i32::try_from(code).is_ok_and(|code| self.op.accepts(code)) {
            return Ok(());
        }
        Err(OpError::new(match status {
            ExitStatus::OutOfMemory => OperationError::OutOfMemory { command, code },
            ExitStatus::Code(_) | ExitStatus::Signal(_) => OperationError::Exit { command, code },
        }))
    }

    /// Returns the error of a process that did not come to run.
    fn not_started(&self, context: &OpContext, error: ExecutorError) -> OpError {
        let command = self.command();
        match error {
            // As of a process that says so itself, for that is how clients know it: what runs a container ends
            // with this status if the container's program cannot be run.
            ExecutorError::Setup(
                error @ (SetupError::CommandNotFound(_) | SetupError::CommandNotExecutable { .. }),
            ) => {
                context.log(LogStream::Stderr, format!("{error}\n"));
                OpError::new(OperationError::Exit { command, code: 1 })
            }
            source => failure(OperationError::NotStarted { command, source }),
        }
    }

    /// Returns the environment: the operation's, proxies, and secrets.
    async fn environment(&self, context: &OpContext) -> Result<Vec<String>, OpError> {
        let mut env = self.op.env.clone();
        if let Some(proxy) = &self.op.proxy {
            for (name, value) in [
                ("HTTP_PROXY", &proxy.http),
                ("HTTPS_PROXY", &proxy.https),
                ("FTP_PROXY", &proxy.ftp),
                ("NO_PROXY", &proxy.no),
                ("ALL_PROXY", &proxy.all),
            ] {
                if !value.is_empty() {
                    env.push(format!("{name}={value}"));
                    env.push(format!("{}={value}", name.to_lowercase()));
                }
            }
        }
        let clients = Patron::Step(context).clients(&self.services.sessions);
        env.extend(process::secret_env(&clients, &self.op.secret_env).await?);
        Ok(env)
    }

    fn spec(
        &self,
        prepared: &mut Prepared,
        cwd: GuestPath,
        env: Vec<String>,
    ) -> Result<ProcessSpec, OpError> {
        let op = &self.op;
        let id = ContainerId::new(self.services.new_container_name()).map_err(failure)?;
        let mut spec = ProcessSpec::new(id, prepared.root.clone(), op.args.clone());
        spec.root_readonly = prepared.root_readonly;
        spec.mounts = std::mem::take(&mut prepared.mounts);
        spec.stub_removal = if op.remove_mount_stubs_recursive {
            StubRemoval::Recursive
        } else {
            StubRemoval::TargetsOnly
        };
        spec.env = env;
        spec.cwd = cwd;
        spec.user = UserSpec::new(op.user.clone());
        spec.network = process::network(op.network);
        spec.security = process::security(op.security);
        spec.hostname = (!op.hostname.is_empty()).then(|| op.hostname.clone());
        spec.extra_hosts = process::extra_hosts(&op.extra_hosts)?;
        for limit in &op.ulimits {
            // A negative number means no limit.
            let number = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
            let name = limit.name.parse().map_err(failure)?;
            let (soft, hard) = (number(limit.soft), number(limit.hard));
            spec.ulimits.push(executor::Ulimit { name, soft, hard });
        }
        spec.cgroup_parent = (!op.cgroup_parent.is_empty()).then(|| op.cgroup_parent.clone());
        spec.resources = resources(&self.vertex);
        spec.shm_size = None;
        Ok(spec)
    }

    /// Runs the process to its end, showing what it writes. Dropping the future kills it.
    async fn run(&self, context: &OpContext, spec: ProcessSpec) -> Result<ExitStatus, OpError> {
        let (stdout_sender, stdout) = mpsc::channel(16);
        let (stderr_sender, stderr) = mpsc::channel(16);
        let io = ProcessIo {
            stdin: Input::Null,
            stdout: Output::Chunks(stdout_sender),
            stderr: Output::Chunks(stderr_sender),
        };
        let started = self.services.executor.start(spec, io).await;
        let process: Box<dyn Running> =
            started.map_err(|error| self.not_started(context, error))?;
        let shown = show(context, stdout, stderr);
        let (status, clipper) = tokio::join!(process.wait(), shown);
        let status = status.map_err(failure)?;
        if !i32::try_from(status.code()).is_ok_and(|code| self.op.accepts(code)) {
            for (stream, data) in clipper.into_tail() {
                context.log(stream, data);
            }
        }
        Ok(status)
    }
}

async fn show(
    context: &OpContext,
    mut stdout: mpsc::Receiver<Bytes>,
    mut stderr: mpsc::Receiver<Bytes>,
) -> Clipper {
    let mut clipper = Clipper::new(Instant::now());
    loop {
        let (stream, data) = tokio::select! {
            Some(data) = stdout.recv() => (LogStream::Stdout, data),
            Some(data) = stderr.recv() => (LogStream::Stderr, data),
            else => return clipper,
        };
        if let Some(data) = clipper.take(stream, data, Instant::now()) {
            context.log(stream, data);
        }
    }
}

fn resources(vertex: &Vertex) -> Resources {
    let Some(asked) = &vertex.metadata.linux_resources else { return Resources::default() };
    let text = |value: &String| (!value.is_empty()).then(|| value.clone());
    Resources {
        memory: u64::try_from(asked.memory).ok().filter(|memory| *memory > 0),
        memory_swap: (asked.memory_swap != 0).then_some(asked.memory_swap),
        cpu_shares: (asked.cpu_shares > 0).then_some(asked.cpu_shares),
        cpu_quota: (asked.cpu_quota != 0).then_some(asked.cpu_quota),
        cpu_period: (asked.cpu_period > 0).then_some(asked.cpu_period),
        cpuset_cpus: text(&asked.cpuset_cpus),
        cpuset_mems: text(&asked.cpuset_mems),
    }
}
