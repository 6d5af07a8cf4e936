//! Volumes looked at and changed by their owner, not by steps.

use std::sync::Arc;

use filelock::{FileLock, Label, Mode};
use mount::HostPath;

use crate::gate::Gate;
use crate::layout::LayerId;
use crate::record::{LeaseRecord, Location, VersionRecord, VolumeRecord};
use crate::state::{Origin, Root, time};
use crate::store::{Store, Volume, lock_error};
use crate::tidy::Tidying;
use crate::tree::{self, Means, View};
use crate::turn::{Form, Phase, Turn};
use crate::usage::{Measured, UsageRecord};
use crate::{PolicyPatch, Space, VolumeError, VolumeKey, VolumeManager, VolumeName, usage};

impl VolumeManager {
    /// Returns all volumes, in the order of their keys. A damaged one is left out, and logged.
    ///
    /// # Errors
    /// If the directory of volumes cannot be read.
    pub async fn list(&self) -> Result<Vec<VolumeRecord>, VolumeError> {
        self.blocking("volumes.list", |store| {
            let mut records = Vec::new();
            let mut synced = false;
            for key in store.keys()? {
                let volume = store.by_key(key);
                match volume.and_then(|volume| volume.map_or(Ok(None), |v| v.record(&mut synced))) {
                    Ok(record) => records.extend(record),
                    Err(error) => tracing::warn!(volume.id = %key,
                        error = &error as &dyn std::error::Error, "a volume cannot be listed"),
                }
            }
            Ok(records)
        })
        .await
    }

    /// Returns what can be seen of one volume.
    ///
    /// # Errors
    /// [`VolumeError::Unknown`] if there is no such volume.
    pub async fn inspect(&self, key: VolumeKey) -> Result<VolumeRecord, VolumeError> {
        self.blocking("volumes.inspect", move |store| {
            known(&store, key)?
                .record(&mut false)?
                .ok_or_else(|| VolumeError::Unknown(key.to_string()))
        })
        .await
    }

    /// Writes down at once what is known here of the volume's use and would be written a little later:
    /// for a process that ends.
    ///
    /// # Errors
    /// If the volume cannot be trusted, or the system refuses.
    pub async fn settle(&self, key: VolumeKey) -> Result<(), VolumeError> {
        self.blocking("volumes.settle", move |store| {
            let Some(volume) = store.by_key(key)? else { return Ok(()) };
            volume.enter()?.map_or(Ok(()), |mut gate| gate.settle_accounts())
        })
        .await
    }

    /// Returns the disk that all volumes take together.
    ///
    /// # Errors
    /// As [`VolumeManager::list`].
    pub async fn space(&self) -> Result<Space, VolumeError> {
        let records = self.list().await?;
        Ok(records.iter().fold(Space::default(), |sum, record| sum + record.space))
    }

    /// Returns where a volume is.
    ///
    /// # Errors
    /// [`VolumeError::Unknown`] if there is no such volume.
    pub async fn path(&self, key: VolumeKey) -> Result<Location, VolumeError> {
        self.with_gate(key, |volume, gate| {
            let paths = &volume.paths;
            Ok(Location {
                directory: paths.directory().clone(),
                layers: paths.layers(),
                head: gate.state.head_layers().iter().map(|layer| paths.tree(*layer)).collect(),
            })
        })
        .await
    }

    /// Removes a volume that nobody uses or waits for.
    ///
    /// # Errors
    /// [`VolumeError::InUse`] if somebody does.
    pub async fn remove(&self, key: VolumeKey) -> Result<Space, VolumeError> {
        self.blocking("volumes.remove", move |store| {
            let volume = known(&store, key)?;
            volume.remove()?.ok_or_else(|| VolumeError::Unknown(key.to_string()))
        })
        .await
    }

