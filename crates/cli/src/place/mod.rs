//! Where volumes are: behind a daemon, or on this disk.

mod daemon;
mod disk;
mod wire;

use async_trait::async_trait;
use mount::GuestPath;
use volumes::{
    Entry, Label, PolicyPatch, PolicyRule, PruneRequest, Removed, Space, VolumeKey, VolumeManager,
    VolumeName, VolumeRecord,
};

use crate::arguments::Global;
use crate::failure::Failure;

pub(crate) use self::disk::{open, open_existing};

/// What an owner does with volumes, wherever they are.
#[async_trait(?Send)]
pub(crate) trait Place {
    async fn list(&self) -> Result<Vec<VolumeRecord>, Failure>;
    async fn inspect(&self, key: VolumeKey) -> Result<VolumeRecord, Failure>;
    async fn remove(&self, key: VolumeKey) -> Result<Space, Failure>;
    async fn reset(&self, key: VolumeKey, by: Label) -> Result<(), Failure>;
    async fn pin(&self, key: VolumeKey, pinned: bool) -> Result<(), Failure>;
    async fn set_policy(&self, key: VolumeKey, policy: PolicyPatch) -> Result<(), Failure>;
    async fn rollback(&self, key: VolumeKey, to: u64, by: Label) -> Result<(), Failure>;
    async fn fork(&self, key: VolumeKey, to: VolumeName, by: Label) -> Result<VolumeKey, Failure>;
    async fn browse(&self, key: VolumeKey, path: GuestPath) -> Result<Vec<Entry>, Failure>;
    /// Removes volumes among those that a rule is for.
    async fn prune(
        &self,
        request: PruneRequest,
        among: PolicyRule,
    ) -> Result<Vec<Removed>, Failure>;
}

/// Reaches the volumes that the flags name.
pub(crate) async fn reach(global: &Global) -> Result<Box<dyn Place>, Failure> {
    Ok(match &global.root {
        Some(root) => Box::new(disk::open_existing(root).await?) as Box<dyn Place>,
        None => Box::new(daemon::Daemon::connect(&global.addr).await?),
    })
}

#[async_trait(?Send)]
impl Place for VolumeManager {
    async fn list(&self) -> Result<Vec<VolumeRecord>, Failure> {
        Ok(Self::list(self).await?)
    }

    async fn inspect(&self, key: VolumeKey) -> Result<VolumeRecord, Failure> {
        Ok(Self::inspect(self, key).await?)
    }

    async fn remove(&self, key: VolumeKey) -> Result<Space, Failure> {
        Ok(Self::remove(self, key).await?)
    }

    async fn reset(&self, key: VolumeKey, by: Label) -> Result<(), Failure> {
        Ok(Self::reset(self, key, by).await?)
    }

    async fn pin(&self, key: VolumeKey, pinned: bool) -> Result<(), Failure> {
        Ok(Self::pin(self, key, pinned).await?)
    }

    async fn set_policy(&self, key: VolumeKey, policy: PolicyPatch) -> Result<(), Failure> {
        Ok(Self::set_policy(self, key, policy).await?)
    }

    async fn rollback(&self, key: VolumeKey, to: u64, by: Label) -> Result<(), Failure> {
        Ok(Self::rollback(self, key, to, by).await?)
    }

    async fn fork(&self, key: VolumeKey, to: VolumeName, by: Label) -> Result<VolumeKey, Failure> {
        Ok(Self::fork(self, key, to, by).await?)
    }

    async fn browse(&self, key: VolumeKey, path: GuestPath) -> Result<Vec<Entry>, Failure> {
        Ok(Self::browse(self, key, path).await?)
    }

    async fn prune(
        &self,
        request: PruneRequest,
        among: PolicyRule,
    ) -> Result<Vec<Removed>, Failure> {
        Ok(Self::prune(self, request, |record| among.matches(&record.name)).await?)
    }
}
