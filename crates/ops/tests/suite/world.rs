//! A root with everything operations work with: real layers and overlays, a solver with the real
//! index, and strict fakes for what is outside.
#![allow(
    unreachable_pub,
    dead_code,
    reason = "a test binary has no outside, and a bench uses half"
)]

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use cache::{CacheIndex, Collector, ImmutableRef, LayerInfo, LocalTrees, MetaStore, Refs};
use content::DiskStore;
use digests::{Digest, VertexDigest};
use executor::{Executor, FakeExecutor, FakeProcess};
use llb::{Definition, State};
use mount::{GuestPath, HostPath, RootDir};
use oci::Platform;
use ops::{LlbOps, Mechanisms};
use progress::{Event, Feed, ProgressSink};
use registry::testing::FakeRegistry;
use rustix::fs::{AtFlags, FileType, Stat};
use session::{SessionGroup, SessionId, Sessions};
use snapshot::OverlaySnapshotter;
use solver::{Edge, Job, JobId, SolveError, Solver, SolverOptions, Vertex};
use volumes::{VolumeManager, VolumeSettings};

pub struct World {
    pub root: tempfile::TempDir,
    pub refs: Refs,
    pub trees: LocalTrees,
    pub index: CacheIndex,
    pub sessions: Sessions,
    pub registry: Arc<FakeRegistry>,
    pub executor: FakeExecutor,
    pub volumes: Arc<VolumeManager>,
    pub ops: LlbOps,
    pub solver: Solver<ImmutableRef>,
}

impl World {
    pub async fn new() -> Self {
        Self::running(FakeExecutor::new(|_| Ok(FakeProcess::exits(0)))).await
    }

    pub async fn running(executor: FakeExecutor) -> Self {
        Self::open(tempfile::tempdir().unwrap(), executor, Arc::new(FakeRegistry::new())).await
    }

    pub async fn open(
        root: tempfile::TempDir,
        executor: FakeExecutor,
        registry: Arc<FakeRegistry>,
    ) -> Self {
        let place = |name: &str| HostPath::new(root.path().join(name)).unwrap();
        let meta = MetaStore::open(root.path()).unwrap();
        let snapshotter = Arc::new(OverlaySnapshotter::open(place("snapshots")).await.unwrap());
        let content = Arc::new(DiskStore::open(place("content")).await.unwrap());
        let refs = Refs::open(meta, snapshotter, content).await.unwrap();
        let trees = LocalTrees::open(&refs).await.unwrap();
        let index = CacheIndex::open(&refs).await.unwrap();
        let volumes = VolumeManager::open(place("volumes"), VolumeSettings::default()).await;
        let volumes = Arc::new(volumes.unwrap());
        let sessions = Sessions::new();
        std::fs::create_dir_all(place("state").as_path()).unwrap();
        let process: Arc<dyn Executor> = Arc::new(executor.clone());
        let ops = LlbOps::new(Mechanisms {
            refs: refs.clone(),
            trees: trees.clone(),
            sessions: sessions.clone(),
            registry: registry.clone(),
            executor: process,
            volumes: volumes.clone(),
            namespace: "default".to_owned(),
            platforms: vec![Platform::new("linux", "amd64")],
            state: place("state"),
        });
        let store = Arc::new(index.clone());
        let solver = Solver::new(Arc::new(ops.clone()), store, SolverOptions::default());
        Self { root, refs, trees, index, sessions, registry, executor, volumes, ops, solver }
    }

    /// Ends as by a crash, with what was handed over on disk, and starts again.
    pub async fn reopen(self) -> Self {
        let Self { root, refs, trees, executor, registry, index, ops, solver, volumes, .. } = self;
        trees.close().await;
        let meta = refs.meta().clone();
        meta.flush().await.unwrap();
        meta.close();
        drop((refs, trees, index, ops, solver, meta, volumes));
        Self::open(root, executor, registry).await
    }

    pub fn collector(&self) -> Collector {
        Collector::new(self.refs.clone(), self.trees.clone(), self.index.clone())
    }

    pub fn job(&self, name: &str) -> (Job<ImmutableRef>, Feed) {
        self.job_of(name, [])
    }

    /// Opens a job whose clients are these.
    pub fn job_of<const N: usize>(
        &self,
        name: &str,
        clients: [&str; N],
    ) -> (Job<ImmutableRef>, Feed) {
        let feed = Feed::new();
        let ids = clients.map(|id| SessionId::new(id).unwrap());
        let tag: Arc<dyn Any + Send + Sync> = Arc::new(SessionGroup::new(ids));
        let sink: Arc<dyn ProgressSink> = Arc::new(feed.clone());
        (self.solver.job(JobId::new(name), sink, tag), feed)
    }

    pub async fn build(&self, state: &State) -> Result<Built, SolveError> {
        self.build_for(state, []).await
    }

