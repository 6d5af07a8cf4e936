//! The process of a frontend: what it is told by its environment.

use std::collections::BTreeMap;

use bridge::{Bridge, BuildError, ContainerProcess, Kind, WorkerInfo};
use oci::{Platform, RunConfig};
use serde::Serialize;

/// What is run if an image does not say.
const DEFAULT: &str = "/run";

/// A worker as frontends read it.
#[derive(Serialize)]
struct Worker<'a> {
    id: &'a str,
    labels: &'a BTreeMap<String, String>,
    platforms: &'a [Platform],
}

impl<'a> Worker<'a> {
    fn of(info: &'a WorkerInfo) -> Self {
        Self { id: &info.id, labels: &info.labels, platforms: &info.platforms }
    }
}

/// Returns the process of a frontend with these options. The image's command and user mean nothing.
pub(super) fn describe(
    image: &RunConfig,
    bridge: &dyn Bridge,
    options: &BTreeMap<String, String>,
) -> Result<ContainerProcess, BuildError> {
    let args = match image.entrypoint.as_slice() {
        [] => vec![DEFAULT.to_owned()],
        words => words.to_vec(),
    };
    let workers = bridge.workers();
    let workers: Vec<_> = workers.iter().map(Worker::of).collect();
    let workers = serde_json::to_string(&workers)
        .map_err(|error| BuildError::from_error(Kind::Internal, error))?;
    let mut env = image.env.clone();
    let numbered = options.iter().enumerate();
    env.extend(
        numbered.map(|(at, (key, value))| format!("BUILDKIT_FRONTEND_OPT_{at}={key}={value}")),
    );
    env.push(format!("BUILDKIT_SESSION_ID={}", bridge.session()));
    env.push(format!("BUILDKIT_WORKERS={workers}"));
    // What a frontend asks to be updated when it lacks a feature.
    env.push("BUILDKIT_EXPORTEDPRODUCT=larderd".to_owned());
    let cwd = match image.working_dir.as_str() {
        "" => "/",
        directory => directory,
    };
    Ok(ContainerProcess { args, env, cwd: cwd.to_owned(), ..ContainerProcess::default() })
}
