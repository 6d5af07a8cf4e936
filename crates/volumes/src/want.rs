//! The beginning of a use: a place in the queue, or the tree in hand.

use std::time::Duration;

use filelock::{FileLock, Holder, Label, Mode};
use mount::{HostPath, OverlayUpper, Syncing};

use crate::gate::{Gate, Orphan};
use crate::hold::{Hold, Sight, set_root};
use crate::layout::LayerId;
use crate::state::Root;
use crate::store::{Beginning, Volume};
use crate::turn::{Form, Phase, Start, Turn, Verdict, admit, start};
use crate::{
    Driver, Merge, NoCache, Policy, RootAttributes, Seed, Sharing, VolumeError, VolumeEvent, live,
    tree, usage,
};

/// What a step wants of one volume.
#[derive(Debug, Clone)]
pub(crate) struct Want {
    pub(crate) volume: Volume,
    pub(crate) sharing: Sharing,
    pub(crate) fresh: bool,
    pub(crate) root: RootAttributes,
    pub(crate) seed: Option<Seed>,
    /// True if the step mounts it at more than one place.
    pub(crate) several: bool,
    pub(crate) by: Label,
}

/// A tree that is forked as a whole.
struct Original {
    tree: HostPath,
    /// True if others are writing it: the fork has all that they had written at one instant.
    is_live: bool,
}

/// What came of trying to begin.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// The turn has begun.
    Granted(Hold),
    /// The turn is in the queue.
    Queued {
        hold: Hold,
        holders: Vec<Holder>,
        ahead: usize,
        /// The longest it may wait.
        limit: Option<Duration>,
    },
}

impl Want {
    /// Begins, or takes a place in the queue, or looks whether the `place` it has is the first.
    ///
    /// What dead holders have left to be published is put into `orphans`.
    pub(crate) fn attempt(
        &self,
        place: Option<Hold>,
        orphans: &mut Vec<Orphan>,
    ) -> Result<Attempt, VolumeError> {
        loop {
            if let Some(mut gate) = self.volume.enter()? {
                let mut attempt = self.decide(&mut gate, place, orphans)?;
                drop(gate);
                if let Attempt::Granted(hold) = &mut attempt {
                    hold.copy(self.root)?;
                }
                return Ok(attempt);
            }
            let beginning = Beginning { seed: self.seed.clone(), by: self.by.clone() };
            self.volume.create(&beginning)?;
        }
    }

    /// Begins in place, if the last use in this process was the same and nobody has come since.
    ///
    /// Does not wait for anything, disk included: all it takes is some system calls about files that
    /// are open or were looked at a moment ago. So it need not leave the thread, which would cost
    /// more than all the rest.
    pub(crate) fn attempt_at_once(&self) -> Option<Hold> {
        if !self.volume.store.idle.is_parked(self.volume.key) || self.fresh {
            return None;
        }
        let mut gate = self.volume.enter_at_once()?;
        let plain = gate.state.form == Form::Plain && gate.turns.len() == 1;
        let lives = matches!(self.sharing, Sharing::Shared | Sharing::Locked);
        if !plain || !lives || self.volume.policy(&gate.state).may_discard() {
            return None;
        }
        match self.decide(&mut gate, None, &mut Vec::new()) {
            Ok(Attempt::Granted(hold)) => Some(hold),
            // Whatever it is, it is met again by those who may wait.
            Ok(Attempt::Queued { .. }) | Err(_) => None,
        }
    }

