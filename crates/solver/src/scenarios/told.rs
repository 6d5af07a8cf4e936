//! What a job is told about its vertices.

use progress::{Event, Feed, Vertex};

use crate::scenarios::toys::{Bench, Failure, closed_gate, settle, toy};

/// What was said of the vertices, in order: `name state`.
fn told(feed: &Feed) -> Vec<String> {
    let line = |vertex: &Vertex| {
        let state = match (&vertex.started, &vertex.completed, &vertex.error) {
            (_, _, Some(error)) => error.as_str(),
            (None, _, None) => "announced",
            (Some(_), None, None) => "started",
            (Some(start), Some(end), None) if vertex.cached && start == end => "cached",
            (Some(_), Some(_), None) if vertex.cached => "no more needed",
            (Some(_), Some(_), None) => "done",
        };
        format!("{} {state}", vertex.name)
    };
    let events = feed.snapshot();
    let vertices = events.iter().filter_map(|event| match event {
        Event::Vertex(vertex) => Some(line(vertex)),
        Event::Status(_) | Event::Log(_) | Event::Warning(_) => None,
    });
    vertices.collect()
}

#[tokio::test]
async fn a_cold_build_tells_what_it_does_and_a_warm_one_that_all_was_cached() {
    let bench = Bench::new();
    let graph = || {
        let source = toy("source", &[]).edge();
        toy("top", &[toy("middle", &[source]).edge()]).edge()
    };
    let (job, feed) = bench.job("cold");
    job.build(graph()).await.unwrap();
    drop(job);
    let announced = ["source announced", "middle announced", "top announced"];
    assert_eq!(told(&feed)[..3], announced);
    assert_eq!(
        told(&feed)[3..],
        [
            // Once for its key, once for its work.
            "source started",
            "source done",
            "source started",
            "source done",
            "middle started",
            "middle done",
            "top started",
            "top done"
        ]
    );
    let (job, feed) = bench.job("warm");
    job.build(graph()).await.unwrap();
    drop(job);
    assert_eq!(told(&feed)[..3], announced);
    assert_eq!(told(&feed)[3..], ["source started", "source done", "middle cached", "top cached"]);
}

#[tokio::test]
async fn the_inputs_of_a_vertex_are_named_and_its_output_is_passed_on() {
    let bench = Bench::new();
    let base = toy("base", &[]).edge();
    let top = toy("top", &[base.clone(), base.clone()]).edge();
    let (job, feed) = bench.job("job");
    job.build(top.clone()).await.unwrap();
    let events = feed.snapshot();
    assert!(events.iter().any(|event| matches!(event, Event::Vertex(vertex)
        if vertex.digest == top.vertex.digest.digest()
            && vertex.inputs == [base.vertex.digest.digest()])));
    assert!(events.iter().any(|event| matches!(event, Event::Log(log)
        if log.vertex == top.vertex.digest.digest() && log.data == "top runs")));
}

#[tokio::test]
async fn a_job_that_comes_late_is_told_what_was_said_before() {
    let bench = Bench::new();
    let gate = closed_gate();
    let edge = toy("a", &[]).gated(&gate).edge();
    let (first, first_feed) = bench.job("first");
    let (second, second_feed) = bench.job("second");
    let one = first.build(edge.clone());
    tokio::pin!(one);
    assert!(futures::poll!(one.as_mut()).is_pending());
    settle().await;
    let two = second.build(edge);
    tokio::pin!(two);
    assert!(futures::poll!(two.as_mut()).is_pending());
    gate.add_permits(1);
    one.await.unwrap();
    two.await.unwrap();
    assert_eq!(first_feed.snapshot(), second_feed.snapshot());
}

#[tokio::test]
async fn what_was_begun_and_not_ended_is_told_as_cancelled_to_the_job_that_ends() {
    let bench = Bench::new();
    let gate = closed_gate();
    let edge = toy("top", &[toy("a", &[]).gated(&gate).edge()]).edge();
    let (first, first_feed) = bench.job("first");
    let (second, second_feed) = bench.job("second");
    let mut one = Box::pin(first.build(edge.clone()));
    let two = second.build(edge);
    tokio::pin!(two);
    assert!(futures::poll!(one.as_mut()).is_pending());
    assert!(futures::poll!(two.as_mut()).is_pending());
    settle().await;
    drop(one);
    drop(first);
    assert_eq!(told(&first_feed).last().unwrap(), "a context canceled");
    gate.add_permits(1);
    two.await.unwrap();
    assert_eq!(told(&second_feed).last().unwrap(), "top done");
    assert!(!told(&second_feed).iter().any(|line| line.contains("canceled")));
}

