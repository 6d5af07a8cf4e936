//! How one edge finds its result: a pure state machine.
//!
//! [`EdgeMachine::handle`] takes an event and returns effects; it knows no clock, disk or runtime. An
//! edge goes only as far as it is wanted to ([`Goal`]), by the cheapest way first:
//!
//! 1. **Keys**: its definition key needs the cache maps at and below it, nothing else. A lookup by
//!    the keys of the inputs may *match* records; one that loads is the result.
//! 2. **Matches**: if not, inputs are asked for more: first for matches of their own, then, in slots
//!    by content, for their result, whose content is one more key. Only slots for which no link is
//!    known are taken so far, and the others after them, if these have found some. A slot that has
//!    come to its end without any link makes all further search useless.
//! 3. **Result**: what then has no loadable match is run, and saved under its definition key.
//!
//! An edge that ignores the cache, and each edge above it, has a definition key that old results
//! also have. Such a key is not *trusted*: results are saved under it, but it is not looked up.

use std::sync::Arc;

use digests::StableHasher;

use crate::key::{BaseKey, RunKey};
use crate::signal::{Effect, Event, Goal, Report};
use crate::slot::{Content, Slot};
use crate::{CacheMap, KeyId, LinkKey, NewRecord, SolveError};

/// The state of one edge.
#[derive(Debug)]
pub(crate) struct EdgeMachine<R> {
    output: u32,
    ignore_cache: bool,
    goal: Goal,
    level: Goal,
    map: Option<Arc<CacheMap>>,
    slots: Vec<Slot<R>>,
    base: Option<BaseKey>,
    trusted: bool,
    /// Records found, in the order in which they are tried; the first `tried` did not load.
    matches: Vec<KeyId>,
    tried: usize,
    /// Where the result is kept.
    kept: Option<KeyId>,
    result: Option<R>,
    failure: Option<SolveError>,
    work: Work<R>,
}

/// What is going on for the edge.
#[derive(Debug)]
struct Work<R> {
    mapping: bool,
    /// The slots and keys that were asked for.
    query: Option<Vec<(usize, KeyId)>>,
    loading: bool,
    running: bool,
    saving: Option<(KeyId, R)>,
}

impl<R: Clone> EdgeMachine<R> {
    /// Returns the machine of output `output` of an operation with this many inputs.
    pub(crate) fn new(output: u32, inputs: usize, ignore_cache: bool) -> Self {
        Self {
            output,
            ignore_cache,
            goal: Goal::Nothing,
            level: Goal::Nothing,
            map: None,
            slots: (0..inputs).map(|_| Slot::default()).collect(),
            base: None,
            trusted: false,
            matches: Vec::new(),
            tried: 0,
            kept: None,
            result: None,
            failure: None,
            work: Work {
                mapping: false,
                query: None,
                loading: false,
                running: false,
                saving: None,
            },
        }
    }

    /// Takes in an event and returns what is to be done.
    pub(crate) fn handle(&mut self, event: Event<R>) -> Vec<Effect<R>> {
        let mut effects = Vec::new();
        self.absorb(event, &mut effects);
        if self.is_settled() || !self.advance(&mut effects) {
            self.rest(&mut effects);
        }
        effects
    }

    pub(crate) const fn level(&self) -> Goal {
        self.level
    }

    pub(crate) const fn failure(&self) -> Option<&SolveError> {
        self.failure.as_ref()
    }

    /// Forgets a failure of which all who waited have heard, so that others may try again.
    pub(crate) fn forgive(&mut self) {
        if self.goal == Goal::Nothing {
            self.failure = None;
        }
    }

    pub(crate) const fn result(&self) -> Option<&R> {
        self.result.as_ref()
    }

    /// Returns how many records match: it only grows.
    pub(crate) const fn match_count(&self) -> usize {
        self.matches.len()
    }

    /// Returns true while it waits for the cache map.
    pub(crate) const fn is_mapping(&self) -> bool {
        self.work.mapping
    }

    /// Returns what there is to tell, once there are keys.
    pub(crate) fn report(&self) -> Option<Report<R>> {
        let id = self.base.filter(|_| self.level >= Goal::Keys)?.output(self.output);
        let (level, trusted, matches) = (self.level, self.trusted, self.matches.clone());
        Some(Report { level, id, trusted, matches, result: self.result.clone() })
    }