    fn decide(
        &self,
        gate: &mut Gate<'_>,
        place: Option<Hold>,
        orphans: &mut Vec<Orphan>,
    ) -> Result<Attempt, VolumeError> {
        let policy = self.volume.policy(&gate.state);
        let parked = gate.unpark(Some(&Holder::here(self.by.clone())))?;
        let turn = place.as_ref().map_or_else(
            || {
                let fresh = self.fresh && policy.no_cache == NoCache::Fresh;
                let number = gate.next_number();
                Turn::new(number, self.sharing, fresh, policy.may_discard())
            },
            |place| place.turn,
        );
        loop {
            let verdict = admit(&turn, &gate.turns, gate.state.form);
            if verdict == Verdict::Grant {
                match start(&turn, &gate.turns, gate.state.form, gate.state.cutoff) {
                    // The group to be joined may be dead, or out of sight.
                    Start::Join { layer, in_place, .. } => {
                        if gate.bury(orphans)? {
                            continue;
                        }
                        let seen = in_place
                            || self.volume.is_whole(layer)?
                            || live::is_mounted(&self.volume.paths.live(layer));
                        if !seen {
                            return self.queue(gate, turn, place, parked, 0);
                        }
                    }
                    Start::Read
                    | Start::InPlace
                    | Start::Above
                    | Start::Empty
                    | Start::Copy
                    | Start::Snapshot => {}
                }
                return self.grant(gate, turn, place, parked).map(Attempt::Granted);
            }
            let Verdict::Wait { ahead, .. } = verdict else { continue };
            if gate.bury(orphans)? {
                continue;
            }
            if self.may_copy(&turn, gate.state.form, &policy) {
                let apart = Turn { fresh: true, ..turn };
                return self.begin(gate, apart, Start::Copy, place, parked).map(Attempt::Granted);
            }
            return self.queue(gate, turn, place, parked, ahead);
        }
    }

    fn queue(
        &self,
        gate: &mut Gate<'_>,
        turn: Turn,
        place: Option<Hold>,
        parked: Option<FileLock>,
        ahead: usize,
    ) -> Result<Attempt, VolumeError> {
        let hold = match place {
            Some(hold) => hold,
            None => self.enrol(gate, turn, parked)?,
        };
        let in_the_way = |other: &&Turn| other.is_in_the_way();
        let holders = gate.holders(gate.users(Some(turn.number)).filter(in_the_way));
        let limit = self.volume.policy(&gate.state).wait_limit;
        Ok(Attempt::Queued { hold, holders, ahead, limit })
    }

    /// Makes the file of a turn, or takes the one that was kept.
    fn enrol(
        &self,
        gate: &mut Gate<'_>,
        turn: Turn,
        parked: Option<FileLock>,
    ) -> Result<Hold, VolumeError> {
        let path = self.volume.turn_path(&turn);
        let lock = match parked {
            Some(mut lock) => {
                if lock.path() != path.as_path() {
                    lock.rename(path.as_path()).map_err(VolumeError::Lock)?;
                }
                lock
            }
            None => {
                let holder = Holder::here(self.by.clone());
                FileLock::try_acquire(path.as_path(), Mode::Exclusive, Some(&holder))
                    .map_err(VolumeError::Lock)?
            }
        };
        gate.replace_turn(turn);
        Ok(Hold::new(self.volume.clone(), turn, lock, self.by.clone(), self.root))
    }

    fn grant(
        &self,
        gate: &mut Gate<'_>,
        waiting: Turn,
        place: Option<Hold>,
        parked: Option<FileLock>,
    ) -> Result<Hold, VolumeError> {
        let start = start(&waiting, &gate.turns, gate.state.form, gate.state.cutoff);
        if waiting.freezes(gate.state.form) {
            gate.state.form = Form::Versioned;
            gate.commit()?;
        }
        self.begin(gate, waiting, start, place, parked)
    }

    /// Returns true if a fork need not wait for those who write in place, because copying their tree
    /// costs little. A reader waits: a copy of a tree that is being written may be half of something.
    /// So does a fork that must not undo what is still being written: only the last writer may.
    fn may_copy(&self, turn: &Turn, form: Form, policy: &Policy) -> bool {
        let can = self.volume.store.reflinks
            && policy.driver != Driver::Overlay
            && policy.merge == Merge::LastWriter;
        can && turn.sharing == Sharing::Private && turn.freezes(form)
    }

