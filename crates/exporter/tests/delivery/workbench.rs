//! What every test needs: layers to export, and somebody to export them to.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use bytes::Bytes;
use cache::{ImmutableRef, LayerInfo, MetaStore, Refs};
use content::ContentStore as _;
use content::testing::{Faulty, MemoryStore};
use digests::Digest;
use exporter::{
    ExportContext, ExportError, ExportRefs, ExportRequest, ExportResult, Exporters, Statement,
};
use mount::HostPath;
use oci::{Platform, Reference};
use progress::{Event, Feed};
use registry::testing::FakeRegistry;
use serde_json::Value;
use session::{SessionId, Sessions};
use snapshot::testing::TestSnapshotter;
use snapshot::{OverlaySnapshotter, Snapshotter};

/// The time of all files, in seconds since 1970.
pub(crate) const FILE_TIME: u64 = 1_600_000_000;

/// Layers, a store for their archives, and the ways out.
pub(crate) struct Workbench {
    pub(crate) refs: Refs,
    pub(crate) content: Arc<Faulty<MemoryStore>>,
    pub(crate) sessions: Sessions,
    pub(crate) registry: Arc<FakeRegistry>,
    pub(crate) feed: Feed,
    _directory: tempfile::TempDir,
}

impl Workbench {
    pub(crate) async fn new() -> Self {
        let snapshotter = TestSnapshotter::new().await.unwrap();
        Self::with(Arc::new(snapshotter), tempfile::tempdir().unwrap()).await
    }

    /// Returns one whose layers are those of production.
    pub(crate) async fn on_overlay() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let layers = HostPath::new(directory.path().join("snapshots")).unwrap();
        let snapshotter = OverlaySnapshotter::open(layers).await.unwrap();
        Self::with(Arc::new(snapshotter), directory).await
    }

    async fn with(snapshotter: Arc<dyn Snapshotter>, directory: tempfile::TempDir) -> Self {
        let meta = MetaStore::open(directory.path()).unwrap();
        let content = Arc::new(Faulty::new(MemoryStore::new()));
        let refs = Refs::open(meta, snapshotter, content.clone()).await.unwrap();
        Self {
            refs,
            content,
            sessions: Sessions::new(),
            registry: Arc::new(FakeRegistry::new()),
            feed: Feed::new(),
            _directory: directory,
        }
    }

    /// Returns a layer over `base` that `write` made; all its files have the same time.
    pub(crate) async fn layer(
        &self,
        base: &ImmutableRef,
        description: &str,
        write: impl FnOnce(&Path),
    ) -> ImmutableRef {
        let layer = self.refs.new_layer(base, LayerInfo::regular(description)).await.unwrap();
        {
            let root = layer.root().unwrap();
            let path = PathBuf::from(format!("/proc/self/fd/{}", root.as_fd().as_raw_fd()));
            write(&path);
            set_times(&path);
        }
        layer.commit().await.unwrap()
    }

    /// Returns a layer over nothing.
    pub(crate) async fn first_layer(
        &self,
        description: &str,
        write: impl FnOnce(&Path),
    ) -> ImmutableRef {
        self.layer(&ImmutableRef::default(), description, write).await
    }

    /// Returns a tree of two layers with a file each.
    pub(crate) async fn two_layers(&self) -> ImmutableRef {
        let base = self.first_layer("base", |root| {
            fs::create_dir(root.join("etc")).unwrap();
            fs::write(root.join("etc/name"), "base").unwrap();
        });
        let base = base.await;
        self.layer(&base, "RUN make", |root| fs::write(root.join("app"), "app").unwrap()).await
    }

    pub(crate) fn exporters(&self) -> Exporters {
        Exporters::new(self.refs.clone(), self.sessions.clone(), self.registry.clone())
    }

    /// Exports `result` as the client `s` asks for it.
    pub(crate) async fn export(
        &self,
        kind: &str,
        attributes: &[(&str, &str)],
        result: &ExportResult,
    ) -> Result<BTreeMap<String, String>, ExportError> {
        let exporter = self.exporters().resolve(0, &request(kind, attributes))?;
        let sessions = vec![SessionId::new("s").unwrap()];
        let progress = Arc::new(self.feed.clone());
        let context = ExportContext { sessions, progress, vertex: Digest::of("line") };
        exporter.export(result, &context).await
    }

    /// Returns a document of the store.
    pub(crate) async fn document(&self, digest: Digest) -> Bytes {
        self.content.open(&digest).await.unwrap().read_all().await.unwrap()
    }

    pub(crate) async fn json(&self, digest: Digest) -> Value {
        serde_json::from_slice(&self.document(digest).await).unwrap()
    }

    pub(crate) async fn text(&self, digest: Digest) -> String {
        String::from_utf8(self.document(digest).await.to_vec()).unwrap()
    }

    /// Returns the document that a response is about.
    pub(crate) async fn root(&self, response: &BTreeMap<String, String>) -> Value {
        self.json(response["containerimage.digest"].parse().unwrap()).await
    }

    /// Returns the counters in the order in which they began; each is done by now.
    pub(crate) fn counters(&self) -> Vec<String> {
        let mut counters: Vec<(String, bool)> = Vec::new();
        for event in self.feed.snapshot() {
            let Event::Status(status) = event else { panic!("{event:?}") };
            assert_eq!(status.vertex, Digest::of("line"));
            assert!(status.started.is_some());
            match counters.iter_mut().find(|(id, _)| *id == status.id) {
                Some((_, done)) => *done = status.completed.is_some(),
                None => counters.push((status.id, status.completed.is_some())),
            }
        }
        let done = |(id, done): (String, bool)| {
            assert!(done, "{id} was never done");
            id
        };
        counters.into_iter().map(done).collect()
    }
}

