//! Nobody sleeps through their turn: steps that come, look, wait, are woken and end, switched between at
//! any point by a scheduler that reports when all that are left are asleep.
//!
//! The rules of the queue and the waking are the real ones. The gate and the turns are a mutex and a
//! list, and there is no patience: a wake that is lost is a sleep for ever.

use shuttle::sync::{Arc, Mutex};
use shuttle::{future, thread};

use super::*;
use crate::Sharing::{self, Locked, Private, ReadOnly, Shared};
use crate::VolumeName;
use crate::layout::LayerId;
use crate::turn::{Form, Phase, Turn, Verdict, admit};

const TIMELINES: usize = 500;

/// When a waiting step forgets what it has heard so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forgets {
    BeforeTheLook,
    AfterTheLook,
}

/// What a gate guards.
struct Inside {
    turns: Vec<Turn>,
    next: u64,
    form: Form,
}

struct Volume {
    key: VolumeKey,
    wakes: Wakes,
    gate: Mutex<Inside>,
}

impl Volume {
    fn new(form: Form) -> Self {
        let key = VolumeName::new("default", "v").unwrap().key();
        let gate = Mutex::new(Inside { turns: Vec::new(), next: 1, form });
        Self { key, wakes: Wakes::default(), gate }
    }

    /// As [`Wakes::listen`], without the kernel's notices.
    fn listen(&self) -> Listener<'_> {
        let mut waits = self.wakes.waits.lock();
        let wait = waits.wait(self.key);
        wait.waiters += 1;
        Listener { wakes: &self.wakes, key: self.key, receiver: wait.sender.subscribe() }
    }

    fn arrive(&self, sharing: Sharing) -> Turn {
        let mut inside = self.gate.lock().unwrap();
        let turn = Turn::new(inside.next, sharing, false, false);
        inside.next += 1;
        inside.turns.push(turn);
        turn
    }

    /// Begins the turn if it may, as the gate does.
    fn look(&self, turn: Turn) -> bool {
        let mut inside = self.gate.lock().unwrap();
        let form = inside.form;
        if admit(&turn, &inside.turns, form) != Verdict::Grant {
            return false;
        }
        if turn.freezes(form) {
            inside.form = Form::Versioned;
        }
        let in_place = inside.form == Form::Plain && matches!(turn.sharing, Shared | Locked);
        let layer = Some(LayerId::from_number(u128::from(turn.number)));
        inside.turns.retain(|other| other.number != turn.number);
        inside.turns.push(Turn { phase: Phase::Holding, layer, in_place, ..turn });
        let locked = inside.turns.iter().filter(|turn| turn.phase == Phase::Holding);
        assert!(locked.filter(|turn| turn.sharing == Locked).count() <= 1);
        true
    }

    fn end(&self, turn: Turn) {
        self.gate.lock().unwrap().turns.retain(|other| other.number != turn.number);
        self.wakes.signal(self.key);
    }

    /// A step's use of the volume, from its coming to its end, as in `VolumeManager::take`.
    fn step(&self, sharing: Sharing, forgets: Forgets) {
        let turn = self.arrive(sharing);
        if !self.look(turn) {
            let mut listener = self.listen();
            loop {
                if forgets == Forgets::BeforeTheLook {
                    listener.begin();
                }
                if self.look(turn) {
                    break;
                }
                thread::yield_now();
                if forgets == Forgets::AfterTheLook {
                    listener.begin();
                }
                future::block_on(listener.heard());
            }
        }
        thread::yield_now();
        self.end(turn);
    }
}

fn play(form: Form, steps: &[Sharing], forgets: Forgets) {
    let volume = Arc::new(Volume::new(form));
    let threads: Vec<_> = steps
        .iter()
        .map(|sharing| {
            let (volume, sharing) = (volume.clone(), *sharing);
            thread::spawn(move || volume.step(sharing, forgets))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(volume.gate.lock().unwrap().turns.is_empty());
    assert!(volume.wakes.waits.lock().volumes.is_empty(), "nobody listens any more");
}

#[test]
fn no_step_sleeps_through_its_turn() {
    for form in [Form::Plain, Form::Versioned] {
        for steps in [
            [Locked, Locked, Locked, Locked],
            [Locked, Shared, Locked, Shared],
            [Shared, Private, Locked, ReadOnly],
        ] {
            let timeline = move || play(form, &steps, Forgets::BeforeTheLook);
            shuttle::check_random(timeline, TIMELINES);
        }
    }
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_wake_that_is_forgotten_would_be_noticed() {
    let steps = [Locked, Locked, Locked];
    shuttle::check_random(move || play(Form::Plain, &steps, Forgets::AfterTheLook), TIMELINES);
}