    /// Returns the key under which the result is, or would be, kept.
    pub(crate) fn key(&self) -> Option<KeyId> {
        let id = self.base.map(|base| base.output(self.output));
        self.kept.or_else(|| self.matches.first().copied()).or(id)
    }

    pub(crate) const fn map(&self) -> Option<&Arc<CacheMap>> {
        self.map.as_ref()
    }

    /// Returns for each slot the key of the input's content, where that is known.
    pub(crate) fn contents(&self) -> Vec<Option<KeyId>> {
        self.slots.iter().map(Slot::content_key).collect()
    }

    /// Returns for each slot the links by which its input leads here.
    pub(crate) fn links(&self) -> Vec<Vec<LinkKey>> {
        let Some(map) = &self.map else { return Vec::new() };
        let of_slot = |(slot, state): (usize, &Slot<R>)| {
            let keys = state.all_keys().into_iter();
            keys.map(|key| state.link(map, self.output, slot, key)).collect()
        };
        self.slots.iter().enumerate().map(of_slot).collect()
    }

    fn is_settled(&self) -> bool {
        self.failure.is_some() || self.level >= self.goal
    }

    fn absorb(&mut self, event: Event<R>, effects: &mut Vec<Effect<R>>) {
        match event {
            Event::Wanted(goal) => self.goal = goal,
            Event::Mapped(map) => {
                self.work.mapping = false;
                self.map = Some(map);
            }
            Event::Input { slot, report } => self.slots[slot].report = Some(report),
            Event::InputFailed { slot, error } => {
                // An input that was given up in the meantime may fail as it likes.
                if self.slots[slot].asked > Goal::Nothing {
                    self.failure = Some(error);
                }
            }
            Event::Found(answers) => {
                for ((slot, key), found) in
                    self.work.query.take().into_iter().flatten().zip(answers)
                {
                    self.slots[slot].found.push((key, found));
                }
            }
            Event::Loaded(result) => self.loaded(result),
            Event::Content { slot, key } => self.slots[slot].content = Content::Known(key),
            Event::Executed { base, result } => self.executed(base, result, effects),
            Event::Saved => self.saved(),
            Event::Failed(error) => {
                if self.goal > Goal::Nothing {
                    self.failure = Some(error);
                }
            }
        }
    }

    /// Stops what goes on and takes back what was asked: the goal is reached, or given up.
    fn rest(&mut self, effects: &mut Vec<Effect<R>>) {
        let contents = self.slots.iter().any(|slot| slot.content == Content::Running);
        let Work { mapping, query, loading, running, .. } = &self.work;
        if contents || *mapping || query.is_some() || *loading || *running {
            effects.push(Effect::Stop);
        }
        self.work.mapping = false;
        self.work.query = None;
        self.work.loading = false;
        self.work.running = false;
        for (slot, state) in self.slots.iter_mut().enumerate() {
            if state.content == Content::Running {
                state.content = Content::Unknown;
            }
            if state.asked > Goal::Nothing {
                state.asked = Goal::Nothing;
                effects.push(Effect::Ask { slot, goal: Goal::Nothing });
            }
        }
    }

    /// Goes one step towards the goal. Returns false when there is nothing to wait for: the goal is
    /// reached.
    fn advance(&mut self, effects: &mut Vec<Effect<R>>) -> bool {
        if self.work.saving.is_some() {
            return true;
        }
        let Some(map) = self.identify(effects) else { return true };
        if self.look_up(&map, effects) {
            return true;
        }
        let enough = if self.matches.is_empty() { Goal::Keys } else { Goal::Matches };
        self.level = self.level.max(enough);
        if self.level >= self.goal {
            return false;
        }
        if self.goal == Goal::Result && self.load(effects) {
            return true;
        }
        if self.search(&map, effects) {
            return true;
        }
        self.level = self.level.max(Goal::Matches);
        if self.level >= self.goal {
            return false;
        }
        self.execute(&map, effects);
        true
    }

