//! The gate of a volume: its documents and turns, seen and changed by one at a time.
//!
//! Whoever is inside holds the gate's lock, and stays for moments: nothing inside walks or copies a
//! tree. All decisions about a volume are made here, on what is on disk at that moment, so that it
//! does not matter which process makes them.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use filelock::{FileLock, Holder, LockError, Mode};
use mount::HostPath;

use crate::document::{self, FORMAT};
use crate::idle::Parked;
use crate::layout::LayerId;
use crate::live;
use crate::stamp::Stamp;
use crate::state::State;
use crate::store::{Volume, lock_error};
use crate::turn::{Phase, Turn};
use crate::usage::UsageRecord;
use crate::{Outcome, Salvage, VolumeError, usage};

/// The inside of a volume's gate. Dropping it leaves.
#[derive(Debug)]
pub(crate) struct Gate<'a> {
    volume: &'a Volume,
    pub(crate) state: State,
    /// In the order of their numbers.
    pub(crate) turns: Vec<Turn>,
    /// None once the gate is left.
    lock: Option<FileLock>,
    /// True if the gate's file is of use to the next one here.
    stays: bool,
}

/// A dead group's layer that is to be published: the turn of one of its members, taken over.
#[derive(Debug)]
pub(crate) struct Orphan {
    pub(crate) turn: Turn,
    pub(crate) lock: FileLock,
}

impl Volume {
    /// Enters the gate; none if there is no such volume.
    pub(crate) fn enter(&self) -> Result<Option<Gate<'_>>, VolumeError> {
        self.enter_by(FileLock::acquire)
    }

    /// Enters the gate; none if that is not possible at once, for whatever reason.
    pub(crate) fn enter_at_once(&self) -> Option<Gate<'_>> {
        self.enter_by(FileLock::try_acquire).ok().flatten()
    }

    fn enter_by(
        &self,
        acquire: impl FnOnce(&Path, Mode, Option<&Holder>) -> Result<FileLock, LockError>,
    ) -> Result<Option<Gate<'_>>, VolumeError> {
        let path = self.paths.gate();
        // Refused or no longer the gate: then as if it had not been kept.
        let kept = self.store.idle.take_gate(self.key).map(|gate| gate.resume(None));
        let kept = kept.and_then(|resumed| resumed.ok().flatten());
        let lock = match kept.map_or_else(|| acquire(path.as_path(), Mode::Exclusive, None), Ok) {
            Ok(lock) => lock,
            Err(LockError::System { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(lock_error(error)),
        };
        let state = self.state()?;
        let turns = self.turns()?;
        Ok(Some(Gate { volume: self, state, turns, lock: Some(lock), stays: true }))
    }

    /// Enters the gate of a volume that is in use, and so cannot have been removed.
    pub(crate) fn enter_existing(&self) -> Result<Gate<'_>, VolumeError> {
        self.enter()?.ok_or_else(|| VolumeError::Unknown(self.name.to_string()))
    }

    fn state(&self) -> Result<State, VolumeError> {
        let path = self.paths.state();
        let path = path.as_path();
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => VolumeError::damaged(path, "it is missing"),
            _ => VolumeError::system("read", path)(error),
        };
        let stamp = Stamp::of(path).map_err(failed)?;
        if let Some(state) = stamp.and_then(|stamp| self.store.idle.state_at(self.key, stamp)) {
            return Ok(state);
        }
        let bytes = std::fs::read(path).map_err(failed)?;
        if let Some(state) = self.store.idle.state(self.key, &bytes, stamp) {
            return Ok(state);
        }
        let state: State = document::decode(path, &bytes)?;
        if state.format() > FORMAT {
            let (path, found) = (path.to_owned(), state.format());
            return Err(VolumeError::Newer { path, found, known: FORMAT });
        }
        match state.fault() {
            Some(reason) => Err(VolumeError::damaged(path, reason)),
            None => {
                self.store.idle.keep_state(self.key, bytes, stamp, &state);
                Ok(state)
            }
        }
    }

    fn turns(&self) -> Result<Vec<Turn>, VolumeError> {
        let directory = self.paths.turns();
        let failed = || VolumeError::system("list", directory.as_path());
        let stamp = Stamp::of(directory.as_path()).map_err(failed())?;
        if let Some(turns) = stamp.and_then(|stamp| self.store.idle.turns_at(self.key, stamp)) {
            return Ok(turns);
        }
        let mut turns = Vec::new();
        for entry in std::fs::read_dir(directory.as_path()).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            match name.to_str().and_then(Turn::decode) {
                Some(turn) => turns.push(turn),
                None => {
                    tracing::warn!(volume.id = %self.key, name = %name.display(), "not a turn, left alone")
                }
            }
        }
        turns.sort_unstable_by_key(|turn| turn.number);
        if let Some(stamp) = stamp {
            self.store.idle.keep_turns(self.key, stamp, &turns);
        }
        Ok(turns)
    }

    /// Returns the path of a turn's file.
    pub(crate) fn turn_path(&self, turn: &Turn) -> HostPath {
        self.paths.turns().join(turn.encode())
    }
}

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        let Some(lock) = self.lock.take() else { return };
        let gate = lock.park();
        if self.stays {
            self.volume.store.idle.keep_gate(self.volume.key, gate);
        }
    }
}

