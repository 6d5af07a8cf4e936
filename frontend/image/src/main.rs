//! `larder-frontend`: the Dockerfile frontend in a container of its own.
//!
//! Standard output belongs to the connection; what there is to say besides goes to standard error.

use std::error::Error;
use std::process::ExitCode;

use image::Environment;

fn main() -> ExitCode {
    let environment = Environment::from_variables(std::env::vars_os());
    // One thread: all the work is done by the builder.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(image::run(environment)).map_err(|error| shown(&error)),
        Err(error) => Err(shown(&error)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("larder-frontend: {text}");
            ExitCode::FAILURE
        }
    }
}

/// Returns what an error and its causes say.
fn shown(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
