//! What a keeper of layers is, whichever way it shows them.

use std::fmt::{self, Debug};
use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use mount::{HostPath, Mount, MountError};
use serde::{Deserialize, Serialize};

use crate::LayerKey;
use crate::removal::HeldRemovals;

/// Keeps layers, and shows stacks of them as trees. Stacks are slices of keys, lowest first.
///
/// A layer is *active* (being written, discarded when its guard is dropped), then *committed* (it
/// never changes again, and may be part of stacks) or *kept* (it waits to be resumed). A committed layer is
/// whole or not there, at any instant: `kill -9` loses only what was active. A power loss may also lose
/// layers that were committed since the last [`Snapshotter::sync`]; such a layer is then gone from
/// [`Snapshotter::layers`], never there in part.
#[async_trait]
pub trait Snapshotter: Send + Sync + Debug {
    /// Makes a new, empty layer, writable over `stack`.
    ///
    /// # Errors
    /// Returns an error if `layer` exists in any state, or a layer of `stack` is not committed.
    async fn prepare(
        &self,
        layer: LayerKey,
        stack: &[LayerKey],
    ) -> Result<ActiveLayer, SnapshotError>;

    /// Opens a kept or committed layer for writing again, over the same `stack`. From now on it is a
    /// kept layer: if the guard is dropped, or the process dies, it stays as it was written so far.
    ///
    /// A committed layer may be resumed only while it is in no view and below no active layer.
    ///
    /// # Errors
    /// Returns an error if `layer` is not kept or committed, or a layer of `stack` is not committed.
    async fn resume(
        &self,
        layer: LayerKey,
        stack: &[LayerKey],
    ) -> Result<ActiveLayer, SnapshotError>;

    /// Shows `stack`, not writable; an empty stack is an empty directory.
    ///
    /// The layers of the stack must not be removed while the view is held.
    ///
    /// # Errors
    /// Returns an error if a layer of `stack` is not committed.
    async fn view(&self, stack: &[LayerKey]) -> Result<View, SnapshotError>;

    /// Opens a layer as it is kept: what it changes, with the marks of what it removes.
    ///
    /// The layer must not be removed while it is held.
    ///
    /// # Errors
    /// Returns an error if `layer` is not committed.
    async fn layer(&self, layer: &LayerKey) -> Result<LayerFiles, SnapshotError>;

    /// Makes a new layer that is filled by its owner, in the format of a layer: from an archive with
    /// [`apply`](crate::apply), or from two trees with [`diff_trees`](crate::diff_trees).
    ///
    /// # Errors
    /// Returns an error if `layer` exists in any state.
    async fn ingest(&self, layer: LayerKey) -> Result<LayerIngest, SnapshotError>;

    /// Removes a layer that is committed or kept. It is gone at once; its space follows.
    ///
    /// # Errors
    /// Returns an error if there is no such layer, or it is active.
    async fn remove(&self, layer: &LayerKey) -> Result<(), SnapshotError>;

    /// Removes layers in this order, as [`Snapshotter::remove`] does one, until the first that cannot be
    /// removed; returns how many are gone, and why the next is not.
    async fn remove_all(&self, layers: &[LayerKey]) -> (usize, Result<(), SnapshotError>) {
        for (count, layer) in layers.iter().enumerate() {
            if let Err(error) = self.remove(layer).await {
                return (count, Err(error));
            }
        }
        (layers.len(), Ok(()))
    }

    /// Returns the space a layer takes: a committed one as it was counted then, a kept one as it is.
    ///
    /// # Errors
    /// Returns an error if there is no such layer.
    async fn usage(&self, layer: &LayerKey) -> Result<Usage, SnapshotError>;

    /// Returns all layers that are committed or kept, in the order of their keys.
    async fn layers(&self) -> Result<Vec<LayerKey>, SnapshotError>;

    /// Lets layers that are removed from now on take their space until the guard is dropped. Many layers
    /// are sooner out of the way if the disk is not busy with the files of the first.
    fn hold_removals(&self) -> HeldRemovals;

    /// Waits until what was removed so far takes no space any more.
    async fn reclaim(&self);

    /// Makes all layers committed so far survive a power loss. It writes out everything the file
    /// system has in memory, so it is for a quiet moment, and for the end of the program.
    async fn sync(&self) -> Result<(), SnapshotError>;
}

/// The space a layer takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes on the disk, as `du` counts them: whole blocks, a hard-linked file once.
    pub bytes: u64,
    /// Files, directories and all else.
    pub inodes: u64,
}

/// How an active layer ends; implemented by each snapshotter. Dropping it discards the layer.
#[async_trait]
pub trait ActiveSink: Send + Sync {
    /// Ends the layer as committed.
    async fn commit(self: Box<Self>) -> Result<Usage, SnapshotError>;

    /// Ends the layer as kept.
    async fn keep(self: Box<Self>) -> Result<(), SnapshotError>;
}

/// A layer that is being written. Dropping it discards the layer, in the background; a layer that was
/// resumed stays kept.
#[must_use = "an active layer is discarded when it is dropped"]
pub struct ActiveLayer {
    key: LayerKey,
    mount: Mount,
    sink: Box<dyn ActiveSink>,
}

impl ActiveLayer {
    /// Takes the parts of an active layer; for implementations of a snapshotter.
    pub fn new(key: LayerKey, mount: Mount, sink: Box<dyn ActiveSink>) -> Self {
        Self { key, mount, sink }
    }

