//! What the commands write: tables for people, JSON for programs.

mod document;
mod table;
mod views;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;
use serde::Serialize;

pub(crate) use self::document::{EntryDocument, PolicyDocument, RemovedDocument, VolumeDocument};
pub(crate) use self::views::{entries, policy, removed, volume, volumes};
use crate::arguments::Arguments;
use crate::failure::Failure;

/// Writes what a shell needs to complete commands.
pub(crate) fn completion(shell: Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "larder", &mut script);
    written(io::stdout().write_all(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes lines.
pub(crate) fn lines(lines: impl IntoIterator<Item = String>) -> Result<(), Failure> {
    let text: String = lines.into_iter().flat_map(|line| [line, "\n".to_owned()]).collect();
    written(io::stdout().write_all(text.as_bytes()))
}

/// Writes one document.
pub(crate) fn json(document: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(document)
        .map_err(|error| Failure::because("cannot write the answer", error))?;
    lines([text])
}

/// A reader that has seen enough is no failure.
fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::because("cannot write the answer", error))
        }
        _ => Ok(()),
    }
}
