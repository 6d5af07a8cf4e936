//! Stacks shown as copies.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use mount::{HostPath, Mount, RootDir};

use crate::diff::diff_trees;
use crate::flatten::put_layer;
use crate::removal::{HeldRemovals, Removals, remove_tree};
use crate::snapshotter::{ActiveSink, Held};
use crate::store::{Store, Unfinished};
use crate::walk::TreeError;
use crate::{
    ActiveLayer, LayerFiles, LayerIngest, LayerKey, SnapshotError, Snapshotter, Usage, View, node,
};

/// Shows stacks as copies, for machines where an overlay cannot be mounted. Copies share their content
/// where the file system can (btrfs, xfs).
///
/// What was written is found by comparing the copy with a second one when the layer is committed.
#[derive(Debug)]
pub struct CopySnapshotter {
    store: Arc<Store>,
    /// Stacks that somebody looks at now.
    trees: Arc<Mutex<HashMap<Vec<LayerKey>, Weak<Tree>>>>,
}

/// A stack as a plain tree, removed when nobody looks at it any more.
#[derive(Debug)]
struct Tree {
    path: HostPath,
    removals: Arc<Removals>,
}

/// A layer's directory that is a plain tree by itself, or a tree made for the stack.
#[derive(Debug, Clone)]
enum Shown {
    Directory(HostPath),
    Tree(Arc<Tree>),
}

#[derive(Debug)]
struct HeldTree {
    _tree: Arc<Tree>,
}

impl Held for HeldTree {}

impl Drop for Tree {
    fn drop(&mut self) {
        self.removals.begin(vec![self.path.clone()]);
    }
}

impl Shown {
    fn path(&self) -> &HostPath {
        match self {
            Self::Directory(path) => path,
            Self::Tree(tree) => &tree.path,
        }
    }
}

impl CopySnapshotter {
    /// Opens the layers in `root`, creates it if it is not there, and sweeps what was not finished.
    ///
    /// # Errors
    /// Returns an error if `root` cannot be made or listed.
    pub async fn open(root: HostPath) -> Result<Self, SnapshotError> {
        let store = tasks::blocking("open layers", move || Store::open(root)).await??;
        Ok(Self { store: Arc::new(store), trees: Arc::default() })
    }

    /// Runs blocking `work` on the store.
    async fn with<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce(&Arc<Store>) -> Result<T, SnapshotError> + Send + 'static,
    ) -> Result<T, SnapshotError> {
        let store = self.store.clone();
        tasks::blocking(name, move || work(&store)).await?
    }

    async fn show(&self, stack: &[LayerKey]) -> Result<Shown, SnapshotError> {
        let layers = self.store.stack(stack)?;
        let (trees, stack) = (self.trees.clone(), stack.to_vec());
        self.with("copy layers", move |store| show(store, &trees, stack, &layers)).await
    }

    async fn start(
        &self,
        unfinished: Unfinished,
        stack: &[LayerKey],
        is_new: bool,
    ) -> Result<ActiveLayer, SnapshotError> {
        let key = unfinished.key().clone();
        if stack.is_empty() {
            let mount = Mount::bind(unfinished.fs());
            return Ok(ActiveLayer::new(key, mount, Box::new(Sink { unfinished, base: None })));
        }
        let base = self.show(stack).await?;
        let sink = tasks::blocking("copy layers", move || {
            let tree = unfinished.work();
            put(base.path(), &tree, unfinished.key())?;
            if !is_new {
                put(&unfinished.fs(), &tree, unfinished.key())?;
            }
            Ok::<_, SnapshotError>(Sink { unfinished, base: Some(base) })
        })
        .await??;
        Ok(ActiveLayer::new(key, Mount::bind(sink.unfinished.work()), Box::new(sink)))
    }
}

#[async_trait]
impl Snapshotter for CopySnapshotter {
    async fn prepare(
        &self,
        layer: LayerKey,
        stack: &[LayerKey],
    ) -> Result<ActiveLayer, SnapshotError> {
        self.store.stack(stack)?;
        let unfinished = self.with("prepare layer", |store| store.create(layer, None)).await?;
        self.start(unfinished, stack, true).await
    }

    async fn resume(
        &self,
        layer: LayerKey,
        stack: &[LayerKey],
    ) -> Result<ActiveLayer, SnapshotError> {
        self.store.stack(stack)?;
        let unfinished = self.with("resume layer", |store| store.resume(layer)).await?;
        self.start(unfinished, stack, false).await
    }

    async fn view(&self, stack: &[LayerKey]) -> Result<View, SnapshotError> {
        Ok(match self.show(stack).await? {
            Shown::Directory(path) => View::new(Mount::bind(path).read_only(), None),
            Shown::Tree(tree) => {
                let mount = Mount::bind(tree.path.clone()).read_only();
                View::new(mount, Some(Box::new(HeldTree { _tree: tree })))
            }
        })
    }

