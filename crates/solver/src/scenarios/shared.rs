//! What jobs share, and what happens when some of them leave.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use tokio::sync::Semaphore;

use crate::SolverOptions;
use crate::scenarios::toys::{Bench, Failure, closed_gate, settle, toy};

#[tokio::test]
async fn a_diamond_runs_each_vertex_once() {
    let bench = Bench::new();
    let (base, base_toy) = toy("base", &[]).make();
    let left = toy("left", std::slice::from_ref(&base)).edge();
    let right = toy("right", &[base]).by_content(0).edge();
    let top = toy("top", &[left, right]).by_content(1).edge();
    assert_eq!(bench.build(&top).await.unwrap(), "top(left(base()),right(base()))");
    assert_eq!((base_toy.ran(), base_toy.maps.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test]
async fn independent_inputs_run_at_the_same_time() {
    let bench = Bench::new();
    let gate = closed_gate();
    let (one, one_toy) = toy("one", &[]).gated(&gate).make();
    // Below one of them there is more to do before it can run.
    let (under, under_toy) = toy("under", &[]).gated(&gate).make();
    let (two, two_toy) = toy("two", &[under]).by_content(0).gated(&gate).make();
    let top = toy("top", &[two, one]).by_content(1).edge();
    let build = bench.build(&top);
    tokio::pin!(build);
    assert!(futures::poll!(build.as_mut()).is_pending());
    settle().await;
    assert_eq!((one_toy.ran(), under_toy.ran(), two_toy.ran()), (1, 1, 0));
    gate.add_permits(3);
    assert_eq!(build.await.unwrap(), "top(two(under()),one())");
}

#[tokio::test]
async fn no_more_run_at_once_than_allowed() {
    let bench = Bench::with(SolverOptions { max_parallelism: Some(2) });
    let gate = closed_gate();
    let inputs: Vec<_> = (0..5).map(|n| toy(&n.to_string(), &[]).gated(&gate).make()).collect();
    let edges: Vec<_> = inputs.iter().map(|(edge, _)| edge.clone()).collect();
    let top = toy("top", &edges).edge();
    let build = bench.build(&top);
    tokio::pin!(build);
    for expected in [2, 3, 4, 5, 5] {
        assert!(futures::poll!(build.as_mut()).is_pending());
        settle().await;
        assert_eq!(inputs.iter().map(|(_, toy)| toy.ran()).sum::<usize>(), expected);
        gate.add_permits(1);
    }
    build.await.unwrap();
}

#[tokio::test]
async fn one_that_waits_for_others_leaves_them_its_place() {
    let bench = Bench::with(SolverOptions { max_parallelism: Some(1) });
    let inner = toy("inner", &[toy("below", &[]).edge()]).edge();
    let middle = toy("middle", &[]).building(&bench, &inner).edge();
    let outer = toy("outer", &[]).building(&bench, &middle).edge();
    let build = bench.build(&outer);
    tokio::pin!(build);
    for _ in 0..20 {
        if let Poll::Ready(result) = futures::poll!(build.as_mut()) {
            assert_eq!(result.unwrap(), "inner(below())");
            return;
        }
        settle().await;
    }
    panic!("they wait for each other");
}

#[tokio::test]
async fn jobs_share_work_and_it_goes_on_while_one_of_them_waits() {
    let bench = Bench::new();
    let gate = closed_gate();
    let (edge, shared) = toy("shared", &[]).gated(&gate).make();
    let (first, _) = bench.job("first");
    let (second, _) = bench.job("second");
    let mut one = Box::pin(first.build(edge.clone()));
    let two = second.build(edge);
    tokio::pin!(two);
    assert!(futures::poll!(one.as_mut()).is_pending());
    assert!(futures::poll!(two.as_mut()).is_pending());
    settle().await;
    drop(one);
    drop(first);
    settle().await;
    assert_eq!((shared.ran(), shared.ended.load(Ordering::SeqCst)), (1, 0));
    gate.add_permits(1);
    assert_eq!(two.await.unwrap(), "shared()");
    assert_eq!(*shared.seen_jobs.lock(), ["second"]);
}

#[tokio::test]
async fn work_stops_when_the_last_waiter_leaves_and_can_begin_again() {
    let bench = Bench::new();
    let gate = closed_gate();
    let (base, base_toy) = toy("base", &[]).gated(&gate).make();
    let edge = toy("top", &[base]).edge();
    let (job, _feed) = bench.job("job");
    let mut build = Box::pin(job.build(edge.clone()));
    assert!(futures::poll!(build.as_mut()).is_pending());
    settle().await;
    drop(build);
    settle().await;
    assert_eq!((base_toy.ran(), base_toy.ended.load(Ordering::SeqCst)), (1, 1));
    gate.add_permits(1);
    assert_eq!(job.build(edge).await.unwrap(), "top(base())");
    assert_eq!(base_toy.ran(), 2);
}

#[tokio::test]
async fn vertices_that_come_to_the_same_key_run_once() {
    let bench = Bench::new();
    let gate = closed_gate();
    let (tag, tag_toy) = toy("image:tag", &[]).key("image").gated(&gate).gives(&["i"]).make();
    let (pin, pin_toy) = toy("image@digest", &[]).key("image").gated(&gate).gives(&["i"]).make();
    let top = toy("top", &[tag, pin]).edge();
    let build = bench.build(&top);
    tokio::pin!(build);
    assert!(futures::poll!(build.as_mut()).is_pending());
    settle().await;
    assert_eq!(tag_toy.ran() + pin_toy.ran(), 1);
    gate.add_permits(1);
    assert_eq!(build.await.unwrap(), "top(i,i)");
    assert_eq!(tag_toy.ran() + pin_toy.ran(), 1);
}

#[tokio::test]
async fn vertices_that_come_to_the_same_content_run_once_and_stay_the_same_above() {
    let bench = Bench::new();
    let gate = closed_gate();
    let branch = |source: &str| {
        let files = toy(source, &[]).gives(&["same"]).edge();
        let (copy, copy_toy) = toy("copy", &[files]).by_content(0).gated(&gate).make();
        let (run, run_toy) = toy("run", &[copy]).gated(&gate).make();
        (run, copy_toy, run_toy)
    };
    let (one, copy_one, run_one) = branch("one");
    let (two, copy_two, run_two) = branch("two");
    let top = toy("top", &[one, two]).edge();
    gate.add_permits(8);
    assert_eq!(bench.build(&top).await.unwrap(), "top(run(copy(same)),run(copy(same)))");
    assert_eq!(copy_one.ran() + copy_two.ran(), 1);
    assert_eq!(run_one.ran() + run_two.ran(), 1);
}

#[tokio::test]
async fn merged_work_goes_on_when_the_job_that_began_it_leaves() {
    let bench = Bench::new();
    let gate = closed_gate();
    let (one, one_toy) = toy("one", &[]).key("k").gives(&["v"]).gated(&gate).make();
    let (two, two_toy) = toy("two", &[]).key("k").gives(&["v"]).gated(&gate).make();
    let (first, _) = bench.job("first");
    let (second, feed) = bench.job("second");
    let mut building = Box::pin(first.build(one));
    assert!(futures::poll!(building.as_mut()).is_pending());
    settle().await;
    let build = second.build(two);
    tokio::pin!(build);
    assert!(futures::poll!(build.as_mut()).is_pending());
    settle().await;
    drop(building);
    drop(first);
    gate.add_permits(1);
    assert_eq!(build.await.unwrap(), "v");
    assert_eq!((one_toy.ran(), two_toy.ran()), (1, 0));
    assert_eq!(*one_toy.seen_jobs.lock(), ["second"], "the follower's job can be asked");
    assert!(feed.snapshot().iter().any(|event| matches!(event, progress::Event::Vertex(vertex)
        if vertex.name == "two" && vertex.completed.is_some() && vertex.error.is_none())));
}

#[tokio::test]
async fn outputs_of_a_vertex_come_from_one_run() {
    let bench = Bench::new();
    let make = || {
        let (first, toy) = toy("two", &[]).gives(&["a", "b"]).make();
        let second = crate::Edge::new(first.vertex.clone(), 1);
        (super::toys::toy("top", &[first, second.clone()]).edge(), second, toy)
    };
    let (top, _, two) = make();
    assert_eq!(bench.build(&top).await.unwrap(), "top(a,b)");
    assert_eq!(two.ran(), 1);
    let (_, second, two) = make();
    assert_eq!(bench.build(&second).await.unwrap(), "b");
    assert_eq!(two.ran(), 0);
}

#[tokio::test]
async fn a_later_output_is_taken_from_the_run_while_a_job_holds_it() {
    let bench = Bench::new();
    let (first, two) = toy("two", &[]).gives(&["a", "b"]).make();
    let second = crate::Edge::new(first.vertex.clone(), 1);
    let (job, _feed) = bench.job("job");
    assert_eq!(job.build(first).await.unwrap(), "a");
    assert_eq!(job.build(second).await.unwrap(), "b");
    assert_eq!(two.ran(), 1);
}

#[tokio::test]
async fn results_are_held_while_a_job_lives() {
    let bench = Bench::new();
    let (edge, toy) = toy("a", &[]).make();
    let (holder, _) = bench.job("holder");
    holder.build(edge.clone()).await.unwrap();
    bench.store.forget_results();
    assert_eq!(bench.build(&edge).await.unwrap(), "a()");
    assert_eq!(toy.ran(), 1);
    drop(holder);
    assert_eq!(bench.build(&edge).await.unwrap(), "a()");
    assert_eq!(toy.ran(), 2);
}

#[tokio::test]
async fn a_build_that_ignores_the_cache_and_one_that_does_not_keep_apart() {
    let bench = Bench::new();
    let gate = closed_gate();
    let (plain, plain_toy) = toy("base", &[]).gated(&gate).make();
    let (fresh, fresh_toy) = toy("base", &[]).ignoring_cache().gated(&gate).make();
    let plain_top = toy("top", &[plain]).edge();
    let fresh_top = toy("top", &[fresh]).edge();
    assert_eq!(plain_top.vertex.digest, fresh_top.vertex.digest);
    gate.add_permits(2);
    let (one, two) = tokio::join!(bench.build(&plain_top), bench.build(&fresh_top));
    assert_eq!((one.unwrap(), two.unwrap()), ("top(base())".into(), "top(base())".into()));
    assert_eq!((plain_toy.ran(), fresh_toy.ran()), (1, 1));
}

#[tokio::test]
async fn a_job_takes_over_when_the_owner_of_the_work_is_lost() {
    let bench = Bench::new();
    let gate = closed_gate();
    let (edge, shared) = toy("shared", &[]).gated(&gate).failing(Failure::Lost("first")).make();
    let (first, _) = bench.job("first");
    let (second, _) = bench.job("second");
    let (one, two) = (first.build(edge.clone()), second.build(edge));
    tokio::pin!(one, two);
    assert!(futures::poll!(one.as_mut()).is_pending());
    assert!(futures::poll!(two.as_mut()).is_pending());
    gate.add_permits(2);
    assert_eq!(two.await.unwrap(), "shared()");
    assert_eq!(one.await.unwrap(), "shared()");
    assert_eq!((shared.ran(), shared.seen_jobs.lock().as_slice()), (2, &["second".to_owned()][..]));
}

#[tokio::test]
async fn a_job_takes_over_when_the_owner_left_and_its_absence_made_the_work_fail() {
    let bench = Bench::new();
    let gate: Arc<Semaphore> = closed_gate();
    let (edge, shared) = toy("shared", &[]).gated(&gate).failing(Failure::Plain("gone")).make();
    let (first, _) = bench.job("first");
    let (second, _) = bench.job("second");
    let mut one = Box::pin(first.build(edge.clone()));
    assert!(futures::poll!(one.as_mut()).is_pending());
    let two = second.build(edge);
    tokio::pin!(two);
    assert!(futures::poll!(two.as_mut()).is_pending());
    settle().await;
    drop(one);
    drop(first);
    gate.add_permits(2);
    assert_eq!(two.await.unwrap(), "shared()");
    assert_eq!(shared.ran(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_jobs_on_many_threads_share_a_wide_graph() {
    let bench = Bench::new();
    let (base, base_toy) = toy("base", &[]).make();
    let middle: Vec<_> = (0..40)
        .map(|number| toy("m", std::slice::from_ref(&base)).key(&number.to_string()))
        .map(|toy| toy.by_content(0).make())
        .collect();
    let edges: Vec<_> = middle.iter().map(|(edge, _)| edge.clone()).collect();
    let top = toy("top", &edges).edge();
    let (holder, _feed) = bench.job("holder");
    let builds = (0..30).map(|_| bench.build(&top));
    let (held, results) =
        futures::join!(holder.build(top.clone()), futures::future::join_all(builds));
    let expected = held.unwrap();
    assert!(results.into_iter().all(|result| result.unwrap() == expected));
    assert_eq!(base_toy.ran(), 1);
    assert!(middle.iter().all(|(_, toy)| toy.ran() == 1));
}
