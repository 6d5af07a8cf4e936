//! Stacks shown by the kernel's overlay file system.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use mount::detached::OVERLAY_MAX_LOWER;
use mount::{HostPath, Mount, MountSource, OverlayUpper, Syncing};

use crate::removal::HeldRemovals;
use crate::snapshotter::ActiveSink;
use crate::store::{Store, Unfinished};
use crate::untouched::remove_untouched;
use crate::{
    ActiveLayer, LayerFiles, LayerIngest, LayerKey, SnapshotError, Snapshotter, Usage, View,
};

/// Shows stacks as overlays: to prepare and to view costs the same for any size of tree.
///
/// A stack of one plain layer, and a layer over the empty stack, are shown as the directory itself.
/// One process at a time may have a root open, because opening it sweeps what the last one left
/// unfinished.
#[derive(Debug)]
pub struct OverlaySnapshotter {
    store: Arc<Store>,
}

impl OverlaySnapshotter {
    /// Opens the layers in `root`, creates it if it is not there, and sweeps what was not finished.
    ///
    /// # Errors
    /// Returns an error if `root` cannot be made or listed.
    pub async fn open(root: HostPath) -> Result<Self, SnapshotError> {
        let store = tasks::blocking("open layers", move || Store::open(root)).await??;
        Ok(Self { store: Arc::new(store) })
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
}

#[async_trait]
impl Snapshotter for OverlaySnapshotter {
    async fn prepare(
        &self,
        layer: LayerKey,
        stack: &[LayerKey],
    ) -> Result<ActiveLayer, SnapshotError> {
        let stack = once(stack);
        self.with("prepare layer", move |store| {
            let lower = lower(store, &stack)?;
            let unfinished = store.create(layer, lower.first())?;
            Ok(active(unfinished, &stack, lower))
        })
        .await
    }

    async fn resume(
        &self,
        layer: LayerKey,
        stack: &[LayerKey],
    ) -> Result<ActiveLayer, SnapshotError> {
        let stack = once(stack);
        self.with("resume layer", move |store| {
            let lower = lower(store, &stack)?;
            Ok(active(store.resume(layer)?, &stack, lower))
        })
        .await
    }

    async fn view(&self, stack: &[LayerKey]) -> Result<View, SnapshotError> {
        if stack.is_empty() {
            return Ok(View::new(Mount::bind(self.store.empty()).read_only(), None));
        }
        let stack = once(stack);
        let mount = self.with("show layers", move |store| {
            let mut lower = lower(store, &stack)?;
            let [directory] = lower.as_slice() else { return Ok(overlay(lower, None)) };
            // The lowest layer of a stack is never left out.
            if store.record(&stack[0])?.plain {
                return Ok(Mount::bind(directory.clone()));
            }
            // An overlay that is not written to has at least two directories.
            lower.push(store.empty());
            Ok(overlay(lower, None))
        });
        let mount = mount.await?;
        Ok(View::new(mount.read_only(), None))
    }

    async fn layer(&self, layer: &LayerKey) -> Result<LayerFiles, SnapshotError> {
        let mut directories = self.store.stack(std::slice::from_ref(layer))?;
        Ok(LayerFiles::new(directories.remove(0), None))
    }

    async fn ingest(&self, layer: LayerKey) -> Result<LayerIngest, SnapshotError> {
        let unfinished = self.with("start layer", move |store| store.create(layer, None)).await?;
        Ok(LayerIngest::new(
            unfinished.key().clone(),
            unfinished.fs(),
            Box::new(Sink::new(unfinished)),
        ))
    }

    async fn remove(&self, layer: &LayerKey) -> Result<(), SnapshotError> {
        let layer = layer.clone();
        let gone = self.with("remove layer", move |store| store.remove(&layer)).await?;
        self.store.removals.begin(vec![gone]);
        Ok(())
    }

