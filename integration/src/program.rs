//! Programs of the machine, run to their end or beside the test.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::Lines;

/// After this long a program hangs, and is killed. It is no measure of anything.
pub(crate) const HANGS: Duration = Duration::from_secs(300);

/// A program with its arguments.
#[derive(Debug)]
pub struct Program {
    command: Command,
    input: Option<Vec<u8>>,
    limit: Duration,
    /// Where both its streams go, instead of one place each.
    log: Option<Lines>,
}

impl Program {
    /// Returns the program at a path, or of that name.
    #[expect(clippy::disallowed_methods, reason = "the door for processes of the harness")]
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, input: None, limit: HANGS, log: None }
    }

    /// Adds an argument.
    pub fn arg(mut self, word: impl AsRef<OsStr>) -> Self {
        self.command.arg(word);
        self
    }

    /// Adds arguments.
    pub fn args(mut self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(words);
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Removes a variable from its environment.
    pub fn without_env(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Sets its working directory.
    pub fn directory(mut self, path: &Path) -> Self {
        self.command.current_dir(path);
        self
    }

    /// Writes `bytes` to its standard input.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.command.stdin(Stdio::piped());
        self.input = Some(bytes.into());
        self
    }

    /// Takes it for hanging after `limit` only.
    pub fn patiently(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Adds what it says on either stream to `lines`.
    pub fn logged_to(mut self, lines: &Lines) -> Self {
        self.log = Some(lines.clone());
        self
    }

    /// Runs it to its end, with whatever status.
    ///
    /// # Errors
    /// Fails if it cannot be started, or hangs.
    pub fn run(self) -> anyhow::Result<Finished> {
        self.spawn()?.wait()
    }

    /// Runs it to its end, which must be a success, and returns what it said on standard output.
    ///
    /// # Errors
    /// Fails if it cannot be started, hangs, or ends in another way.
    pub fn succeed(self) -> anyhow::Result<String> {
        let shown = format!("{:?}", self.command);
        let finished = self.run()?;
        anyhow::ensure!(
            finished.status.success(),
            "{shown}: {}\n{}\n{}",
            finished.status,
            finished.stdout,
            finished.stderr
        );
        Ok(finished.stdout)
    }

    /// Starts it.
    ///
    /// # Errors
    /// Fails if it cannot be started.
    pub fn spawn(mut self) -> anyhow::Result<Running> {
        let shown = format!("{:?}", self.command);
        let mut child = self.command.spawn().with_context(|| format!("cannot start {shown}"))?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), self.input) {
            // A program that does not read all of it closes the pipe, which is its right.
            std::thread::spawn(move || stdin.write_all(&input));
        }
        let (stdout, stderr) = match self.log {
            Some(log) => (log.clone(), log),
            None => (Lines::default(), Lines::default()),
        };
        let readers = [
            child.stdout.take().map(|stream| stdout.follow(stream)),
            child.stderr.take().map(|stream| stderr.follow(stream)),
        ];
        let readers = readers.into_iter().flatten().collect();
        Ok(Running { child, shown, stdout, stderr, readers, limit: self.limit })
    }
}

/// How a program ended, and what it said.
#[derive(Debug, Clone)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// A program that runs; it is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    shown: String,
    /// What it writes to standard output.
    pub stdout: Lines,
    /// What it writes to standard error.
    pub stderr: Lines,
    readers: Vec<JoinHandle<()>>,
    limit: Duration,
}

impl Running {
    /// Returns its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// Fails if it has ended and was waited for.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.context("a process has an id above zero")?;
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.shown))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Fails if it hangs.
    pub fn wait(mut self) -> anyhow::Result<Finished> {
        let status = self.ended(self.limit)?;
        for reader in self.readers.drain(..) {
            // A reader cannot panic but on a broken invariant, and the lines before that still count.
            let _ = reader.join();
        }
        Ok(Finished { status, stdout: self.stdout.text(), stderr: self.stderr.text() })
    }

    /// Returns whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Waits for its end, and leaves what it said to be read.
    ///
    /// # Errors
    /// Fails, and kills it, if it has not ended after `limit`.
    pub fn ended(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        if !wait_for_exit(self.child.id(), limit)? {
            let _ = self.child.kill();
            let _ = self.child.wait();
            anyhow::bail!("{} hangs\n{}\n{}", self.shown, self.stdout.text(), self.stderr.text());
        }
        self.child.wait().with_context(|| format!("cannot wait for {}", self.shown))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until a process has ended; returns whether it did before `limit`.
pub(crate) fn wait_for_exit(process: u32, limit: Duration) -> anyhow::Result<bool> {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw).context("not a process id")?;
    let watched = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(watched) => watched,
        Err(rustix::io::Errno::SRCH) => return Ok(true),
        Err(error) => return Err(error).context("cannot watch a process"),
    };
    let fd = watched.as_fd();
    let limit = limit.try_into().context("a limit that the system does not know")?;
    let ready = loop {
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit)) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other.context("cannot wait for a process")?,
        }
    };
    Ok(ready > 0)
}