    async fn layer(&self, layer: &LayerKey) -> Result<LayerFiles, SnapshotError> {
        let mut directories = self.store.stack(std::slice::from_ref(layer))?;
        Ok(LayerFiles::new(directories.remove(0), None))
    }

    async fn ingest(&self, layer: LayerKey) -> Result<LayerIngest, SnapshotError> {
        let unfinished = self.with("start layer", |store| store.create(layer, None)).await?;
        let (key, directory) = (unfinished.key().clone(), unfinished.fs());
        Ok(LayerIngest::new(key, directory, Box::new(Sink { unfinished, base: None })))
    }

    async fn remove(&self, layer: &LayerKey) -> Result<(), SnapshotError> {
        let layer = layer.clone();
        let gone = self.with("remove layer", move |store| store.remove(&layer)).await?;
        self.store.removals.begin(vec![gone]);
        Ok(())
    }

    async fn usage(&self, layer: &LayerKey) -> Result<Usage, SnapshotError> {
        let layer = layer.clone();
        let record = self.with("look at layer", move |store| store.record(&layer)).await?;
        Ok(record.usage)
    }

    async fn layers(&self) -> Result<Vec<LayerKey>, SnapshotError> {
        Ok(self.store.keys())
    }

    fn hold_removals(&self) -> HeldRemovals {
        self.store.removals.hold()
    }

    async fn reclaim(&self) {
        self.store.removals.finish().await;
    }

    async fn sync(&self) -> Result<(), SnapshotError> {
        self.with("sync layers", |store| store.sync()).await
    }
}

/// Returns a stack as a plain tree: one that is there, or a new one.
fn show(
    store: &Store,
    trees: &Mutex<HashMap<Vec<LayerKey>, Weak<Tree>>>,
    stack: Vec<LayerKey>,
    layers: &[HostPath],
) -> Result<Shown, SnapshotError> {
    match (stack.as_slice(), layers) {
        ([], _) => return Ok(Shown::Directory(store.empty())),
        ([only], [directory]) if store.record(only)?.plain => {
            return Ok(Shown::Directory(directory.clone()));
        }
        _ => {}
    }
    let known = trees.lock().unwrap_or_else(PoisonError::into_inner).get(&stack).cloned();
    if let Some(tree) = known.and_then(|tree| tree.upgrade()) {
        return Ok(Shown::Tree(tree));
    }
    let removals = store.removals.clone();
    let tree = Arc::new(Tree { path: store.create_view()?, removals });
    for (key, layer) in stack.iter().zip(layers) {
        put(layer, &tree.path, key)?;
    }
    let mut trees = trees.lock().unwrap_or_else(PoisonError::into_inner);
    trees.retain(|_, tree| tree.strong_count() > 0);
    trees.insert(stack, Arc::downgrade(&tree));
    Ok(Shown::Tree(tree))
}

fn put(layer: &HostPath, tree: &HostPath, key: &LayerKey) -> Result<(), SnapshotError> {
    put_layer(layer, tree).map_err(in_layer("copy", key))
}

fn in_layer(action: &'static str, layer: &LayerKey) -> impl FnOnce(TreeError) -> SnapshotError {
    let layer = layer.clone();
    move |source| SnapshotError::Tree { action, layer, source }
}

/// An unfinished layer. Over a stack, the whole tree is in its `work` until it is compared.
#[derive(Debug)]
struct Sink {
    unfinished: Unfinished,
    base: Option<Shown>,
}

impl Sink {
    /// Fills the layer with what differs from the stack; blocking.
    fn compare(&self) -> Result<(), SnapshotError> {
        let Some(base) = &self.base else { return Ok(()) };
        let (tree, layer) = (self.unfinished.work(), self.unfinished.fs());
        let open = |path: &HostPath| {
            RootDir::open(path).map_err(SnapshotError::io("open directory", path.as_path()))
        };
        let (base, upper, directory) = (open(base.path())?, open(&tree)?, open(&layer)?);
        let compared = node::open_directory(directory.as_fd(), OsStr::new("."))
            .map_err(TreeError::at("open directory", "."))
            .and_then(|directory| node::clear(&directory))
            .and_then(|()| diff_trees(&base, &upper, &layer));
        compared.map_err(in_layer("find the changes of", self.unfinished.key()))?;
        remove_tree(&tree)
    }
}

#[async_trait]
impl ActiveSink for Sink {
    async fn commit(self: Box<Self>) -> Result<Usage, SnapshotError> {
        tasks::blocking("commit layer", move || {
            self.compare()?;
            self.unfinished.commit(None)
        })
        .await?
    }

    async fn keep(self: Box<Self>) -> Result<(), SnapshotError> {
        tasks::blocking("keep layer", move || {
            self.compare()?;
            self.unfinished.keep()
        })
        .await?
    }
}