    /// Makes an empty version the head. Whoever uses the volume keeps what they have, and what they
    /// write is not published.
    ///
    /// # Errors
    /// [`VolumeError::Unknown`] if there is no such volume.
    pub async fn reset(&self, key: VolumeKey, by: Label) -> Result<(), VolumeError> {
        self.move_head(key, move |volume, gate| {
            let layer = LayerId::invent();
            let (directory, tree) = (volume.paths.layer(layer), volume.paths.tree(layer));
            let made = volume.store.disk.make_directory(directory.as_path());
            made.map_err(VolumeError::system("make", directory.as_path()))?;
            volume.make_tree(&tree, &volume.policy(&gate.state))?;
            let set = tree::set_root(tree.as_path(), Root { uid: 0, gid: 0, mode: 0o755 });
            set.map_err(VolumeError::system("prepare", tree.as_path()))?;
            let parent = Some(gate.state.head);
            gate.state.advance(vec![layer], parent, Origin::Reset, Some(by));
            Ok(())
        })
        .await
    }

    /// Makes the content of an earlier version the head again. Whoever uses the volume keeps what
    /// they have, and what they write is not published.
    ///
    /// # Errors
    /// [`VolumeError::NoVersion`] if the version is not kept.
    pub async fn rollback(&self, key: VolumeKey, to: u64, by: Label) -> Result<(), VolumeError> {
        self.move_head(key, move |volume, gate| {
            let Some(version) = gate.state.version(to) else {
                let kept: Vec<_> =
                    gate.state.versions.iter().map(|version| version.number.to_string()).collect();
                let (volume, kept) = (volume.name.to_string(), kept.join(", "));
                return Err(VolumeError::NoVersion { volume, version: to, kept });
            };
            let layers = version.layers.clone();
            gate.state.advance(layers, Some(to), Origin::RolledBack, Some(by));
            Ok(())
        })
        .await
    }

    /// Says that a volume is never to be collected, or that it may be.
    ///
    /// # Errors
    /// [`VolumeError::Unknown`] if there is no such volume.
    pub async fn pin(&self, key: VolumeKey, pinned: bool) -> Result<(), VolumeError> {
        self.with_gate(key, move |_, gate| {
            gate.state.policy.pinned = Some(pinned);
            gate.commit()
        })
        .await
    }

    /// Decides about a volume by name; what is left out of `policy` is left to the rules again.
    ///
    /// # Errors
    /// [`VolumeError::Unknown`] if there is no such volume.
    pub async fn set_policy(&self, key: VolumeKey, policy: PolicyPatch) -> Result<(), VolumeError> {
        self.with_gate(key, move |_, gate| {
            gate.state.policy = policy;
            gate.commit()
        })
        .await
    }

    /// Makes a new volume that begins with the head of another. Nothing is copied but names.
    ///
    /// # Errors
    /// [`VolumeError::Exists`] if there is a volume of the new name, [`VolumeError::InUse`] if the old
    /// one is being written in place.
    pub async fn fork(
        &self,
        key: VolumeKey,
        to: VolumeName,
        by: Label,
    ) -> Result<VolumeKey, VolumeError> {
        self.blocking("volumes.fork", move |store| known(&store, key)?.fork(to, by)).await
    }

    async fn with_gate<T: Send + 'static>(
        &self,
        key: VolumeKey,
        work: impl FnOnce(&Volume, &mut Gate<'_>) -> Result<T, VolumeError> + Send + 'static,
    ) -> Result<T, VolumeError> {
        self.blocking("volumes.change", move |store| {
            let volume = known(&store, key)?;
            let mut gate = volume.enter_existing()?;
            work(&volume, &mut gate)
        })
        .await
    }