    /// Waits for the cache map and for the keys of the inputs; then knows the definition key.
    fn identify(&mut self, effects: &mut Vec<Effect<R>>) -> Option<Arc<CacheMap>> {
        if self.map.is_none() && !self.work.mapping {
            self.work.mapping = true;
            effects.push(Effect::Map);
        }
        for slot in 0..self.slots.len() {
            if self.slots[slot].report.is_none() {
                self.ask(slot, Goal::Keys, effects);
            }
        }
        let map = self.map.clone()?;
        if self.base.is_none() {
            let reports: Option<Vec<_>> = self.slots.iter().map(|s| s.report.as_ref()).collect();
            let reports = reports?;
            let ids: Vec<KeyId> = reports.iter().map(|report| report.id).collect();
            self.trusted = !self.ignore_cache && reports.iter().all(|report| report.trusted);
            self.base = Some(BaseKey::of(&map, &ids));
        }
        Some(map)
    }

    fn ask(&mut self, slot: usize, goal: Goal, effects: &mut Vec<Effect<R>>) {
        let state = &mut self.slots[slot];
        if state.asked < goal {
            state.asked = goal;
            effects.push(Effect::Ask { slot, goal });
        }
    }

    fn uses_cache(&self, map: &CacheMap) -> bool {
        !self.ignore_cache && !map.volatile
    }

    /// Asks where the keys of the inputs lead. Returns true while there is an answer to wait for.
    fn look_up(&mut self, map: &CacheMap, effects: &mut Vec<Effect<R>>) -> bool {
        if !self.uses_cache(map) {
            return false;
        }
        if self.slots.is_empty() {
            if let (true, Some(base)) = (self.matches.is_empty(), self.base) {
                self.matches.push(base.output(self.output));
            }
            return false;
        }
        if self.work.query.is_some() {
            return true;
        }
        let unasked = |(slot, state): (usize, &Slot<R>)| {
            state.unasked().into_iter().map(move |key| (slot, key)).collect::<Vec<_>>()
        };
        let asked: Vec<_> = self.slots.iter().enumerate().flat_map(unasked).collect();
        if !asked.is_empty() && !self.is_hopeless(map) {
            let link = |(slot, key): &(usize, KeyId)| {
                self.slots[*slot].link(map, self.output, *slot, *key)
            };
            effects.push(Effect::Query(asked.iter().map(link).collect()));
            self.work.query = Some(asked);
            return true;
        }
        self.intersect(map, effects);
        false
    }

    /// Takes as matches the records to which every slot leads.
    fn intersect(&mut self, map: &CacheMap, effects: &mut Vec<Effect<R>>) {
        let known = self.matches.len();
        let Some((first, others)) = self.slots.split_first() else { return };
        let others: Vec<_> = others.iter().map(Slot::candidates).collect();
        for (_, found) in &first.found {
            for key in found {
                let everywhere = others.iter().all(|candidates| candidates.contains(key));
                if everywhere && !self.matches.contains(key) {
                    self.matches.push(*key);
                }
            }
        }
        if let Some(new) = self.matches.get(known).copied() {
            self.link(map, new, effects);
        }
    }

    /// Makes every key of the inputs lead to the record `key`, so that it is found at once next time.
    fn link(&self, map: &CacheMap, key: KeyId, effects: &mut Vec<Effect<R>>) {
        let mut links = Vec::new();
        for (slot, state) in self.slots.iter().enumerate() {
            let missing = state.all_keys().into_iter().filter(|from| !state.leads(*from, key));
            links.extend(missing.map(|from| state.link(map, self.output, slot, from)));
        }
        if !links.is_empty() {
            effects.push(Effect::Link(NewRecord { key, links }));
        }
    }

    /// Loads the next match. Returns false if there is none.
    fn load(&mut self, effects: &mut Vec<Effect<R>>) -> bool {
        if !self.work.loading {
            let Some(key) = self.matches.get(self.tried) else { return false };
            self.work.loading = true;
            effects.push(Effect::Load(*key));
        }
        true
    }

    fn loaded(&mut self, result: Option<R>) {
        self.work.loading = false;
        match result {
            Some(result) => {
                self.kept = self.matches.get(self.tried).copied();
                self.result = Some(result);
                self.level = Goal::Result;
            }
            None => self.tried += 1,
        }
    }

