//! What is kept of a volume between one use and the next, to make the next one cheap.
//!
//! After an uncontended use in place the turn's file stays, open but not locked: to everybody else it
//! is the turn of a dead holder, which is swept away without consequence, and to the next use here it
//! is a file that need not be made. So with the gate's file. What was read is kept as well, and need not
//! be read again while it is as it was. Nothing here is needed for correctness.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use filelock::ParkedLock;
use parking_lot::Mutex;

use crate::VolumeKey;
use crate::stamp::Stamp;
use crate::state::State;
use crate::store::{Store, Volume};
use crate::turn::Turn;

/// At most so many files are kept open.
const MOST_PARKED: usize = 128;

/// How long statistics may be late.
const LATE: Duration = Duration::from_secs(1);

/// What is kept.
#[derive(Debug, Default)]
pub(crate) struct Idle(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    parked: HashMap<VolumeKey, Parked>,
    gates: HashMap<VolumeKey, ParkedLock>,
    states: HashMap<VolumeKey, KnownState>,
    turns: HashMap<VolumeKey, (Stamp, Vec<Turn>)>,
    /// Uses that are not written down yet.
    uses: HashMap<VolumeKey, u64>,
}

/// A state as it was read.
#[derive(Debug)]
struct KnownState {
    /// When it was; none if that says nothing.
    stamp: Option<Stamp>,
    bytes: Vec<u8>,
    state: Arc<State>,
}

/// The turn of the last use, which has ended.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) lock: ParkedLock,
    pub(crate) turn: Turn,
}

impl Idle {
    /// Takes back what was parked for a volume.
    pub(crate) fn unpark(&self, key: VolumeKey) -> Option<Parked> {
        self.0.lock().parked.remove(&key)
    }

    /// Returns true if something is parked for a volume.
    pub(crate) fn is_parked(&self, key: VolumeKey) -> bool {
        self.0.lock().parked.contains_key(&key)
    }

    /// Returns true if there is room to park one more.
    pub(crate) fn has_room(&self) -> bool {
        self.0.lock().parked.len() < MOST_PARKED
    }

    pub(crate) fn park(&self, key: VolumeKey, parked: Parked) {
        self.0.lock().parked.insert(key, parked);
    }

    /// Takes the gate's file, if it was kept.
    pub(crate) fn take_gate(&self, key: VolumeKey) -> Option<ParkedLock> {
        self.0.lock().gates.remove(&key)
    }

    pub(crate) fn keep_gate(&self, key: VolumeKey, gate: ParkedLock) {
        let mut kept = self.0.lock();
        let surplus =
            if kept.gates.len() < MOST_PARKED { kept.gates.insert(key, gate) } else { Some(gate) };
        drop(kept);
        // Closed by nobody who waits for the table.
        drop(surplus);
    }

    /// Returns the state that was read when the file was just as `stamp` says.
    pub(crate) fn state_at(&self, key: VolumeKey, stamp: Stamp) -> Option<State> {
        let kept = self.0.lock();
        let known = kept.states.get(&key)?;
        (known.stamp == Some(stamp)).then(|| State::clone(&known.state))
    }

    /// Returns the state that was last read from just these bytes, which are those of `stamp`.
    pub(crate) fn state(
        &self,
        key: VolumeKey,
        bytes: &[u8],
        stamp: Option<Stamp>,
    ) -> Option<State> {
        let mut kept = self.0.lock();
        let known = kept.states.get_mut(&key).filter(|known| known.bytes == bytes)?;
        known.stamp = stamp;
        Some(State::clone(&known.state))
    }

    pub(crate) fn keep_state(
        &self,
        key: VolumeKey,
        bytes: Vec<u8>,
        stamp: Option<Stamp>,
        state: &State,
    ) {
        let mut kept = self.0.lock();
        if kept.states.len() >= MOST_PARKED {
            kept.states.clear();
        }
        kept.states.insert(key, KnownState { stamp, bytes, state: Arc::new(state.clone()) });
    }

    /// Returns the turns that were there when their directory was just as `stamp` says.
    pub(crate) fn turns_at(&self, key: VolumeKey, stamp: Stamp) -> Option<Vec<Turn>> {
        let kept = self.0.lock();
        kept.turns.get(&key).filter(|(known, _)| *known == stamp).map(|(_, turns)| turns.clone())
    }

    pub(crate) fn keep_turns(&self, key: VolumeKey, stamp: Stamp, turns: &[Turn]) {
        let mut kept = self.0.lock();
        if kept.turns.len() >= MOST_PARKED {
            kept.turns.clear();
        }
        kept.turns.insert(key, (stamp, turns.to_vec()));
    }

    /// Takes the number of uses of a volume that are not written down.
    pub(crate) fn take_uses(&self, key: VolumeKey) -> u64 {
        self.0.lock().uses.remove(&key).unwrap_or(0)
    }

    /// Counts a use that will be written down later. Returns true if it is the first such.
    fn count_use(&self, key: VolumeKey) -> bool {
        let mut kept = self.0.lock();
        let uses = kept.uses.entry(key).or_insert(0);
        *uses += 1;
        *uses == 1
    }
}

impl Store {
    /// Has a use of `volume` written down, soon.
    pub(crate) fn note_use_later(&self, volume: &Volume) {
        if !self.idle.count_use(volume.key) || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let volume = volume.clone();
        tasks::spawn("volumes.usage", async move {
            tokio::time::sleep(LATE).await;
            let written = tasks::blocking("volumes.usage", move || {
                if let Ok(Some(gate)) = volume.enter() {
                    gate.write_uses(0);
                }
            });
            if let Err(error) = written.await {
                tracing::debug!(%error, "statistics of a volume were not written");
            }
        })
        .detach();
    }
}