impl Gate<'_> {
    /// Returns a number for a turn that comes after all others.
    pub(crate) fn next_number(&self) -> u64 {
        self.turns.last().map_or(1, |turn| turn.number.saturating_add(1))
    }

    /// Makes the state what is on disk.
    pub(crate) fn commit(&self) -> Result<(), VolumeError> {
        self.volume.write(&self.volume.paths.state(), &self.state)
    }

    /// Returns the turns that hold, or are not over yet, but `except`.
    pub(crate) fn users(&self, except: Option<u64>) -> impl Iterator<Item = &Turn> {
        let lasts = |turn: &&Turn| turn.phase != Phase::Waiting;
        self.turns.iter().filter(lasts).filter(move |turn| Some(turn.number) != except)
    }

    /// Returns who the given turns are, as far as they can be told.
    pub(crate) fn holders<'t>(&self, turns: impl Iterator<Item = &'t Turn>) -> Vec<Holder> {
        let holder =
            |turn: &Turn| FileLock::holder_of(self.volume.turn_path(turn).as_path()).ok().flatten();
        turns.filter_map(holder).collect()
    }

    /// Writes down that the volume was used so many times more than is known here.
    pub(crate) fn write_uses(&self, times: u64) {
        let times = times + self.volume.store.idle.take_uses(self.volume.key);
        if times > 0 {
            UsageRecord::read(&self.volume.paths).used(times).write(&self.volume.paths);
        }
    }

    /// Takes back the file of the turn that was kept from the last use here, signed by `holder`. The
    /// turn is not among the turns any more. None if nothing was kept, or somebody took it for a dead
    /// holder's and removed it: a turn of the same number is theirs then.
    pub(crate) fn unpark(
        &mut self,
        holder: Option<&Holder>,
    ) -> Result<Option<FileLock>, VolumeError> {
        let Some(Parked { lock, turn }) = self.volume.store.idle.unpark(self.volume.key) else {
            return Ok(None);
        };
        let resumed = lock.resume(holder).map_err(VolumeError::Lock)?;
        if resumed.is_some() {
            self.turns.retain(|other| other.number != turn.number);
        }
        Ok(resumed)
    }

    /// Gives up what was kept from the last use here, and writes down what is not written yet.
    pub(crate) fn settle_accounts(&mut self) -> Result<(), VolumeError> {
        self.stays = false;
        self.write_uses(0);
        self.unpark(None)?.map_or(Ok(()), FileLock::remove).map_err(VolumeError::Lock)
    }

    /// Forgets the versions that nobody needs any more, and returns true if there were any.
    pub(crate) fn trim(&mut self, except: Option<u64>) -> bool {
        let in_use: BTreeSet<u64> = self.users(except).map(|turn| turn.base).collect();
        let keep = self.volume.policy(&self.state).versions;
        let before = self.state.versions.len();
        self.state.trim(keep, &in_use);
        before != self.state.versions.len()
    }

    /// Moves the layers that nobody needs out of the way, and returns where they are now.
    pub(crate) fn collect(&self) -> Result<Vec<HostPath>, VolumeError> {
        let directory = self.volume.paths.layers();
        let failed = || VolumeError::system("list", directory.as_path());
        let mut needed = self.state.layers();
        needed.extend(self.turns.iter().filter_map(|turn| turn.layer));
        let mut trash = Vec::new();
        for entry in std::fs::read_dir(directory.as_path()).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            let Some(Ok(layer)) = name.to_str().map(str::parse::<LayerId>) else {
                tracing::warn!(volume.id = %self.volume.key, name = %name.display(), "not a layer, left alone");
                continue;
            };
            if !needed.contains(&layer) {
                trash.push(self.discard(layer)?);
            }
        }
        if !trash.is_empty() {
            let path = self.volume.paths.measured();
            let failed = VolumeError::system("remove", path.as_path());
            usage::forget_measured(&self.volume.paths).map_err(failed)?;
        }
        Ok(trash)
    }

    fn discard(&self, layer: LayerId) -> Result<HostPath, VolumeError> {
        let path = self.volume.paths.layer(layer);
        let failed = || VolumeError::system("remove", path.as_path());
        live::unmount_overlay(&self.volume.paths.live(layer)).map_err(failed())?;
        self.volume.store.discard(&path).map_err(failed())
    }

    /// Ends the turns whose processes are dead. Returns true if there were any; a layer that is to be
    /// published all the same is put into `orphans`, and its turn is [`Phase::Ending`].
    pub(crate) fn bury(&mut self, orphans: &mut Vec<Orphan>) -> Result<bool, VolumeError> {
        let mut found = false;
        for turn in self.turns.clone() {
            let path = self.volume.turn_path(&turn);
            if FileLock::is_held(path.as_path()).map_err(VolumeError::Lock)? {
                continue;
            }
            found = true;
            self.bury_one(turn, orphans)?;
        }
        Ok(found)
    }

    fn bury_one(&mut self, turn: Turn, orphans: &mut Vec<Orphan>) -> Result<(), VolumeError> {
        let path = self.volume.turn_path(&turn);
        let lock = FileLock::try_acquire(path.as_path(), Mode::Exclusive, None);
        let mut lock = lock.map_err(VolumeError::Lock)?;
        let key = self.volume.key;
        if let (Phase::Holding | Phase::Ending, Some(layer)) = (turn.phase, turn.layer) {
            tracing::info!(volume.id = %key, volume = %self.volume.name, "a holder has died");
            let salvage = self.volume.policy(&self.state).salvage(Outcome::Killed, turn.sharing);
            let shares = |other: &Turn| other.number != turn.number && other.layer == Some(layer);
            let last = !turn.in_place && !self.turns.iter().any(shares);
            match salvage {
                Salvage::Discard if turn.is_joined() && !turn.in_place => self.spoil(layer)?,
                Salvage::Keep if last => {
                    let ending = Turn { phase: Phase::Ending, ..turn };
                    let to = self.volume.turn_path(&ending);
                    lock.rename(to.as_path()).map_err(VolumeError::Lock)?;
                    self.replace_turn(ending);
                    orphans.push(Orphan { turn: ending, lock });
                    return Ok(());
                }
                Salvage::Discard | Salvage::Keep => {}
            }
        }
        self.turns.retain(|other| other.number != turn.number);
        lock.remove().map_err(VolumeError::Lock)
    }

    /// Says that what is in `layer` must not be published.
    pub(crate) fn spoil(&self, layer: LayerId) -> Result<(), VolumeError> {
        let path = self.volume.paths.spoiled(layer);
        std::fs::write(path.as_path(), "").map_err(VolumeError::system("write", path.as_path()))
    }

    /// Puts `turn` in the place of the one with its number, or among the others.
    pub(crate) fn replace_turn(&mut self, turn: Turn) {
        self.turns.retain(|other| other.number != turn.number);
        self.turns.push(turn);
        self.turns.sort_unstable_by_key(|turn| turn.number);
    }
}
