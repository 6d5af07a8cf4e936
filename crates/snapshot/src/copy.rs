//! Stacks shown as copies.

use mount::HostPath;

use crate::SnapshotError;

/// Shows stacks as copies, for machines where an overlay cannot be mounted. Copies share their content
/// where the file system can (btrfs, xfs).
#[derive(Debug)]
pub struct CopySnapshotter {}

impl CopySnapshotter {
    /// Opens the layers in `root`, creates it if it is not there, and sweeps what was not finished.
    ///
    /// # Errors
    /// Returns an error if `root` cannot be made or listed.
    pub async fn open(root: HostPath) -> Result<Self, SnapshotError> {
        todo!()
    }
}

#[async_trait::async_trait]
impl crate::Snapshotter for CopySnapshotter {
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
