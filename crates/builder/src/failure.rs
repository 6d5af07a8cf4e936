//! From what went wrong in the engine to what the client is told.

use bridge::{BuildError, Detail, FailedPart, Kind};
use bytes::Bytes;
use llb::Definition;
use progress::{Position, Range, SourceExcerpt};
use solver::SolveError;

/// What an operation's error tells about itself, besides its text. Given by whoever knows the operations.
pub type Explain = fn(&solver::OpError) -> Explanation;

/// What is known of an operation's error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Explanation {
    /// The exit status of the process that failed.
    pub exit: Option<u32>,
    /// True if the machine is out of something.
    pub exhausted: bool,
}

/// What is left of the operation that failed, by the names under which clients can have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) inputs: Vec<String>,
    pub(crate) outputs: Vec<String>,
    pub(crate) part: Option<FailedPart>,
}

/// Returns the error of a build whose graph failed, with the place in the user's file.
pub(crate) fn of_solve(
    error: &SolveError,
    definition: &Definition,
    explain: Explain,
    left: Named,
) -> BuildError {
    if error.is_cancelled() {
        return BuildError::cancelled();
    }
    let explanation = explain(&error.source);
    let kind = if explanation.exhausted { Kind::Exhausted } else { Kind::User };
    let mut built = BuildError::new(kind, error.source.full_text());
    for location in definition.source_of(&error.vertex) {
        let range = |range: &llb::Range| Range {
            start: Position { line: range.start.line, character: range.start.character },
            end: Position { line: range.end.line, character: range.end.character },
        };
        built = built.with_detail(Detail::Source(SourceExcerpt {
            filename: location.filename.clone(),
            language: location.language.clone(),
            data: location.data.clone(),
            ranges: location.ranges.iter().map(range).collect(),
        }));
    }
    let op = definition_op(definition, error);
    built = built.with_detail(Detail::Solve {
        op,
        input_ids: left.inputs,
        mount_ids: left.outputs,
        part: left.part,
        description: definition.metadata(&error.vertex).description.into_iter().collect(),
    });
    built = built.with_detail(Detail::Vertex(error.vertex));
    match explanation.exit {
        Some(code) => built.with_detail(Detail::Exit(code)),
        None => built,
    }
}

fn definition_op(definition: &Definition, error: &SolveError) -> Bytes {
    let found = definition.ops().iter().find(|op| digests::Digest::of(op) == error.vertex.digest());
    found.cloned().unwrap_or_default()
}
