//! A real `larderd` on a root of its own, judged by its log and by what it leaves behind.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::leftovers::{Leftovers, remove_cgroups};
use crate::{Lines, Program, Running, Settings};

/// How long a daemon may take to answer, or to end, before it is taken for hanging.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a connection is tried; each try waits for a line of the log or this long.
const TRIES: usize = 1200;
const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// How a daemon is started.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// Lines of its configuration, after those that every test needs.
    pub config: String,
    /// Flags, after those that every test needs.
    pub flags: Vec<String>,
    /// A program with its arguments that becomes the daemon, to start it in another surrounding.
    pub under: Vec<String>,
    /// Puts its root on a file system of its own, of this many bytes.
    pub disk: Option<u64>,
}

/// A real `larderd` on a root of its own. It is stopped and judged when this is dropped.
#[derive(Debug)]
pub struct Daemon {
    directory: TempDir,
    launch: Launch,
    program: PathBuf,
    lines: Lines,
    running: Option<Running>,
    allowed: Mutex<Vec<String>>,
    /// Whether its log and what it leaves behind count.
    judged: bool,
}

impl Daemon {
    /// Starts a daemon, and waits until it answers.
    ///
    /// # Errors
    /// Fails if it does not come up; the error has its log.
    pub fn start(settings: &Settings, launch: Launch) -> anyhow::Result<Self> {
        let directory = TempDir::with_prefix("larderd-").context("cannot make a root")?;
        let program = settings.built("larderd")?;
        let root = directory.path().join("root");
        fs::create_dir(&root)?;
        fs::create_dir(directory.path().join("tmp"))?;
        if let Some(bytes) = launch.disk {
            let size = std::ffi::CString::new(format!("size={bytes}"))?;
            mount("tmpfs", &root, "tmpfs", MountFlags::empty(), Some(size.as_c_str()))
                .context("cannot mount a small disk")?;
        }
        let lines = Lines::kept_in(File::create(directory.path().join("log"))?);
        let mut daemon = Self {
            directory,
            launch,
            program,
            lines,
            running: None,
            allowed: Mutex::default(),
            judged: true,
        };
        daemon.write_config()?;
        daemon.up()?;
        Ok(daemon)
    }

    /// Returns the address that clients use.
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Returns the path of its socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// Returns its root directory.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// Returns a directory beside its root for files of a test.
    pub fn beside(&self) -> &Path {
        self.directory.path()
    }

    /// Returns its process id.
    ///
    /// # Errors
    /// Fails if it does not run.
    pub fn id(&self) -> anyhow::Result<u32> {
        Ok(self.running.as_ref().context("the daemon does not run")?.id())
    }

    /// Returns what it logged so far.
    pub fn log(&self) -> &Lines {
        &self.lines
    }

    /// Expects warnings and errors with `text` in them.
    pub fn allow(&self, text: &str) {
        self.allowed.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
    }

    /// Ends it as a power cut would, and waits until it is gone.
    ///
    /// # Errors
    /// Fails if it does not run.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let mut running = self.running.take().context("the daemon does not run")?;
        running.signal(Signal::KILL)?;
        running.ended(PATIENCE)?;
        Ok(())
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// Fails if it does not run, hangs, or ends with a failure.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let mut running = self.running.take().context("the daemon does not run")?;
        running.signal(Signal::TERM)?;
        let status = running.ended(PATIENCE)?;
        anyhow::ensure!(status.success(), "the daemon ended with {status}:\n{:?}", self.lines);
        Ok(())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// Fails if it does not run.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.running.as_ref().context("the daemon does not run")?.signal(signal)
    }

    /// Starts it again on the same root, and waits until it answers.
    ///
    /// # Errors
    /// Fails if it runs, or does not come up.
    pub fn up(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(self.running.is_none(), "the daemon runs");
        let words = self.launch.under.iter().map(OsString::from);
        let mut words = words.chain([self.program.clone().into_os_string()]);
        let first = words.next().context("a daemon is a program")?;
        let mut running = Program::new(first)
            .args(words)
            .env("NO_COLOR", "1")
            .env("TMPDIR", self.temporary())
            .arg("--config")
            .arg(self.directory.path().join("config.toml"))
            .arg("--root")
            .arg(self.root())
            .arg("--addr")
            .arg(self.address())
            .args(&self.launch.flags)
            .logged_to(&self.lines)
            .spawn()?;
        for _ in 0..TRIES {
            if UnixStream::connect(self.socket()).is_ok() {
                self.running = Some(running);
                return Ok(());
            }
            if running.has_ended() {
                break;
            }
            self.lines.wait_for_more(BETWEEN_TRIES);
        }
        anyhow::bail!("the daemon does not come up:\n{:?}", self.lines)
    }

    /// Returns what is mounted, running or grouped on the machine for a daemon that is gone.
    pub fn leftovers(&self) -> Leftovers {
        // What it started may outlive it for a moment, to clean up. Its log ends with the last of them.
        self.lines.wait_for_end(PATIENCE);
        Leftovers::of(&self.root(), &self.cgroup_parent(), PATIENCE)
    }

    /// Does not judge it at the end: for a daemon of another make, or one that a test broke on purpose.
    pub fn unjudged(&mut self) {
        self.judged = false;
    }

    /// Returns the directory for its temporary files.
    fn temporary(&self) -> PathBuf {
        self.directory.path().join("tmp")
    }

    fn cgroup_parent(&self) -> String {
        let name = self.directory.path().file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    fn write_config(&self) -> anyhow::Result<()> {
        let path = self.directory.path().join("config.toml");
        let parent = self.cgroup_parent();
        let extra = &self.launch.config;
        let text = format!("{extra}\n[worker.oci]\ndefaultCgroupParent = \"{parent}\"\n");
        fs::write(path, text).context("cannot write the configuration")
    }

    /// Returns the lines of the log that no test expected.
    fn complaints(&self) -> Vec<String> {
        let allowed = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = self.lines.all();
        lines.retain(|line| is_complaint(line) && !allowed.iter().any(|text| line.contains(text)));
        lines
    }

    /// Stops it if it runs, and returns what is wrong with how it lived.
    fn judge(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.running.is_some() {
            wrong.extend(self.stop().err().map(|error| format!("{error:#}")));
        }
        wrong.extend(self.complaints());
        let files = fs::read_dir(self.temporary()).into_iter().flatten().flatten();
        wrong.extend(files.map(|file| format!("a temporary file stayed: {file:?}")));
        let left = self.leftovers();
        wrong.extend((!left.is_empty()).then(|| format!("left behind: {left:#?}")));
        wrong
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let wrong = self.judge();
        remove_cgroups(&self.cgroup_parent());
        if self.launch.disk.is_some() {
            let _ = unmount(self.root(), UnmountFlags::DETACH);
        }
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{:?}", self.lines);
        } else if self.judged {
            assert!(wrong.is_empty(), "{}\nthe log:\n{:?}", wrong.join("\n"), self.lines);
        }
    }
}

/// Returns whether a line of the log is a warning, an error, or a panic.
fn is_complaint(line: &str) -> bool {
    let level = line.split_whitespace().nth(1);
    level.is_some_and(|level| ["WARN", "ERROR"].contains(&level)) || line.contains("panicked at")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_told_from_news() {
        assert!(is_complaint("2026-01-01T00:00:00Z  WARN larderd: odd"));
        assert!(is_complaint("2026-01-01T00:00:00Z ERROR solve: bad"));
        assert!(is_complaint("thread 'main' panicked at src/main.rs:1:1:"));
        assert!(!is_complaint("2026-01-01T00:00:00Z  INFO larderd: WARN me never"));
    }
}
