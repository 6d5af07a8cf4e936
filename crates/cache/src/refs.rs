//! References to file systems: what a build's results are.
//!
//! An [`ImmutableRef`] is a stack of layers, or a client's directory as it was last synced. While one
//! is held, nothing it needs is removed. A [`MutableRef`] is a new layer being written over a stack.
//! [`Refs`] is the table of all layers; it answers what they are, how large, and who uses them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use content::ContentStore;
use digests::DiffId;
use mount::{DetachedMount, GuestPath, Mount, RootDir};
use oci::Descriptor;
use parking_lot::Mutex;
use rand::Rng as _;
use snapshot::{ActiveLayer, LayerIngest, LayerKey, Snapshotter};
use tasks::Flight;

use crate::checksum::Checksums;
use crate::document::LayerDocument;
use crate::local::LocalTree;
use crate::{CacheError, LayerInfo, MetaStore, Table, UsageRecord};

/// How many trees' checksums are remembered.
const CHECKSUM_TREES: usize = 64;

/// The table of layers. Clones share it.
#[derive(Debug, Clone)]
pub struct Refs(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) snapshotter: Arc<dyn Snapshotter>,
    pub(crate) content: Arc<dyn ContentStore>,
    pub(crate) meta: MetaStore,
    // Held for a look or a change in memory only, never over an await.
    pub(crate) layers: Mutex<HashMap<LayerKey, Arc<Layer>>>,
    /// One extraction per layer of an image at a time.
    pub(crate) extractions: Flight<LayerKey, Result<Arc<Layer>, CacheError>>,
    /// Written while a layer is removed, read where one of the same name may be made again.
    pub(crate) removals: tokio::sync::RwLock<()>,
    /// One archive per layer and compression at a time.
    pub(crate) archives: Flight<(LayerKey, String), Result<Descriptor, CacheError>>,
    checksums: Mutex<RecentChecksums>,
    /// Held while the space is counted that layers and clients' directories share.
    pub(crate) counting: Arc<tokio::sync::Mutex<()>>,
}

/// One committed layer. Who holds an `Arc` of it keeps it from being removed.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) key: LayerKey,
    pub(crate) document: Mutex<LayerDocument>,
}

/// A file system that no longer changes. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ImmutableRef(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Stack(Arc<[Arc<Layer>]>),
    Tree(Arc<LocalTree>),
}

impl Default for Kind {
    fn default() -> Self {
        Self::Stack(Arc::new([]))
    }
}

/// The checksums of the trees that were looked at last.
#[derive(Debug, Default)]
struct RecentChecksums {
    by_stack: HashMap<Vec<LayerKey>, (u64, Arc<Checksums>)>,
    clock: u64,
}

impl Refs {
    /// Opens the table: reads what is known and compares it with the layers that are there. What is
    /// known of a layer that is gone is forgotten; a layer of which nothing is known is removed.
    ///
    /// # Errors
    /// Returns an error if the metadata cannot be read or the layers cannot be listed.
    pub async fn open(
        meta: MetaStore,
        snapshotter: Arc<dyn Snapshotter>,
        content: Arc<dyn ContentStore>,
    ) -> Result<Self, CacheError> {
        let reader = meta.clone();
        let rows = tasks::blocking("read layers", move || reader.scan(Table::Layers)).await??;
        let there: HashSet<LayerKey> = snapshotter.layers().await?.into_iter().collect();
        let mut layers = HashMap::new();
        for (key, value) in rows {
            let parsed = std::str::from_utf8(&key).ok().and_then(|text| LayerKey::new(text).ok());
            let document = serde_json::from_slice::<LayerDocument>(&value);
            match (parsed, document) {
                (Some(layer), Ok(document)) if there.contains(&layer) => {
                    let document = Mutex::new(document);
                    layers.insert(layer.clone(), Arc::new(Layer { key: layer, document }));
                }
                _ => meta.delete(Table::Layers, key),
            }
        }
        for unknown in there.iter().filter(|key| !layers.contains_key(*key)) {
            tracing::info!(snapshot.key = %unknown, "removing a layer that nothing refers to");
            snapshotter.remove(unknown).await?;
        }
        Ok(Self(Arc::new(Inner {
            snapshotter,
            content,
            meta,
            layers: Mutex::new(layers),
            extractions: Flight::default(),
            removals: tokio::sync::RwLock::default(),
            archives: Flight::default(),
            checksums: Mutex::default(),
            counting: Arc::default(),
        })))
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }

