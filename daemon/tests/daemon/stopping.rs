//! The end of a daemon, with builds that run.

use proto::gateway::{PingRequest, ReturnRequest};
use rustix::process::Signal;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::fixture::{Client, Daemon, Start, about};

type Build = tokio::task::JoinHandle<Result<(), tonic::Status>>;

/// Starts a daemon with a build that waits for its client.
async fn with_build(start: Start) -> (Daemon, Client, Build) {
    let daemon = start.on_unix().ready();
    let client = daemon.connect().await;
    let build = client.solve("waiting");
    // Answered only once the build is there.
    client.bridge().ping(about("waiting", PingRequest {})).await.unwrap();
    (daemon, client, build)
}

fn nothing() -> ReturnRequest {
    ReturnRequest { result: Some(Default::default()), error: None }
}

#[tokio::test]
async fn a_running_build_may_finish_but_no_new_one_begins() {
    let (mut daemon, client, build) = with_build(Start::default()).await;
    daemon.signal(Signal::TERM);
    daemon.wait_for("waiting for running builds");
    let refused = client.solve("late").await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("shutting down"));
    let mut health = HealthClient::new(client.channel.clone());
    let answer = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::NotServing);
    client.bridge().r#return(about("waiting", nothing())).await.unwrap();
    build.await.unwrap().unwrap();
    drop((client, health));
    let (status, log) = daemon.wait();
    assert!(status.success() && log.contains("all builds have ended"), "{log}");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (mut daemon, _client, build) = with_build(Start::default()).await;
    daemon.signal(Signal::TERM);
    daemon.wait_for("waiting for running builds");
    daemon.signal(Signal::INT);
    daemon.wait_for("told to stop twice");
    let (status, log) = daemon.wait();
    assert!(status.success(), "{log}");
    assert!(build.await.unwrap().is_err());
}

#[tokio::test]
async fn builds_have_only_so_much_time() {
    let start = Start::default().configured("[larder]\ndrain-timeout = 0\n");
    let (mut daemon, _client, build) = with_build(start).await;
    daemon.signal(Signal::TERM);
    daemon.wait_for("they took too long");
    let (status, log) = daemon.wait();
    assert!(status.success(), "{log}");
    assert!(build.await.unwrap().is_err());
}

#[tokio::test]
async fn without_builds_it_ends_at_once() {
    let mut daemon = Start::default().on_unix().ready();
    let _idle = daemon.connect().await;
    daemon.signal(Signal::TERM);
    let (status, log) = daemon.wait();
    assert!(status.success() && log.contains("larderd: stopped"), "{log}");
}
