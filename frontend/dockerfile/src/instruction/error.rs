//! What can be wrong with an instruction.

use super::{FlagError, MountError};
use crate::quote::quoted;
use crate::suggest::{Case, hint};

/// Why an instruction is not well formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstructionError {
    /// There is no such instruction.
    #[error("unknown instruction: {}{}", .0, hint(.0, super::KEYWORDS, Case::Ignored))]
    Unknown(String),
    /// A flag is wrong.
    #[error(transparent)]
    Flag(#[from] FlagError),
    /// A `--mount` is wrong.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The number of arguments is wrong.
    #[error("{keyword} {rule}")]
    Arguments {
        /// The instruction.
        keyword: &'static str,
        /// What it asks for.
        rule: &'static str,
    },
    /// `FROM` with two arguments, or more than three.
    #[error("FROM requires either one or three arguments")]
    From,
    /// A stage's name has other characters than letters, digits, `-`, `_` and `.`.
    #[error(
        "invalid name for build stage: {}, name can't start with a number or contain symbols",
        quoted(.0)
    )]
    StageName(String),
    /// `ONBUILD` with an instruction that cannot wait.
    #[error("{0}")]
    Trigger(String),
    /// A duration, a number or a word of `HEALTHCHECK` is wrong.
    #[error("{0}")]
    Healthcheck(String),
    /// An instruction before the first `FROM`.
    #[error("no build stage in current context")]
    NoStage,
}

impl InstructionError {
    /// Returns the error of an instruction without arguments.
    pub(super) const fn at_least_one(keyword: &'static str) -> Self {
        Self::Arguments { keyword, rule: "requires at least one argument" }
    }

    /// Returns the error of an instruction that takes one argument.
    pub(super) const fn exactly_one(keyword: &'static str) -> Self {
        Self::Arguments { keyword, rule: "requires exactly one argument" }
    }
}
