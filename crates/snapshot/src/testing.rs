//! A snapshotter for tests: real files in a temporary directory, no mounts, and strict.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use mount::HostPath;

use crate::removal::HeldRemovals;
use crate::snapshotter::{ActiveSink, Held};
use crate::{
    ActiveLayer, CopySnapshotter, LayerFiles, LayerIngest, LayerKey, SnapshotError, Snapshotter,
    Usage, View,
};

/// Layers in a temporary directory, shown as copies, so that no mount and no root is needed.
///
/// Stricter than production: to remove or resume a layer that is in a view or below an active layer is
/// a panic, because elsewhere it is a tree that changes under its reader. Faults can be injected.
#[derive(Debug)]
pub struct TestSnapshotter {
    inner: CopySnapshotter,
    state: Arc<Mutex<State>>,
    _directory: tempfile::TempDir,
}

#[derive(Debug, Default)]
struct State {
    /// How often each layer is in a view, or below an active layer.
    used: BTreeMap<LayerKey, usize>,
    active: usize,
    faults: Vec<Call>,
}

/// Calls that [`TestSnapshotter`] can make fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// [`Snapshotter::prepare`] and [`Snapshotter::resume`].
    Prepare,
    /// [`Snapshotter::view`] and [`Snapshotter::layer`].
    View,
    /// [`Snapshotter::ingest`].
    Ingest,
    /// The commit of an active or ingested layer.
    Commit,
    /// [`Snapshotter::remove`].
    Remove,
}

impl TestSnapshotter {
    /// Makes a snapshotter without layers.
    ///
    /// # Errors
    /// Returns an error if there is no room for temporary files.
    pub async fn new() -> Result<Self, SnapshotError> {
        let directory = tempfile::tempdir()
            .map_err(SnapshotError::io("create directory in", std::env::temp_dir()))?;
        let root = HostPath::new(directory.path().join("snapshots")).map_err(|error| {
            SnapshotError::io("use", directory.path())(std::io::Error::other(error))
        })?;
        let inner = CopySnapshotter::open(root).await?;
        Ok(Self { inner, state: Arc::default(), _directory: directory })
    }

    /// Makes the next `call` fail as if the disk were full. Said twice, the next two fail.
    pub fn fail_next(&self, call: Call) {
        lock(&self.state).faults.push(call);
    }

    /// Returns how many layers are neither committed, kept nor dropped.
    pub fn active(&self) -> usize {
        lock(&self.state).active
    }

    /// Returns true if a layer is in a view or below an active layer.
    pub fn is_used(&self, layer: &LayerKey) -> bool {
        lock(&self.state).used.contains_key(layer)
    }

    fn refuse_used(&self, layer: &LayerKey, call: &str) {
        assert!(!self.is_used(layer), "{call} of layer {layer}, which is in use");
    }

    fn guard(&self, stack: &[LayerKey]) -> InUse {
        let mut state = lock(&self.state);
        for layer in stack {
            *state.used.entry(layer.clone()).or_default() += 1;
        }
        InUse { stack: stack.to_vec(), state: self.state.clone() }
    }

    fn sink(&self, stack: &[LayerKey]) -> impl FnOnce(Box<dyn ActiveSink>) -> Box<dyn ActiveSink> {
        lock(&self.state).active += 1;
        let stack = self.guard(stack);
        move |sink| Box::new(TestSink { sink: Some(sink), stack })
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check(state: &Mutex<State>, call: Call) -> Result<(), SnapshotError> {
    let mut state = lock(state);
    let Some(index) = state.faults.iter().position(|fault| *fault == call) else { return Ok(()) };
    state.faults.remove(index);
    let source = std::io::ErrorKind::StorageFull.into();
    Err(SnapshotError::io("injected fault in", format!("{call:?}"))(source))
}

#[async_trait]
impl Snapshotter for TestSnapshotter {
    async fn prepare(
        &self,
        layer: LayerKey,
        stack: &[LayerKey],
    ) -> Result<ActiveLayer, SnapshotError> {
        check(&self.state, Call::Prepare)?;
        let active = self.inner.prepare(layer, stack).await?;
        Ok(active.wrap(self.sink(stack)))
    }

    async fn resume(
        &self,
        layer: LayerKey,
        stack: &[LayerKey],
    ) -> Result<ActiveLayer, SnapshotError> {
        check(&self.state, Call::Prepare)?;
        self.refuse_used(&layer, "resumption");
        let active = self.inner.resume(layer, stack).await?;
        Ok(active.wrap(self.sink(stack)))
    }

    async fn view(&self, stack: &[LayerKey]) -> Result<View, SnapshotError> {
        check(&self.state, Call::View)?;
        let view = self.inner.view(stack).await?;
        let mount = view.mount().clone();
        let held = HeldView { _stack: self.guard(stack), _view: view };
        Ok(View::new(mount, Some(Box::new(held))))
    }

    async fn layer(&self, layer: &LayerKey) -> Result<LayerFiles, SnapshotError> {
        check(&self.state, Call::View)?;
        let files = self.inner.layer(layer).await?;
        let held = self.guard(std::slice::from_ref(layer));
        Ok(LayerFiles::new(files.directory().clone(), Some(Box::new(held))))
    }

    async fn ingest(&self, layer: LayerKey) -> Result<LayerIngest, SnapshotError> {
        check(&self.state, Call::Ingest)?;
        let ingest = self.inner.ingest(layer).await?;
        Ok(ingest.wrap(self.sink(&[])))
    }

    async fn remove(&self, layer: &LayerKey) -> Result<(), SnapshotError> {
        check(&self.state, Call::Remove)?;
        self.refuse_used(layer, "removal");
        self.inner.remove(layer).await
    }

    async fn usage(&self, layer: &LayerKey) -> Result<Usage, SnapshotError> {
        self.inner.usage(layer).await
    }

    async fn layers(&self) -> Result<Vec<LayerKey>, SnapshotError> {
        self.inner.layers().await
    }

    fn hold_removals(&self) -> HeldRemovals {
        self.inner.hold_removals()
    }

    async fn reclaim(&self) {
        self.inner.reclaim().await;
    }

    async fn sync(&self) -> Result<(), SnapshotError> {
        self.inner.sync().await
    }
}

/// Counts a stack as used while it lives.
#[derive(Debug)]
struct InUse {
    stack: Vec<LayerKey>,
    state: Arc<Mutex<State>>,
}

impl Held for InUse {}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        for layer in &self.stack {
            if let Some(count) = state.used.get_mut(layer) {
                *count -= 1;
                if *count == 0 {
                    state.used.remove(layer);
                }
            }
        }
    }
}

#[derive(Debug)]
struct HeldView {
    _stack: InUse,
    _view: View,
}

impl Held for HeldView {}

struct TestSink {
    /// None once it is used up.
    sink: Option<Box<dyn ActiveSink>>,
    stack: InUse,
}

impl TestSink {
    fn take(&mut self) -> Result<Box<dyn ActiveSink>, SnapshotError> {
        check(&self.stack.state, Call::Commit)?;
        let used_up = || SnapshotError::io("end", "a layer")(std::io::ErrorKind::NotFound.into());
        self.sink.take().ok_or_else(used_up)
    }
}

#[async_trait]
impl ActiveSink for TestSink {
    async fn commit(mut self: Box<Self>) -> Result<Usage, SnapshotError> {
        self.take()?.commit().await
    }

    async fn keep(mut self: Box<Self>) -> Result<(), SnapshotError> {
        self.take()?.keep().await
    }
}

impl Drop for TestSink {
    fn drop(&mut self) {
        lock(&self.stack.state).active -= 1;
    }
}
