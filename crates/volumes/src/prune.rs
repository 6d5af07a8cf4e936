//! Which volumes go when space is wanted: the pure choice, and its execution.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::record::VolumeRecord;
use crate::store::{Store, Volume};
use crate::{Space, VolumeError, VolumeEvent, VolumeKey, VolumeManager, VolumeName};

/// Somebody else who takes space on the volumes' disk.
pub trait Neighbour: Send + Sync + fmt::Debug {
    /// Removes what is worth less than a volume until `bytes` are free, or nothing such is left.
    fn give_way(&self, bytes: u64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// What is to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PruneRequest {
    /// True if every volume that may go goes, used recently or not, as far as the rest allows.
    pub all: bool,
    /// Volumes used within this time stay.
    pub unused_for: Duration,
    /// Removing stops once all volumes together take no more than this; none for no such limit.
    pub keep: Option<Space>,
}

/// A volume that was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Its stable identity.
    pub key: VolumeKey,
    /// Its name.
    pub name: VolumeName,
    /// The disk it took.
    pub space: Space,
}

/// Chooses the volumes to remove, first those to remove first: expired ones and those over their
/// quota always; then, if the request asks for it, the others by how long they have not been used.
/// A pinned volume, or one that somebody uses, never goes; one below its floor only for `all`.
pub fn prune_candidates(
    records: &[VolumeRecord],
    request: &PruneRequest,
    now: SystemTime,
) -> Vec<VolumeKey> {
    let mut total = records.iter().fold(Space::default(), |sum, record| sum + record.space);
    let idle = |record: &VolumeRecord| {
        let since = record.last_used.unwrap_or(record.created);
        now.duration_since(since).unwrap_or_default()
    };
    let due = |record: &VolumeRecord| {
        record.policy.expiry.is_some_and(|expiry| idle(record) >= expiry)
            || record.policy.quota.is_exceeded_by(record.space)
    };
    let mut open: Vec<&VolumeRecord> =
        records.iter().filter(|record| !record.policy.pinned && !record.in_use()).collect();
    open.sort_by_key(|record| (!due(record), std::cmp::Reverse(idle(record)), record.key));
    let mut chosen = Vec::new();
    for record in open {
        let excess =
            request.keep.is_some_and(|keep| total.bytes > keep.bytes || total.inodes > keep.inodes);
        let wanted = if request.keep.is_some() { excess } else { request.all };
        let allowed = idle(record) >= request.unused_for
            && (request.all || record.space.bytes > record.policy.floor);
        if due(record) || (wanted && allowed) {
            total.bytes = total.bytes.saturating_sub(record.space.bytes);
            total.inodes = total.inodes.saturating_sub(record.space.inodes);
            chosen.push(record.key);
        }
    }
    chosen
}

impl VolumeManager {
    /// Removes volumes as [`prune_candidates`] chooses among those that `filter` accepts. One that
    /// somebody has come to use meanwhile stays.
    ///
    /// # Errors
    /// If the volumes cannot be listed, or one cannot be removed.
    pub async fn prune(
        &self,
        request: PruneRequest,
        filter: impl Fn(&VolumeRecord) -> bool,
    ) -> Result<Vec<Removed>, VolumeError> {
        let mut records = self.list().await?;
        records.retain(|record| filter(record));
        let chosen = prune_candidates(&records, &request, SystemTime::now());
        let names: Vec<_> = records.into_iter().map(|record| (record.key, record.name)).collect();
        self.blocking("volumes.prune", move |store| {
            let mut removed = Vec::new();
            for key in chosen {
                let Some((_, name)) = names.iter().find(|(other, _)| *other == key) else {
                    continue;
                };
                let volume: Volume = store.volume(name.clone());
                match volume.remove() {
                    Ok(Some(space)) => {
                        volume.tell(VolumeEvent::Evicted);
                        removed.push(Removed { key, name: name.clone(), space });
                    }
                    Ok(None) | Err(VolumeError::InUse { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(removed)
        })
        .await
    }

    /// Removes a volume that nobody uses or waits for, because space is wanted and not because its owner
    /// does not want it.
    ///
    /// # Errors
    /// As [`VolumeManager::remove`].
    pub async fn evict(&self, key: VolumeKey) -> Result<Space, VolumeError> {
        self.blocking("volumes.evict", move |store| {
            let volume = crate::admin::known(&store, key)?;
            let space = volume.remove()?.ok_or_else(|| VolumeError::Unknown(key.to_string()))?;
            volume.tell(VolumeEvent::Evicted);
            Ok(space)
        })
        .await
    }

    /// Asks `neighbour` from now on for space before a volume is removed for it. Returns false if there
    /// is a neighbour already; it stays.
    pub fn ask_first(&self, neighbour: Arc<dyn Neighbour>) -> bool {
        self.store.neighbour.set(neighbour).is_ok()
    }

    /// Makes sure that as much of the disk is free as is to stay free: by asking the neighbour, then by
    /// removing volumes that nobody uses, those first that were not used for longest, and those that are
    /// `wanted` last of all: a step that begins with an empty cache is better off than one that does not
    /// begin.
    pub(crate) async fn make_room(&self, wanted: &[VolumeKey]) -> Result<(), VolumeError> {
        let reserve = self.store.settings.reserve;
        if reserve == Space::default() {
            return Ok(());
        }
        let lacking = |free: Space| free.bytes < reserve.bytes || free.inodes < reserve.inodes;
        // Asks the kernel about numbers that it has: not worth leaving the thread.
        if !lacking(self.store.free()?) {
            return Ok(());
        }
        if let Some(neighbour) = self.store.neighbour.get() {
            neighbour.give_way(reserve.bytes).await;
            if !lacking(self.free().await?) {
                return Ok(());
            }
        }
        let records = self.list().await?;
        let request =
            PruneRequest { all: false, keep: Some(Space::default()), ..Default::default() };
        let mut candidates = prune_candidates(&records, &request, SystemTime::now());
        candidates.sort_by_key(|key| wanted.contains(key));
        for key in candidates {
            match self.evict(key).await {
                Ok(_) | Err(VolumeError::InUse { .. } | VolumeError::Unknown(_)) => {}
                Err(error) => return Err(error),
            }
            self.sweep().await?;
            if !lacking(self.free().await?) {
                return Ok(());
            }
        }
        Err(VolumeError::NoSpace { free: self.free().await?, reserve })
    }

    /// Returns what is free on the volumes' disk.
    ///
    /// # Errors
    /// If the file system does not say.
    pub async fn free(&self) -> Result<Space, VolumeError> {
        self.blocking("volumes.free", |store| store.free()).await
    }
}

impl Store {
    /// Returns what is free on the volumes' disk.
    pub(crate) fn free(&self) -> Result<Space, VolumeError> {
        let path = self.layout.volumes();
        let stat = rustix::fs::statvfs(path.as_path())
            .map_err(|error| VolumeError::system("look at", path.as_path())(error.into()))?;
        // Some file systems have no fixed number of inodes, and say 0 of 0.
        let inodes = if stat.f_files == 0 { u64::MAX } else { stat.f_favail };
        Ok(Space { bytes: stat.f_bavail.saturating_mul(stat.f_frsize), inodes })
    }
}
