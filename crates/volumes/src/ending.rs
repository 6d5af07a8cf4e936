//! The end of a use: what was written is published or thrown away, exactly once.

use executor::subvolume;
use filelock::{FileLock, Mode};
use mount::HostPath;

use crate::flatten::Flat;
use crate::gate::{Gate, Orphan};
use crate::hold::Hold;
use crate::layout::LayerId;
use crate::merge::{Decision, Situation, decide};
use crate::state::{Origin, Root, State};
use crate::store::lock_error;
use crate::tree::{self, View};
use crate::turn::{Phase, Turn};
use crate::{Notice, Outcome, Policy, Salvage, Sharing, Space, VolumeError, VolumeEvent, live};

/// How a use ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As the policy says for how the step ended.
    Outcome(Outcome),
    /// What was written is kept, whatever the policy says.
    Publish,
    /// What was written is thrown away.
    Discard,
    /// The step never began.
    Unused,
}

/// What an end leaves to be done when there is time.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    /// To be deleted.
    pub(crate) trash: Vec<HostPath>,
    /// To be published: layers of dead holders.
    pub(crate) orphans: Vec<Orphan>,
    /// True if the volume has more layers than it should.
    pub(crate) deep: bool,
    /// What the step's user is to be told.
    pub(crate) notices: Vec<Notice>,
}

impl Ending {
    fn salvage(self, policy: &Policy, sharing: Sharing) -> Salvage {
        match self {
            Self::Outcome(outcome) => policy.salvage(outcome, sharing),
            Self::Publish => Salvage::Keep,
            Self::Discard | Self::Unused => Salvage::Discard,
        }
    }
}

impl Hold {
    /// Ends the use.
    pub(crate) fn end(mut self, ending: Ending) -> Result<Leftovers, VolumeError> {
        let mut left = Leftovers::default();
        let volume = self.volume.clone();
        match (self.turn.phase, self.turn.layer, self.turn.in_place) {
            (Phase::Waiting, ..) => self.finish()?,
            (_, None, _) => {
                let gate = volume.enter_existing()?;
                self.close(gate, ending, &mut left)?;
            }
            (_, Some(_), true) => self.end_in_place(ending, &mut left)?,
            (_, Some(_), false) => {
                if self.leave_group(ending, &mut left)? {
                    self.settle_layer(ending, &mut left)?;
                }
            }
        }
        Ok(left)
    }

    /// Ends an uncontended use in place without leaving the thread; see [`Want::attempt_at_once`].
    /// Returns false if it was something else, and lasts.
    ///
    /// [`Want::attempt_at_once`]: crate::want::Want::attempt_at_once
    pub(crate) fn end_at_once(&mut self, ending: Ending) -> bool {
        let usual = matches!(ending, Ending::Outcome(Outcome::Succeeded | Outcome::Failed));
        let ended = self.turn.in_place && usual && self.park_at_once();
        if ended {
            self.volume.store.note_use_later(&self.volume);
        }
        ended
    }

    fn park_at_once(&mut self) -> bool {
        let volume = self.volume.clone();
        let Some(gate) = volume.enter_at_once() else { return false };
        let Some(layer) = self.turn.layer else { return false };
        let alone = gate.turns.len() == 1 && gate.state.head == self.turn.base;
        let root = tree::root_attributes(volume.paths.tree(layer).as_path()).ok();
        alone && root == self.root && self.park()
    }

