//! One build as its frontend sees it: the bridge between questions and the engine.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bridge::{
    Bridge, BuildError, ContainerMaker, ContainerPlan, ContainerRequest, Containers, FileRange,
    FileStat, Frontend, FrontendRequest, FrontendResult, Kind, RefHandle, Results, SolveRequest,
    SolvedRef, SourceMeta, SourceMetaRequest, SourceResolver, WorkerInfo,
};
use bytes::Bytes;
use cache::{CacheIndex, ImmutableRef, Refs, Remains};
use futures::future::{join_all, try_join_all};
use llb::Definition;
use mount::RootDir;
use oci::{Platform, Reference};
use parking_lot::Mutex;
use progress::{Event, Feed, ProgressSink as _, Warning};
use rand::Rng as _;
use solver::{Edge, Job};
use tokio::sync::{RwLock, watch};

use crate::containers::{JobContainer, JobContainers};
use crate::failure::{self, Explain};
use crate::files;
use crate::graph::{self, Entitlements};
use crate::leftovers::Leftovers;
use crate::line::Line;
use crate::provenance::{MadeBy, Pins};

/// The parts of the daemon that a build uses.
#[derive(Debug)]
pub(crate) struct Environment {
    pub(crate) refs: Refs,
    pub(crate) results: CacheIndex,
    pub(crate) sources: Arc<dyn SourceResolver>,
    pub(crate) containers: Arc<dyn ContainerMaker<ImmutableRef, RootDir>>,
    pub(crate) frontends: BTreeMap<String, Arc<dyn Frontend>>,
    pub(crate) workers: Vec<WorkerInfo>,
    pub(crate) explain: Explain,
}

/// One running build.
pub(crate) struct JobBridge {
    environment: Arc<Environment>,
    id: solver::JobId,
    /// Read while something is built, so that who writes knows that nothing is any more; none once
    /// the build has ended.
    job: RwLock<Option<Job<ImmutableRef>>>,
    ended: watch::Sender<bool>,
    feed: Feed,
    session: String,
    entitlements: Entitlements,
    // Held for a look or an insertion only.
    handles: Mutex<HashMap<RefHandle, Handle>>,
    /// Answers that stay the same for the whole build, so that all its stages have the same base.
    sources: Mutex<HashMap<String, SourceMeta>>,
    /// Those that were asked for, as far as somebody still has them.
    containers: Mutex<Vec<Weak<JobContainer>>>,
    /// What failed steps left.
    leftovers: Mutex<Leftovers>,
}

/// Whether something is wanted that costs something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Yes,
    No,
}

/// What the engine found while a build was made.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) pins: Pins,
    pub(crate) made: MadeBy,
}

#[derive(Clone)]
struct Handle {
    definition: Definition,
    /// None for the empty file system.
    edge: Option<Edge>,
}

impl std::fmt::Debug for JobBridge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobBridge").field("job.id", &self.id).finish_non_exhaustive()
    }
}

impl JobBridge {
    pub(crate) fn new(
        environment: Arc<Environment>,
        job: Job<ImmutableRef>,
        feed: Feed,
        session: String,
        entitlements: Entitlements,
    ) -> Self {
        Self {
            environment,
            id: job.id().clone(),
            job: RwLock::new(Some(job)),
            ended: watch::Sender::new(false),
            feed,
            session,
            entitlements,
            handles: Mutex::default(),
            sources: Mutex::default(),
            containers: Mutex::default(),
            leftovers: Mutex::default(),
        }
    }

    /// Ends the job: what is still asked for is cancelled, also by a client whose calls linger, and
    /// containers are released, whoever has them.
    pub(crate) async fn close(&self) {
        self.ended.send_replace(true);
        drop(self.job.write().await.take());
        let containers = std::mem::take(&mut *self.containers.lock());
        let containers = containers.iter().filter_map(Weak::upgrade);
        join_all(containers.map(|container| async move { container.end().await })).await;
        drop(std::mem::take(&mut *self.leftovers.lock()));
    }

