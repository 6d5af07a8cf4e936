//! The two traits and the values that pass between them (protocol page `gateway.md` §3).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use digests::Digest;
use llb::Definition;
use oci::Platform;
use progress::Warning;

use crate::{BuildError, Containers};

/// Turns options and inputs into a result: a Dockerfile frontend, a frontend image.
#[async_trait]
pub trait Frontend: Send + Sync + fmt::Debug {
    /// Runs the frontend to the end. The references in the result may be unevaluated: building
    /// happens when somebody looks at them.
    async fn run(
        &self,
        bridge: Arc<dyn Bridge>,
        request: FrontendRequest,
    ) -> Result<FrontendResult, BuildError>;
}

/// What a frontend is given.
#[derive(Debug, Clone, Default)]
pub struct FrontendRequest {
    /// Options by name (protocol page `gateway.md` §6). Unknown ones are ignored.
    pub options: BTreeMap<String, String>,
    /// Graphs given by name, for contexts of the form `input:<name>`.
    pub inputs: BTreeMap<String, Definition>,
}

/// One build, as a frontend sees it. All questions may be asked at once and from many tasks.
#[async_trait]
pub trait Bridge: Send + Sync + fmt::Debug {
    /// Solves a graph, or runs another frontend. Without `evaluate` nothing is built yet.
    async fn solve(&self, request: SolveRequest) -> Result<FrontendResult, BuildError>;

    /// Builds what `reference` stands for; returns when it is built.
    async fn evaluate(&self, reference: &RefHandle) -> Result<(), BuildError>;

    /// Returns the content of a regular file, following links inside the tree. Builds first.
    ///
    /// # Errors
    /// A missing file gives [`crate::Kind::User`] with the text `open <path>: no such file or directory`.
    async fn read_file(
        &self,
        reference: &RefHandle,
        path: &str,
        range: Option<FileRange>,
    ) -> Result<Bytes, BuildError>;

    /// Returns the direct children of a directory by name, those that match `include` if given.
    async fn read_dir(
        &self,
        reference: &RefHandle,
        path: &str,
        include: Option<&str>,
    ) -> Result<Vec<FileStat>, BuildError>;

    /// Returns what is at `path`, following links.
    ///
    /// # Errors
    /// A missing file gives [`crate::Kind::User`] with the text `lstat <path>: no such file or directory`.
    async fn stat_file(&self, reference: &RefHandle, path: &str) -> Result<FileStat, BuildError>;

    /// Finds out what a source is now: an image's digest and configuration, a branch's commit.
    async fn resolve_source(&self, request: SourceMetaRequest) -> Result<SourceMeta, BuildError>;

    /// Shows a warning under its vertex.
    async fn warn(&self, warning: Warning) -> Result<(), BuildError>;

    /// Returns whether graphs may use a feature ([`llb::caps`]); ours may use all that are known.
    fn supports(&self, capability: &str) -> bool {
        llb::caps::is_known(capability)
    }

    /// Returns the workers that can build; the first platform of the first is the default.
    fn workers(&self) -> Vec<WorkerInfo>;

    /// Returns the session of the client that asked for the build; empty if there is none.
    fn session(&self) -> String;

    /// Returns where containers beside the build's steps are made; none where they cannot be.
    fn containers(&self) -> Option<Arc<dyn Containers>> {
        None
    }
}

/// A result that a build can produce: valid until the build ends.
///
/// An empty handle stands for an empty file system (`FROM scratch`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RefHandle(Arc<str>);

impl RefHandle {
    /// Takes an id that the build gave out.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// Returns the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns true for the empty file system.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What is to be solved.
#[derive(Debug, Clone, Default)]
pub struct SolveRequest {
    /// A graph; exclusive with `frontend`. With neither, the result is empty.
    pub definition: Option<Definition>,
    /// Another frontend's name: `dockerfile.v0`, `gateway.v0`; empty for none.
    pub frontend: String,
    /// Options for that frontend.
    pub options: BTreeMap<String, String>,
    /// Inputs for that frontend.
    pub inputs: BTreeMap<String, Definition>,
    /// Where to look for cached results beside our own.
    pub cache_imports: Vec<CacheImport>,
    /// True to build before returning.
    pub evaluate: bool,
}

/// A place to look for cached results (protocol page `control.md` §3.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheImport {
    /// `registry`, `local`, …
    pub kind: String,
    /// Its settings.
    pub attributes: BTreeMap<String, String>,
}

/// What a frontend made.
#[derive(Debug, Clone, Default)]
pub struct FrontendResult {
    /// The file systems.
    pub results: Results,
    /// What is known about them, by key ([`crate::keys`]).
    pub metadata: BTreeMap<String, Bytes>,
    /// Statements about them, by platform id.
    pub attestations: BTreeMap<String, Vec<Attestation>>,
}

/// The file systems of a result.
#[derive(Debug, Clone, Default)]
pub enum Results {
    /// No file system at all: an answer in metadata only.
    #[default]
    None,
    /// One.
    Single(SolvedRef),
    /// One a platform, by platform id.
    ByPlatform(BTreeMap<String, SolvedRef>),
}