    /// Ends a use that wrote straight into the tree of its version.
    fn end_in_place(&mut self, ending: Ending, left: &mut Leftovers) -> Result<(), VolumeError> {
        let volume = self.volume.clone();
        let mut gate = volume.enter_existing()?;
        let layer = self.turn.layer;
        let alone = !gate.users(Some(self.turn.number)).any(|turn| turn.layer == layer);
        let mut changed = alone && self.remember_root(&mut gate.state)?;
        let policy = volume.policy(&gate.state);
        let (base, head) = (self.turn.base, gate.state.head);
        if alone && base != head {
            // Somebody began afresh meanwhile, and it was published. There is no layer to be united:
            // this tree is a whole one.
            let situation =
                Situation { merge: policy.merge, base, head, cutoff: gate.state.cutoff };
            let origin = Origin::Published;
            match (decide(situation), gate.state.version(base).map(|v| v.layers.clone())) {
                (Decision::Advance | Decision::Unite, Some(layers)) => {
                    gate.state.advance(layers, Some(base), origin, Some(self.by.clone()));
                    gate.trim(Some(self.turn.number));
                    changed = true;
                }
                (Decision::Drop, _) | (_, None) => {}
            }
        }
        if changed {
            gate.commit()?;
        }
        if gate.state.head != head {
            volume.tell(VolumeEvent::Published(Origin::Published));
        }
        if let Ending::Outcome(Outcome::Killed) = ending {
            tracing::info!(volume.id = %volume.key, volume = %volume.name,
                "a killed step wrote in place: what it wrote stays");
        }
        self.close(gate, ending, left)
    }

    /// Leaves the group that shares the layer. Returns true if there is none, or nobody else in it,
    /// so that the layer is ours to publish or to throw away.
    fn leave_group(&mut self, ending: Ending, left: &mut Leftovers) -> Result<bool, VolumeError> {
        if !self.turn.is_joined() || self.turn.phase == Phase::Ending {
            return Ok(true);
        }
        let volume = self.volume.clone();
        let mut gate = volume.enter_existing()?;
        let number = self.turn.number;
        let shares = |turn: &Turn, own: &Turn| turn.number != number && turn.layer == own.layer;
        if gate.turns.iter().any(|turn| shares(turn, &self.turn)) {
            gate.bury(&mut left.orphans)?;
        }
        if gate.turns.iter().any(|turn| shares(turn, &self.turn)) {
            let salvage = ending.salvage(&volume.policy(&gate.state), self.turn.sharing);
            if let (Salvage::Discard, Some(layer), true) =
                (salvage, self.turn.layer, ending != Ending::Unused)
            {
                gate.spoil(layer)?;
            }
            self.close(gate, ending, left)?;
            return Ok(false);
        }
        let turn = Turn { phase: Phase::Ending, ..self.turn };
        self.begin(turn)?;
        Ok(true)
    }

    /// Publishes or throws away a layer that nobody else uses.
    fn settle_layer(&mut self, ending: Ending, left: &mut Leftovers) -> Result<(), VolumeError> {
        let Some(layer) = self.turn.layer else { return Ok(()) };
        let volume = self.volume.clone();
        let paths = &volume.paths;
        let live = paths.live(layer);
        let failed = VolumeError::system("unmount", live.as_path());
        live::unmount_overlay(&live).map_err(failed)?;
        let _publisher = FileLock::acquire(paths.publisher().as_path(), Mode::Exclusive, None)
            .map_err(lock_error)?;
        // The head only moves under the publisher's lock, so this stays true.
        let state = volume.enter_existing()?.state.clone();
        let policy = volume.policy(&state);
        let spoiled = paths.spoiled(layer).as_path().exists();
        let salvage = ending.salvage(&policy, self.turn.sharing);
        let keep = salvage == Salvage::Keep && !spoiled;
        let fit = if keep { self.fit(&state, &policy, left)? } else { None };
        let mut gate = volume.enter_existing()?;
        if keep && self.remember_root(&mut gate.state)? && fit.is_none() {
            gate.commit()?;
        }
        if let Some(fit) = fit {
            let Fit { layers, origin, flat } = fit;
            if let Some(flat) = flat {
                flat.put(&volume)?;
            }
            gate.state.advance(layers, Some(self.turn.base), origin, Some(self.by.clone()));
            gate.trim(Some(self.turn.number));
            gate.commit()?;
            volume.tell(VolumeEvent::Published(origin));
        } else if !keep && ending != Ending::Unused {
            volume.tell(VolumeEvent::Discarded);
        }
        left.deep = gate.state.head_layers().len() > volume.store.settings.depth;
        self.close(gate, ending, left)
    }

