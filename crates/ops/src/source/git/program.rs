//! The `git` program, as we call it: with no settings but ours, and nobody to ask.

use std::ffi::OsString;
use std::process::ExitStatus;
use std::time::Duration;

use bytes::Bytes;
use executor::host::{self, HostCommand, HostError};
use mount::HostPath;

/// How long one call may take: a large repository over a slow line.
const LIMIT: Duration = Duration::from_secs(4 * 60 * 60);
/// How much of what it says is kept: the names of a large repository.
const OUTPUT_LIMIT: usize = 16 << 20;

/// What `git` is always told. A repository must not reach into this machine, nor run anything on it.
const SETTINGS: [&str; 16] = [
    "protocol.allow=never",
    "protocol.http.allow=always",
    "protocol.https.allow=always",
    "protocol.ssh.allow=always",
    "protocol.git.allow=always",
    // Said by us, but not by a submodule.
    "protocol.file.allow=user",
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.logAllRefUpdates=false",
    "core.protectNTFS=true",
    "credential.helper=",
    "init.defaultBranch=master",
    "advice.detachedHead=false",
    // Nothing of ours runs on when the call has ended.
    "gc.autoDetach=false",
    "maintenance.autoDetach=false",
    "log.showSignature=false",
];

/// A call of `git` that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// It could not be run.
    #[error(transparent)]
    Program(#[from] HostError),
    /// It ended badly.
    #[error("git stderr:\n{stderr}: {status}")]
    Failed {
        /// What it said.
        stderr: String,
        /// How it ended.
        status: ExitStatus,
    },
}

/// How `git` is called.
#[derive(Debug, Clone)]
pub(super) struct Git {
    directory: HostPath,
    /// Where the repository is and, if it has one, its tree.
    place: Vec<OsString>,
    settings: Vec<String>,
    environment: Vec<(OsString, OsString)>,
}

impl Git {
    /// Returns calls outside any repository.
    pub(super) fn new(directory: HostPath) -> Self {
        let fixed = [
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("HOME", "/dev/null"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("LC_ALL", "C"),
        ];
        let environment =
            fixed.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let git = Self {
            environment: environment.collect(),
            settings: SETTINGS.map(str::to_owned).to_vec(),
            place: Vec::new(),
            directory: directory.clone(),
        };
        // A repository above our own directories is none of ours.
        let above = directory.as_path().parent().unwrap_or(directory.as_path());
        git.variable("GIT_CEILING_DIRECTORIES", above)
    }

    /// Returns calls about a repository without a tree.
    pub(super) fn bare(&self, repository: &HostPath) -> Self {
        let mut git = self.clone();
        git.place = vec![option("--git-dir=", repository)];
        git.directory = repository.clone();
        git
    }

    /// Returns calls about a repository whose tree is somewhere else.
    pub(super) fn with_tree(&self, repository: &HostPath, tree: &HostPath) -> Self {
        let mut git = self.clone();
        git.place = vec![option("--git-dir=", repository), option("--work-tree=", tree)];
        git.directory = tree.clone();
        git
    }

    /// Adds a setting.
    pub(super) fn setting(mut self, setting: impl Into<String>) -> Self {
        self.settings.push(setting.into());
        self
    }

    /// Adds a setting that no other process of the machine shall see.
    pub(super) fn secret_setting(self, key: &str, value: &str) -> Self {
        self.variable("GIT_CONFIG_COUNT", "1")
            .variable("GIT_CONFIG_KEY_0", key)
            .variable("GIT_CONFIG_VALUE_0", value)
    }

    /// Adds a variable of the environment.
    pub(super) fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Calls it, and returns what it wrote to its standard output.
    pub(super) async fn run(&self, words: &[&str]) -> Result<Bytes, CallError> {
        let settings = self.settings.iter().flat_map(|one| [OsString::from("-c"), one.into()]);
        let words = words.iter().map(OsString::from);
        let command = HostCommand {
            program: "git".into(),
            arguments: settings.chain(self.place.iter().cloned()).chain(words).collect(),
            environment: self.environment.clone(),
            directory: self.directory.clone(),
            input: Bytes::new(),
            timeout: LIMIT,
            output_limit: OUTPUT_LIMIT,
        };
        let output = host::run(command).await?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let stderr = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        Err(CallError::Failed { stderr, status: output.status })
    }

    /// Calls it, and returns the one line that it wrote.
    pub(super) async fn line(&self, words: &[&str]) -> Result<String, CallError> {
        let output = self.run(words).await?;
        Ok(String::from_utf8_lossy(&output).trim().to_owned())
    }
}

fn option(name: &str, path: &HostPath) -> OsString {
    let mut option = OsString::from(name);
    option.push(path.as_path());
    option
}
