//! A build in memory, for tests of what asks builds: strict, and quick.
//!
//! It serves the files and the images that it was given, and remembers what it was asked. What a user can
//! get wrong (a missing file, an image that nobody has) is an error, as in a real build. What whoever asks
//! may never do is a panic: to ask about a reference that was not given out, to give a graph that cannot be
//! built, to read a file that was not among those that the tree was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use digests::Digest;
use llb::{Action, Op};
use oci::Platform;
use progress::Warning;

use crate::{
    Bridge, BuildError, Containers, FileRange, FileStat, FrontendResult, Kind, RefHandle,
    ResolvedImage, Results, SolveRequest, SolvedRef, SourceMeta, SourceMetaRequest, WorkerInfo,
};

/// The session of every build in memory.
pub const SESSION: &str = "sid";

/// A build in memory.
///
/// Its trees are known by the sources that they come from: `local:context`, `git:example.com/r.git#main`,
/// and `frontend:gateway.v0` for what another frontend made.
#[derive(Debug, Default)]
pub struct MemoryBuild {
    trees: BTreeMap<String, Tree>,
    /// Configurations by the name of the image, which is what follows `://` in its identifier.
    images: BTreeMap<String, String>,
    any_image: Option<String>,
    containers: Option<Arc<dyn Containers>>,
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Tree {
    files: BTreeMap<String, Bytes>,
    /// When all of it was changed.
    seconds: u64,
}

/// What a build was asked and told.
#[derive(Debug, Default, Clone)]
pub struct Said {
    /// Every call as a line, in order.
    pub calls: Vec<String>,
    /// Every warning.
    pub warnings: Vec<Warning>,
    /// Everything that was to be solved, graphs and frontends.
    pub solved: Vec<SolveRequest>,
    /// Every source that was asked about.
    pub resolved: Vec<SourceMetaRequest>,
}

impl Said {
    /// Returns how another frontend was called last.
    pub fn forwarded(&self) -> Option<&SolveRequest> {
        self.solved.iter().rev().find(|request| !request.frontend.is_empty())
    }
}

impl MemoryBuild {
    /// Returns a build that has nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tree, empty if nothing else is said of it.
    #[must_use]
    pub fn tree(mut self, tree: &str) -> Self {
        self.trees.entry(tree.to_owned()).or_default();
        self
    }

    /// Adds a file to a tree.
    #[must_use]
    pub fn file(mut self, tree: &str, path: &str, content: impl AsRef<[u8]>) -> Self {
        let tree = self.trees.entry(tree.to_owned()).or_default();
        let content = Bytes::copy_from_slice(content.as_ref());
        tree.files.insert(path.trim_start_matches('/').to_owned(), content);
        self
    }

    /// Says when a tree was changed, in seconds.
    #[must_use]
    pub fn time(mut self, tree: &str, seconds: u64) -> Self {
        self.trees.entry(tree.to_owned()).or_default().seconds = seconds;
        self
    }

    /// Adds an image by its full name.
    #[must_use]
    pub fn image(mut self, name: &str, config: &str) -> Self {
        self.images.insert(name.to_owned(), config.to_owned());
        self
    }

    /// Lets every name be that of an image.
    #[must_use]
    pub fn any_image(mut self, config: &str) -> Self {
        self.any_image = Some(config.to_owned());
        self
    }

    /// Makes containers there.
    #[must_use]
    pub fn containers_in(mut self, containers: Arc<dyn Containers>) -> Self {
        self.containers = Some(containers);
        self
    }

    /// Returns what it was asked and told so far.
    pub fn said(&self) -> Said {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, call: String) {
        self.lock().calls.push(call);
    }

    /// Returns what a reference was given out for.
    fn request(&self, reference: &RefHandle) -> SolveRequest {
        let number = reference.as_str().strip_prefix('r').and_then(|text| text.parse().ok());
        let said = self.lock();
        let request = number.and_then(|number: usize| said.solved.get(number.checked_sub(1)?));
        request.unwrap_or_else(|| panic!("`{}` was not given out", reference.as_str())).clone()
    }

