//! What each command does.

mod look;
mod owner;
mod policy;

use std::path::Path;
use std::process::ExitCode;

use volumes::Label;

use crate::arguments::{Global, VolumeCommand};
use crate::failure::Failure;
use crate::{place, run};

/// The daemon's root directory where nothing else is said.
const ROOT: &str = "/var/lib/larder";

/// Does what a command about volumes says.
pub(crate) fn volume(global: &Global, command: VolumeCommand) -> Result<ExitCode, Failure> {
    let root = global.root.as_deref().unwrap_or(Path::new(ROOT));
    if let VolumeCommand::Run(arguments) = command {
        let ended = runtime().and_then(|runtime| runtime.block_on(run::run(root, arguments)));
        return ended.map_err(run::own_failure);
    }
    let runtime = runtime()?;
    runtime.block_on(dispatch(global, root, command))?;
    Ok(ExitCode::SUCCESS)
}

/// Returns a runtime of this one thread: a child that is started from it lives as long as it does.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().map_err(|error| Failure::because("cannot start", error))
}

async fn dispatch(global: &Global, root: &Path, command: VolumeCommand) -> Result<(), Failure> {
    if let VolumeCommand::Path(volume) = &command {
        return look::path(&place::open_existing(root).await?, volume, global.format).await;
    }
    let place = place::reach(global).await?;
    let (place, format) = (&*place, global.format);
    match command {
        VolumeCommand::Ls { namespace, quiet } => look::list(place, namespace, quiet, format).await,
        VolumeCommand::Inspect(volumes) => look::inspect(place, &volumes, format).await,
        VolumeCommand::Browse { volume, path } => look::browse(place, &volume, &path, format).await,
        VolumeCommand::Rm(volumes) => owner::remove(place, &volumes, format).await,
        VolumeCommand::Reset(volumes) => owner::reset(place, &volumes).await,
        VolumeCommand::Pin(volumes) => owner::pin(place, &volumes, true).await,
        VolumeCommand::Unpin(volumes) => owner::pin(place, &volumes, false).await,
        VolumeCommand::Policy(arguments) => policy::policy(place, &arguments, format).await,
        VolumeCommand::Rollback { volume, version } => {
            owner::rollback(place, &volume, version).await
        }
        VolumeCommand::Fork { volume, to, to_namespace } => {
            owner::fork(place, &volume, &to, to_namespace.as_deref(), format).await
        }
        VolumeCommand::Prune { namespace, id, all, unused_for, keep_storage } => {
            let what = owner::Prune { namespace, id, all, unused_for, keep_storage };
            owner::prune(place, what, format).await
        }
        VolumeCommand::Path(_) | VolumeCommand::Run(_) => Ok(()),
    }
}

/// Returns who does what this command does, for the volume's own records.
fn by(command: &str) -> Label {
    Label { build: format!("larder volume {command}"), step: String::new() }
}
