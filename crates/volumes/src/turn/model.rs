//! The rules of the queue, tried out: every timeline of a few turns, and random ones of many.

use std::collections::{HashSet, VecDeque};

use proptest::prelude::*;

use super::*;

/// A turn as somebody wants it.
type Wish = (Sharing, bool, bool);

const WISHES: [Wish; 7] = [
    (Sharing::Shared, false, false),
    (Sharing::Shared, false, true),
    (Sharing::Shared, true, false),
    (Sharing::Locked, false, false),
    (Sharing::Locked, true, true),
    (Sharing::Private, false, false),
    (Sharing::ReadOnly, false, false),
];

/// A volume in the model: what the gate sees, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Volume {
    form: Form,
    head: u64,
    next: u64,
    layers: u128,
    turns: Vec<Turn>,
}

/// What can happen to the turn of number `.0`.
#[derive(Debug, Clone, Copy)]
enum Event {
    Look(u64),
    BeginEnd(u64),
    End(u64),
    /// Cancelled while it waits, or its process dies.
    Vanish(u64),
}

impl Volume {
    fn new(form: Form) -> Self {
        Self { form, head: 1, next: 1, layers: 1, turns: Vec::new() }
    }

    fn turn(&self, number: u64) -> Turn {
        *self.turns.iter().find(|turn| turn.number == number).unwrap()
    }

    fn put(&mut self, turn: Turn) {
        self.turns.retain(|other| other.number != turn.number);
        self.turns.push(turn);
        self.turns.sort_unstable_by_key(|turn| turn.number);
    }

    fn arrive(&mut self, (sharing, fresh, discards): Wish) -> u64 {
        let number = self.next;
        self.next += 1;
        self.put(Turn::new(number, sharing, fresh, discards));
        self.look(number);
        number
    }

    /// What the gate does when a waiting turn looks. Returns true if it begins.
    fn look(&mut self, number: u64) -> bool {
        let waiting = self.turn(number);
        if admit(&waiting, &self.turns, self.form) != Verdict::Grant {
            return false;
        }
        self.check_not_overtaking(&waiting);
        let start = start(&waiting, &self.turns, self.form, 0);
        if waiting.freezes(self.form) {
            self.form = Form::Versioned;
        }
        let mut turn = Turn { phase: Phase::Holding, base: self.head, ..waiting };
        match start {
            Start::Read => {}
            // The tree of version n is layer n.
            Start::InPlace => {
                turn.layer = Some(LayerId::from_number(u128::from(self.head)));
                turn.in_place = true;
            }
            Start::Join { layer, base, in_place } => {
                (turn.layer, turn.base, turn.in_place) = (Some(layer), base, in_place);
            }
            Start::Above | Start::Empty | Start::Copy | Start::Snapshot => {
                self.layers += 1;
                turn.layer = Some(LayerId::from_number(1000 + self.layers));
            }
        }
        self.put(turn);
        self.check();
        true
    }

