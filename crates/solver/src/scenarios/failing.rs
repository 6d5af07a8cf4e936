//! How failures reach those who wait.

use std::sync::atomic::Ordering;

use crate::scenarios::toys::{Bench, Failure, ToyError, closed_gate, settle, toy};
use crate::{OpError, SolveError};

#[tokio::test]
async fn a_failure_names_its_vertex_and_keeps_its_type() {
    let bench = Bench::new();
    let bad = toy("bad", &[]).failing(Failure::Plain("exit code: 42")).edge();
    let digest = bad.vertex.digest;
    let top = toy("top", &[toy("middle", &[bad]).by_content(0).edge()]).edge();
    let error: SolveError = bench.build(&top).await.unwrap_err();
    assert_eq!((error.vertex, error.name.as_str()), (digest, "bad"));
    assert_eq!(error.source.downcast_ref::<ToyError>().unwrap().0, "exit code: 42");
    assert!(!error.is_cancelled());
    assert_eq!(error.source.full_text(), "toy failed: exit code: 42");
}

#[tokio::test]
async fn a_failure_stops_what_else_the_job_was_doing() {
    let bench = Bench::new();
    let gate = closed_gate();
    let (slow, slow_toy) = toy("slow", &[]).gated(&gate).make();
    let go = closed_gate();
    let bad = toy("bad", &[]).gated(&go).failing(Failure::Plain("no")).edge();
    let top = toy("top", &[slow, bad]).edge();
    let (job, _feed) = bench.job("job");
    let build = job.build(top);
    tokio::pin!(build);
    assert!(futures::poll!(build.as_mut()).is_pending());
    settle().await;
    go.add_permits(1);
    assert_eq!(build.await.unwrap_err().name, "bad");
    settle().await;
    assert_eq!((slow_toy.ran(), slow_toy.ended.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test]
async fn a_failure_is_remembered_by_its_job_and_tried_again_by_the_next() {
    let bench = Bench::new();
    let (edge, flaky) = toy("flaky", &[]).failing(Failure::Plain("once")).make();
    let top = toy("top", &[edge]).edge();
    let (first, _) = bench.job("first");
    assert!(first.build(top.clone()).await.is_err());
    assert!(first.build(top.clone()).await.is_err());
    assert_eq!(flaky.ran(), 1);
    let (second, _) = bench.job("second");
    assert_eq!(second.build(top).await.unwrap(), "top(flaky())");
    assert_eq!(flaky.ran(), 2);
}

#[tokio::test]
async fn a_panic_of_an_operation_is_a_failure_of_its_vertex() {
    let bench = Bench::new();
    let bad = toy("bad", &[]).failing(Failure::Panic).edge();
    let error = bench.build(&bad).await.unwrap_err();
    assert_eq!(error.source.to_string(), "the operation panicked");
}

#[tokio::test]
async fn an_output_that_the_operation_does_not_have_is_an_error() {
    let bench = Bench::new();
    let edge = toy("one", &[]).edge();
    let error = bench.build(&crate::Edge::new(edge.vertex, 7)).await.unwrap_err();
    assert_eq!(error.source.to_string(), "the operation has no output 7");
}

#[test]
fn a_cancelled_error_ends_as_clients_expect() {
    let error = OpError::cancelled();
    assert!(error.is_cancelled());
    assert!(error.full_text().ends_with("context canceled"));
}

#[test]
fn an_error_carries_what_is_left_of_the_operation() {
    let error = OpError::new("broken").leaving(7_u8).during("looking");
    assert_eq!(error.clone().remains::<u8>().as_deref(), Some(&7));
    assert!(error.remains::<u16>().is_none());
    assert_eq!(error.full_text(), "looking: broken");
    assert!(OpError::new("broken").remains::<u8>().is_none());
}
