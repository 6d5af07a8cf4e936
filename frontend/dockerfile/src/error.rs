//! Something wrong with a Dockerfile or its build, and where in the file it is.

use std::error::Error;
use std::fmt;

use bridge::{BuildError, Detail, Kind, SourceExcerpt};

use crate::expand::ExpandError;
use crate::instruction::InstructionError;
use crate::lower::LowerError;
use crate::syntax::{Lines, SyntaxError};

/// A mistake, with the places in the file it belongs to, innermost first.
#[derive(Debug, Clone)]
pub struct Problem(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    cause: Cause,
    contexts: Vec<String>,
    suffix: String,
    places: Vec<Vec<Lines>>,
}

/// What kind of mistake it is.
#[derive(Debug, Clone)]
pub enum Cause {
    /// The text is not a sequence of instructions.
    Syntax(SyntaxError),
    /// An instruction is not well formed.
    Instruction(InstructionError),
    /// A word cannot be expanded.
    Expand(ExpandError),
    /// The instructions make no build.
    Lower(LowerError),
    /// The build answered with an error.
    Build(BuildError),
}

impl Problem {
    fn new(cause: Cause) -> Self {
        let (contexts, places) = (Vec::new(), Vec::new());
        Self(Box::new(Inner { cause, contexts, suffix: String::new(), places }))
    }

    /// Adds a place outside those that are known.
    #[must_use]
    pub fn at(mut self, lines: Lines) -> Self {
        self.0.places.push(vec![lines]);
        self
    }

    /// Names a place where none is known yet.
    #[must_use]
    pub fn at_least(self, lines: Lines) -> Self {
        if self.0.places.is_empty() { self.at(lines) } else { self }
    }

    /// Replaces the places by one.
    #[must_use]
    pub fn only_at(mut self, lines: Lines) -> Self {
        self.0.places = vec![vec![lines]];
        self
    }

    /// Puts `prefix: ` before the message.
    #[must_use]
    pub fn context(mut self, prefix: impl Into<String>) -> Self {
        self.0.contexts.push(prefix.into());
        self
    }

    /// Puts a suggestion after the message.
    #[must_use]
    pub fn suggesting(mut self, hint: &str) -> Self {
        self.0.suffix.push_str(hint);
        self
    }

    /// Returns what went wrong.
    pub fn cause(&self) -> &Cause {
        &self.0.cause
    }

    /// Returns the places in the file, innermost first.
    pub fn places(&self) -> &[Vec<Lines>] {
        &self.0.places
    }

    /// Returns the error that the build ends with; `source` is the file the places are in.
    pub fn into_build_error(self, source: Option<&SourceExcerpt>) -> BuildError {
        let message = self.to_string();
        let Inner { cause, contexts, suffix, places } = *self.0;
        let base = match cause {
            // An image that does not exist is the user's mistake like any other in the file.
            Cause::Build(error) if error.kind() == Kind::NotFound => {
                with_message(&error, Kind::User, message)
            }
            Cause::Build(error) if suffix.is_empty() => {
                contexts.iter().fold(error, |error, context| error.context(context))
            }
            // The hint comes last, and only the message can carry it.
            Cause::Build(error) => with_message(&error, error.kind(), message),
            Cause::Syntax(_) | Cause::Instruction(_) | Cause::Expand(_) | Cause::Lower(_) => {
                BuildError::new(Kind::User, message)
            }
        };
        let Some(source) = source else {
            return base;
        };
        // Clients take the outermost place first.
        places.into_iter().rev().fold(base, |error, lines| {
            let ranges = lines.into_iter().flat_map(Lines::ranges).collect();
            error.with_detail(Detail::Source(SourceExcerpt { ranges, ..source.clone() }))
        })
    }
}

fn with_message(error: &BuildError, kind: Kind, message: String) -> BuildError {
    let fresh = BuildError::new(kind, message);
    error.details().iter().cloned().fold(fresh, BuildError::with_detail)
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for context in self.0.contexts.iter().rev() {
            write!(f, "{context}: ")?;
        }
        match &self.0.cause {
            Cause::Syntax(error) => write_chain(f, error)?,
            Cause::Instruction(error) => write_chain(f, error)?,
            Cause::Expand(error) => write_chain(f, error)?,
            Cause::Lower(error) => write_chain(f, error)?,
            Cause::Build(error) => f.write_str(error.message())?,
        }
        f.write_str(&self.0.suffix)
    }
}

fn write_chain(f: &mut fmt::Formatter<'_>, error: &dyn Error) -> fmt::Result {
    write!(f, "{error}")?;
    let mut cause = error.source();
    while let Some(next) = cause {
        write!(f, ": {next}")?;
        cause = next.source();
    }
    Ok(())
}

impl Error for Problem {}

impl From<SyntaxError> for Problem {
    fn from(error: SyntaxError) -> Self {
        Self::new(Cause::Syntax(error))
    }
}

impl From<InstructionError> for Problem {
    fn from(error: InstructionError) -> Self {
        Self::new(Cause::Instruction(error))
    }
}

impl From<ExpandError> for Problem {
    fn from(error: ExpandError) -> Self {
        Self::new(Cause::Expand(error))
    }
}

impl From<LowerError> for Problem {
    fn from(error: LowerError) -> Self {
        Self::new(Cause::Lower(error))
    }
}

impl From<BuildError> for Problem {
    fn from(error: BuildError) -> Self {
        Self::new(Cause::Build(error))
    }
}
