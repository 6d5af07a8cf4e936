//! Containers of a build, for its frontend: of the build's results, with what the build may have, and
//! gone when the build ends.

use std::sync::Arc;

use async_trait::async_trait;
use bridge::{
    BuildError, Container, ContainerProcess, ContainerRequest, Containers, FileRange, FileStat,
    Kind, MadeContainer, Process, ProcessStreams,
};
use bytes::Bytes;
use mount::RootDir;

use crate::files;
use crate::graph::Entitlements;
use crate::job::JobBridge;

/// Makes containers of the results of one build.
#[derive(Debug)]
pub(crate) struct JobContainers(pub(crate) Arc<JobBridge>);

#[async_trait]
impl Containers for JobContainers {
    async fn create(&self, request: ContainerRequest) -> Result<Arc<dyn Container>, BuildError> {
        Ok(self.0.container(request).await?)
    }
}

/// A container of a build.
#[derive(Debug)]
pub(crate) struct JobContainer {
    made: Arc<dyn MadeContainer<RootDir>>,
    entitlements: Entitlements,
}

impl JobContainer {
    pub(crate) fn new(made: Arc<dyn MadeContainer<RootDir>>, entitlements: Entitlements) -> Self {
        Self { made, entitlements }
    }

    /// Ends it, as its build ends.
    pub(crate) async fn end(&self) {
        if let Err(error) = self.made.release().await {
            tracing::debug!(%error, "a container was released with its build");
        }
    }

    async fn in_mount<T: Send + 'static>(
        &self,
        mount: usize,
        look: impl FnOnce(&RootDir) -> Result<T, BuildError> + Send + 'static,
    ) -> Result<T, BuildError> {
        let root = self.made.look(mount).await?;
        let looked = tasks::blocking("look into container", move || look(&root)).await;
        looked.map_err(|error| BuildError::from_error(Kind::Internal, error))?
    }
}

#[async_trait]
impl Container for JobContainer {
    async fn start(
        &self,
        process: ContainerProcess,
        streams: ProcessStreams,
    ) -> Result<Box<dyn Process>, BuildError> {
        self.entitlements.allow_security(process.security)?;
        self.made.start(process, streams).await
    }

    async fn read_file(
        &self,
        mount: usize,
        path: &str,
        range: Option<FileRange>,
    ) -> Result<Bytes, BuildError> {
        let path = path.to_owned();
        self.in_mount(mount, move |root| files::read_file(root, &path, range)).await
    }

    async fn read_dir(
        &self,
        mount: usize,
        path: &str,
        include: Option<&str>,
    ) -> Result<Vec<FileStat>, BuildError> {
        let (path, include) = (path.to_owned(), include.map(str::to_owned));
        self.in_mount(mount, move |root| files::read_dir(root, &path, include.as_deref())).await
    }

    async fn stat_file(&self, mount: usize, path: &str) -> Result<FileStat, BuildError> {
        let path = path.to_owned();
        self.in_mount(mount, move |root| files::stat_file(root, &path)).await
    }

