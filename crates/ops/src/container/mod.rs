//! Containers that a frontend asks for, beside the steps of its build (protocol page `gateway.md` §4).
//!
//! What a container mounts is prepared as for a step. Its first process is the one of a new container
//! of the executor; the others are started inside that one.

mod contained;
mod made;

use std::sync::Arc;

use async_trait::async_trait;
use bridge::{BuildError, ContainerMaker, ContainerPlan, Kind, MadeContainer};
use cache::ImmutableRef;
use executor::{ExecutorError, GuestMount, SecretBytes};
use llb::Mount;
use mount::{GuestPath, RootDir};
use solver::OpError;

use crate::process::{self, Owner, Patron, Preparer};
use crate::{LlbOps, OperationError, Services, failure};
use made::{Parts, ProcessContainer};

/// Permission bits of a file that is given to a container: for the superuser alone.
const FILE_MODE: u32 = 0o400;

#[async_trait]
impl ContainerMaker<ImmutableRef, RootDir> for LlbOps {
    async fn make(
        &self,
        plan: ContainerPlan<ImmutableRef>,
    ) -> Result<Arc<dyn MadeContainer<RootDir>>, BuildError> {
        let parts = prepare(self.services(), plan).await.map_err(told)?;
        Ok(Arc::new(ProcessContainer::new(self.services().clone(), parts)))
    }
}

async fn prepare(services: &Services, plan: ContainerPlan<ImmutableRef>) -> Result<Parts, OpError> {
    let ContainerPlan { build, sessions, request, trees } = plan;
    if let Some(platform) = &request.platform {
        services.require(platform)?;
    }
    let owner = Owner { build, sessions };
    let extra_hosts = process::extra_hosts(&request.extra_hosts)?;
    let mut files = Vec::with_capacity(request.files.len());
    for (path, content) in &request.files {
        let content = SecretBytes::new(content.to_vec());
        let file = GuestMount::File { content, mode: FILE_MODE, uid: 0, gid: 0 };
        files.push((GuestPath::new(path).map_err(failure)?, file));
    }
    let numbered = request.mounts.iter().enumerate();
    // What a mount was of another graph means nothing here: its tree stands at its own place.
    let mounts: Vec<Mount> = numbered
        .map(|(index, one)| Mount { input: Some(index), output: None, ..one.mount.clone() })
        .collect();
    let cwd = GuestPath::root();
    let patron = Patron::Container(&owner);
    let preparer = Preparer { services, patron, mounts: &mounts, inputs: &trees, cwd: &cwd };
    let mut prepared = preparer.prepare().await?;
    prepared.mounts.extend(files);
    prepared.mounts.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(Parts {
        owner,
        network: process::network(request.network),
        hostname: (!request.hostname.is_empty()).then_some(request.hostname),
        extra_hosts,
        prepared,
    })
}

/// Returns an error of our own words as the build's.
fn told(error: OpError) -> BuildError {
    if error.is_cancelled() {
        return BuildError::cancelled();
    }
    let full = matches!(error.downcast_ref(), Some(OperationError::DiskFull { .. }));
    let kind = if full { Kind::Exhausted } else { Kind::User };
    BuildError::new(kind, error.full_text())
}

/// Returns an error of the executor as the build's: most say that the user's process cannot run.
fn not_run(error: ExecutorError) -> BuildError {
    let kind = match &error {
        ExecutorError::Setup(_)
        | ExecutorError::Invalid(_)
        | ExecutorError::NotRunning(_)
        | ExecutorError::NoTerminal(_) => Kind::User,
        ExecutorError::Helper { .. }
        | ExecutorError::Contact { .. }
        | ExecutorError::State { .. } => Kind::Internal,
    };
    BuildError::from_error(kind, error)
}
