//! Layers put together, so that a head does not become a tower.
//!
//! A layer is sunk into the one below it (see [`crate::tree::sink`]) while nobody uses either, a few
//! entries at a time: between them the gate is left, and as soon as somebody has come the work stops
//! where it is. What it amounts to is the same at every instant, so it goes on another time.

use std::io;
use std::time::{Duration, Instant};

use filelock::{FileLock, LockError, Mode};
use mount::HostPath;

use crate::gate::Gate;
use crate::layout::LayerId;
use crate::state::State;
use crate::store::{Volume, lock_error};
use crate::tree::{self, Below};
use crate::{Step, VolumeError, usage};

/// How long others may have to wait at the gate for a bit of settling.
const BIT: Duration = Duration::from_millis(1);

/// What to do while somebody else publishes or settles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Haste {
    /// Leave it to them, or to another time.
    GiveWay,
    /// Wait until they are done.
    Wait,
}

/// Puts layers of `volume` together until its head has no more than it should, or somebody comes.
/// Returns what is to be deleted.
pub(crate) fn settle(volume: &Volume, haste: Haste) -> Result<Vec<HostPath>, VolumeError> {
    let publisher = volume.paths.publisher();
    let acquire = match haste {
        Haste::GiveWay => FileLock::try_acquire,
        Haste::Wait => FileLock::acquire,
    };
    let _publisher = match acquire(publisher.as_path(), Mode::Exclusive, None) {
        Ok(lock) => lock,
        // Whoever publishes will think of settling afterwards.
        Err(LockError::Held { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(lock_error(error)),
    };
    let mut trash = Vec::new();
    loop {
        let Some(gate) = volume.enter()? else { return Ok(trash) };
        if gate.state.head_layers().len() <= volume.store.settings.depth {
            return Ok(trash);
        }
        let Some(pair) = candidate(&gate.state, &in_use(&gate)) else { return Ok(trash) };
        let path = volume.paths.measured();
        let failed = VolumeError::system("remove", path.as_path());
        usage::forget_measured(&volume.paths).map_err(failed)?;
        drop(gate);
        if !settle_pair(volume, pair)? {
            return Ok(trash);
        }
        let Some(mut gate) = volume.enter()? else { return Ok(trash) };
        if is_used(&gate, pair) {
            return Ok(trash);
        }
        for version in &mut gate.state.versions {
            version.layers.retain(|layer| *layer != pair.upper);
        }
        gate.commit()?;
        trash.extend(gate.collect()?);
    }
}

/// Two layers of which one is always directly above the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) upper: LayerId,
    pub(crate) lower: LayerId,
    pub(crate) bottom: bool,
}

/// Returns two layers of the head that can be put together: nobody uses them, and no version has one
/// without the other. The lowest two, as they stay put for longest.
pub(crate) fn candidate(state: &State, in_use: &[LayerId]) -> Option<Pair> {
    let layers = state.head_layers();
    let pairs = layers.windows(2).enumerate().rev();
    for (index, pair) in pairs {
        let [upper, lower] = *pair else { continue };
        let together = state.versions.iter().all(|version| {
            let place = |layer| version.layers.iter().position(|other| *other == layer);
            match (place(upper), place(lower)) {
                (None, None) => true,
                (Some(above), Some(below)) => above + 1 == below,
                (Some(_), None) | (None, Some(_)) => false,
            }
        });
        if together && !in_use.contains(&upper) && !in_use.contains(&lower) {
            return Some(Pair { upper, lower, bottom: index + 2 == layers.len() });
        }
    }
    None
}

fn in_use(gate: &Gate<'_>) -> Vec<LayerId> {
    let version = |base| gate.state.version(base).map_or(&[][..], |version| &version.layers);
    gate.users(None)
        .flat_map(|turn| turn.layer.into_iter().chain(version(turn.base).iter().copied()))
        .collect()
}

fn is_used(gate: &Gate<'_>, pair: Pair) -> bool {
    let used = in_use(gate);
    used.contains(&pair.upper) || used.contains(&pair.lower)
}

/// Returns false if somebody has come before it was done.
fn settle_pair(volume: &Volume, pair: Pair) -> Result<bool, VolumeError> {
    let paths = &volume.paths;
    let (upper, lower) = (paths.tree(pair.upper), paths.tree(pair.lower));
    let scratch = paths.work(pair.lower);
    let failed = || VolumeError::system("settle", upper.as_path());
    clear(&scratch).map_err(failed())?;
    let below = if pair.bottom { Below::Nothing } else { Below::Layers(scratch.as_path()) };
    let mut turnstile = Turnstile { volume, pair, gate: None, entered: Instant::now(), came: None };
    let sunk = tree::sink(upper.as_path(), lower.as_path(), below, &mut || {
        volume.store.disk.before(Step::Link, lower.as_path())?;
        turnstile.pass()
    });
    match (sunk, turnstile.came) {
        (Err(_), Some(Came::Somebody)) => return Ok(false),
        (Err(_), Some(Came::Error(error))) => return Err(error),
        (sunk, _) => sunk.map_err(failed())?,
    }
    drop(turnstile.gate);
    volume.store.disk.sync_tree(lower.as_path()).map_err(failed())?;
    Ok(true)
}

/// Makes an empty directory of one that the kernel may have used.
fn clear(scratch: &HostPath) -> io::Result<()> {
    match std::fs::remove_dir_all(scratch.as_path()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::create_dir(scratch.as_path())
}

/// Goes in and out of the gate, so that nobody waits there for long.
struct Turnstile<'a> {
    volume: &'a Volume,
    pair: Pair,
    gate: Option<Gate<'a>>,
    entered: Instant,
    came: Option<Came>,
}

enum Came {
    Somebody,
    Error(VolumeError),
}

impl Turnstile<'_> {
    /// Called before every change; an error means to stop.
    fn pass(&mut self) -> io::Result<()> {
        if self.gate.is_some() && self.entered.elapsed() < BIT {
            return Ok(());
        }
        self.gate = None;
        // Those who wait at the gate are woken by its release, and may need the processor to get in.
        std::thread::yield_now();
        let came = match self.volume.enter_existing() {
            Ok(gate) if is_used(&gate, self.pair) => Came::Somebody,
            Ok(gate) => {
                self.gate = Some(gate);
                self.entered = Instant::now();
                return Ok(());
            }
            Err(error) => Came::Error(error),
        };
        self.came = Some(came);
        Err(io::ErrorKind::Interrupted.into())
    }
}
