//! The space that the daemon takes: what there is, and making it smaller.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use bridge::{BuildError, Kind};
use cache::{CacheError, Collector, PruneRequest, RecordKind, UsageRecord, plan};
use digests::Digest;
use filter::Filter;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use mount::HostPath;
use tokio::sync::Mutex;
use volumes::{Neighbour, VolumeManager, VolumeRecord};

/// How many volumes are removed at the same time.
const REMOVALS: usize = 16;

/// How many layers are removed as one piece of work, in which no layer of an image can be made.
const AT_ONCE: usize = 256;

/// A blob that nothing refers to stays this long: a build may be about to use it, and an image that is
/// pulled again and again needs no asking.
const LOOSE_BLOB_AGE: Duration = Duration::from_secs(24 * 3600);

/// All that takes space: layers, clients' directories, volumes.
#[derive(Debug)]
pub(crate) struct Space {
    collector: Collector,
    volumes: Arc<VolumeManager>,
    root: HostPath,
    /// One removal at a time, or two would each remove what the other's target spares.
    pruning: Mutex<()>,
}

impl Space {
    /// Returns the space that all of these take. Layers give way when there is too little for volumes.
    pub(crate) fn shared(
        collector: Collector,
        volumes: Arc<VolumeManager>,
        root: HostPath,
    ) -> Arc<Self> {
        let space = Arc::new(Self { collector, volumes, root, pruning: Mutex::new(()) });
        if !space.volumes.ask_first(Arc::new(Layers(Arc::downgrade(&space)))) {
            tracing::debug!("somebody else gives way to these volumes already");
        }
        space
    }

    /// Returns a record of everything.
    pub(crate) async fn usage(&self) -> Result<Vec<UsageRecord>, BuildError> {
        let mut records = self.collector.usage();
        let volumes = self.volumes.list().await;
        let volumes = volumes.map_err(failure)?;
        records.extend(volumes.iter().map(record_of));
        Ok(records)
    }

    /// Removes what `request` says; returns what is gone. What has come into use meanwhile stays.
    pub(crate) async fn prune(
        &self,
        request: PruneRequest,
    ) -> Result<Vec<UsageRecord>, BuildError> {
        self.prune_by(std::slice::from_ref(&request)).await
    }

    /// Removes what each of `requests` says, one after the other; returns what is gone.
    pub(crate) async fn prune_by(
        &self,
        requests: &[PruneRequest],
    ) -> Result<Vec<UsageRecord>, BuildError> {
        let _one_at_a_time = self.pruning.lock().await;
        let mut records = self.usage().await?;
        let mut removed = Vec::new();
        for request in requests {
            if request.min_free_space > 0 {
                // Or more would go than has to, for what is free only when the last is off the disk.
                self.collector.reclaim().await;
            }
            let chosen = plan(&records, request, SystemTime::now(), self.free());
            let mut freed = self.remove(&records, &chosen, request.all).await?.into_iter();
            let taken = records.extract_if(.., |record| match freed.next().flatten() {
                Some(bytes) => {
                    record.size = bytes;
                    true
                }
                None => false,
            });
            removed.extend(taken);
        }
        if !removed.is_empty() {
            let bytes: u64 = removed.iter().map(|record| record.size).sum();
            tracing::info!(records = removed.len(), bytes, "removed from the cache");
        }
        Ok(removed)
    }

    /// Removes volumes that their own policies say shall go: expired ones, and those over their quota.
    pub(crate) async fn apply_volume_policies(&self) -> Result<(), BuildError> {
        let due = self.volumes.prune(volumes::PruneRequest::default(), |_| true).await;
        for volume in due.map_err(failure)? {
            tracing::info!(volume.id = %volume.key, "a volume expired, or was over its quota");
        }
        Ok(())
    }

    /// Removes blobs that are no layer's and none of `keep`: manifests, configurations and statements of
    /// images that were pulled or delivered long enough ago.
    pub(crate) async fn sweep_blobs(&self, keep: &HashSet<Digest>) -> Result<(), BuildError> {
        let swept = self.collector.sweep_blobs(keep, LOOSE_BLOB_AGE).await;
        let swept = swept.map_err(failure_of_layers)?;
        if swept > 0 {
            tracing::info!(blobs = swept, "removed blobs that nothing refers to");
        }
        Ok(())
    }

