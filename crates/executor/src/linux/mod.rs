//! The production executor: Linux namespaces, without a runtime of others.
//!
//! The daemon's side is here; what happens in the helper program is in [`helper`].

mod cgroup;
mod channel;
mod farewell;
#[cfg(feature = "testing")]
mod floor;
mod frame;
mod helper;
mod link;
mod message;
mod nursery;
mod plan;
mod running;
mod seccomp;
mod skeleton;
mod streams;
mod sweep;
pub(crate) mod sys;

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

#[cfg(feature = "testing")]
pub use floor::Floor;
pub use helper::run_if_helper;

use self::cgroup::CgroupTrees;
use self::farewell::Farewell;
use self::link::Link;
use self::message::Job;
use self::nursery::Nursery;
use crate::{Executor, ExecutorConfig, ExecutorError, ProcessIo, ProcessSpec, Running};

/// Starts processes in namespaces of their own, by means of a small helper program.
#[derive(Debug)]
pub struct LinuxExecutor {
    config: ExecutorConfig,
    trees: CgroupTrees,
    /// The name of this executor's cgroups.
    family: String,
    nursery: Mutex<Arc<Nursery>>,
}

impl LinuxExecutor {
    /// Prepares the state directory, removes what a previous executor left in it and in the cgroups,
    /// and starts the helper.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be made or the helper cannot be started.
    pub async fn open(config: ExecutorConfig) -> Result<Self, ExecutorError> {
        let directory = config.state_dir.clone();
        let prepared = tasks::blocking("prepare executor", move || prepare(&directory)).await;
        let (trees, family) = prepared.map_err(|source| ExecutorError::State {
            doing: "prepare",
            path: config.state_dir.to_string(),
            source: io::Error::other(source),
        })??;
        let nursery = Mutex::new(Arc::new(Nursery::start(&config.helper)?));
        Ok(Self { config, trees, family, nursery })
    }

    /// Has a keeper forked, by a new helper if the old one is gone.
    async fn keeper(&self) -> Result<Link, ExecutorError> {
        let current = self.nursery.lock().clone();
        let error = match current.keeper().await {
            Ok(link) => return Ok(link),
            Err(error) => error,
        };
        tracing::warn!(%error, "the executor's helper is gone; starting another");
        let fresh = Arc::new(Nursery::start(&self.config.helper)?);
        *self.nursery.lock() = fresh.clone();
        fresh.keeper().await.map_err(|source| ExecutorError::Helper {
            program: format!("{:?}", self.config.helper),
            source,
        })
    }
}

fn prepare(directory: &mount::HostPath) -> Result<(CgroupTrees, String), ExecutorError> {
    let state = |doing, path: String| move |source| ExecutorError::State { doing, path, source };
    let scratch = plan::scratch(directory);
    std::fs::create_dir_all(scratch.as_path()).map_err(state("create", scratch.to_string()))?;
    let skeleton = plan::skeleton(directory);
    skeleton::make(&skeleton).map_err(state("create", skeleton.to_string()))?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(state("read", "/proc/self/mountinfo".to_owned()))?;
    let trees = CgroupTrees::from_mountinfo(&mounts);
    let family = plan::family(directory);
    sweep::sweep(&trees, &family);
    Ok((trees, family))
}

impl Drop for LinuxExecutor {
    fn drop(&mut self) {
        sweep::remove_empty(&self.trees, self.config.cgroup_parent.as_deref(), &self.family);
    }
}

#[async_trait]
impl Executor for LinuxExecutor {
    #[tracing::instrument(name = "exec", skip_all, fields(container.id = %spec.id))]
    async fn start(
        &self,
        spec: ProcessSpec,
        io: ProcessIo,
    ) -> Result<Box<dyn Running>, ExecutorError> {
        let id = spec.id.clone();
        let held = spec.held.clone();
        let (plan, bytes) = plan::container(spec, &self.config, &self.trees, &self.family)?;
        let link = self.keeper().await?;
        let farewell = Farewell::new(Arc::new(link), held);
        let job = Job::Start(Box::new(plan));
        Ok(Box::new(running::start(id, farewell, &job, &bytes, io).await?))
    }
}