    /// Returns the store of blobs.
    pub fn content(&self) -> &Arc<dyn ContentStore> {
        &self.0.content
    }

    /// Returns the keeper of layers.
    pub fn snapshotter(&self) -> &Arc<dyn Snapshotter> {
        &self.0.snapshotter
    }

    /// Returns the metadata store.
    pub fn meta(&self) -> &MetaStore {
        &self.0.meta
    }

    /// Returns the stack with these layers, lowest first; none if one of them is gone. Counts as use.
    pub fn get(&self, keys: &[LayerKey]) -> Option<ImmutableRef> {
        let tree = self.stack_of(keys)?;
        self.used(&tree);
        Some(tree)
    }

    /// Returns the stack with these layers, lowest first; none if one of them is gone.
    pub(crate) fn stack_of(&self, keys: &[LayerKey]) -> Option<ImmutableRef> {
        let layers = self.0.layers.lock();
        let stack: Option<Vec<_>> = keys.iter().map(|key| layers.get(key).cloned()).collect();
        stack.map(ImmutableRef::of_layers)
    }

    /// Returns the stack of `top` and all it was made over; none if a layer is gone. Counts as use.
    pub(crate) fn chain(&self, top: &LayerKey) -> Option<ImmutableRef> {
        let tree = self.stack_below(top)?;
        if let Some(top) = tree.layers().last() {
            self.touch(top);
        }
        Some(tree)
    }

    /// Returns the stack of `top` and all it was made over; none if a layer is gone.
    pub(crate) fn stack_below(&self, top: &LayerKey) -> Option<ImmutableRef> {
        let mut stack = Vec::new();
        {
            let layers = self.0.layers.lock();
            let mut next = Some(top.clone());
            while let Some(key) = next {
                let layer = layers.get(&key)?.clone();
                next = layer.document.lock().parent.clone();
                stack.push(layer);
            }
        }
        stack.reverse();
        Some(ImmutableRef::of_layers(stack))
    }

    /// Notes that a build uses a tree. What lies below a layer because that was made over it is kept by
    /// it; what lies there because trees were merged has to be told.
    pub(crate) fn used(&self, tree: &ImmutableRef) {
        let above = tree.layers().iter().skip(1).map(Some).chain([None]);
        for (layer, above) in tree.layers().iter().zip(above) {
            let parent = above.and_then(|above| above.document.lock().parent.clone());
            if parent.as_ref() != Some(&layer.key) {
                self.touch(layer);
            }
        }
    }

    /// Notes that a build uses a layer, and so those it was made over.
    fn touch(&self, layer: &Arc<Layer>) {
        let mut document = layer.document.lock();
        document.last_used = SystemTime::now();
        document.use_count += 1;
        self.put(&layer.key, &document);
    }

    pub(crate) fn put(&self, key: &LayerKey, document: &LayerDocument) {
        match serde_json::to_vec(document) {
            Ok(value) => self.0.meta.put(Table::Layers, key.as_str(), value),
            Err(error) => tracing::error!(%error, snapshot.key = %key, "layer not recorded"),
        }
    }

    /// Enters a committed layer into the table.
    pub(crate) fn insert(&self, key: LayerKey, document: LayerDocument) -> Arc<Layer> {
        self.put(&key, &document);
        let layer = Arc::new(Layer { key: key.clone(), document: Mutex::new(document) });
        self.0.layers.lock().insert(key, layer.clone());
        layer
    }

    /// Starts a new layer over `base`.
    ///
    /// # Errors
    /// Returns an error if the layer cannot be made.
    pub async fn new_layer(
        &self,
        base: &ImmutableRef,
        info: LayerInfo,
    ) -> Result<MutableRef, CacheError> {
        let base = self.settled(base).await?;
        let base = self.lowered(base).await?;
        let stack = base.keys();
        let active = self.0.snapshotter.prepare(new_key(), &stack).await?;
        Ok(MutableRef { refs: self.clone(), base, info, active, lenders: Vec::new() })
    }

    /// Starts a layer that its owner fills in the format of a layer.
    ///
    /// # Errors
    /// Returns an error if the layer cannot be made.
    pub async fn new_ingest(&self) -> Result<LayerIngest, CacheError> {
        Ok(self.0.snapshotter.ingest(new_key()).await?)
    }