    /// Puts a layer round the way it ends; for decorators of a snapshotter.
    pub fn wrap(self, wrap: impl FnOnce(Box<dyn ActiveSink>) -> Box<dyn ActiveSink>) -> Self {
        Self { sink: wrap(self.sink), ..self }
    }

    /// Returns the layer's key.
    pub const fn key(&self) -> &LayerKey {
        &self.key
    }

    /// Returns the whole tree, writable. What is written through it becomes the layer.
    pub const fn mount(&self) -> &Mount {
        &self.mount
    }

    /// Ends the layer as committed. Nobody may write through its mount from now on.
    ///
    /// # Errors
    /// Returns an error if the file system refuses; the layer is discarded then.
    pub async fn commit(self) -> Result<Usage, SnapshotError> {
        self.sink.commit().await
    }

    /// Ends the layer as kept: not part of stacks, but found again by [`Snapshotter::resume`], also
    /// after a restart. A crash while it is resumed leaves it as it was written so far.
    ///
    /// # Errors
    /// Returns an error if the file system refuses; the layer is discarded then.
    pub async fn keep(self) -> Result<(), SnapshotError> {
        self.sink.keep().await
    }
}

impl Debug for ActiveLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActiveLayer").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A stack, shown; valid while it is held.
#[must_use = "a view may end when it is dropped"]
#[derive(Debug)]
pub struct View {
    mount: Mount,
    /// What exists for this view alone.
    _held: Option<Box<dyn Held>>,
}

/// Something that ends with the guard that holds it.
pub trait Held: Send + Sync + Debug {}

impl View {
    /// Takes the mount of a view, and what is to be dropped with it; for implementations.
    pub fn new(mount: Mount, held: Option<Box<dyn Held>>) -> Self {
        Self { mount, _held: held }
    }

    /// Returns the whole tree, not writable.
    pub const fn mount(&self) -> &Mount {
        &self.mount
    }
}

/// The files of one layer, in the format of a layer; valid while it is held.
#[must_use = "the files may go when it is dropped"]
#[derive(Debug)]
pub struct LayerFiles {
    directory: HostPath,
    /// What says that the layer is read.
    _held: Option<Box<dyn Held>>,
}

impl LayerFiles {
    /// Takes the directory of a layer, and what is to be dropped with it; for implementations.
    pub fn new(directory: HostPath, held: Option<Box<dyn Held>>) -> Self {
        Self { directory, _held: held }
    }

    /// Returns the layer's directory, which nobody may write into.
    pub const fn directory(&self) -> &HostPath {
        &self.directory
    }
}

/// A new layer that its owner fills. Dropping it discards the layer, in the background.
#[must_use = "an ingested layer is discarded when it is dropped"]
pub struct LayerIngest {
    key: LayerKey,
    directory: HostPath,
    sink: Box<dyn ActiveSink>,
}

impl LayerIngest {
    /// Takes the parts of an ingest; for implementations of a snapshotter.
    pub fn new(key: LayerKey, directory: HostPath, sink: Box<dyn ActiveSink>) -> Self {
        Self { key, directory, sink }
    }

    /// Puts a layer round the way it ends; for decorators of a snapshotter.
    pub fn wrap(self, wrap: impl FnOnce(Box<dyn ActiveSink>) -> Box<dyn ActiveSink>) -> Self {
        Self { sink: wrap(self.sink), ..self }
    }

    /// Returns the layer's key.
    pub const fn key(&self) -> &LayerKey {
        &self.key
    }

    /// Returns the layer's directory, empty at first.
    pub const fn directory(&self) -> &HostPath {
        &self.directory
    }

    /// Ends the layer as committed. Nobody may write into its directory from now on.
    ///
    /// # Errors
    /// Returns an error if the file system refuses; the layer is discarded then.
    pub async fn commit(self) -> Result<Usage, SnapshotError> {
        self.sink.commit().await
    }
}

impl Debug for LayerIngest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerIngest").field("key", &self.key).finish_non_exhaustive()
    }
}

/// Why a layer could not be made, shown or removed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// There is no such layer in the state that is needed.
    #[error("layer `{layer}` is not {needed}")]
    Missing {
        /// The layer.
        layer: LayerKey,
        /// What it should be: `committed`, `kept`, `committed or kept`.
        needed: &'static str,
    },
    /// The key is taken.
    #[error("layer `{layer}` exists already")]
    Exists {
        /// The layer.
        layer: LayerKey,
    },
    /// A stack is higher than the kernel can show.
    #[error("a tree of {layers} layers is over the limit of {limit}; squash some of them")]
    TooHigh {
        /// The stack's height.
        layers: usize,
        /// The most that can be shown.
        limit: usize,
    },
    /// The file system refused.
    #[error("{action} `{path}`")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A stack could not be mounted for our own use.
    #[error("show the tree below layer `{layer}`")]
    Mount {
        /// The layer.
        layer: LayerKey,
        /// Why.
        #[source]
        source: MountError,
    },
    /// A file of a layer could not be read, copied or compared.
    #[error("{action} layer `{layer}`")]
    Tree {
        /// What was attempted.
        action: &'static str,
        /// The layer.
        layer: LayerKey,
        /// Which file, and why.
        #[source]
        source: crate::walk::TreeError,
    },
    /// The work was cut off: the program is ending, or has an error of its own.
    #[error("work on a layer was cut off")]
    CutOff(#[from] tasks::JoinError),
}

impl SnapshotError {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