    /// Publishes, as the last-writer policy would, if `publishes`.
    fn end(&mut self, number: u64, publishes: bool) {
        let turn = self.turn(number);
        self.turns.retain(|other| other.number != number);
        let last = !self.turns.iter().any(|other| other.layer == turn.layer);
        if publishes && last && turn.layer.is_some() && !turn.in_place {
            self.head += 1;
            self.form = Form::Versioned;
        }
        self.check();
    }

    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for turn in &self.turns {
            match turn.phase {
                Phase::Waiting => events.push(Event::Look(turn.number)),
                Phase::Holding if turn.is_joined() && !turn.in_place => {
                    events.push(Event::BeginEnd(turn.number));
                }
                Phase::Holding | Phase::Ending => events.push(Event::End(turn.number)),
            }
            events.push(Event::Vanish(turn.number));
        }
        events
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Look(number) => {
                self.look(number);
            }
            Event::BeginEnd(number) => {
                let turn = self.turn(number);
                let shares = |other: &&Turn| other.number != number && other.layer == turn.layer;
                if self.turns.iter().any(|other| shares(&other)) {
                    self.end(number, false);
                } else {
                    self.put(Turn { phase: Phase::Ending, ..turn });
                }
            }
            Event::End(number) => self.end(number, true),
            Event::Vanish(number) => self.end(number, false),
        }
    }

    /// What must hold at every instant.
    fn check(&self) {
        let active: Vec<&Turn> =
            self.turns.iter().filter(|turn| turn.phase != Phase::Waiting).collect();
        for one in &active {
            for two in active.iter().filter(|two| two.number != one.number) {
                let (a, b) = (one.sharing, two.sharing);
                let joins = |turn: &Turn| turn.sharing == Sharing::Shared && !turn.fresh;
                assert!(a != Sharing::Locked || !(b == Sharing::Locked || joins(two)), "{self:?}");
                if joins(one) && joins(two) {
                    assert_eq!(one.layer, two.layer, "one live tree: {self:?}");
                }
                let forks = !one.fresh && matches!(a, Sharing::Private | Sharing::ReadOnly);
                let written = two.in_place && two.base == one.base;
                assert!(!(forks && written), "an unpublished write is seen: {self:?}");
                assert!(!(one.discards && one.layer == two.layer && two.in_place), "{self:?}");
            }
            assert!(!(one.discards && one.in_place), "nothing to throw away: {self:?}");
        }
    }

    /// Nobody who cannot go together with a waiting turn gets before it.
    fn check_not_overtaking(&self, granted: &Turn) {
        let lives = |turn: &Turn| {
            turn.sharing == Sharing::Locked || (turn.sharing == Sharing::Shared && !turn.fresh)
        };
        for waiting in &self.turns {
            if waiting.phase != Phase::Waiting || waiting.number >= granted.number {
                continue;
            }
            let locked = [granted, waiting].iter().any(|turn| turn.sharing == Sharing::Locked);
            assert!(!(locked && lives(granted) && lives(waiting)), "overtaken: {self:?}");
        }
    }

    /// If nobody holds, somebody can begin.
    fn check_alive(&self) {
        let holds = self.turns.iter().any(|turn| turn.phase != Phase::Waiting);
        let can = |turn: &Turn| admit(turn, &self.turns, self.form) == Verdict::Grant;
        assert!(self.turns.is_empty() || holds || self.turns.iter().any(can), "stuck: {self:?}");
        // The first in the queue waits for holders only, so it begins once they have ended.
        if let Some(first) = self.turns.iter().find(|turn| turn.phase == Phase::Waiting) {
            match admit(first, &self.turns, self.form) {
                Verdict::Grant => {}
                Verdict::Wait { holders, ahead } => {
                    assert!(ahead == 0 && !holders.is_empty(), "{self:?}");
                }
            }
        }
    }
}

/// Every timeline of `wishes`, each of which may come at any time.
fn explore(form: Form, wishes: &[Wish], seen: &mut HashSet<(usize, Volume)>) {
    let mut open = VecDeque::from([(0, Volume::new(form))]);
    while let Some((come, volume)) = open.pop_front() {
        volume.check_alive();
        let mut next = Vec::new();
        if let Some(wish) = wishes.get(come) {
            let mut volume = volume.clone();
            volume.arrive(*wish);
            next.push((come + 1, volume));
        }
        for event in volume.events() {
            let mut volume = volume.clone();
            volume.apply(event);
            next.push((come, volume));
        }
        for state in next {
            if seen.insert(state.clone()) {
                open.push_back(state);
            }
        }
    }
}

#[test]
fn no_timeline_of_three_turns_breaks_a_rule_or_gets_stuck() {
    let mut states = 0;
    for form in [Form::Plain, Form::Versioned] {
        for one in WISHES {
            for two in WISHES {
                for three in WISHES {
                    let mut seen = HashSet::new();
                    explore(form, &[one, two, three], &mut seen);
                    states += seen.len();
                }
            }
        }
    }
    assert!(states > 10_000, "only {states} states: the model has lost its events");
}

#[test]
fn no_timeline_of_five_common_turns_breaks_a_rule_or_gets_stuck() {
    use Sharing::{Locked, Private, Shared};
    for middle in [Shared, Locked, Private] {
        let wishes = [Shared, Locked, middle, Private, Shared].map(|s| (s, false, false));
        explore(Form::Plain, &wishes, &mut HashSet::new());
    }
}

#[test]
fn turns_that_never_wait_do_not() {
    let mut volume = Volume::new(Form::Versioned);
    let locked = volume.arrive((Sharing::Locked, false, false));
    volume.arrive((Sharing::Locked, false, false));
    for sharing in [Sharing::Private, Sharing::ReadOnly] {
        let number = volume.arrive((sharing, false, false));
        assert_eq!(volume.turn(number).phase, Phase::Holding);
    }
    let behind = volume.arrive((Sharing::Shared, false, false));
    assert_eq!(volume.turn(behind).phase, Phase::Waiting);
    volume.end(locked, true);
    assert!(!volume.look(behind), "the second locked turn came first");
}

