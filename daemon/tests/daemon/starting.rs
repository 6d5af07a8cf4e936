//! What a new daemon says of itself, and what it refuses.

use std::io::{Read as _, Write as _};

use proto::control::{InfoRequest, ListWorkersRequest};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::fixture::{Client, Daemon, Start};

#[tokio::test]
async fn a_new_daemon_is_healthy_and_says_what_it_is() {
    let daemon = Start::default().on_unix().ready();
    let client = daemon.connect().await;
    let mut health = HealthClient::new(client.channel.clone());
    let answer = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);
    let info = client.control().info(InfoRequest {}).await.unwrap().into_inner();
    assert!(info.buildkit_version.unwrap().version.starts_with("v0."));
}

async fn worker_id(client: &Client) -> String {
    let workers = client.control().list_workers(ListWorkersRequest::default()).await.unwrap();
    let [worker] = &workers.into_inner().record[..] else { panic!("one worker") };
    assert_eq!(worker.platforms[0].os, "linux");
    assert!(!worker.gc_policy.is_empty());
    worker.id.clone()
}

#[tokio::test]
async fn a_worker_keeps_its_id_over_a_restart() {
    let daemon = Start::default().on_unix().ready();
    let id = worker_id(&daemon.connect().await).await;
    assert_eq!(id.len(), 25);
    let daemon = daemon.stop().on_unix().ready();
    assert_eq!(worker_id(&daemon.connect().await).await, id);
}

#[tokio::test]
async fn a_worker_is_what_the_operator_says() {
    let start = Start::default().on_unix().with("--oci-worker-labels=org.example.a=b");
    let daemon = start.with("--oci-worker-platform").with("linux/arm64").ready();
    let mut control = daemon.connect().await.control();
    let asked = ListWorkersRequest { filter: vec!["labels.\"org.example.a\"==b".to_owned()] };
    let [worker] = &control.list_workers(asked).await.unwrap().into_inner().record[..] else {
        panic!("one worker")
    };
    assert_eq!(worker.platforms[0].architecture, "arm64");
    let asked = ListWorkersRequest { filter: vec!["id==none".to_owned()] };
    assert!(control.list_workers(asked).await.unwrap().into_inner().record.is_empty());
    let asked = ListWorkersRequest { filter: vec!["id==".to_owned()] };
    assert_eq!(control.list_workers(asked).await.unwrap_err().code(), Code::Unknown);
}

fn refusal(mut daemon: Daemon) -> String {
    let (status, log) = daemon.wait();
    assert_eq!(status.code(), Some(1), "{log}");
    log
}

#[test]
fn one_root_has_one_daemon() {
    let first = Start::default().on_unix().ready();
    let log = refusal(Start::default().on_unix().on_root(&first.path("root")).spawn());
    assert!(log.contains("is in use by process") && log.contains("since 2"), "{log}");
}

#[test]
fn two_daemons_do_not_share_a_socket() {
    let first = Start::default().on_unix().ready();
    let socket = first.path("s.sock");
    let second = Start::default().with(format!("--addr=unix://{}", socket.display()));
    let log = refusal(second.spawn());
    assert!(log.contains("another program does"), "{log}");
}

#[test]
fn a_mistake_in_the_file_is_told_and_nothing_is_started() {
    let start = Start::default().on_unix().configured("[worker.oci]\nreservdSpace = 1\n");
    let root = start.path("root");
    let log = refusal(start.spawn());
    assert!(log.contains("line 2: unknown key `reservdSpace` in `[worker.oci]`"), "{log}");
    assert!(!root.exists());
}

#[test]
fn what_has_no_effect_is_logged() {
    let mut daemon = Start::default().on_unix().with("--containerd-worker=true").spawn();
    let line = daemon.wait_for("--containerd-worker");
    assert!(line.contains("INFO"), "{line}");
    daemon.wait_for("larderd: ready");
}

#[test]
fn the_log_may_be_json() {
    let mut daemon = Start::default().on_unix().with("--log-format=json").spawn();
    let line = daemon.wait_for("\"ready\"");
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["level"], "INFO");
}

#[tokio::test]
async fn numbers_are_told_to_who_asks_on_this_machine() {
    let start = Start::default().on_unix();
    let mut daemon = start.configured("[larder]\nmetrics-address = \"127.0.0.1:0\"\n").spawn();
    let line = daemon.wait_for("serving metrics");
    let (_, address) = line.split_once("address=").unwrap();
    let address = address.trim().to_owned();
    daemon.wait_for("larderd: ready");
    let client = daemon.connect().await;
    let build = client.solve("counted");
    client.ping("counted").await.unwrap().unwrap();
    let ask = |path: &str| {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let answer = ask("/metrics");
    assert!(answer.contains("larder_builds_running 1"), "{answer}");
    assert!(ask("/other").starts_with("HTTP/1.1 404"));
    build.abort();
}