    /// Ends an ingest: its layer lies over `base`.
    ///
    /// # Errors
    /// Returns an error if the layer cannot be committed.
    pub async fn commit_ingest(
        &self,
        ingest: LayerIngest,
        base: &ImmutableRef,
        info: LayerInfo,
    ) -> Result<ImmutableRef, CacheError> {
        let key = ingest.key().clone();
        let usage = ingest.commit().await?;
        let parent = base.keys().last().cloned();
        let layer = self.insert(key, LayerDocument::new(info, parent, usage.bytes));
        Ok(base.with(layer))
    }

    /// Opens a tree for reading.
    ///
    /// # Errors
    /// Returns an error if it cannot be shown.
    pub async fn view(&self, tree: &ImmutableRef) -> Result<TreeView, CacheError> {
        let (mount, view) = match &tree.0 {
            Kind::Tree(local) => (local.mount().clone().read_only(), None),
            Kind::Stack(_) => {
                let view = self.0.snapshotter.view(&tree.keys()).await?;
                (view.mount().clone(), Some(Arc::new(view)))
            }
        };
        Ok(TreeView { mount, tree: tree.clone(), _view: view })
    }

    /// Returns the digests known of a tree, to be asked and added to.
    pub fn checksums(&self, tree: &ImmutableRef) -> Arc<Checksums> {
        match &tree.0 {
            Kind::Tree(local) => local.checksums().clone(),
            Kind::Stack(_) => self.0.checksums.lock().of(tree.keys()),
        }
    }

    /// Returns what takes space, for `du`.
    pub fn usage(&self) -> Vec<UsageRecord> {
        let layers = self.0.layers.lock();
        let records = layers.values().map(|layer| {
            let document = layer.document.lock();
            UsageRecord {
                id: layer.key.to_string(),
                mutable: document.tree.is_some(),
                in_use: Arc::strong_count(layer) > 1,
                size: document.size,
                created: document.created,
                last_used: Some(document.last_used),
                use_count: document.use_count,
                description: document.description.clone(),
                kind: document.kind,
                shared: false,
                parents: document.parent.iter().map(ToString::to_string).collect(),
            }
        });
        records.collect()
    }
}

impl RecentChecksums {
    fn of(&mut self, stack: Vec<LayerKey>) -> Arc<Checksums> {
        self.clock += 1;
        if self.by_stack.len() >= CHECKSUM_TREES && !self.by_stack.contains_key(&stack) {
            let oldest = self.by_stack.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.by_stack.remove(&oldest);
            }
        }
        let entry = self.by_stack.entry(stack).or_default();
        entry.0 = self.clock;
        entry.1.clone()
    }
}

impl ImmutableRef {
    pub(crate) fn of_layers(layers: Vec<Arc<Layer>>) -> Self {
        Self(Kind::Stack(layers.into()))
    }

    pub(crate) fn of_tree(tree: Arc<LocalTree>) -> Self {
        Self(Kind::Tree(tree))
    }

    pub(crate) fn layers(&self) -> &[Arc<Layer>] {
        match &self.0 {
            Kind::Stack(layers) => layers,
            Kind::Tree(_) => &[],
        }
    }

    pub(crate) fn local(&self) -> Option<&LocalTree> {
        match &self.0 {
            Kind::Tree(local) => Some(local),
            Kind::Stack(_) => None,
        }
    }

    /// Returns true for the empty file system, that of `FROM scratch`.
    pub fn is_empty(&self) -> bool {
        matches!(&self.0, Kind::Stack(layers) if layers.is_empty())
    }

    /// Returns true for a client's directory: it stays as it is only while it is held.
    pub fn is_local(&self) -> bool {
        self.local().is_some()
    }

    /// Returns the number of layers.
    pub fn height(&self) -> usize {
        self.layers().len()
    }

    /// Returns the layers' keys, lowest first; none for a client's directory.
    pub fn keys(&self) -> Vec<LayerKey> {
        self.layers().iter().map(|layer| layer.key.clone()).collect()
    }

    /// Returns each layer's parent as it was when the layer was made, beside its key.
    pub(crate) fn is_plain_chain(&self) -> bool {
        let mut below: Option<&LayerKey> = None;
        for layer in self.layers() {
            if layer.document.lock().parent.as_ref() != below {
                return false;
            }
            below = Some(&layer.key);
        }
        true
    }

