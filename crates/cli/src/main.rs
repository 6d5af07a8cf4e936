//! The `larder` command: cache volumes seen, changed and used from the command line.
//!
//! # Exit status
//!
//! | status | means |
//! |---|---|
//! | 0 | done |
//! | 1 | it could not be done |
//! | 2 | the command line is wrong |
//! | 3 | there is no such volume, version or directory |
//! | 4 | somebody uses the volume, or waits for it |
//! | 5 | there is a volume of that name already |
//! | 6 | no daemon answers |
//!
//! `larder volume run` ends as its command ended, with 128 and the signal's number for one that was
//! killed. Its own failures are 124 (gave up waiting), 125 (larder failed), 126 (the command cannot be
//! executed) and 127 (there is no such command).

mod arguments;
mod command;
mod failure;
mod output;
mod place;
mod quantity;
mod run;
mod wanted;

use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::{Arguments, Command};

fn main() -> ExitCode {
    // A helper of our own has one thread and stays so.
    if let Some(status) = run::attached::run_if_helper() {
        return status;
    }
    let arguments = Arguments::parse();
    let ended = match arguments.command {
        Command::Completion { shell } => output::completion(shell),
        Command::Volume { command } => command::volume(&arguments.global, command),
    };
    match ended {
        Ok(status) => status,
        Err(failure) => {
            eprintln!("larder: {}", failure.text());
            failure.status()
        }
    }
}