    /// Moves the head, and forbids what began before to be published.
    async fn move_head(
        &self,
        key: VolumeKey,
        work: impl FnOnce(&Volume, &mut Gate<'_>) -> Result<(), VolumeError> + Send + 'static,
    ) -> Result<(), VolumeError> {
        self.blocking("volumes.head", move |store| {
            let volume = known(&store, key)?;
            let publisher = volume.paths.publisher();
            let _publisher = FileLock::acquire(publisher.as_path(), Mode::Exclusive, None)
                .map_err(lock_error)?;
            let mut gate = volume.enter_existing()?;
            work(&volume, &mut gate)?;
            // The former tree may be written in place still: it is a version of its own now.
            gate.state.form = Form::Versioned;
            gate.state.cut_off();
            gate.trim(None);
            gate.commit()?;
            let trash = gate.collect()?;
            drop(gate);
            let mut tidying = Tidying::new(store);
            tidying.add(&volume, trash, Vec::new(), false);
            tidying.start();
            Ok(())
        })
        .await
    }
}

impl Volume {
    /// Returns what can be seen of the volume; none if it is gone. What is measured here to be remembered is
    /// written out before, unless `synced` says that all was: a file that is in memory only gets its blocks, more
    /// or fewer than were set aside for it, when it is written out.
    pub(crate) fn record(&self, synced: &mut bool) -> Result<Option<VolumeRecord>, VolumeError> {
        let Some(mut gate) = self.enter()? else { return Ok(None) };
        gate.settle_accounts()?;
        let mut orphans = Vec::new();
        gate.bury(&mut orphans)?;
        let mut tidying = Tidying::new(self.store.clone());
        tidying.adopt(self, orphans);
        let usage = UsageRecord::read(&self.paths);
        let record = self.seen(&gate, usage);
        let idle = gate.turns.is_empty();
        let known = usage::measured(&self.paths).filter(|_| idle);
        let begun = (idle && known.is_none()).then(|| Measured::begin(&self.paths));
        drop(gate);
        tidying.start();
        if begun.is_some() && !std::mem::replace(synced, true) {
            let layers = self.paths.layers();
            let written = std::fs::File::open(layers.as_path()).map(rustix::fs::syncfs);
            tracing::debug!(volume.id = %self.key, ?written, "written out, to be measured");
        }
        let space = known.map_or_else(|| self.measure(begun), Ok)?;
        Ok(Some(VolumeRecord { space, ..record }))
    }

    /// Walks the trees, and remembers the result if nothing has changed since it was `begun`.
    fn measure(&self, begun: Option<Measured>) -> Result<Space, VolumeError> {
        let layers = self.paths.layers();
        let failed = VolumeError::system("measure", layers.as_path());
        let space = tree::measure(&[&layers], self.store.twins()).map_err(failed)?;
        if let (Some(begun), Some(_gate)) = (begun, self.enter()?) {
            begun.end(&self.paths, space);
        }
        Ok(space)
    }

    fn seen(&self, gate: &Gate<'_>, usage: UsageRecord) -> VolumeRecord {
        let lease = |turn: &Turn| LeaseRecord {
            sharing: turn.sharing,
            holder: FileLock::holder_of(self.turn_path(turn).as_path()).ok().flatten(),
            base: (turn.phase != Phase::Waiting).then_some(turn.base),
        };
        let state = &gate.state;
        let versions = state.versions.iter().map(|version| VersionRecord {
            number: version.number,
            parent: version.parent,
            origin: version.origin,
            created: time(version.created),
            by: version.by.clone(),
            depth: version.layers.len(),
        });
        let waits = |turn: &&Turn| turn.phase == Phase::Waiting;
        VolumeRecord {
            key: self.key,
            name: self.name.clone(),
            space: Space::default(),
            form: state.form,
            created: time(state.created),
            last_used: (usage.last_used > 0).then(|| time(usage.last_used)),
            uses: usage.uses,
            leases: gate.users(None).map(lease).collect(),
            waiting: gate.turns.iter().filter(waits).map(lease).collect(),
            head: state.head,
            versions: versions.collect(),
            policy: self.policy(state),
            decided: state.policy.clone(),
        }
    }