    fn begin(
        &self,
        gate: &mut Gate<'_>,
        waiting: Turn,
        start: Start,
        place: Option<Hold>,
        parked: Option<FileLock>,
    ) -> Result<Hold, VolumeError> {
        let mut turn = Turn { phase: Phase::Holding, base: gate.state.head, ..waiting };
        let whole = self.forkable(gate, start)?;
        let start = if whole.is_some() { Start::Snapshot } else { start };
        match start {
            Start::Read => {}
            Start::InPlace => {
                (turn.layer, turn.in_place) = (gate.state.head_layers().first().copied(), true);
            }
            Start::Join { layer, base, in_place } => {
                (turn.layer, turn.base, turn.in_place) = (Some(layer), base, in_place);
            }
            Start::Above | Start::Empty | Start::Copy => turn.layer = Some(LayerId::invent()),
            Start::Snapshot => (turn.layer, turn.fresh) = (Some(LayerId::invent()), false),
        }
        if turn.layer.is_some() {
            let path = self.volume.paths.measured();
            let failed = VolumeError::system("remove", path.as_path());
            usage::forget_measured(&self.volume.paths).map_err(failed)?;
        }
        let mut hold = match place {
            None => self.enrol(gate, turn, parked)?,
            Some(mut hold) => {
                hold.begin(turn)?;
                gate.replace_turn(turn);
                hold
            }
        };
        if matches!(start, Start::Above | Start::Empty | Start::Copy | Start::Snapshot) {
            self.volume.tell(VolumeEvent::Forked);
        }
        hold.view = self.prepare(gate, &turn, start, whole)?;
        hold.to_be_copied = (start == Start::Copy).then(|| self.tree_of(gate, turn.base)).flatten();
        let root = match &hold.view {
            Sight::Tree(tree) => Some(tree),
            Sight::Above { upper, .. } => Some(&upper.upper),
            Sight::Version(_) | Sight::None => None,
        };
        if let Some(path) = root {
            let failed = VolumeError::system("look at", path.as_path());
            hold.root = Some(tree::root_attributes(path.as_path()).map_err(failed)?);
        }
        Ok(hold)
    }

    /// Returns the head's tree if the turn is to write in a fork of it and it can be forked as a whole.
    fn forkable(&self, gate: &Gate<'_>, start: Start) -> Result<Option<Original>, VolumeError> {
        let policy = self.volume.policy(&gate.state);
        match start {
            // Mounting an overlay is a tenth of what a snapshot costs, which waits for the disk.
            Start::Above if policy.driver != Driver::Subvolume => Ok(None),
            Start::Above | Start::Copy => {
                let tree = self.volume.forkable(gate.state.head_layers(), &policy)?;
                Ok(tree.map(|tree| Original { tree, is_live: start == Start::Copy }))
            }
            Start::Read | Start::InPlace | Start::Join { .. } | Start::Empty | Start::Snapshot => {
                Ok(None)
            }
        }
    }

    fn tree_of(&self, gate: &Gate<'_>, version: u64) -> Option<HostPath> {
        let layer = gate.state.version(version)?.layers.first()?;
        Some(self.volume.paths.tree(*layer))
    }

