//! The races around a lock's file, tried out: real files and real locks, and threads that a scheduler
//! switches between any two system calls.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use shuttle::thread;

use super::*;

const TIMELINES: usize = 500;

thread_local! {
    /// True on a thread that has a scheduler, which panics when it is asked by any other.
    static SCHEDULED: Cell<bool> = const { Cell::new(false) };
}

pub(super) fn moment() {
    if SCHEDULED.get() {
        thread::yield_now();
    }
}

/// Plays `timeline` in many orders of its threads' steps, each time with a new directory.
fn in_many_orders(timeline: impl Fn(PathBuf) + Send + Sync + 'static) {
    let play = move || {
        let directory = tempfile::tempdir().unwrap();
        timeline(directory.path().join("lock"));
    };
    // Coroutines of the scheduler are all on this thread.
    SCHEDULED.set(true);
    shuttle::check_random(play, TIMELINES);
    SCHEDULED.set(false);
}

/// Counts those who think that they are alone.
#[derive(Clone, Default)]
struct Room(Arc<AtomicUsize>);

impl Room {
    fn visit(&self) {
        let others = self.0.fetch_add(1, Ordering::SeqCst);
        assert_eq!(others, 0, "two have the lock");
        thread::yield_now();
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Takes the lock as soon as nobody is in the way.
fn take(path: &Path) -> FileLock {
    loop {
        match FileLock::try_acquire(path, Mode::Exclusive, None) {
            Ok(lock) => return lock,
            Err(LockError::Held { .. }) => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

fn join(threads: Vec<thread::JoinHandle<()>>) {
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_lock_whose_file_is_removed_by_each_holder_has_one_holder_at_a_time() {
    in_many_orders(|path| {
        let room = Room::default();
        let threads = (0..3).map(|number| {
            let (path, room) = (path.clone(), room.clone());
            thread::spawn(move || {
                let lock = take(&path);
                room.visit();
                // One leaves the file behind, as a process that dies.
                if number > 0 { lock.remove().unwrap() } else { drop(lock) }
            })
        });
        join(threads.collect());
        assert!(!FileLock::is_held(&path).unwrap());
    });
}

#[test]
fn a_lock_that_is_taken_up_again_is_the_one_that_others_see_or_is_given_up() {
    in_many_orders(|path| {
        let room = Room::default();
        let (mine, space) = (path.clone(), room.clone());
        let keeper = thread::spawn(move || {
            let parked = take(&mine).park();
            // Whoever comes meanwhile takes it for the file of a dead holder, and removes it.
            match parked.resume(None).unwrap() {
                Some(lock) => {
                    space.visit();
                    assert!(leads_to(&mine, lock.identity).unwrap(), "nobody sees this lock");
                    lock.remove().unwrap();
                }
                None => {
                    let lock = take(&mine);
                    space.visit();
                    drop(lock);
                }
            }
        });
        let burier = thread::spawn(move || {
            let lock = take(&path);
            room.visit();
            lock.remove().unwrap();
        });
        join(vec![keeper, burier]);
    });
}

#[test]
fn a_look_at_a_lock_never_takes_it_for_good_and_never_sees_a_free_one_held_by_nobody() {
    in_many_orders(|path| {
        let looker = {
            let path = path.clone();
            thread::spawn(move || {
                let held = FileLock::is_held(&path).unwrap();
                let named = FileLock::holder_of(&path).unwrap();
                assert!(named.is_none(), "nobody gave a name; held: {held}");
            })
        };
        let lock = take(&path);
        // The only holder there is, so the answer is exact.
        assert!(FileLock::is_held(&path).unwrap());
        looker.join().unwrap();
        assert!(FileLock::is_held(&path).unwrap(), "the look has let go of it");
        lock.remove().unwrap();
    });
}