    /// Returns the name of the tree that a reference stands for, and the paths that it was asked for; none
    /// stands for all. Only sources are looked into, and archives that are one: `unpacked:https:example.com/a.tar`.
    fn name(&self, reference: &RefHandle) -> (String, BTreeSet<String>) {
        let request = self.request(reference);
        let Some(definition) = request.definition else {
            return (format!("frontend:{}", request.frontend), BTreeSet::new());
        };
        let graph = definition.load().expect("a graph that can be built");
        let vertex = graph.vertices.last().expect("a vertex");
        let (vertex, prefix) = match vertex.inputs.as_slice() {
            [input] if unpacks(&vertex.op) => {
                (graph.vertex(&input.vertex).expect("an input"), "unpacked:")
            }
            _ => (vertex, ""),
        };
        let Op::Source(source) = &vertex.op else {
            panic!("only a source is read, not {}", vertex.name);
        };
        let (scheme, rest) = source.split();
        let followed = source.attribute("local.followpaths").unwrap_or("[]");
        (
            format!("{prefix}{scheme}:{rest}"),
            serde_json::from_str(followed).expect("a list of paths"),
        )
    }

    /// Returns the tree that a reference stands for.
    fn look(&self, call: &str, reference: &RefHandle, path: &str) -> Result<&Tree, BuildError> {
        let (name, followed) = self.name(reference);
        self.note(format!("{call} {name} {path}"));
        let asked_for = followed.is_empty() || followed.contains(path.trim_start_matches('/'));
        assert!(asked_for, "{path} was not asked for: {followed:?}");
        self.trees
            .get(&name)
            .ok_or_else(|| BuildError::new(Kind::NotFound, format!("{name}: not found")))
    }
}

/// Returns whether an operation does nothing but unpack.
fn unpacks(op: &Op) -> bool {
    let Op::File(file) = op else { return false };
    matches!(file.actions.as_slice(), [only] if matches!(&only.action, Action::Copy(copy) if copy.attempt_unpack))
}

impl Tree {
    fn stat(&self, name: &str, mode: u32, size: usize) -> FileStat {
        FileStat {
            name: name.to_owned(),
            mode,
            uid: 0,
            gid: 0,
            size: size as u64,
            modified: UNIX_EPOCH + Duration::from_secs(self.seconds),
            link_target: String::new(),
            device: (0, 0),
        }
    }

    /// Returns what is at a path: a file, or a directory that has some.
    fn find(&self, path: &str) -> Option<FileStat> {
        let path = path.trim_matches('/');
        let name = path.rsplit('/').next().unwrap_or_default();
        if let Some(content) = self.files.get(path) {
            return Some(self.stat(name, 0o100_644, content.len()));
        }
        let below = format!("{path}/");
        let is_directory = path.is_empty() || self.files.keys().any(|key| key.starts_with(&below));
        is_directory.then(|| self.stat(name, 0o040_755, 0))
    }