    /// Makes a container of results of this build.
    pub(crate) async fn container(
        &self,
        request: ContainerRequest,
    ) -> Result<Arc<JobContainer>, BuildError> {
        self.entitlements.allow_network(request.network)?;
        let trees = request.mounts.iter().map(|mount| self.result(&mount.reference));
        let trees = try_join_all(trees).await?;
        let plan =
            ContainerPlan { build: self.id.to_string(), sessions: self.sessions(), request, trees };
        let mut ended = self.ended.subscribe();
        // While it is made the build does not end, so that it is found when the build ends.
        let job = self.job.read().await;
        if job.is_none() {
            return Err(BuildError::cancelled());
        }
        let made = tokio::select! {
            made = self.environment.containers.make(plan) => made?,
            _ = ended.wait_for(|ended| *ended) => return Err(BuildError::cancelled()),
        };
        let container = Arc::new(JobContainer::new(made, self.entitlements.clone()));
        let mut containers = self.containers.lock();
        containers.retain(|one| one.strong_count() > 0);
        containers.push(Arc::downgrade(&container));
        Ok(container)
    }

    /// Returns what is built here if nobody says for which platform.
    pub(crate) fn default_platform(&self) -> Platform {
        let first = self.environment.workers.first().and_then(|worker| worker.platforms.first());
        first.cloned().unwrap_or_else(|| Platform::new("linux", "amd64"))
    }

    /// Returns the sessions of the build's client.
    fn sessions(&self) -> Vec<String> {
        Some(self.session.clone()).filter(|session| !session.is_empty()).into_iter().collect()
    }

    /// Gives a graph a handle; nothing is built yet.
    pub(crate) fn refer(&self, definition: &Definition) -> Result<SolvedRef, BuildError> {
        let edge = graph::load(definition, &self.entitlements)?;
        if edge.is_none() {
            return Ok(SolvedRef::default());
        }
        let handle = RefHandle::new(random_id());
        let known = Handle { definition: definition.clone(), edge };
        self.handles.lock().insert(handle.clone(), known);
        Ok(SolvedRef { handle, definition: Some(definition.clone()) })
    }

    /// Builds what a handle stands for.
    pub(crate) async fn result(&self, handle: &RefHandle) -> Result<ImmutableRef, BuildError> {
        if handle.is_empty() {
            return Ok(ImmutableRef::default());
        }
        let left = self.leftovers.lock().find(handle);
        if let Some(left) = left {
            let internal = |error| BuildError::from_error(Kind::Internal, error);
            return left.get().await.map_err(internal);
        }
        let known = self.handles.lock().get(handle).cloned();
        let known = known.ok_or_else(|| {
            BuildError::new(Kind::NotFound, format!("no such ref: {}", handle.as_str()))
        })?;
        let Some(edge) = known.edge else { return Ok(ImmutableRef::default()) };
        let mut ended = self.ended.subscribe();
        let job = self.job.read().await;
        let job = job.as_ref().ok_or_else(BuildError::cancelled)?;
        let built = tokio::select! {
            built = job.build(edge) => built,
            _ = ended.wait_for(|ended| *ended) => return Err(BuildError::cancelled()),
        };
        built.map_err(|error| {
            let remains = error.source.remains::<Remains>();
            let left = remains.map(|remains| self.leftovers.lock().name(remains, random_id));
            let left = left.unwrap_or_default();
            failure::of_solve(&error, &known.definition, self.environment.explain, left)
        })
    }

    /// Returns the graph of a handle; none for the empty file system.
    pub(crate) fn definition(&self, handle: &RefHandle) -> Option<Definition> {
        self.handles.lock().get(handle).map(|known| known.definition.clone())
    }

    /// Returns all graphs that the build was given, in no order.
    pub(crate) fn definitions(&self) -> Vec<Definition> {
        self.handles.lock().values().map(|known| known.definition.clone()).collect()
    }

    /// Returns what was found of the operations of all graphs that were built, and what they made if `results`
    /// is wanted: as far as it is in hand or kept, nothing is built for it.
    pub(crate) async fn found(&self, results: Wanted) -> Found {
        let edges: Vec<Edge> =
            self.handles.lock().values().filter_map(|known| known.edge.clone()).collect();
        let mut found = Found::default();
        let job = self.job.read().await;
        for record in job.iter().flat_map(|job| edges.iter().flat_map(|edge| job.records(edge))) {
            let vertex = record.edge.vertex.digest;
            if let Some(pin) = &record.map.pin {
                found.pins.insert(vertex, pin.clone());
            }
            let place = (vertex, record.edge.output);
            if results == Wanted::Yes && !found.made.contains_key(&place) {
                let kept = || self.environment.results.peek(record.key);
                found.made.extend(record.result.or_else(kept).map(|made| (place, made)));
            }
        }
        found
    }