    fn with(&self, top: Arc<Layer>) -> Self {
        let mut layers = self.layers().to_vec();
        layers.push(top);
        Self::of_layers(layers)
    }

    /// Returns the same file system without the layers above the first `height`.
    #[must_use]
    pub fn truncated(&self, height: usize) -> Self {
        Self::of_layers(self.layers().iter().take(height).cloned().collect())
    }

    /// Returns a text that is equal for equal stacks.
    pub fn identity(&self) -> String {
        match &self.0 {
            Kind::Tree(local) => format!("tree:{}", local.key()),
            Kind::Stack(_) => {
                self.keys().iter().map(LayerKey::as_str).collect::<Vec<_>>().join(",")
            }
        }
    }

    /// Returns when each layer was made, lowest first.
    pub fn created(&self) -> Vec<SystemTime> {
        self.layers().iter().map(|layer| layer.document.lock().created).collect()
    }

    /// Returns what each layer is, lowest first, for people.
    pub fn descriptions(&self) -> Vec<String> {
        self.layers().iter().map(|layer| layer.document.lock().description.clone()).collect()
    }
}

impl Layer {
    pub(crate) fn diff_id(&self) -> Option<DiffId> {
        self.document.lock().diff_id
    }
}

/// A new layer being written. Dropping it discards what was written.
#[must_use = "what was written is discarded when this is dropped"]
#[derive(Debug)]
pub struct MutableRef {
    refs: Refs,
    base: ImmutableRef,
    info: LayerInfo,
    active: ActiveLayer,
    /// The clients' directories whose files it has under further names.
    pub(crate) lenders: Vec<LayerKey>,
}

impl MutableRef {
    /// Returns the whole tree, writable.
    pub fn mount(&self) -> &Mount {
        self.active.mount()
    }

    /// Opens the whole tree for writing by ourselves. Blocks, briefly.
    ///
    /// # Errors
    /// Returns an error if it cannot be mounted.
    pub fn root(&self) -> Result<RootDir, CacheError> {
        open_root(self.active.mount())
    }

    /// Makes what was written a layer that no longer changes. Nobody may write any more.
    ///
    /// # Errors
    /// Returns an error if the file system refuses, such as when it is full; then nothing is kept.
    pub async fn commit(self) -> Result<ImmutableRef, CacheError> {
        let key = self.active.key().clone();
        let parent = self.base.keys().last().cloned();
        let usage = self.active.commit().await?;
        let mut document = LayerDocument::new(self.info, parent, usage.bytes);
        document.lenders = self.lenders;
        Ok(self.base.with(self.refs.insert(key, document)))
    }
}

/// A tree open for reading. While it is held, the tree stays as it is.
#[derive(Debug, Clone)]
pub struct TreeView {
    mount: Mount,
    tree: ImmutableRef,
    _view: Option<Arc<snapshot::View>>,
}

impl TreeView {
    pub(crate) const fn tree(&self) -> &ImmutableRef {
        &self.tree
    }

    /// Returns the tree as something to be mounted, read-only.
    pub const fn mount(&self) -> &Mount {
        &self.mount
    }

    /// Opens the tree for reading by ourselves. Blocks, briefly.
    ///
    /// # Errors
    /// Returns an error if it cannot be mounted.
    pub fn root(&self) -> Result<RootDir, CacheError> {
        open_root(&self.mount)
    }

    /// Returns what is at `path`, following links inside the tree. Blocks, briefly.
    ///
    /// # Errors
    /// Returns an error if the tree cannot be mounted, or nothing is at `path`.
    pub fn stat(&self, path: &GuestPath) -> Result<rustix::fs::Stat, CacheError> {
        self.root()?.stat(path).map_err(|error| CacheError::io("stat", path, error))
    }
}

pub(crate) fn open_root(mount: &Mount) -> Result<RootDir, CacheError> {
    let detached: DetachedMount = mount::detached::open(mount).map_err(CacheError::from_error)?;
    detached.root().map_err(CacheError::from_error)
}

/// Returns a key that no layer has yet.
pub(crate) fn new_key() -> LayerKey {
    const LETTERS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut random = rand::rng();
    let text: String =
        (0..25).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect();
    // Letters and digits only, and fewer than the limit: always a key.
    LayerKey::new(&text).unwrap_or_else(|error| unreachable!("{error}"))
}