impl FrontendResult {
    /// Returns all its file systems: the results, and those that hold what is said of them.
    pub fn trees(&self) -> impl Iterator<Item = &SolvedRef> {
        let (one, several) = match &self.results {
            Results::None => (None, None),
            Results::Single(one) => (Some(one), None),
            Results::ByPlatform(several) => (None, Some(several.values())),
        };
        let said = self.attestations.values().flatten().map(|attestation| &attestation.tree);
        one.into_iter().chain(several.into_iter().flatten()).chain(said)
    }

    /// Returns all its file systems, to be changed.
    pub fn trees_mut(&mut self) -> impl Iterator<Item = &mut SolvedRef> {
        let (one, several) = match &mut self.results {
            Results::None => (None, None),
            Results::Single(one) => (Some(one), None),
            Results::ByPlatform(several) => (None, Some(several.values_mut())),
        };
        let said = self.attestations.values_mut().flatten();
        let said = said.map(|attestation| &mut attestation.tree);
        one.into_iter().chain(several.into_iter().flatten()).chain(said)
    }
}

/// A file system and the graph it comes from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SolvedRef {
    /// Names it in this build; empty for an empty file system.
    pub handle: RefHandle,
    /// The graph whose result it is; clients link builds by it.
    pub definition: Option<Definition>,
}

/// A statement about a result.
#[derive(Debug, Clone, PartialEq)]
pub struct Attestation {
    /// Its form.
    pub kind: AttestationKind,
    /// `reason`, `sbom-core`, `inline-only`.
    pub metadata: BTreeMap<String, Bytes>,
    /// The file system that holds it.
    pub tree: SolvedRef,
    /// The file, or for a bundle the directory, in that file system.
    pub path: String,
    /// The type of the predicate.
    pub predicate_type: String,
    /// What it speaks of.
    pub subjects: Vec<InTotoSubject>,
}

/// The form of an attestation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttestationKind {
    /// One predicate.
    InToto,
    /// A directory of statements.
    Bundle,
}

/// What an attestation speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InTotoSubject {
    /// Whether the image itself is meant.
    pub kind: SubjectKind,
    /// Digests, for a raw subject.
    pub digests: Vec<Digest>,
    /// A name, for a raw subject.
    pub name: String,
}

/// Whether a subject is the image that the attestation will be part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectKind {
    /// The image itself.
    Itself,
    /// Something named by digest.
    Raw,
}

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileRange {
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
}

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStat {
    /// Its name, without directories.
    pub name: String,
    /// Its mode as `st_mode` has it: type and permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its length in bytes.
    pub size: u64,
    /// When it was last changed.
    pub modified: SystemTime,
    /// Where a symbolic link points to; empty otherwise.
    pub link_target: String,
    /// Major and minor number of a device.
    pub device: (u64, u64),
}

/// How eagerly a registry is asked (`image.resolvemode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResolveMode {
    /// Ask the registry for a tag, trust the store for a digest.
    #[default]
    Default,
    /// Ask the registry always.
    Pull,
    /// Take what the store has.
    Local,
}

impl ResolveMode {
    /// Reads the option `image-resolve-mode`; none if there is no such mode.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "default" => Some(Self::Default),
            "pull" => Some(Self::Pull),
            "local" => Some(Self::Local),
            _ => None,
        }
    }
}

/// A question about a source.
#[derive(Debug, Clone)]
pub struct SourceMetaRequest {
    /// `docker-image://docker.io/library/busybox:latest`
    pub identifier: String,
    /// The source's attributes, as in its operation.
    pub attributes: BTreeMap<String, String>,
    /// Which platform's manifest is meant; none for the daemon's own.
    pub platform: Option<Platform>,
    /// The name of the line shown: `[internal] load metadata for …`; empty for the default.
    pub log_name: String,
    /// How eagerly to ask.
    pub mode: ResolveMode,
    /// False if the configuration is not wanted.
    pub with_config: bool,
}

/// What a source is now.
#[derive(Debug, Clone)]
pub struct SourceMeta {
    /// The source, possibly rewritten by a policy.
    pub identifier: String,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// For an image.
    pub image: Option<ResolvedImage>,
    /// For a git repository: the commit.
    pub commit: Option<String>,
    /// For a file: its digest and name.
    pub file: Option<(Digest, String)>,
}

/// What an image's name stands for now.
#[derive(Debug, Clone)]
pub struct ResolvedImage {
    /// The digest of what the name points to: an index, or a manifest.
    pub digest: Digest,
    /// The image configuration of the asked platform, as JSON; empty if not asked for.
    pub config: Bytes,
}

/// A machine, or a part of one, that can build.
#[derive(Debug, Clone)]
pub struct WorkerInfo {
    /// Its stable id.
    pub id: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it can build, the default first.
    pub platforms: Vec<Platform>,
}