    /// Makes the layer fit to be published; none if there is nothing to publish.
    fn fit(
        &self,
        state: &State,
        policy: &Policy,
        left: &mut Leftovers,
    ) -> Result<Option<Fit>, VolumeError> {
        let Some(layer) = self.turn.layer else { return Ok(None) };
        // A process that died after publishing and before ending its turn has left nothing to do.
        if state.layers().contains(&layer) || self.wrote_nothing(layer)? {
            return Ok(None);
        }
        let Some(fit) = self.place(layer, state, policy, left)? else { return Ok(None) };
        let (volume, path) = (&self.volume, self.volume.paths.tree(layer));
        let directory = fit.flat.as_ref().map(Flat::directory);
        let directory = directory.cloned().unwrap_or_else(|| volume.paths.layer(layer));
        if let Some(space) = self.excess(directory, state, policy)? {
            volume.tell(VolumeEvent::Discarded);
            let (volume, quota) = (volume.name.clone(), policy.quota);
            left.notices.push(Notice::OverQuota { volume, space, quota });
            return Ok(None);
        }
        let synced = volume.store.disk.sync_tree(path.as_path());
        synced.map_err(VolumeError::system("publish", path.as_path()))?;
        Ok(Some(fit))
    }

    /// Returns true if what is in the layer is not worth a version.
    fn wrote_nothing(&self, layer: LayerId) -> Result<bool, VolumeError> {
        let path = self.volume.paths.tree(layer);
        let failed = VolumeError::system("publish", path.as_path());
        if self.turn.fresh {
            return Ok(false);
        }
        if self.volume.is_whole(layer)? {
            return subvolume::has_changed(path.as_path()).map(|changed| !changed).map_err(failed);
        }
        tree::is_empty(path.as_path()).map_err(failed)
    }

    /// Puts the layer where the head is now, which may have moved; none if nothing of it is left.
    fn place(
        &self,
        layer: LayerId,
        state: &State,
        policy: &Policy,
        left: &mut Leftovers,
    ) -> Result<Option<Fit>, VolumeError> {
        let (volume, base) = (&self.volume, self.turn.base);
        let (head, cutoff) = (state.head, state.cutoff);
        let stack = |number| -> Vec<_> {
            state.version(number).map(|version| version.layers.clone()).unwrap_or_default()
        };
        // What began empty stands on nothing, and so does a fork as a whole.
        let stands_alone = self.turn.fresh || volume.is_whole(layer)?;
        let origin = if self.turn.fresh { Origin::Fresh } else { Origin::Published };
        let (below, origin) = match decide(Situation { merge: policy.merge, base, head, cutoff }) {
            Decision::Drop => {
                volume.tell(VolumeEvent::Discarded);
                let volume = volume.name.clone();
                let cut_off = base < cutoff;
                left.notices.push(if cut_off {
                    Notice::CutOff { volume }
                } else {
                    Notice::Overtaken { volume }
                });
                return Ok(None);
            }
            Decision::Advance if stands_alone => (Vec::new(), origin),
            Decision::Advance => (stack(base), origin),
            Decision::Unite => {
                let forkable = volume.forkable(&stack(head), policy)?;
                let tree = forkable.filter(|_| stands_alone && !self.turn.fresh);
                if let Some(tree) = tree {
                    let grafted = volume.graft(&volume.paths.tree(layer), &stack(base), &tree)?;
                    return Ok(grafted.map(|flat| Fit::of(flat, Origin::Merged)));
                }
                self.unite(&stack(base), &stack(head), stands_alone)?;
                let path = volume.paths.tree(layer);
                let failed = VolumeError::system("publish", path.as_path());
                if tree::is_empty(path.as_path()).map_err(failed)? {
                    return Ok(None);
                }
                (stack(head), Origin::Merged)
            }
        };
        let layers = [vec![layer], below].concat();
        if layers.len() > volume.store.settings.most_depth {
            return Ok(Some(Fit::of(volume.flatten(&layers, policy)?, origin)));
        }
        Ok(Some(Fit { layers, origin, flat: None }))
    }