    /// Returns the table of layers.
    pub(crate) fn refs(&self) -> &Refs {
        &self.environment.refs
    }

    async fn in_tree<T: Send + 'static>(
        &self,
        handle: &RefHandle,
        look: impl FnOnce(&RootDir) -> Result<T, BuildError> + Send + 'static,
    ) -> Result<T, BuildError> {
        let tree = self.result(handle).await?;
        let internal = |error| BuildError::from_error(Kind::Internal, error);
        let view = self.environment.refs.view(&tree).await.map_err(internal)?;
        let looked = tasks::blocking("look into result", move || {
            look(&view.root().map_err(|error| BuildError::from_error(Kind::Internal, error))?)
        });
        looked.await.map_err(|error| BuildError::from_error(Kind::Internal, error))?
    }

    /// Runs a frontend of this daemon for the build.
    pub(crate) async fn run_frontend(
        self: &Arc<Self>,
        name: &str,
        request: FrontendRequest,
    ) -> Result<FrontendResult, BuildError> {
        let ours = name == GATEWAY && is_ours(&request.options);
        let name = if ours { DOCKERFILE } else { name };
        let frontend = self.environment.frontends.get(name).cloned().ok_or_else(|| {
            BuildError::new(Kind::InvalidRequest, format!("unsupported frontend: {name}"))
        })?;
        let mut result = frontend.run(Arc::new(Shared(self.clone())), request).await?;
        // A frontend gives back what it made by the name alone.
        for tree in result.trees_mut().filter(|tree| tree.definition.is_none()) {
            tree.definition = self.definition(&tree.handle);
        }
        Ok(result)
    }

    async fn solve_request(
        self: &Arc<Self>,
        request: SolveRequest,
    ) -> Result<FrontendResult, BuildError> {
        let evaluate = request.evaluate;
        let result = self.refer_request(request).await?;
        if evaluate {
            try_join_all(result.trees().map(|tree| self.result(&tree.handle))).await?;
        }
        Ok(result)
    }

    /// Returns what is asked for; of a graph nothing is built yet.
    async fn refer_request(
        self: &Arc<Self>,
        request: SolveRequest,
    ) -> Result<FrontendResult, BuildError> {
        match (request.definition, request.frontend.is_empty()) {
            (Some(_), false) => {
                let text = "cannot solve with both Definition and Frontend specified";
                Err(BuildError::new(Kind::InvalidRequest, text))
            }
            (None, true) => Ok(FrontendResult::default()),
            (None, false) => {
                let (options, inputs) = (request.options, request.inputs);
                self.run_frontend(&request.frontend, FrontendRequest { options, inputs }).await
            }
            (Some(definition), true) => {
                let solved = self.refer(&definition)?;
                Ok(FrontendResult { results: Results::Single(solved), ..FrontendResult::default() })
            }
        }
    }

    async fn ask_source(&self, request: SourceMetaRequest) -> Result<SourceMeta, BuildError> {
        let platform = request.platform.as_ref().map(ToString::to_string).unwrap_or_default();
        let identity = format!("{}{platform}", request.identifier);
        // The line is the same for all who ask about a name; the answer depends on how they ask.
        let question = format!("{identity}{:?}", request.attributes);
        if let Some(known) = self.sources.lock().get(&question) {
            return Ok(known.clone());
        }
        let name = if request.log_name.is_empty() {
            format!("resolve image config for {}", request.identifier)
        } else {
            request.log_name.clone()
        };
        let line = Line::begin(Arc::new(self.feed.clone()), &identity, name);
        let sessions = self.sessions();
        // Who asks next may want the configuration too.
        let request = SourceMetaRequest { with_config: true, ..request };
        let answer = line.end(self.environment.sources.resolve(&sessions, &request).await)?;
        Ok(self.sources.lock().entry(question).or_insert(answer).clone())
    }
}