    fn children(&self, path: &str) -> Vec<FileStat> {
        let path = path.trim_matches('/');
        let below = if path.is_empty() { String::new() } else { format!("{path}/") };
        let inside = self.files.keys().filter_map(|key| key.strip_prefix(&below));
        let names: BTreeSet<_> = inside.filter_map(|key| key.split('/').next()).collect();
        names.into_iter().filter_map(|name| self.find(&format!("{below}{name}"))).collect()
    }
}

fn missing(call: &str, path: &str) -> BuildError {
    BuildError::new(Kind::User, format!("{call} {path}: no such file or directory"))
}

/// Returns the part of a file that is asked for.
fn part(content: &Bytes, range: Option<FileRange>) -> Bytes {
    let Some(range) = range else { return content.clone() };
    let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(content.len());
    content.slice(place(range.offset)..place(range.offset.saturating_add(range.length)))
}

#[async_trait]
impl Bridge for MemoryBuild {
    async fn solve(&self, request: SolveRequest) -> Result<FrontendResult, BuildError> {
        let definition = request.definition.clone();
        let shown = match &definition {
            None => {
                assert!(!request.frontend.is_empty(), "a graph or a frontend");
                format!("with {}", request.frontend)
            }
            Some(_) if !request.frontend.is_empty() => panic!("a graph and a frontend"),
            Some(nothing) if nothing.is_empty() => {
                let solved = SolvedRef { handle: RefHandle::default(), definition };
                let results = Results::Single(solved);
                return Ok(FrontendResult { results, ..FrontendResult::default() });
            }
            Some(graph) => {
                let graph = graph.load().expect("a graph that can be built");
                graph.vertices.last().expect("a vertex").name.clone()
            }
        };
        self.note(format!("solve {shown}"));
        let mut said = self.lock();
        said.solved.push(request);
        let handle = RefHandle::new(format!("r{}", said.solved.len()));
        let results = Results::Single(SolvedRef { handle, definition });
        Ok(FrontendResult { results, ..FrontendResult::default() })
    }

    async fn evaluate(&self, reference: &RefHandle) -> Result<(), BuildError> {
        let _ = self.request(reference);
        self.note(format!("evaluate {}", reference.as_str()));
        Ok(())
    }

    async fn read_file(
        &self,
        reference: &RefHandle,
        path: &str,
        range: Option<FileRange>,
    ) -> Result<Bytes, BuildError> {
        let tree = self.look("read", reference, path)?;
        let content = tree.files.get(path.trim_start_matches('/'));
        content.map(|content| part(content, range)).ok_or_else(|| missing("open", path))
    }

    async fn read_dir(
        &self,
        reference: &RefHandle,
        path: &str,
        include: Option<&str>,
    ) -> Result<Vec<FileStat>, BuildError> {
        assert!(include.is_none(), "nobody lists a part of a directory");
        let tree = self.look("list", reference, path)?;
        tree.find(path).map(|_| tree.children(path)).ok_or_else(|| missing("open", path))
    }

    async fn stat_file(&self, reference: &RefHandle, path: &str) -> Result<FileStat, BuildError> {
        let tree = self.look("stat", reference, path)?;
        tree.find(path).ok_or_else(|| missing("lstat", path))
    }

    async fn resolve_source(&self, request: SourceMetaRequest) -> Result<SourceMeta, BuildError> {
        let platform = request.platform.as_ref().map(ToString::to_string).unwrap_or_default();
        self.note(format!("resolve {} {platform} ({})", request.identifier, request.log_name));
        self.lock().resolved.push(request.clone());
        let (_, name) = request.identifier.split_once("://").expect("an identifier");
        let Some(config) = self.images.get(name).or(self.any_image.as_ref()) else {
            return Err(BuildError::new(Kind::NotFound, format!("{name}: not found")));
        };
        let config = if request.with_config { Bytes::from(config.clone()) } else { Bytes::new() };
        let image = ResolvedImage { digest: Digest::of(name), config };
        Ok(SourceMeta {
            identifier: request.identifier,
            attributes: request.attributes,
            image: Some(image),
            commit: None,
            file: None,
        })
    }

    async fn warn(&self, warning: Warning) -> Result<(), BuildError> {
        self.lock().warnings.push(warning);
        Ok(())
    }

    fn workers(&self) -> Vec<WorkerInfo> {
        vec![WorkerInfo {
            id: "worker".to_owned(),
            labels: BTreeMap::new(),
            platforms: vec![Platform::new("linux", "amd64"), Platform::new("linux", "386")],
        }]
    }

    fn session(&self) -> String {
        SESSION.to_owned()
    }

    fn containers(&self) -> Option<Arc<dyn Containers>> {
        self.containers.clone()
    }
}
