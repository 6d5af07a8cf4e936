//! A program of the host, run to its end: no container, but nothing of ours either.
//!
//! It gets an empty environment and what it is given, a process group of its own, and no terminal. When
//! nobody waits for it any more, the whole group is killed.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use mount::HostPath;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

/// Where programs are looked for; the daemon's own environment does not count.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program of the host and all that it gets.
#[derive(Debug, Clone)]
pub struct HostCommand {
    /// A path, or a name that is looked for in [`PATH`].
    pub program: PathBuf,
    /// Its arguments, without its name.
    pub arguments: Vec<OsString>,
    /// Its whole environment beside `PATH`.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it runs.
    pub directory: HostPath,
    /// What it reads from its standard input.
    pub input: Bytes,
    /// How long it may run.
    pub timeout: Duration,
    /// How much of each output is kept, bytes: more of the standard output is an error, of the standard
    /// error output the end is kept.
    pub output_limit: usize,
}

/// What a program of the host left.
#[derive(Debug, Clone)]
pub struct HostOutput {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to its standard output.
    pub stdout: Bytes,
    /// The end of what it wrote to its standard error output.
    pub stderr: Bytes,
}

/// Why a program of the host did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// It is not there.
    #[error("program `{0}` is not installed on the machine of the daemon; install it")]
    Missing(String),
    /// It could not be started or heard.
    #[error("cannot run program `{program}`")]
    Run {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It took too long.
    #[error("program `{program}` did not end within {} s", limit.as_secs())]
    TimedOut {
        /// The program.
        program: String,
        /// How long it was given.
        limit: Duration,
    },
    /// It says more than can be kept.
    #[error("program `{program}` wrote more than {limit} bytes")]
    Verbose {
        /// The program.
        program: String,
        /// How much is kept.
        limit: usize,
    },
}

/// Runs a program to its end. A status that means failure is no error. Dropping the future kills the
/// program and all that it started in its group.
///
/// # Errors
/// Returns an error if it is not installed, cannot be started, takes too long or says too much.
pub async fn run(command: HostCommand) -> Result<HostOutput, HostError> {
    let program = command.program.display().to_string();
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => HostError::Missing(program.clone()),
        _ => HostError::Run { program: program.clone(), source },
    };
    let mut child = tokio::process::Command::from(prepare(&command)).spawn().map_err(failed)?;
    let id = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let group = Group(id);
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let limit = command.output_limit;
    let feed = async {
        if let Some(mut stdin) = stdin {
            // Who does not read to the end has no use for the rest.
            let _ = stdin.write_all(&command.input).await;
        }
        Ok(())
    };
    let whole = async {
        let all = tokio::try_join!(feed, read(stdout, limit), read_end(stderr, limit))?;
        Ok((all, child.wait().await?))
    };
    let (((), stdout, stderr), status) = tokio::time::timeout(command.timeout, whole)
        .await
        .map_err(|_| HostError::TimedOut { program: program.clone(), limit: command.timeout })?
        .map_err(failed)?;
    // The id may be somebody else's from now on.
    group.disarm();
    let stdout = stdout.ok_or(HostError::Verbose { program, limit })?;
    Ok(HostOutput { status, stdout: stdout.into(), stderr: stderr.into() })
}

#[expect(clippy::disallowed_methods, reason = "this is the door for programs of the host")]
fn prepare(command: &HostCommand) -> std::process::Command {
    let mut prepared = std::process::Command::new(&command.program);
    prepared
        .args(&command.arguments)
        .env_clear()
        .env("PATH", PATH)
        .envs(command.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(command.directory.as_path())
        .process_group(0)
        .stdin(if command.input.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    prepared
}

/// Kills the group when it is dropped, unless its leader has been waited for.
struct Group(Option<Pid>);

impl Group {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            // It may have ended by itself; then nobody is there to be killed.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

/// Reads all of an output; none if it is longer than `limit`.
async fn read(output: Option<impl AsyncRead + Unpin>, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut kept = Vec::new();
    if let Some(output) = output {
        let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        output.take(most).read_to_end(&mut kept).await?;
    }
    Ok((kept.len() <= limit).then_some(kept))
}

/// Reads an output and keeps the last `limit` bytes of it, or a few more.
async fn read_end(output: Option<impl AsyncRead + Unpin>, limit: usize) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    let Some(mut output) = output else { return Ok(kept) };
    let mut chunk = vec![0; 8 << 10];
    loop {
        let length = output.read(&mut chunk).await?;
        if length == 0 {
            return Ok(kept);
        }
        kept.extend_from_slice(&chunk[..length]);
        if kept.len() > limit.saturating_mul(2) {
            kept.drain(..kept.len() - limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> HostCommand {
        HostCommand {
            program: "sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: vec![("GIVEN".into(), "1".into())],
            directory: HostPath::new("/").unwrap(),
            input: Bytes::from_static(b"hello"),
            timeout: Duration::from_secs(60),
            output_limit: 1 << 10,
        }
    }

    #[tokio::test]
    async fn it_gets_what_it_is_given_and_nothing_else() {
        let output = run(shell("env | sort; cat; echo bad >&2; exit 3")).await.unwrap();
        assert_eq!(output.status.code(), Some(3));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let names: Vec<_> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let expected = [("GIVEN", "1"), ("PATH", PATH), ("PWD", "/")];
        // Some shells set these two by themselves.
        let own = |name: &str| ["_", "SHLVL", "OLDPWD"].contains(&name);
        let names: Vec<_> = names.into_iter().filter(|(name, _)| !own(name)).collect();
        assert_eq!(names, expected);
        assert!(text.ends_with("hello"));
        assert_eq!(&output.stderr[..], b"bad\n");
    }

    #[tokio::test]
    async fn what_is_missing_verbose_or_late_is_named() {
        let missing = HostCommand { program: "no-such-program".into(), ..shell("") };
        assert!(run(missing).await.unwrap_err().to_string().contains("`no-such-program`"));
        let verbose = run(shell("head -c 5000 /dev/zero")).await.unwrap_err();
        assert!(matches!(verbose, HostError::Verbose { limit: 1024, .. }), "{verbose}");
        let late = HostCommand { timeout: Duration::ZERO, ..shell("sleep 600") };
        assert!(matches!(run(late).await, Err(HostError::TimedOut { .. })));
    }

    #[tokio::test]
    async fn nothing_is_left_of_it_when_nobody_waits() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        // The grandchild holds the pipe open for as long as it lives.
        let script = format!("(sleep 600) >{} & wait", pipe.display());
        let running = tasks::spawn("host", run(shell(&script)));
        let mut reader = tasks::blocking("open", move || std::fs::File::open(pipe)).await.unwrap();
        drop(running);
        let mut rest = Vec::new();
        let read = move || io::Read::read_to_end(reader.as_mut().unwrap(), &mut rest).unwrap();
        assert_eq!(tasks::blocking("read", read).await.unwrap(), 0);
    }
}