/// The frontend that runs others, from images.
const GATEWAY: &str = "gateway.v0";
/// The frontend that understands Dockerfiles.
const DOCKERFILE: &str = "dockerfile.v0";

/// Returns true if the frontend that is asked for is the usual one, the stable one of any minor version:
/// ours understands what that one does. Whoever has put another in its place means that one.
fn is_ours(options: &BTreeMap<String, String>) -> bool {
    let source = options.get("source").map(String::as_str).unwrap_or_default();
    let Ok(reference) = Reference::parse(source) else { return false };
    let tag = reference.tag().unwrap_or_default();
    let stable = tag == "latest" || tag == "1" || tag.starts_with("1.") || tag.starts_with("1-");
    let usual = reference.name() == "docker.io/docker/dockerfile" && stable;
    let familiar = reference.familiar();
    let name = familiar.strip_suffix(":latest").unwrap_or(&familiar);
    let context = format!("context:{name}");
    let replaces = |key: &String| {
        key.strip_prefix(&context).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    (source == DOCKERFILE || usual) && !options.keys().any(replaces)
}

/// Returns a text that no other handle or job has.
pub(crate) fn random_id() -> String {
    const LETTERS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut random = rand::rng();
    (0..25).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
}

/// The bridge that frontends are given: a shared build.
#[derive(Debug, Clone)]
pub(crate) struct Shared(pub(crate) Arc<JobBridge>);

#[async_trait]
impl Bridge for Shared {
    async fn solve(&self, request: SolveRequest) -> Result<FrontendResult, BuildError> {
        self.0.solve_request(request).await
    }

    async fn evaluate(&self, reference: &RefHandle) -> Result<(), BuildError> {
        self.0.result(reference).await.map(|_| ())
    }

    async fn read_file(
        &self,
        reference: &RefHandle,
        path: &str,
        range: Option<FileRange>,
    ) -> Result<Bytes, BuildError> {
        let path = path.to_owned();
        self.0.in_tree(reference, move |root| files::read_file(root, &path, range)).await
    }

    async fn read_dir(
        &self,
        reference: &RefHandle,
        path: &str,
        include: Option<&str>,
    ) -> Result<Vec<FileStat>, BuildError> {
        let (path, include) = (path.to_owned(), include.map(str::to_owned));
        let look = move |root: &RootDir| files::read_dir(root, &path, include.as_deref());
        self.0.in_tree(reference, look).await
    }

    async fn stat_file(&self, reference: &RefHandle, path: &str) -> Result<FileStat, BuildError> {
        let path = path.to_owned();
        self.0.in_tree(reference, move |root| files::stat_file(root, &path)).await
    }

    async fn resolve_source(&self, request: SourceMetaRequest) -> Result<SourceMeta, BuildError> {
        self.0.ask_source(request).await
    }

    async fn warn(&self, warning: Warning) -> Result<(), BuildError> {
        self.0.feed.emit(Event::Warning(warning));
        Ok(())
    }

    fn workers(&self) -> Vec<WorkerInfo> {
        self.0.environment.workers.clone()
    }

    fn session(&self) -> String {
        self.0.session.clone()
    }

    fn containers(&self) -> Option<Arc<dyn Containers>> {
        Some(Arc::new(JobContainers(self.0.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_frontend_is_ours_and_no_other() {
        let ours = |source: &str, context: &str| {
            let options = [("source", source), (context, "docker-image://x")];
            is_ours(&options.map(|(key, value)| (key.to_owned(), value.to_owned())).into())
        };
        for source in [
            "docker/dockerfile:1",
            "docker.io/docker/dockerfile:1.7",
            "docker/dockerfile",
            "docker/dockerfile:1-labs",
            "dockerfile.v0",
        ] {
            assert!(ours(source, "context:other"), "{source}");
            let familiar = source.trim_start_matches("docker.io/");
            assert!(!ours(source, &format!("context:{familiar}")), "{source}");
            assert!(!ours(source, &format!("context:{familiar}::linux/amd64")), "{source}");
        }
        for source in [
            "docker/dockerfile:2",
            "other/dockerfile:1",
            "example.com/docker/dockerfile:1",
            "",
            "A b",
        ] {
            assert!(!ours(source, "context:other"), "{source}");
        }
    }
}