    async fn release(&self) -> Result<(), BuildError> {
        self.made.release().await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bridge::{
        ContainerMaker, ContainerMount, ContainerPlan, RefHandle, SourceMeta, SourceMetaRequest,
        SourceResolver,
    };
    use cache::{CacheIndex, ImmutableRef, MetaStore, Refs};
    use content::DiskStore;
    use futures::FutureExt as _;
    use llb::{Mount, NetMode, SecurityMode};
    use mount::HostPath;
    use parking_lot::Mutex;
    use progress::Feed;
    use snapshot::CopySnapshotter;
    use solver::{JobId, Op, OpError, OpResolver, Solver, SolverOptions, Vertex};

    use super::*;
    use crate::Explanation;
    use crate::job::Environment;

    /// Makes containers that tell what became of them; one named `waits` is never made.
    #[derive(Debug, Clone, Default)]
    struct Teller(Arc<Mutex<Vec<String>>>);

    impl Teller {
        fn tell(&self, text: &str) {
            self.0.lock().push(text.to_owned());
        }

        fn told(&self) -> Vec<String> {
            self.0.lock().clone()
        }
    }

    fn nothing() -> BuildError {
        BuildError::new(Kind::Unsupported, "this does nothing")
    }

    #[async_trait]
    impl ContainerMaker<ImmutableRef, RootDir> for Teller {
        async fn make(
            &self,
            plan: ContainerPlan<ImmutableRef>,
        ) -> Result<Arc<dyn MadeContainer<RootDir>>, BuildError> {
            assert_eq!((&*plan.build, plan.sessions), ("job", vec!["session".to_owned()]));
            assert_eq!(plan.trees.len(), plan.request.mounts.len());
            self.tell("made");
            if plan.request.hostname == "waits" {
                std::future::pending::<()>().await;
            }
            Ok(Arc::new(self.clone()))
        }
    }

    #[async_trait]
    impl MadeContainer<RootDir> for Teller {
        async fn start(
            &self,
            _process: ContainerProcess,
            _streams: ProcessStreams,
        ) -> Result<Box<dyn Process>, BuildError> {
            self.tell("started");
            Err(nothing())
        }

        async fn look(&self, _mount: usize) -> Result<RootDir, BuildError> {
            Err(nothing())
        }

        async fn release(&self) -> Result<(), BuildError> {
            self.tell("released");
            Ok(())
        }
    }

    #[async_trait]
    impl SourceResolver for Teller {
        async fn resolve(
            &self,
            _sessions: &[String],
            _request: &SourceMetaRequest,
        ) -> Result<SourceMeta, BuildError> {
            Err(nothing())
        }
    }

    impl OpResolver<ImmutableRef> for Teller {
        fn resolve(&self, _vertex: &Vertex) -> Result<Arc<dyn Op<ImmutableRef>>, OpError> {
            Err(OpError::new(nothing()))
        }
    }

    struct World {
        _root: tempfile::TempDir,
        teller: Teller,
        job: Arc<JobBridge>,
    }

    impl World {
        async fn granting(entitlements: &[&str]) -> Self {
            let root = tempfile::tempdir().unwrap();
            let place = |name: &str| HostPath::new(root.path().join(name)).unwrap();
            let snapshots = CopySnapshotter::open(place("snapshots")).await.unwrap();
            let content = DiskStore::open(place("content")).await.unwrap();
            let meta = MetaStore::open(root.path()).unwrap();
            let refs = Refs::open(meta, Arc::new(snapshots), Arc::new(content)).await.unwrap();
            let results = CacheIndex::open(&refs).await.unwrap();
            let teller = Teller::default();
            let index = Arc::new(results.clone());
            let solver = Solver::new(Arc::new(teller.clone()), index, SolverOptions::default());
            let feed = Feed::new();
            let job = solver.job(JobId::new("job"), Arc::new(feed.clone()), Arc::new(()));
            let environment = Arc::new(Environment {
                refs,
                results,
                sources: Arc::new(teller.clone()),
                containers: Arc::new(teller.clone()),
                frontends: BTreeMap::new(),
                workers: Vec::new(),
                explain: |_| Explanation::default(),
            });
            let names: Vec<String> = entitlements.iter().map(|name| (*name).to_owned()).collect();
            let granted = Entitlements::grant(&names, &names.iter().cloned().collect()).unwrap();
            let job = JobBridge::new(environment, job, feed, "session".to_owned(), granted);
            Self { _root: root, teller, job: Arc::new(job) }
        }

        async fn create(
            &self,
            request: ContainerRequest,
        ) -> Result<Arc<dyn Container>, BuildError> {
            JobContainers(self.job.clone()).create(request).await
        }
    }

    fn named(hostname: &str) -> ContainerRequest {
        let mounts = vec![ContainerMount { mount: Mount::root(), reference: RefHandle::default() }];
        ContainerRequest { mounts, hostname: hostname.to_owned(), ..ContainerRequest::default() }
    }

    #[tokio::test]
    async fn containers_end_with_their_build_whoever_has_them() {
        let world = World::granting(&[]).await;
        let _kept = world.create(named("kept")).await.unwrap();
        drop(world.create(named("let go")).await.unwrap());
        world.job.close().await;
        assert_eq!(world.teller.told(), ["made", "made", "released"]);
        let late = world.create(named("late")).await.unwrap_err();
        assert_eq!(late.kind(), Kind::Cancelled);
        assert_eq!(world.teller.told().len(), 3);
    }

    #[tokio::test]
    async fn a_build_that_ends_does_not_wait_for_a_container() {
        let world = World::granting(&[]).await;
        let mut making = world.create(named("waits")).boxed();
        assert!((&mut making).now_or_never().is_none());
        assert_eq!(world.teller.told(), ["made"]);
        let (made, ()) = tokio::join!(making, world.job.close());
        assert_eq!(made.unwrap_err().kind(), Kind::Cancelled);
    }

    #[tokio::test]
    async fn a_container_may_have_what_its_build_may_have() {
        let on_host = || ContainerRequest { network: NetMode::Host, ..named("host") };
        let unconfined =
            || ContainerProcess { security: SecurityMode::Insecure, ..Default::default() };
        let plain = World::granting(&[]).await;
        let error = plain.create(on_host()).await.unwrap_err();
        assert_eq!(error.message(), "network.host is not allowed");
        let container = plain.create(named("")).await.unwrap();
        let error = container.start(unconfined(), ProcessStreams::default()).await.unwrap_err();
        assert_eq!(error.message(), "security.insecure is not allowed");
        assert_eq!(plain.teller.told(), ["made"]);

        let granted = World::granting(&["network.host", "security.insecure"]).await;
        let container = granted.create(on_host()).await.unwrap();
        let error = container.start(unconfined(), ProcessStreams::default()).await.unwrap_err();
        assert_eq!(error.message(), nothing().message());
        let strange =
            ContainerMount { reference: RefHandle::new("strange"), ..on_host().mounts.remove(0) };
        let unknown = ContainerRequest { mounts: vec![strange], ..on_host() };
        let error = granted.create(unknown).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (Kind::NotFound, "no such ref: strange"));
    }
}