    async fn remove_all(&self, layers: &[LayerKey]) -> (usize, Result<(), SnapshotError>) {
        let (store, layers) = (self.store.clone(), layers.to_vec());
        // One piece of work for all: most of what one costs is the way to a thread and back.
        let removed = tasks::blocking("remove layers", move || {
            let mut gone = Vec::with_capacity(layers.len());
            let outcome = layers.iter().try_for_each(|layer| {
                gone.push(store.remove(layer)?);
                Ok::<_, SnapshotError>(())
            });
            (gone, outcome)
        });
        match removed.await {
            Ok((gone, outcome)) => {
                let count = gone.len();
                self.store.removals.begin(gone);
                (count, outcome)
            }
            Err(error) => (0, Err(error.into())),
        }
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

/// Returns a stack in which each layer stands once: where it is topmost, because all that it has below is
/// hidden by itself. The kernel refuses a directory that stands twice.
fn once(stack: &[LayerKey]) -> Vec<LayerKey> {
    let mut above = HashSet::with_capacity(stack.len());
    let mut topmost: Vec<_> =
        stack.iter().rev().filter(|layer| above.insert(*layer)).cloned().collect();
    topmost.reverse();
    topmost
}

/// Returns the directories of a stack, topmost first; blocking. Those that change nothing where they
/// stand are left out: each costs the kernel as much as any other.
fn lower(store: &Store, stack: &[LayerKey]) -> Result<Vec<HostPath>, SnapshotError> {
    let directories = store.stack(stack)?;
    let below = std::iter::once(None).chain(stack.iter().map(Some));
    let mut lower = Vec::with_capacity(directories.len());
    for ((layer, below), directory) in stack.iter().zip(below).zip(directories) {
        let idle_over = store.record(layer)?.idle_over;
        if idle_over.is_none() || idle_over.as_ref() != below {
            lower.push(directory);
        }
    }
    if lower.len() > OVERLAY_MAX_LOWER {
        return Err(SnapshotError::TooHigh { layers: lower.len(), limit: OVERLAY_MAX_LOWER });
    }
    lower.reverse();
    Ok(lower)
}

fn active(unfinished: Unfinished, stack: &[LayerKey], lower: Vec<HostPath>) -> ActiveLayer {
    let mount = if lower.is_empty() {
        Mount::bind(unfinished.fs())
    } else {
        // The store knows which layers are whole and on the disk; see [`Store::sync`].
        let (upper, work) = (unfinished.fs(), unfinished.work());
        let upper = OverlayUpper { upper, work, syncing: Syncing::Owner };
        overlay(lower.clone(), Some(upper))
    };
    let top = stack.last().cloned();
    ActiveLayer::new(unfinished.key().clone(), mount, Box::new(Sink { unfinished, top, lower }))
}

fn overlay(lower: Vec<HostPath>, upper: Option<OverlayUpper>) -> Mount {
    Mount { source: MountSource::Overlay { lower, upper }, readonly: false }
}

/// An unfinished layer whose directory is the layer.
#[derive(Debug)]
struct Sink {
    unfinished: Unfinished,
    /// The top of the stack that it was written over.
    top: Option<LayerKey>,
    /// The directories that it was written over, topmost first.
    lower: Vec<HostPath>,
}

impl Sink {
    const fn new(unfinished: Unfinished) -> Self {
        Self { unfinished, top: None, lower: Vec::new() }
    }

    /// Commits the layer, without what it does not say; blocking.
    fn end(self) -> Result<Usage, SnapshotError> {
        let Self { unfinished, top, lower } = self;
        remove_untouched(&unfinished.fs(), &lower).map_err(|source| {
            let layer = unfinished.key().clone();
            SnapshotError::Tree { action: "tidy", layer, source }
        })?;
        unfinished.commit(top.as_ref())
    }
}

#[async_trait]
impl ActiveSink for Sink {
    async fn commit(self: Box<Self>) -> Result<Usage, SnapshotError> {
        tasks::blocking("commit layer", move || self.end()).await?
    }

    async fn keep(self: Box<Self>) -> Result<(), SnapshotError> {
        tasks::blocking("keep layer", move || self.unfinished.keep()).await?
    }
}