    /// Removes the volume if nobody uses it, and returns the space it took; none if it is gone.
    pub(crate) fn remove(&self) -> Result<Option<Space>, VolumeError> {
        let Some(mut gate) = self.enter()? else { return Ok(None) };
        gate.settle_accounts()?;
        let measured = usage::measured(&self.paths);
        let mut orphans = Vec::new();
        gate.bury(&mut orphans)?;
        if !gate.turns.is_empty() {
            let (volume, holders) = (self.name.to_string(), gate.holders(gate.turns.iter()));
            let mut tidying = Tidying::new(self.store.clone());
            tidying.adopt(self, orphans);
            tidying.start();
            return Err(VolumeError::InUse { volume, holders });
        }
        let directory = self.paths.directory();
        let trash = self.store.discard(directory);
        let trash = trash.map_err(VolumeError::system("remove", directory.as_path()))?;
        drop(gate);
        let space = match measured {
            Some(space) => space,
            None => {
                let layers = trash.join("layers");
                tree::measure(&[&layers], self.store.twins()).unwrap_or_default()
            }
        };
        let mut tidying = Tidying::new(self.store.clone());
        tidying.add(self, vec![trash], Vec::new(), false);
        tidying.start();
        Ok(Some(space))
    }

    fn fork(&self, to: VolumeName, by: Label) -> Result<VolumeKey, VolumeError> {
        let target = self.store.volume(to);
        if target.paths.directory().as_path().exists() {
            return Err(VolumeError::Exists(target.name.to_string()));
        }
        // While the publisher's lock is ours nothing is published, settled or collected, but by turns
        // that end, and they leave the head's layers.
        let publisher = self.paths.publisher();
        let _publisher =
            FileLock::acquire(publisher.as_path(), Mode::Exclusive, None).map_err(lock_error)?;
        let (layers, whole) = self.freeze()?;
        target.make(Origin::Forked, by, whole.as_ref(), |paths, state| {
            let tree = paths.tree(state.head_layers()[0]);
            let failed = || VolumeError::system("fork", tree.as_path());
            if whole.is_some() {
                return self.store.disk.sync_tree(tree.as_path()).map_err(failed());
            }
            let view = View::open(&layers).map_err(failed())?;
            let disk = &self.store.disk;
            let mut pace = || disk.before(crate::Step::Link, tree.as_path());
            tree::transfer(&view, tree.as_path(), Means::Link, &mut pace).map_err(failed())?;
            disk.sync_tree(tree.as_path()).map_err(failed())
        })?;
        Ok(target.key)
    }

    /// Makes sure that the head's tree does not change any more, and returns its layers, and the tree
    /// if it can be forked as a whole.
    fn freeze(&self) -> Result<(Vec<HostPath>, Option<HostPath>), VolumeError> {
        let mut gate = self.enter_existing()?;
        gate.bury(&mut Vec::new())?;
        let head = gate.state.head_layers().to_vec();
        let writers: Vec<Turn> = gate
            .users(None)
            .filter(|turn| turn.in_place && turn.layer.is_some_and(|layer| head.contains(&layer)))
            .copied()
            .collect();
        if !writers.is_empty() {
            let (volume, holders) = (self.name.to_string(), gate.holders(writers.iter()));
            return Err(VolumeError::InUse { volume, holders });
        }
        if gate.state.form == Form::Plain {
            gate.state.form = Form::Versioned;
            gate.commit()?;
        }
        let whole = self.forkable(&head, &self.policy(&gate.state))?;
        Ok((head.iter().map(|layer| self.paths.tree(*layer)).collect(), whole))
    }
}

/// Returns the volume whose key is `key`.
pub(crate) fn known(store: &Arc<Store>, key: VolumeKey) -> Result<Volume, VolumeError> {
    store.by_key(key)?.ok_or_else(|| VolumeError::Unknown(key.to_string()))
}