    /// Removes the chosen ones of `records`, in that order but volumes last; returns what each of the
    /// records gave free, none for those that stay.
    async fn remove(
        &self,
        records: &[UsageRecord],
        chosen: &[usize],
        all: bool,
    ) -> Result<Vec<Option<u64>>, BuildError> {
        let mut freed = vec![None; records.len()];
        let _removals = self.collector.hold_removals();
        let is_volume = |index: &usize| records[*index].kind == RecordKind::CacheMount;
        let (volumes, layers): (Vec<usize>, Vec<usize>) =
            chosen.iter().copied().partition(is_volume);
        for some in layers.chunks(AT_ONCE) {
            let ids: Vec<&str> = some.iter().map(|index| records[*index].id.as_str()).collect();
            let gone = self.collector.remove_all(&ids).await;
            let gone = gone.map_err(failure_of_layers)?;
            some.iter().zip(gone).for_each(|(index, bytes)| freed[*index] = bytes);
        }
        let removals = volumes.into_iter().map(|index| async move {
            let gone = self.remove_volume(&records[index], all).await?;
            Ok::<_, BuildError>((index, gone.then_some(records[index].size)))
        });
        let mut removals = stream::iter(removals).buffered(REMOVALS);
        while let Some((index, bytes)) = removals.try_next().await? {
            freed[index] = bytes;
        }
        Ok(freed)
    }

    /// Removes a volume. One below the size that its policy protects goes only for `all`.
    async fn remove_volume(&self, record: &UsageRecord, all: bool) -> Result<bool, BuildError> {
        let Ok(key) = record.id.parse() else { return Ok(false) };
        let volume = match self.volumes.inspect(key).await {
            Err(volumes::VolumeError::Unknown(_)) => return Ok(false),
            other => other.map_err(failure)?,
        };
        if !all && volume.space.bytes < volume.policy.floor {
            return Ok(false);
        }
        match self.volumes.evict(key).await {
            Ok(_) => Ok(true),
            // Somebody has begun to use it, or removed it: both are as they should be.
            Err(volumes::VolumeError::InUse { .. } | volumes::VolumeError::Unknown(_)) => Ok(false),
            Err(error) => Err(failure(error)),
        }
    }

    /// Returns the bytes that the disk has free.
    fn free(&self) -> u64 {
        rustix::fs::statvfs(self.root.as_path())
            .map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// What takes space beside the volumes, as they know it: results give way before a volume does.
#[derive(Debug)]
struct Layers(Weak<Space>);

impl Neighbour for Layers {
    fn give_way(&self, bytes: u64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let Some(space) = self.0.upgrade() else { return };
            let not_volumes = format!("type!={}", RecordKind::CacheMount.name());
            let Ok(filter) = Filter::parse(&[not_volumes]) else { return };
            let request = PruneRequest { filter, min_free_space: bytes, ..Default::default() };
            if let Err(error) = space.prune(request).await {
                tracing::warn!(%error, "no room was made for cache volumes");
            }
            // Who asks looks for itself whether there is room now.
            space.collector.reclaim().await;
        })
    }
}

/// Returns the one record by which clients see a volume.
fn record_of(volume: &VolumeRecord) -> UsageRecord {
    let variant = match volume.name.variant() {
        Some(_) => " (seeded)",
        None => "",
    };
    UsageRecord {
        id: volume.key.to_string(),
        mutable: true,
        in_use: volume.in_use() || volume.policy.pinned,
        size: volume.space.bytes,
        created: volume.created,
        last_used: volume.last_used,
        use_count: volume.uses,
        description: format!("cache volume id={}{variant}", volume.name.shown_id()),
        kind: RecordKind::CacheMount,
        shared: false,
        parents: Vec::new(),
    }
}

/// Says what became of a question about volumes.
fn failure(error: volumes::VolumeError) -> BuildError {
    let stopped = matches!(error, volumes::VolumeError::Stopped(_));
    let kind = if stopped { Kind::Cancelled } else { Kind::Internal };
    BuildError::from_error(kind, error)
}

/// Says what became of work on layers or blobs.
fn failure_of_layers(error: CacheError) -> BuildError {
    let kind = if error.is_cut_off() { Kind::Cancelled } else { Kind::Internal };
    BuildError::from_error(kind, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_end_of_the_program_cuts_off_is_no_failure() {
        let stopped = || tasks::JoinError::Stopped { name: "sweep" };
        let panicked = tasks::JoinError::Panicked { name: "sweep", message: "odd".to_owned() };
        let kind = |error: CacheError| failure_of_layers(error).kind();
        assert_eq!(kind(CacheError::from_error(stopped())), Kind::Cancelled);
        let within = snapshot::SnapshotError::CutOff(stopped());
        assert_eq!(kind(CacheError::from_error(within)), Kind::Cancelled);
        assert_eq!(kind(CacheError::from_error(panicked)), Kind::Internal);
        assert_eq!(failure(volumes::VolumeError::Stopped(stopped())).kind(), Kind::Cancelled);
    }
}