#[tokio::test]
async fn a_failure_is_told_with_its_text() {
    let bench = Bench::new();
    let edge = toy("top", &[toy("a", &[]).failing(Failure::Plain("exit code: 1")).edge()]).edge();
    let (job, feed) = bench.job("job");
    assert!(job.build(edge).await.is_err());
    drop(job);
    assert_eq!(told(&feed).last().unwrap(), "a toy failed: exit code: 1");
}

#[tokio::test]
async fn an_input_that_cannot_be_read_is_told_as_a_failure_of_the_vertex() {
    let bench = Bench::new();
    let source = toy("source", &[]).edge();
    let edge = toy("top", &[source]).by_content(0).unreadable("no such file").edge();
    let (job, feed) = bench.job("job");
    let error = job.build(edge).await.unwrap_err();
    drop(job);
    assert_eq!(
        (error.name.as_str(), told(&feed).last().unwrap().as_str()),
        ("top", "top toy failed: no such file")
    );
    assert_eq!(error.source.full_text(), "failed to compute cache key: toy failed: no such file");
}

#[tokio::test]
async fn work_that_a_hit_made_needless_is_not_told_as_cancelled() {
    let bench = Bench::new();
    let gate = closed_gate();
    let graph = |slow: &str| {
        let slow = toy(slow, &[]).gives(&["slow"]).gated(&gate).edge();
        let quick = toy("quick", &[]).edge();
        toy("top", &[slow, quick]).by_content(0).by_content(1).edge()
    };
    gate.add_permits(1);
    bench.build(&graph("slow-1")).await.unwrap();
    // The definition key of the second slow one leads nowhere until its content is known.
    let (job, feed) = bench.job("job");
    gate.add_permits(1);
    job.build(graph("slow-2")).await.unwrap();
    drop(job);
    assert!(!told(&feed).iter().any(|line| line.contains("canceled")), "{:?}", told(&feed));
    for name in ["slow-2", "quick", "top"] {
        let last = told(&feed).into_iter().rfind(|line| line.starts_with(name)).unwrap();
        assert!(!last.ends_with("announced") && !last.ends_with("started"), "{last}");
    }
}

#[tokio::test]
async fn a_twin_that_ignores_the_cache_is_told_under_another_digest() {
    let bench = Bench::new();
    let (plain, _) = bench.job("plain");
    let (fresh, feed) = bench.job("fresh");
    let edge = toy("a", &[]).edge();
    plain.build(edge.clone()).await.unwrap();
    fresh.build(toy("a", &[]).ignoring_cache().edge()).await.unwrap();
    let own = edge.vertex.digest.digest();
    let other = digests::Digest::of(format!("{own}-ignorecache"));
    assert!(feed.snapshot().iter().all(|event| match event {
        Event::Vertex(vertex) => vertex.digest == other,
        Event::Log(log) => log.vertex == other,
        Event::Status(_) | Event::Warning(_) => false,
    }));
}

#[tokio::test]
async fn a_vertex_whose_work_another_did_is_told_too() {
    let bench = Bench::new();
    let (first, _) = bench.job("first");
    let (second, feed) = bench.job("second");
    let base = toy("base", &[]).edge();
    first.build(toy("one", std::slice::from_ref(&base)).key("k").edge()).await.unwrap();
    bench.store.forget_results();
    second.build(toy("two", &[base]).key("k").edge()).await.unwrap();
    assert_eq!(told(&feed).last().unwrap(), "two cached");
}

#[tokio::test]
async fn a_latecomer_is_told_only_the_newest_of_a_counter() {
    let bench = Bench::new();
    let edge = toy("a", &[]).counting(&[1, 2, 3]).edge();
    let (first, first_feed) = bench.job("first");
    let (second, second_feed) = bench.job("second");
    first.build(edge.clone()).await.unwrap();
    second.build(edge).await.unwrap();
    let counted = |feed: &Feed| -> Vec<i64> {
        let current = |event: &Event| match event {
            Event::Status(status) => Some(status.current),
            Event::Vertex(_) | Event::Log(_) | Event::Warning(_) => None,
        };
        feed.snapshot().iter().filter_map(current).collect()
    };
    assert_eq!((counted(&first_feed), counted(&second_feed)), (vec![1, 2, 3], vec![3]));
}