    fn unite(
        &self,
        base: &[LayerId],
        head: &[LayerId],
        stands_alone: bool,
    ) -> Result<(), VolumeError> {
        let Some(layer) = self.turn.layer else { return Ok(()) };
        let (paths, disk) = (&self.volume.paths, &self.volume.store.disk);
        let path = paths.tree(layer);
        let failed = || VolumeError::system("merge", path.as_path());
        let view = |layers: &[LayerId]| {
            let trees: Vec<_> = layers.iter().map(|layer| paths.tree(*layer)).collect();
            View::open(&trees).map_err(failed())
        };
        let mut pace = || disk.before(crate::Step::Link, path.as_path());
        tree::unite(path.as_path(), &view(base)?, &view(head)?, stands_alone, &mut pace)
            .map_err(failed())
    }

    /// Returns what the volume would take with one more layer, which is in `directory`, if that is more
    /// than its quota. What others are writing meanwhile is not counted: it may never be published.
    fn excess(
        &self,
        directory: HostPath,
        state: &State,
        policy: &Policy,
    ) -> Result<Option<Space>, VolumeError> {
        if policy.quota == crate::Quota::default() {
            return Ok(None);
        }
        let paths = &self.volume.paths;
        let mut layers: Vec<_> = state.layers().iter().map(|layer| paths.layer(*layer)).collect();
        layers.push(directory);
        let space = tree::measure(&layers, self.volume.store.twins())
            .map_err(VolumeError::system("measure", paths.layers().as_path()))?;
        let exceeds = policy.quota.is_exceeded_by(space);
        if exceeds {
            tracing::warn!(volume.id = %self.volume.key, volume = %self.volume.name,
                bytes = space.bytes, inodes = space.inodes, "over its quota: not published");
        }
        Ok(exceeds.then_some(space))
    }

    /// Remembers how the step left the root, if that is not how it found it. Returns true if so.
    fn remember_root(&self, state: &mut State) -> Result<bool, VolumeError> {
        let (Some(before), Some(layer)) = (self.root, self.turn.layer) else { return Ok(false) };
        let path = self.volume.paths.tree(layer);
        let failed = VolumeError::system("look at", path.as_path());
        let found: Root = tree::root_attributes(path.as_path()).map_err(failed)?;
        Ok(found != before && state.remember_root(self.asked, found))
    }

    /// Ends the turn, and moves what nobody needs any more out of the way.
    fn close(
        &mut self,
        mut gate: Gate<'_>,
        ending: Ending,
        left: &mut Leftovers,
    ) -> Result<(), VolumeError> {
        let uses = u64::from(ending != Ending::Unused);
        if self.turn.in_place && gate.turns.len() == 1 && self.park() {
            if uses > 0 {
                self.volume.store.note_use_later(&self.volume);
            }
            return Ok(());
        }
        gate.write_uses(uses);
        self.finish()?;
        gate.turns.retain(|turn| turn.number != self.turn.number);
        let forgotten = gate.trim(None);
        if forgotten {
            gate.commit()?;
        }
        if forgotten || (self.turn.layer.is_some() && !self.turn.in_place) {
            match gate.collect() {
                Ok(trash) => left.trash.extend(trash),
                // The use has ended well; the sweep will find what is left.
                Err(error) => tracing::warn!(volume.id = %self.volume.key, %error, "not tidied up"),
            }
        }
        Ok(())
    }
}

/// A layer that is ready to be the top of a new version.
struct Fit {
    layers: Vec<LayerId>,
    origin: Origin,
    /// The only layer, if the stack was made into one; not in its place yet.
    flat: Option<Flat>,
}

impl Fit {
    /// What a layer that stands on nothing, and is not in its place yet, is fit for.
    fn of(flat: Flat, origin: Origin) -> Self {
        Self { layers: vec![flat.layer], origin, flat: Some(flat) }
    }
}
