//! What each instruction says, taken from its node and checked, but not yet expanded.

mod copy;
mod duration;
mod error;
mod flag;
mod healthcheck;
mod mount_flag;
mod read;
mod run;
mod size;
mod stage;

pub use copy::{CopyFiles, InlineFile, SourceKind};
pub(crate) use duration::format_duration;
pub use error::InstructionError;
pub use flag::FlagError;
pub(crate) use flag::parse_bool;
pub use healthcheck::HealthcheckSpec;
pub use mount_flag::{Mount, MountError, MountFlag, MountKind, Sharing};
pub(crate) use read::read;
pub use run::{CommandLine, Device, Network, Run, Security};
pub(crate) use stage::{Note, Notes, note_stages};
pub use stage::{Stage, Stages, read_stages};

use crate::syntax::{Lines, Pair};

/// One instruction of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// Its keyword, as written.
    pub keyword: String,
    /// Its text, continued lines joined.
    pub code: String,
    /// Where it stands.
    pub lines: Lines,
    /// The comment lines directly above.
    pub comments: Vec<String>,
    /// What it says.
    pub action: Action,
}

/// What an instruction says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// `ADD` and `COPY`.
    Copy(CopyFiles),
    /// `ARG`.
    Arg(Vec<Argument>),
    /// `CMD`.
    Cmd(CommandLine),
    /// `ENTRYPOINT`.
    Entrypoint(CommandLine),
    /// `ENV`.
    Env(Vec<Pair>),
    /// `EXPOSE`.
    Expose(Vec<String>),
    /// `HEALTHCHECK`.
    Healthcheck(HealthcheckSpec),
    /// `LABEL`.
    Label(Vec<Pair>),
    /// `MAINTAINER`.
    Maintainer(String),
    /// `ONBUILD`: the instruction to keep, as text.
    Onbuild(String),
    /// `RUN`.
    Run(Run),
    /// `SHELL`.
    Shell(Vec<String>),
    /// `STOPSIGNAL`.
    StopSignal(String),
    /// `USER`.
    User(String),
    /// `VOLUME`.
    Volume(Vec<String>),
    /// `WORKDIR`.
    Workdir(String),
}

/// One variable that `ARG` declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// Its default, not yet expanded.
    pub default: Option<String>,
    /// What the comment above says about it.
    pub description: String,
}

/// Every keyword, for suggestions.
pub(crate) const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Returns what a comment of the form `# NAME text` says about `name`.
pub(crate) fn description(comments: &[String], name: &str) -> String {
    if name.is_empty() {
        return String::new();
    }
    let about = |line: &String| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned);
    comments.iter().find_map(about).unwrap_or_default()
}
