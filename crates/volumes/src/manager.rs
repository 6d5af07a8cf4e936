//! The volumes of a root, for whoever runs steps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mount::HostPath;
use tasks::Task;

use crate::disk::Disk;
use crate::hold::Hold;
use crate::request::LeaseRequest;
use crate::store::Store;
use crate::tidy::Tidying;
use crate::want::{Attempt, Want};
use crate::{
    Leases, RootAttributes, Sharing, VolumeError, VolumeEvent, VolumeKey, VolumeSettings,
    WaitObserver, Waiting, sweep,
};

/// The longest wait without a look at the queue: for file systems that give no notices.
const PATIENCE: Duration = Duration::from_secs(1);

/// The first wait after a notice. A dying process closes its files before the kernel takes its locks
/// away, so the notice may come a moment early.
const EAGER: Duration = Duration::from_millis(1);

/// The cache volumes under one root directory. Clones are the same.
///
/// Any number of processes may have the same root open.
#[derive(Debug, Clone)]
pub struct VolumeManager {
    pub(crate) store: Arc<Store>,
    sweeping: Arc<parking_lot::Mutex<Option<Task<()>>>>,
}

impl VolumeManager {
    /// Opens the volumes under `root`; what a crash has left there is swept in the background.
    ///
    /// # Errors
    /// [`VolumeError::Newer`] if a newer version has written there, [`VolumeError::Damaged`] if a file
    /// is where a directory should be.
    pub async fn open(root: HostPath, settings: VolumeSettings) -> Result<Self, VolumeError> {
        Self::open_on(root, settings, Disk::default()).await
    }

    /// As [`VolumeManager::open`]; each durable step is announced to `faults`.
    ///
    /// # Errors
    /// As [`VolumeManager::open`].
    #[cfg(feature = "testing")]
    pub async fn open_with_faults(
        root: HostPath,
        settings: VolumeSettings,
        faults: Arc<dyn crate::Faults>,
    ) -> Result<Self, VolumeError> {
        Self::open_on(root, settings, Disk::faulty(faults)).await
    }

