//! The real client, with a configuration of its own.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{Plain, Program, Project, Running, Settings, Step};

/// The name of the only builder that the client knows.
const BUILDER: &str = "larder";

/// The real client, with a configuration of its own.
#[derive(Debug)]
pub struct Buildx {
    program: PathBuf,
    /// Kept while a build of this client runs, also when the client itself is gone.
    home: Arc<TempDir>,
    builds: AtomicUsize,
}

impl Buildx {
    /// Returns a client that knows the daemon at `address`.
    ///
    /// # Errors
    /// Fails if there is no client, or it does not take the address.
    pub fn connect(settings: &Settings, address: &str) -> anyhow::Result<Self> {
        Self::connect_with(settings, address, &[])
    }

    /// Returns a client that knows the daemon at `address`, with these options of its driver.
    ///
    /// # Errors
    /// Fails if there is no client, or it does not take the address.
    pub fn connect_with(
        settings: &Settings,
        address: &str,
        options: &[String],
    ) -> anyhow::Result<Self> {
        let home = TempDir::with_prefix("larder-client-")?;
        let client = Self {
            program: settings.buildx()?,
            home: Arc::new(home),
            builds: AtomicUsize::default(),
        };
        let mut create =
            client.command(["create", "--name", BUILDER, "--driver", "remote", "--use"]);
        for option in options {
            create = create.args(["--driver-opt", option]);
        }
        create.arg(address).succeed().context("the client does not take the daemon")?;
        Ok(client)
    }

    /// Returns a call of the client.
    pub fn command(&self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Program {
        Program::new(&self.program)
            .env("BUILDX_CONFIG", self.home.path().join("buildx"))
            .env("DOCKER_CONFIG", self.home.path().join("docker"))
            .without_env("BUILDKIT_HOST")
            .without_env("SSH_AUTH_SOCK")
            .args(words)
    }

    /// Returns a build of a project, which says everything plainly.
    pub fn build(&self, project: &Project) -> BuildCommand {
        self.build_in(project.root())
    }

    /// Returns a build of a directory.
    pub fn build_in(&self, context: &Path) -> BuildCommand {
        // Builds of one client may run side by side.
        let number = self.builds.fetch_add(1, Ordering::Relaxed);
        let metadata = self.home.path().join(format!("metadata-{number}.json"));
        let program = self.command(["build", "--progress=plain", "--metadata-file"]).arg(&metadata);
        BuildCommand { program, context: context.into(), metadata, home: self.home.clone() }
    }

    /// Stores a user and password for a registry, as `docker login` does.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn log_in(&self, host: &str, user: &str, password: &str) -> anyhow::Result<()> {
        let folder = self.home.path().join("docker");
        fs::create_dir_all(&folder)?;
        let auth = STANDARD.encode(format!("{user}:{password}"));
        let config = serde_json::json!({"auths": {host: {"auth": auth}}});
        fs::write(folder.join("config.json"), config.to_string())?;
        Ok(())
    }
}

/// A build that has not started.
#[derive(Debug)]
pub struct BuildCommand {
    program: Program,
    context: PathBuf,
    metadata: PathBuf,
    home: Arc<TempDir>,
}

impl BuildCommand {
    /// Adds an argument.
    pub fn arg(mut self, word: impl AsRef<OsStr>) -> Self {
        self.program = self.program.arg(word);
        self
    }

    /// Adds arguments.
    pub fn args(mut self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.program = self.program.args(words);
        self
    }