pub(crate) fn request(kind: &str, attributes: &[(&str, &str)]) -> ExportRequest {
    let attributes = attributes.iter().map(|(key, value)| ((*key).into(), (*value).into()));
    ExportRequest { kind: kind.to_owned(), attributes: attributes.collect() }
}

/// Gives everything below `path` the same time, so that archives have the same bytes. What has it
/// already is left alone, so that it does not become part of the layer.
fn set_times(path: &Path) {
    let time = UNIX_EPOCH + Duration::from_secs(FILE_TIME);
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let found = path.symlink_metadata().unwrap();
        if found.is_dir() {
            set_times(&path);
        }
        if !found.is_symlink() && found.modified().unwrap() != time {
            File::open(&path).unwrap().set_modified(time).unwrap();
        }
    }
}

pub(crate) fn amd64() -> Platform {
    Platform::new("linux", "amd64")
}

pub(crate) fn reference(name: &str) -> Reference {
    Reference::parse(name).unwrap()
}

/// Returns the result of a build for one platform, without metadata.
pub(crate) fn single(tree: ImmutableRef) -> ExportResult {
    ExportResult { refs: ExportRefs::Single(tree, amd64()), ..ExportResult::default() }
}

/// Returns the result of a build for these platforms.
pub(crate) fn by_platform(trees: &[(&str, ImmutableRef)]) -> ExportResult {
    let trees = trees
        .iter()
        .map(|(id, tree)| ((*id).to_owned(), (tree.clone(), Platform::parse(id).unwrap())));
    let order: Vec<Value> = trees
        .clone()
        .map(|(id, (_, platform))| serde_json::json!({ "ID": id, "Platform": platform }))
        .collect();
    let platforms = serde_json::json!({ "Platforms": order }).to_string();
    ExportResult {
        refs: ExportRefs::ByPlatform(trees.collect()),
        metadata: BTreeMap::from([("refs.platforms".to_owned(), platforms.into())]),
        ..ExportResult::default()
    }
}

/// Adds what a frontend knows of a result.
pub(crate) fn with_metadata(mut result: ExportResult, key: &str, value: Value) -> ExportResult {
    let value = match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    result.metadata.insert(key.to_owned(), value.into());
    result
}

/// Adds a statement about one platform's part.
pub(crate) fn with_statement(
    mut result: ExportResult,
    platform: &str,
    inline_only: bool,
) -> ExportResult {
    let statement = Statement {
        predicate_type: "https://slsa.dev/provenance/v1".to_owned(),
        predicate: Bytes::from_static(br#"{"buildDefinition":{"buildType":"test"}}"#).into(),
        path: "provenance.json".to_owned(),
        inline_only,
        is_list: false,
        subjects: Vec::new(),
    };
    result.attestations.entry(platform.to_owned()).or_default().push(statement);
    result
}

/// Returns the descriptor that the client is told.
pub(crate) fn descriptor(response: &BTreeMap<String, String>) -> Value {
    let engine = base64::engine::general_purpose::STANDARD;
    let decoded = engine.decode(&response["containerimage.descriptor"]).unwrap();
    serde_json::from_slice(&decoded).unwrap()
}

/// Returns the digest at a place in a document.
pub(crate) fn digest_at(document: &Value, pointer: &str) -> Digest {
    document.pointer(&format!("{pointer}/digest")).unwrap().as_str().unwrap().parse().unwrap()
}