/// Steps that take several volumes one after the other.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Steps {
    volumes: Vec<Volume>,
    /// For each step: the turns it has, in its order; the last may be waiting.
    turns: Vec<Vec<u64>>,
}

/// Returns true if every timeline of the steps ends with all of them done.
fn all_end(orders: &[Vec<usize>]) -> bool {
    let begin =
        Steps { volumes: vec![Volume::new(Form::Plain); 3], turns: vec![Vec::new(); orders.len()] };
    let (mut seen, mut open) = (HashSet::new(), vec![(begin, vec![false; orders.len()])]);
    while let Some((steps, done)) = open.pop() {
        let mut moved = done.iter().all(|done| *done);
        for (step, order) in orders.iter().enumerate().filter(|(step, _)| !done[*step]) {
            let (mut next, mut done) = (steps.clone(), done.clone());
            let have = next.turns[step].len();
            let waits = have > 0 && {
                let volume = &mut next.volumes[order[have - 1]];
                let turn = volume.turn(next.turns[step][have - 1]);
                turn.phase == Phase::Waiting && !volume.look(turn.number)
            };
            if waits {
                continue;
            }
            if let Some(volume) = order.get(have) {
                let number = next.volumes[*volume].arrive((Sharing::Locked, false, false));
                next.turns[step].push(number);
            } else {
                for (volume, number) in order.iter().zip(&steps.turns[step]) {
                    next.volumes[*volume].end(*number, true);
                }
                done[step] = true;
            }
            moved = true;
            if seen.insert((next.clone(), done.clone())) {
                open.push((next, done));
            }
        }
        if !moved {
            return false;
        }
    }
    true
}

#[test]
fn steps_that_take_volumes_in_one_order_cannot_block_each_other() {
    assert!(all_end(&[vec![0, 1, 2], vec![0, 2], vec![1, 2]]));
    assert!(!all_end(&[vec![0, 1], vec![1, 0]]), "the model would not notice a deadlock");
}

fn any_wish() -> impl Strategy<Value = Wish> {
    prop::sample::select(WISHES.to_vec())
}

proptest! {
    #[test]
    fn no_random_timeline_breaks_a_rule_or_gets_stuck(
        plain: bool,
        script in prop::collection::vec((any_wish(), any::<prop::sample::Index>(), 0..4u8), 1..60),
    ) {
        let mut volume = Volume::new(if plain { Form::Plain } else { Form::Versioned });
        for (wish, which, what) in script {
            let events = volume.events();
            if what == 0 || events.is_empty() {
                volume.arrive(wish);
            } else {
                volume.apply(*which.get(&events));
            }
            volume.check_alive();
        }
        // Once nobody comes any more, everybody gets through.
        for _ in 0..1000 {
            let Some(event) = volume.events().into_iter().find(|event| match event {
                Event::Look(number) => {
                    admit(&volume.turn(*number), &volume.turns, volume.form) == Verdict::Grant
                }
                Event::BeginEnd(_) | Event::End(_) => true,
                Event::Vanish(_) => false,
            }) else { break };
            volume.apply(event);
        }
        prop_assert!(volume.turns.is_empty(), "{:?}", volume);
    }

    #[test]
    fn file_names_of_turns_round_trip(
        number: u64, wish in any_wish(), base: u64, layer: Option<u128>, in_place: bool, phase in 0..3usize,
    ) {
        let phase = [Phase::Waiting, Phase::Holding, Phase::Ending][phase];
        let layer = layer.map(LayerId::from_number);
        let turn = Turn { phase, base, layer, in_place, ..Turn::new(number, wish.0, wish.1, wish.2) };
        prop_assert_eq!(Turn::decode(&turn.encode()), Some(turn));
        prop_assert!(turn.encode().len() < 255);
    }

    #[test]
    fn other_file_names_are_not_turns(text in "[-0-9a-fhwse_lpr]{0,60}|\\PC*") {
        if let Some(turn) = Turn::decode(&text) {
            prop_assert_eq!(turn.encode(), text);
        }
    }
}