    /// Makes what the step is to see.
    fn prepare(
        &self,
        gate: &Gate<'_>,
        turn: &Turn,
        start: Start,
        whole: Option<Original>,
    ) -> Result<Sight, VolumeError> {
        let (paths, wanted) = (&self.volume.paths, gate.state.root_for(self.root));
        let below = || -> Vec<HostPath> {
            let version = gate.state.version(turn.base);
            version.iter().flat_map(|v| &v.layers).map(|layer| paths.tree(*layer)).collect()
        };
        match (start, turn.layer) {
            (Start::Read, _) | (_, None) => {
                let lower = if turn.fresh { Vec::new() } else { below() };
                self.face(lower, wanted)
            }
            (Start::InPlace, Some(layer)) => {
                let tree = paths.tree(layer);
                set_root(&tree, wanted)?;
                Ok(Sight::Tree(tree))
            }
            (Start::Join { in_place, .. }, Some(layer)) => {
                let apart = !in_place && !self.volume.is_whole(layer)?;
                let tree = if apart { paths.live(layer) } else { paths.tree(layer) };
                // Who asks for nothing takes the root as those have it who are there already.
                if self.root != RootAttributes::default() {
                    set_root(&tree, wanted)?;
                }
                Ok(Sight::Tree(tree))
            }
            (Start::Empty | Start::Copy | Start::Snapshot, Some(layer)) => {
                let policy = self.volume.policy(&gate.state);
                self.make_whole(layer, whole, &policy, wanted)?;
                Ok(Sight::Tree(paths.tree(layer)))
            }
            (Start::Above, Some(layer)) => {
                let lower = below();
                self.make_layer(layer, lower.first(), wanted)?;
                let (upper, work) = (paths.tree(layer), paths.work(layer));
                let upper = OverlayUpper { upper, work, syncing: Syncing::Kernel };
                if !turn.is_joined() && !self.several {
                    return Ok(Sight::Above { lower, upper });
                }
                let live = paths.live(layer);
                let mounted = live::mount_overlay(lower, upper, &live);
                mounted.map_err(VolumeError::system("mount", live.as_path()))?;
                Ok(Sight::Tree(live))
            }
        }
    }

    /// Returns a read-only view of some layers whose root looks as `wanted`.
    fn face(&self, mut lower: Vec<HostPath>, wanted: Root) -> Result<Sight, VolumeError> {
        if lower.is_empty() {
            lower.push(self.volume.store.layout.empty());
        }
        let top = lower[0].clone();
        let looks = tree::root_attributes(top.as_path());
        if looks.map_err(VolumeError::system("look at", top.as_path()))? != wanted {
            let name = format!("{}-{}-{:o}", wanted.uid, wanted.gid, wanted.mode);
            let face = self.volume.paths.face(&name);
            let made = std::fs::create_dir_all(face.as_path());
            made.map_err(VolumeError::system("make", face.as_path()))?;
            set_root(&face, wanted)?;
            lower.insert(0, face);
        }
        Ok(Sight::Version(lower))
    }

    /// Makes a layer that stands on nothing: empty, or a fork of `from`.
    fn make_whole(
        &self,
        layer: LayerId,
        from: Option<Original>,
        policy: &Policy,
        wanted: Root,
    ) -> Result<(), VolumeError> {
        let (directory, tree) = (self.volume.paths.layer(layer), self.volume.paths.tree(layer));
        let made = self.volume.store.disk.make_directory(directory.as_path());
        made.map_err(VolumeError::system("make", directory.as_path()))?;
        match &from {
            Some(from) => self.volume.fork_tree(&from.tree, &tree)?,
            None => self.volume.make_tree(&tree, policy)?,
        }
        // Who asks for nothing takes the root as those have it who are writing.
        let is_live = from.is_some_and(|from| from.is_live);
        if is_live && self.root == RootAttributes::default() {
            return Ok(());
        }
        set_root(&tree, wanted)
    }

    /// Makes a layer that is mounted above others.
    fn make_layer(
        &self,
        layer: LayerId,
        below: Option<&HostPath>,
        wanted: Root,
    ) -> Result<(), VolumeError> {
        let (paths, disk) = (&self.volume.paths, &self.volume.store.disk);
        for path in [paths.layer(layer), paths.tree(layer), paths.work(layer), paths.live(layer)] {
            let failed = VolumeError::system("make", path.as_path());
            disk.make_directory(path.as_path()).map_err(failed)?;
        }
        let tree = paths.tree(layer);
        if let Some(below) = below {
            // The root of an overlay has the attributes of its topmost layer's root.
            let failed = VolumeError::system("prepare", tree.as_path());
            tree::copy_root_xattrs(below.as_path(), tree.as_path()).map_err(failed)?;
        }
        set_root(&tree, wanted)
    }
}