    pub async fn build_for<const N: usize>(
        &self,
        state: &State,
        clients: [&str; N],
    ) -> Result<Built, SolveError> {
        let Some(edge) = edge(state) else { return Ok(Built::default()) };
        let (job, feed) = self.job_of("job", clients);
        let result = job.build(edge).await;
        drop(job);
        Ok(Built { tree: result?, events: feed.snapshot() })
    }

    /// Builds what has to fail; returns the text that clients see.
    pub async fn failure(&self, state: &State) -> String {
        self.build(state).await.map(|built| built.tree.keys()).unwrap_err().source.full_text()
    }

    /// Makes a layer by hand, and shows it to operations as an image of this name would be.
    pub async fn tree(&self, fill: impl FnOnce(&RootDir)) -> ImmutableRef {
        let base = ImmutableRef::default();
        let layer = self.refs.new_layer(&base, LayerInfo::regular("by hand")).await.unwrap();
        fill(&layer.root().unwrap());
        layer.commit().await.unwrap()
    }

    pub async fn root_of(&self, tree: &ImmutableRef) -> RootDir {
        self.refs.view(tree).await.unwrap().root().unwrap()
    }

    pub async fn list(&self, tree: &ImmutableRef) -> Vec<String> {
        let mut found = Vec::new();
        list(&self.root_of(tree).await, &GuestPath::root(), &mut found);
        found
    }

    pub async fn read(&self, tree: &ImmutableRef, path: &str) -> String {
        let mut text = String::new();
        let root = self.root_of(tree).await;
        root.open_file(&guest(path)).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    pub async fn stat(&self, tree: &ImmutableRef, path: &str) -> Stat {
        self.root_of(tree).await.symlink_stat(&guest(path)).unwrap()
    }
}

/// A result, and what was said on the way.
#[derive(Default)]
pub struct Built {
    pub tree: ImmutableRef,
    pub events: Vec<Event>,
}

impl Built {
    /// Returns the names of the vertices that were not found in the cache.
    pub fn ran(&self) -> Vec<String> {
        let mut last: BTreeMap<Digest, (String, bool)> = BTreeMap::new();
        for event in &self.events {
            if let Event::Vertex(vertex) = event {
                let ran = !vertex.cached && vertex.completed.is_some();
                last.insert(vertex.digest, (vertex.name.clone(), ran));
            }
        }
        let mut names: Vec<_> =
            last.into_values().filter(|(_, ran)| *ran).map(|(name, _)| name).collect();
        names.sort();
        names
    }

    pub fn log(&self) -> String {
        log(&self.events)
    }
}

pub fn log(events: &[Event]) -> String {
    let pieces = events.iter().filter_map(|event| match event {
        Event::Log(log) => Some(String::from_utf8_lossy(&log.data).into_owned()),
        _ => None,
    });
    pieces.collect()
}

/// Returns what the solver is asked for; none for the empty tree.
pub fn edge(state: &State) -> Option<Edge> {
    let platform =
        llb::Platform { os: "linux".into(), architecture: "amd64".into(), ..Default::default() };
    load(&state.marshal(&platform).unwrap())
}

pub fn load(definition: &Definition) -> Option<Edge> {
    if definition.is_empty() {
        return None;
    }
    let graph = definition.load().unwrap();
    let mut made: HashMap<VertexDigest, Arc<Vertex>> = HashMap::new();
    for vertex in &graph.vertices {
        let inputs = vertex.inputs.iter();
        let inputs =
            inputs.map(|edge| Edge::new(made[&edge.vertex].clone(), edge.output)).collect();
        let made_of = Vertex {
            digest: vertex.digest,
            name: vertex.name.clone(),
            inputs,
            payload: vertex.clone(),
            ignore_cache: vertex.metadata.ignore_cache,
            group: None,
            description: BTreeMap::new(),
        };
        made.insert(vertex.digest, Arc::new(made_of));
    }
    Some(Edge::new(made[&graph.root.vertex].clone(), graph.root.output))
}

pub fn guest(path: &str) -> GuestPath {
    GuestPath::new(path).unwrap()
}

/// Lists a tree: directories end in `/`, links show where they point to.
pub fn list(root: &RootDir, path: &GuestPath, found: &mut Vec<String>) {
    let directory = root.open_dir(path).unwrap();
    let mut names: Vec<_> = rustix::fs::Dir::read_from(directory.as_fd())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_bytes().to_vec())
        .filter(|name| name != b"." && name != b"..")
        .collect();
    names.sort();
    for name in names {
        let name = std::ffi::OsStr::from_bytes(&name);
        let path = path.join(name).unwrap();
        let stat = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                found.push(format!("{path}/"));
                list(root, &path, found);
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&directory, name, Vec::new()).unwrap();
                found.push(format!("{path} -> {}", target.to_string_lossy()));
            }
            _ => found.push(path.to_string()),
        }
    }
}
