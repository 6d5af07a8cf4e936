//! Stacks shown by the kernel's overlay file system.

use mount::HostPath;

use crate::{ActiveLayer, LayerIngest, Snapshotter, Usage, View};
use crate::{LayerKey, SnapshotError};
use async_trait::async_trait;

/// Shows stacks as overlays: to prepare and to view costs the same for any size of tree.
#[derive(Debug)]
pub struct OverlaySnapshotter {}

impl OverlaySnapshotter {
    /// Opens the layers in `root`, creates it if it is not there, and sweeps what was not finished.
    ///
    /// # Errors
    /// Returns an error if `root` cannot be made or listed.
    pub async fn open(root: HostPath) -> Result<Self, SnapshotError> {
        todo!()
    }
}

#[async_trait::async_trait]
impl crate::Snapshotter for OverlaySnapshotter {
    async fn prepare(
        &self,
        layer: crate::LayerKey,
        stack: &[crate::LayerKey],
    ) -> Result<crate::ActiveLayer, SnapshotError> {
        todo!()
    }
    async fn resume(
        &self,
        layer: crate::LayerKey,
        stack: &[crate::LayerKey],
    ) -> Result<crate::ActiveLayer, SnapshotError> {
        todo!()
    }
    async fn view(&self, stack: &[crate::LayerKey]) -> Result<crate::View, SnapshotError> {
        todo!()
    }
    async fn ingest(&self, layer: crate::LayerKey) -> Result<crate::LayerIngest, SnapshotError> {
        todo!()
    }
    async fn remove(&self, layer: &crate::LayerKey) -> Result<(), SnapshotError> {
        todo!()
    }
    async fn usage(&self, layer: &crate::LayerKey) -> Result<crate::Usage, SnapshotError> {
        todo!()
    }
    async fn layers(&self) -> Result<Vec<crate::LayerKey>, SnapshotError> {
        todo!()
    }
    async fn sync(&self) -> Result<(), SnapshotError> {
        todo!()
    }
}