    /// Returns true if some slot has come to its end and leads nowhere.
    fn is_hopeless(&self, map: &CacheMap) -> bool {
        self.slots.iter().enumerate().any(|(slot, state)| {
            state.unasked().is_empty() && state.is_lost() && state.is_exhausted(map, slot)
        })
    }

    /// Asks the inputs for more keys. Returns true while there is one to wait for.
    fn search(&mut self, map: &CacheMap, effects: &mut Vec<Effect<R>>) -> bool {
        if !self.uses_cache(map) || self.is_hopeless(map) {
            return false;
        }
        let some_lost = self.slots.iter().any(Slot::is_lost);
        let mut waiting = false;
        for slot in 0..self.slots.len() {
            let state = &self.slots[slot];
            if some_lost && !state.is_lost() || state.is_exhausted(map, slot) {
                continue;
            }
            waiting = true;
            if state.level() < Goal::Matches {
                self.ask(slot, Goal::Matches, effects);
            } else {
                self.want_content(slot, effects);
            }
        }
        waiting
    }

    /// Goes for the content key of the input in `slot`.
    fn want_content(&mut self, slot: usize, effects: &mut Vec<Effect<R>>) {
        let state = &mut self.slots[slot];
        let result = state.report.as_ref().and_then(|report| report.result.clone());
        match (result, state.content == Content::Unknown) {
            (None, _) => self.ask(slot, Goal::Result, effects),
            (Some(input), true) => {
                state.content = Content::Running;
                effects.push(Effect::Content { slot, input });
            }
            (Some(_), false) => {}
        }
    }

    /// Wants all inputs and, as they come, their content keys; then runs the operation.
    fn execute(&mut self, map: &CacheMap, effects: &mut Vec<Effect<R>>) {
        if self.work.running {
            return;
        }
        let mut inputs = Vec::with_capacity(self.slots.len());
        for slot in 0..self.slots.len() {
            let wants_content = map.is_by_content(slot) && !map.volatile;
            if wants_content && !matches!(self.slots[slot].content, Content::Known(_)) {
                self.want_content(slot, effects);
                continue;
            }
            match self.slots[slot].report.as_ref().and_then(|report| report.result.clone()) {
                Some(input) => inputs.push(input),
                None => self.ask(slot, Goal::Result, effects),
            }
        }
        let Some(base) = self.base else { return };
        if inputs.len() == self.slots.len() {
            self.work.running = true;
            effects.push(Effect::Exec { run: self.run_key(map), base, inputs });
        }
    }

    /// Returns what identifies the work: the same for edges that come to equal inputs on different
    /// ways.
    fn run_key(&self, map: &CacheMap) -> RunKey {
        let mut hasher = StableHasher::new("solver.run.v1");
        hasher.feed(&map.digest).feed(&self.trusted).feed(&(self.slots.len() as u64));
        for (slot, state) in self.slots.iter().enumerate() {
            match (&state.content, &state.report) {
                (Content::Known(Some(key)), _) => hasher.variant(0).feed(key),
                (_, Some(report)) => {
                    let selector = map.inputs.get(slot).and_then(|input| input.selector);
                    hasher.variant(1).feed(&report.canonical()).feed(&selector)
                }
                (_, None) => hasher.variant(2),
            };
        }
        RunKey::new(hasher.finish())
    }

    fn executed(&mut self, base: BaseKey, result: R, effects: &mut Vec<Effect<R>>) {
        self.work.running = false;
        if self.result.is_some() || self.work.saving.is_some() {
            return;
        }
        let key = base.output(self.output);
        if self.map.as_ref().is_some_and(|map| map.volatile) {
            self.result = Some(result);
            self.level = Goal::Result;
            return;
        }
        let links = self.links().into_iter().flatten().collect();
        effects.push(Effect::Save { record: NewRecord { key, links }, result: result.clone() });
        self.work.saving = Some((key, result));
    }

    fn saved(&mut self) {
        let Some((key, result)) = self.work.saving.take() else { return };
        let own = self.base.map(|base| base.output(self.output));
        if self.trusted && own != Some(key) && !self.matches.contains(&key) {
            // Those above find what was recorded above the edge that this one was merged with.
            self.matches.push(key);
        }
        self.kept = Some(key);
        self.result = Some(result);
        self.level = Goal::Result;
    }
}
