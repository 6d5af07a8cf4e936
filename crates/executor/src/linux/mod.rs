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
mod kernel;
mod link;
mod message;
mod nursery;
mod plan;
mod running;
mod seccomp;
mod shelf;
mod skeleton;
mod spare;
mod streams;
mod sweep;
pub(crate) mod sys;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;

#[cfg(feature = "testing")]
pub use floor::Floor;
pub use helper::run_if_helper;

use self::cgroup::CgroupTrees;
use self::farewell::Farewell;
use self::link::Link;
use self::message::{Job, Shape};
use self::nursery::Nursery;
use self::running::Order;
use self::shelf::Shelf;
use self::spare::{Mounts, Prepared};
use crate::{
    ContainerId, Executor, ExecutorConfig, ExecutorError, ProcessIo, ProcessSpec, Running,
};

/// Starts processes in namespaces of their own, by means of a small helper program.
#[derive(Debug)]
pub struct LinuxExecutor(Arc<Workplace>);

/// What an executor works with.
#[derive(Debug)]
struct Workplace {
    config: ExecutorConfig,
    trees: CgroupTrees,
    /// The name of this executor's cgroups.
    family: String,
    /// How many containers were begun, which gives their cgroups their names.
    begun: AtomicU64,
    nursery: Mutex<Arc<Nursery>>,
    /// A container that nobody has asked for yet.
    spare: Arc<Shelf<Prepared>>,
    /// A keeper that has kept a process and can keep the next one.
    idle: Arc<Shelf<Arc<Link>>>,
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
        let (begun, spare, idle) = (AtomicU64::new(0), Arc::default(), Arc::default());
        Ok(Self(Arc::new(Workplace { config, trees, family, begun, nursery, spare, idle })))
    }
}

impl Workplace {
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

    /// Has a container of `shape` begun, by a keeper that is idle or by a new one.
    async fn begin(
        &self,
        shape: Shape,
        idle: Option<Arc<Link>>,
    ) -> Result<Prepared, ExecutorError> {
        let name = format!("step-{}", self.begun.fetch_add(1, Ordering::Relaxed));
        let mounts = Mounts::watch();
        let group = (self.family.as_str(), name.as_str());
        let preparation = plan::preparation(shape.clone(), &self.config, &self.trees, group);
        let job = Job::Start(Box::new(preparation));
        if let Some(link) = idle
            && link.send(&job, &[], &[]).await.is_ok()
        {
            return Ok(Prepared::new(link, shape, mounts));
        }
        let link = Arc::new(self.keeper().await?);
        let sent = link.send(&job, &[], &[]).await;
        sent.map_err(|source| ExecutorError::Contact { id: name, doing: "describing it", source })?;
        Ok(Prepared::new(link, shape, mounts))
    }

    /// Returns a container of `shape` that is ready for its plan: the one that is kept, if it is of use.
    async fn container(&self, id: &ContainerId, shape: Shape) -> Result<Arc<Link>, ExecutorError> {
        if let Some(spare) = self.spare.take().filter(|spare| spare.serves(&shape))
            && running::ready(id, &spare.link).await.is_ok()
        {
            return Ok(spare.link);
        }
        // By a new keeper: one that is idle may have died.
        let fresh = self.begin(shape, None).await?;
        running::ready(id, &fresh.link).await?;
        Ok(fresh.link)
    }

    /// Has a container made for who comes next, while there is other work.
    fn think_ahead(self: &Arc<Self>, shape: Shape) {
        if !self.spare.lacks(|spare| spare.serves(&shape)) {
            return;
        }
        let this = self.clone();
        let work = async move {
            // Without one the next process is started all the same, and says what is wrong.
            if let Ok(prepared) = this.begin(shape, this.idle.take()).await {
                this.spare.keep(prepared);
            }
        };
        tasks::spawn("spare container", work).detach();
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
        drop(self.0.idle.close());
        if let Some(spare) = self.0.spare.close() {
            spare.link.part();
        }
        let parent = self.0.config.cgroup_parent.as_deref();
        sweep::remove_empty(&self.0.trees, parent, &self.0.family);
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
        let (shape, plan, bytes) = plan::container(spec, &self.0.config)?;
        let link = self.0.container(&id, shape.clone()).await?;
        let farewell = Farewell::new(link, held, Some(self.0.idle.clone()));
        let order = Order { message: &plan, bytes: &bytes, tty: plan.process.tty };
        let running = running::start(id, farewell, order, io).await?;
        self.0.think_ahead(shape);
        Ok(Box::new(running))
    }
}
