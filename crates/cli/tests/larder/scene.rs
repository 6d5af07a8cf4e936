//! A root, and the program on it.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal};

pub(crate) struct Scene {
    pub(crate) directory: tempfile::TempDir,
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where volumes are mounted.
    pub(crate) fn target(&self) -> PathBuf {
        self.path("target")
    }

    pub(crate) fn command(&self) -> Command {
        #[expect(clippy::disallowed_methods, reason = "the program under test is started here")]
        let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
        command.env_remove("LARDER_HOST").env("T", self.target());
        command
    }

    /// Says `words` to the volumes of the root.
    pub(crate) fn volume<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Said {
        let mut command = self.command();
        command.arg("--root").arg(self.path("root")).arg("volume").args(words);
        Said::of(command.output().unwrap())
    }

    /// Returns the program about to run a shell's `script` with volume `id`; `$T` is where it is.
    pub(crate) fn run_command(&self, id: &str, sharing: &str, script: &str) -> Command {
        let mut command = self.command();
        command.arg("--root").arg(self.path("root")).args(["volume", "run", "--id", id]);
        command.args(["--sharing", sharing, "--target"]).arg(self.target());
        command.args(["--", "sh", "-c", script]);
        command
    }

    /// Runs a shell's `script` with volume `id`.
    pub(crate) fn run(&self, id: &str, sharing: &str, script: &str) -> Said {
        Said::of(self.run_command(id, sharing, script).output().unwrap())
    }

    /// Starts a shell's `script` with volume `id`, and talks with it.
    pub(crate) fn start(&self, id: &str, sharing: &str, script: &str) -> Talk {
        Talk::start(self.run_command(id, sharing, script))
    }

    /// Starts a script that holds the volume until it is told to go on.
    pub(crate) fn hold(&self, id: &str, sharing: &str, script: &str) -> Talk {
        let mut talk = self.start(id, sharing, &format!("{script}; echo holding; read go"));
        assert_eq!(talk.line(), "holding");
        talk
    }

    /// Returns what `inspect` says of a volume.
    pub(crate) fn inspect(&self, id: &str) -> serde_json::Value {
        let said = self.volume(["inspect", id, "--format", "json"]).ok();
        let documents: serde_json::Value = serde_json::from_str(&said).unwrap();
        documents[0].clone()
    }
}

impl Said {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { status: code(output.status), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Returns what it said, if it ended well.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.status, 0, "{self:?}");
        self.out
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().expect("the program was not killed")
}

/// A program that runs.
pub(crate) struct Talk {
    child: Child,
    out: BufReader<ChildStdout>,
    err: BufReader<ChildStderr>,
}

impl Talk {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let err = BufReader::new(child.stderr.take().unwrap());
        Self { child, out, err }
    }

    /// Returns the next line of its output.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Returns the next line of its errors.
    pub(crate) fn error_line(&mut self) -> String {
        let mut line = String::new();
        self.err.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Tells it to go on.
    pub(crate) fn go(&mut self) {
        self.child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        rustix::process::kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Waits until nobody has its output open any more: neither it nor anything it started.
    pub(crate) fn silence(&mut self) {
        self.out.read_to_string(&mut String::new()).unwrap();
    }

    /// Waits until it has ended by itself.
    pub(crate) fn end(mut self) -> Said {
        let (mut out, mut err) = (String::new(), String::new());
        self.out.read_to_string(&mut out).unwrap();
        self.err.read_to_string(&mut err).unwrap();
        Said { status: code(self.child.wait().unwrap()), out, err }
    }

    /// Kills it, and waits until it is gone; what it started may live on.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // Also after a failed assertion nothing is left running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