    async fn open_on(
        root: HostPath,
        settings: VolumeSettings,
        disk: Disk,
    ) -> Result<Self, VolumeError> {
        let open = move || Store::open(&root, settings, disk);
        let store = tasks::blocking("volumes.open", open).await.map_err(VolumeError::Stopped)??;
        let manager = Self { store: Arc::new(store), sweeping: Arc::default() };
        let sweeper = manager.clone().store;
        let sweeping = tasks::spawn("volumes.sweep", async move {
            let swept = tasks::blocking("volumes.sweep", move || sweep::sweep(&sweeper)).await;
            match swept {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "volumes were not swept"
                ),
                Err(error) => tracing::debug!(%error, "the sweep was stopped"),
            }
        });
        *manager.sweeping.lock() = Some(sweeping);
        Ok(manager)
    }

    /// Deletes what no volume needs, and ends what dead holders have begun. Done once in the
    /// background by [`VolumeManager::open`].
    ///
    /// # Errors
    /// If the root's directories cannot be read.
    pub async fn sweep(&self) -> Result<(), VolumeError> {
        let begun = self.sweeping.lock().take();
        if let Some(begun) = begun {
            begun.await.map_err(VolumeError::Stopped)?;
        }
        self.blocking("volumes.sweep", |store| sweep::sweep(&store)).await
    }

    /// Takes all the volumes that a step wants, in the order of their keys, and waits where it has to.
    ///
    /// Dropping the future gives up: the places in queues are left at once, and what was taken
    /// already is given back.
    ///
    /// # Errors
    /// [`VolumeError::WaitLimit`] if a wait took longer than the volume's policy allows;
    /// [`VolumeError::Damaged`] and [`VolumeError::Newer`] if the volume cannot be trusted.
    pub async fn acquire(
        &self,
        request: LeaseRequest,
        waits: &dyn WaitObserver,
    ) -> Result<Leases, VolumeError> {
        let (wants, mounts) = self.plan(request);
        if !wants.is_empty() {
            let keys: Vec<VolumeKey> = wants.iter().map(|want| want.volume.key).collect();
            self.make_room(&keys).await?;
        }
        let mut leases = Leases::new(self.store.clone(), mounts);
        for want in wants {
            leases.push(self.take(Arc::new(want), waits).await?);
        }
        Ok(leases.complete())
    }

    /// Returns one want for each volume, in the order of keys, and for each mount the place of its
    /// volume among them.
    fn plan(&self, request: LeaseRequest) -> (Vec<Want>, Vec<(usize, bool)>) {
        let mut wants: BTreeMap<VolumeKey, Want> = BTreeMap::new();
        let mut places = Vec::new();
        for mount in request.mounts {
            let volume = self.store.volume(mount.volume());
            let key = volume.key;
            let sharing = if mount.readonly { Sharing::ReadOnly } else { mount.sharing };
            let readonly = sharing == Sharing::ReadOnly;
            places.push((key, readonly));
            let seed = mount.variant.map(|variant| variant.seed);
            let want = Want {
                volume,
                sharing,
                fresh: mount.fresh,
                root: mount.root,
                seed,
                several: false,
                by: request.holder.clone(),
            };
            wants.entry(key).and_modify(|first| first.join(&want)).or_insert(want);
        }
        let order: Vec<VolumeKey> = wants.keys().copied().collect();
        let place = |key| order.binary_search(&key).unwrap_or_default();
        let mounts = places.iter().map(|(key, readonly)| (place(*key), *readonly)).collect();
        (wants.into_values().collect(), mounts)
    }

    /// Takes one volume.
    async fn take(&self, want: Arc<Want>, waits: &dyn WaitObserver) -> Result<Hold, VolumeError> {
        if let Some(hold) = want.attempt_at_once() {
            return Ok(hold);
        }
        let mut hold = match self.attempt(&want, None).await? {
            Attempt::Granted(hold) => return Ok(hold),
            Attempt::Queued { hold, .. } => hold,
        };
        let began = Instant::now();
        let mut listener = self.store.wakes.listen(want.volume.key, &want.volume.paths);
        let (mut told, mut pause) = (None, PATIENCE);
        loop {
            listener.begin();
            let (holders, ahead, limit) = match self.attempt(&want, Some(hold)).await? {
                Attempt::Granted(hold) => {
                    if told.is_some() {
                        waits.acquired(&want.volume.name, began.elapsed());
                        want.volume.tell(VolumeEvent::Waited(began.elapsed()));
                    }
                    return Ok(hold);
                }
                Attempt::Queued { hold: place, holders, ahead, limit } => {
                    hold = place;
                    (holders, ahead, limit)
                }
            };
            let (volume, waited) = (want.volume.name.clone(), began.elapsed());
            if told.as_ref() != Some(&(holders.clone(), ahead)) {
                told = Some((holders.clone(), ahead));
                waits.waiting(&Waiting { volume, holders: holders.clone(), ahead, waited });
            }
            if let Some(limit) = limit.filter(|limit| waited >= *limit) {
                want.volume.tell(VolumeEvent::Waited(waited));
                let volume = want.volume.name.to_string();
                return Err(VolumeError::WaitLimit { volume, limit, holders });
            }
            let longest = limit.map_or(pause, |limit| pause.min(limit.saturating_sub(waited)));
            pause = match tokio::time::timeout(longest, listener.heard()).await {
                Ok(()) => EAGER,
                Err(_) => (pause * 2).min(PATIENCE),
            };
        }
    }

    async fn attempt(&self, want: &Arc<Want>, place: Option<Hold>) -> Result<Attempt, VolumeError> {
        let want = want.clone();
        self.blocking("volumes.acquire", move |store| {
            let mut orphans = Vec::new();
            let attempt = want.attempt(place, &mut orphans);
            let mut tidying = Tidying::new(store);
            tidying.adopt(&want.volume, orphans);
            tidying.start();
            attempt
        })
        .await
    }

    /// Does work that may block.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce(Arc<Store>) -> Result<T, VolumeError> + Send + 'static,
    ) -> Result<T, VolumeError> {
        let store = self.store.clone();
        tasks::blocking(name, move || work(store)).await.map_err(VolumeError::Stopped)?
    }
}

impl Want {
    /// Takes in another mount of the same volume: the stricter way of sharing is for both.
    fn join(&mut self, other: &Self) {
        let rank = |sharing| match sharing {
            Sharing::Locked => 3,
            Sharing::Private => 2,
            Sharing::Shared => 1,
            Sharing::ReadOnly => 0,
        };
        if rank(other.sharing) > rank(self.sharing) {
            self.sharing = other.sharing;
        }
        self.several = true;
        self.fresh |= other.fresh;
        if self.root == RootAttributes::default() {
            self.root = other.root;
        }
        if self.seed.is_none() {
            self.seed.clone_from(&other.seed);
        }
    }
}
