//! Timelines of callers that come, go and wait, against what the flight promises.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use proptest::prelude::*;
use tokio::sync::{Notify, oneshot};

use super::*;

type Waiting = Pin<Box<dyn Future<Output = Result<usize, JoinError>>>>;

/// Counts computations and lets the test end each of them.
#[derive(Default)]
struct Bench {
    flight: Flight<u8, usize>,
    started: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
    gates: Arc<Mutex<BTreeMap<usize, oneshot::Sender<()>>>>,
}

struct CountsDrop(Arc<AtomicUsize>);

impl Drop for CountsDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Bench {
    /// A caller; the value is the number of the computation that served it.
    fn call(&self, key: u8) -> Waiting {
        let (flight, started, gates) =
            (self.flight.clone(), self.started.clone(), self.gates.clone());
        let dropped = CountsDrop(self.dropped.clone());
        Box::pin(async move {
            let start = move |_| async move {
                let _dropped = dropped;
                let number = started.fetch_add(1, Ordering::SeqCst);
                let (open, gate) = oneshot::channel();
                gates.lock().insert(number, open);
                let _ = gate.await;
                number
            };
            flight.join("test", key, start).await
        })
    }

    /// Opens the gates of all computations that run.
    fn finish_all(&self) {
        for (_, gate) in std::mem::take(&mut *self.gates.lock()) {
            let _ = gate.send(());
        }
    }
}

/// Lets everything that can move move: the runtime has one thread and takes turns.
async fn settle() {
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
}

async fn poll_once(waiting: &mut Waiting) -> Option<usize> {
    match futures::poll!(waiting.as_mut()) {
        Poll::Ready(value) => Some(value.unwrap()),
        Poll::Pending => None,
    }
}

#[tokio::test]
async fn callers_at_the_same_time_share_one_computation() {
    let bench = Bench::default();
    let (mut one, mut two) = (bench.call(1), bench.call(1));
    assert!(poll_once(&mut one).await.is_none());
    assert!(poll_once(&mut two).await.is_none());
    settle().await;
    bench.finish_all();
    assert_eq!((one.await.unwrap(), two.await.unwrap()), (0, 0));
    assert!(!bench.flight.is_running(&1), "nothing is remembered");
    let mut three = bench.call(1);
    assert!(poll_once(&mut three).await.is_none());
    settle().await;
    bench.finish_all();
    assert_eq!(three.await.unwrap(), 1);
}

#[tokio::test]
async fn the_computation_stops_when_the_last_caller_leaves_and_not_before() {
    let bench = Bench::default();
    let (mut one, mut two) = (bench.call(1), bench.call(1));
    assert!(poll_once(&mut one).await.is_none());
    assert!(poll_once(&mut two).await.is_none());
    settle().await;
    drop(one);
    settle().await;
    // One for the second caller's own start, which was not needed.
    assert_eq!(bench.dropped.load(Ordering::SeqCst), 1);
    assert!(bench.flight.is_running(&1));
    drop(two);
    assert!(!bench.flight.is_running(&1));
    settle().await;
    assert_eq!(bench.dropped.load(Ordering::SeqCst), 2);
}

/// Joins `flight`; the computation says `entered` inside its section, then waits for `go`.
fn publish(
    flight: &Flight<u8, &'static str>,
    entered: &Arc<Notify>,
    go: &Arc<Notify>,
    log: &Arc<Mutex<Vec<&'static str>>>,
) -> Pin<Box<dyn Future<Output = Result<&'static str, JoinError>>>> {
    let (flight, entered, go, log) = (flight.clone(), entered.clone(), go.clone(), log.clone());
    Box::pin(async move {
        let start = move |critical: Critical| async move {
            let section = async {
                entered.notify_one();
                go.notified().await;
                log.lock().push("published");
            };
            critical.section("publish", section).await;
            log.lock().push("after");
            "done"
        };
        flight.join("test", 1, start).await
    })
}

#[tokio::test]
async fn a_critical_section_runs_to_its_end_and_no_further() {
    let (flight, entered, go) = (Flight::new(), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let log = Arc::default();
    let mut call = publish(&flight, &entered, &go, &log);
    assert!(futures::poll!(call.as_mut()).is_pending());
    entered.notified().await;
    drop(call);
    settle().await;
    assert!(flight.is_running(&1), "nobody waits, but the section goes on");
    go.notify_one();
    settle().await;
    assert_eq!(*log.lock(), ["published"]);
    assert!(!flight.is_running(&1) && flight.runs.is_empty());
}

#[tokio::test]
async fn a_caller_that_comes_during_a_critical_section_rescues_the_computation() {
    let (flight, entered, go) = (Flight::new(), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let log = Arc::default();
    let mut first = publish(&flight, &entered, &go, &log);
    assert!(futures::poll!(first.as_mut()).is_pending());
    entered.notified().await;
    drop(first);
    let mut second = publish(&flight, &entered, &go, &log);
    assert!(futures::poll!(second.as_mut()).is_pending());
    go.notify_one();
    assert_eq!(second.await.unwrap(), "done");
    assert_eq!(*log.lock(), ["published", "after"]);
}

#[tokio::test]
async fn a_panic_reaches_every_caller() {
    let flight: Flight<u8, ()> = Flight::new();
    let call = || flight.join("test", 1, |_| async { panic!("boom") });
    let (one, two) = tokio::join!(call(), call());
    for error in [one.unwrap_err(), two.unwrap_err()] {
        assert_eq!(error.to_string(), "task `test` panicked: boom");
    }
    assert!(!flight.is_running(&1));
}

#[derive(Debug, Clone)]
enum Step {
    Call(u8),
    Leave(usize),
    FinishAll,
    Settle,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0u8..3).prop_map(Step::Call),
        2 => any::<usize>().prop_map(Step::Leave),
        1 => Just(Step::FinishAll),
        2 => Just(Step::Settle),
    ];
    proptest::collection::vec(step, 0..40)
}

/// Plays `steps`: callers of one key between two ends get the same number, callers after an end
/// another one, and at the end no computation is left and no caller waits for ever.
async fn play(steps: Vec<Step>) {
    let bench = Bench::default();
    let mut waiting: Vec<(u8, Waiting)> = Vec::new();
    for step in steps {
        match step {
            Step::Call(key) => {
                let mut call = bench.call(key);
                assert!(poll_once(&mut call).await.is_none());
                waiting.push((key, call));
            }
            Step::Leave(which) if !waiting.is_empty() => {
                let (key, call) = waiting.swap_remove(which % waiting.len());
                drop(call);
                let wanted = waiting.iter().any(|(other, _)| *other == key);
                assert_eq!(bench.flight.is_running(&key), wanted);
            }
            Step::Leave(_) => {}
            Step::FinishAll => {
                settle().await;
                bench.finish_all();
                let mut served = BTreeMap::new();
                for (key, call) in waiting.drain(..) {
                    let number = call.await.unwrap();
                    assert_eq!(*served.entry(key).or_insert(number), number);
                }
            }
            Step::Settle => settle().await,
        }
    }
    let keys: Vec<u8> = waiting.iter().map(|(key, _)| *key).collect();
    drop(waiting);
    settle().await;
    assert!(keys.iter().all(|key| !bench.flight.is_running(key)));
    assert!(bench.flight.runs.is_empty());
}

proptest! {
    #[test]
    fn any_timeline_shares_stops_and_forgets(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(play(steps));
    }
}