    /// Sets a variable of the client's environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.program = self.program.env(name, value);
        self
    }

    /// Takes `context` for what is built from: a directory, an address, or `-`.
    pub fn context(mut self, context: impl Into<PathBuf>) -> Self {
        self.context = context.into();
        self
    }

    /// Gives the client this on its standard input.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.program = self.program.input(bytes);
        self
    }

    /// Lends the machine's certificates to the steps that mount the secret `ca`.
    pub fn certificates(self) -> Self {
        self.arg("--secret").arg(format!("id=ca,src={}", crate::CERTIFICATES))
    }

    /// Names the image, and pushes it.
    pub fn push(self, image: &str) -> Self {
        self.args(["--push", "--tag", image])
    }

    /// Writes the files of the result into a directory.
    pub fn into_directory(self, path: &Path) -> Self {
        self.arg("--output").arg(path)
    }

    /// Takes the build for hanging after `limit` only.
    pub fn patiently(mut self, limit: Duration) -> Self {
        self.program = self.program.patiently(limit);
        self
    }

    /// Runs it to its end, with whatever status.
    ///
    /// # Errors
    /// Fails if the client cannot be started, or hangs.
    pub fn run(self) -> anyhow::Result<Build> {
        self.spawn()?.wait()
    }

    /// Runs it to its end, which must be a success.
    ///
    /// # Errors
    /// Fails if it does; the error has what the client showed.
    pub fn succeed(self) -> anyhow::Result<Build> {
        let build = self.run()?;
        anyhow::ensure!(build.status.success(), "the build failed:\n{}", build.output);
        Ok(build)
    }

    /// Runs it to its end, which must be a failure.
    ///
    /// # Errors
    /// Fails if it succeeds.
    pub fn fail(self) -> anyhow::Result<Build> {
        let build = self.run()?;
        anyhow::ensure!(!build.status.success(), "the build succeeded:\n{}", build.output);
        Ok(build)
    }

    /// Starts it.
    ///
    /// # Errors
    /// Fails if the client cannot be started.
    pub fn spawn(self) -> anyhow::Result<RunningBuild> {
        // What an earlier build left must not be taken for what this one wrote.
        let _ = fs::remove_file(&self.metadata);
        let running = self.program.arg(&self.context).spawn()?;
        Ok(RunningBuild { running, metadata: self.metadata, _home: self.home })
    }
}

/// A build whose client runs.
#[derive(Debug)]
pub struct RunningBuild {
    running: Running,
    metadata: PathBuf,
    _home: Arc<TempDir>,
}

impl RunningBuild {
    /// Waits until the client shows a line with `text` in it.
    ///
    /// # Errors
    /// Fails if the build ends before.
    pub fn wait_for(&self, text: &str) -> anyhow::Result<()> {
        let lines = &self.running.stderr;
        let line = lines.wait_for(crate::program::HANGS, |line| line.contains(text));
        line.map(drop).with_context(|| format!("`{text}` was not shown:\n{}", lines.text()))
    }

    /// Returns what the client has shown so far.
    pub fn shown(&self) -> String {
        self.running.stderr.text()
    }

    /// Sends the client a signal.
    ///
    /// # Errors
    /// Fails if it is gone.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.running.signal(signal)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Fails if the client hangs.
    pub fn wait(self) -> anyhow::Result<Build> {
        let finished = self.running.wait()?;
        let metadata = fs::read(&self.metadata).ok();
        let metadata = metadata.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Ok(Build {
            status: finished.status,
            plain: Plain::parse(&finished.stderr),
            output: finished.stderr,
            stdout: finished.stdout,
            metadata: metadata.unwrap_or_default(),
        })
    }
}

/// A build that has ended.
#[derive(Debug, Clone)]
pub struct Build {
    /// How the client ended.
    pub status: ExitStatus,
    /// What it showed.
    pub output: String,
    /// What it wrote to standard output, such as an archive.
    pub stdout: String,
    /// What it showed, as steps.
    pub plain: Plain,
    /// What it wrote to `--metadata-file`.
    pub metadata: Value,
}

impl Build {
    /// Returns the step with `part` in its name.
    ///
    /// # Errors
    /// Fails if none was shown.
    pub fn step(&self, part: &str) -> anyhow::Result<&Step> {
        self.plain.find(part).with_context(|| format!("no step `{part}`:\n{}", self.output))
    }

    /// Asserts that every numbered step was shown as `CACHED`, and that there are some.
    #[track_caller]
    pub fn assert_all_cached(&self) {
        let numbered: Vec<_> = self.plain.numbered().collect();
        assert!(!numbered.is_empty(), "no step was shown:\n{}", self.output);
        let run: Vec<_> = numbered.iter().filter(|step| !step.cached && !is_base(step)).collect();
        assert!(run.is_empty(), "not cached: {run:#?}\n{}", self.output);
    }

    /// Asserts that the client showed `text`.
    #[track_caller]
    pub fn assert_shows(&self, text: &str) {
        assert!(self.output.contains(text), "`{text}` is not shown:\n{}", self.output);
    }

    /// Asserts that the step with `part` in its name was shown as `CACHED`, or as run.
    #[track_caller]
    pub fn assert_cached(&self, part: &str, cached: bool) {
        let step = self.plain.find(part);
        let step = step.unwrap_or_else(|| panic!("no step `{part}`:\n{}", self.output));
        assert_eq!(step.cached, cached, "{step:#?}\n{}", self.output);
    }
}

/// Returns whether a step is a base image that nothing was done with: it says `DONE` and nothing else.
fn is_base(step: &Step) -> bool {
    step.name.contains("] FROM ") && step.done
}
