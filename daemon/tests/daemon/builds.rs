//! Builds over the wire, by a client that drives them.

use llb::{Definition, FileActions, MakeFile, OpOptions, Platform, State};
use prost::Message as _;
use proto::control::{BytesMessage, DiskUsageRequest, PruneRequest, SolveRequest, StatusRequest};
use proto::gateway::result::Result as Refs;
use proto::gateway::{
    EvaluateRequest, InputsRequest, NewContainerRequest, PingRequest, ReadDirRequest,
    ReadFileRequest, ReturnRequest, SolveRequest as BridgeSolve, StatFileRequest,
};
use proto::rpc;
use tokio_stream::StreamExt as _;
use tonic::{Code, Request};

use crate::fixture::{Client, Start, about};

/// Returns the graph of a file system with one file in it.
pub(crate) fn one_file(text: &str) -> Definition {
    let file = MakeFile {
        path: "/greeting".to_owned(),
        mode: 0o644,
        data: text.as_bytes().to_vec().into(),
        owner: None,
        timestamp: None,
    };
    let state = State::scratch().file(FileActions::new().make_file(file), OpOptions::default());
    let platform = Platform {
        os: "linux".to_owned(),
        architecture: "amd64".to_owned(),
        ..Platform::default()
    };
    state.marshal(&platform).expect("a graph")
}

fn solve_of(definition: &Definition) -> BridgeSolve {
    BridgeSolve {
        definition: Some(definition.to_wire()),
        allow_result_return: true,
        allow_result_array_ref: true,
        ..Default::default()
    }
}

/// Asks a build for a graph; returns the id of its result.
async fn reference_of(client: &Client, build: &str, definition: &Definition) -> String {
    let solved = client.bridge().solve(about(build, solve_of(definition))).await.unwrap();
    let result = solved.into_inner().result.unwrap();
    let Some(Refs::Ref(reference)) = result.result else { panic!("one reference") };
    assert!(reference.def.is_some());
    reference.id
}

#[tokio::test]
async fn calls_may_come_in_any_order() {
    let daemon = Start::default().on_unix().ready();
    let client = daemon.connect().await;
    let mut control = client.control();
    // Before there is a build: both wait for it.
    let pong = client.ping("probe");
    let status = control.status(StatusRequest { r#ref: "probe".to_owned() }).await;
    let mut status = status.unwrap();
    assert!(status.metadata().contains_key("buildkit-current-timestamp"));
    let build = client.solve("probe");
    let pong = pong.await.unwrap().unwrap();
    assert_eq!((pong.frontend_api_caps.len(), pong.llb_caps.len()), (24, 88));
    assert_eq!(pong.workers.len(), 1);
    let nothing = ReturnRequest { result: Some(Default::default()), error: None };
    client.bridge().r#return(about("probe", nothing)).await.unwrap();
    build.await.unwrap().unwrap();
    assert!(status.get_mut().message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_client_reads_files_of_what_it_builds() {
    let daemon = Start::default().on_unix().ready();
    let client = daemon.connect().await;
    let build = client.solve("files");
    let reference = reference_of(&client, "files", &one_file("hello")).await;
    let mut bridge = client.bridge();
    let read = |path: &str| ReadFileRequest {
        r#ref: reference.clone(),
        file_path: path.to_owned(),
        ..Default::default()
    };
    let file = bridge.read_file(about("files", read("/greeting"))).await.unwrap().into_inner();
    assert_eq!(file.data, "hello");
    let missing = bridge.read_file(about("files", read("/x"))).await.unwrap_err();
    assert_eq!(missing.code(), Code::Unknown);
    assert!(missing.message().contains("no such file or directory"), "{missing}");
    let stat =
        StatFileRequest { r#ref: reference.clone(), path: "greeting".to_owned(), mount_index: 0 };
    let stat = bridge.stat_file(about("files", stat)).await.unwrap().into_inner().stat.unwrap();
    assert_eq!((&*stat.path, stat.mode, stat.size), ("greeting", 0o644, 5));
    let list =
        ReadDirRequest { r#ref: reference.clone(), dir_path: "/".to_owned(), ..Default::default() };
    let list = bridge.read_dir(about("files", list)).await.unwrap().into_inner();
    assert_eq!(list.entries.len(), 1);
    bridge.evaluate(about("files", EvaluateRequest { r#ref: reference })).await.unwrap();
    assert!(
        bridge
            .inputs(about("files", InputsRequest {}))
            .await
            .unwrap()
            .into_inner()
            .definitions
            .is_empty()
    );
    build.abort();
}

#[tokio::test]
async fn a_call_about_no_build_is_refused() {
    let daemon = Start::default().on_unix().ready();
    let client = daemon.connect().await;
    let unnamed = client.bridge().ping(PingRequest {}).await.unwrap_err();
    assert_eq!(unnamed.message(), "no buildid found in context");
    let unknown = client.bridge().ping(about("never", PingRequest {})).await.unwrap_err();
    assert_eq!((unknown.code(), unknown.message()), (Code::NotFound, "no such job never"));
}

#[tokio::test]
async fn a_client_gives_back_one_thing_once() {
    let daemon = Start::default().on_unix().ready();
    let client = daemon.connect().await;
    let build = client.solve("verdict");
    let mut bridge = client.bridge();
    let neither = bridge.r#return(about("verdict", ReturnRequest::default())).await.unwrap_err();
    assert_eq!(neither.message(), "gateway return must be either result or err");
    let detail = prost_types::Any { type_url: "t+json".to_owned(), value: b"{}".to_vec() };
    let error = rpc::Status { code: 2, message: "no good".to_owned(), details: vec![detail] };
    let verdict = ReturnRequest { result: None, error: Some(error.clone()) };
    bridge.r#return(about("verdict", verdict)).await.unwrap();
    let failed = build.await.unwrap().unwrap_err();
    assert_eq!((failed.code(), failed.message()), (Code::Unknown, "no good"));
    assert_eq!(rpc::Status::decode(failed.details()).unwrap(), error);
}

#[tokio::test]
async fn a_container_that_makes_no_sense_is_refused_clearly() {
    let daemon = Start::default().on_unix().ready();
    let client = daemon.connect().await;
    let unnamed = client.bridge().new_container(NewContainerRequest::default()).await.unwrap_err();
    assert_eq!(unnamed.message(), "no buildid found in context");
    let build = client.solve("box");
    let rootless = about("box", NewContainerRequest::default());
    let refused = client.bridge().new_container(rootless).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unknown);
    assert!(refused.message().contains("one mount must be at `/`"), "{refused}");
    build.abort();
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_refused_before_any_work() {
    let daemon = Start::default().on_unix().ready();
    let mut control = daemon.connect().await.control();
    let exporter =
        proto::control::Exporter { r#type: "carrier-pigeon".to_owned(), ..Default::default() };
    let odd = |request: SolveRequest| SolveRequest { r#ref: "odd".to_owned(), ..request };
    for (request, says) in [
        (SolveRequest::default(), "no build id"),
        (odd(SolveRequest { exporters: vec![exporter], ..Default::default() }), "carrier-pigeon"),
        (
            odd(SolveRequest {
                entitlements: vec!["network.host".to_owned()],
                ..Default::default()
            }),
            "network.host",
        ),
        (odd(SolveRequest { frontend: "smoke.v0".to_owned(), ..Default::default() }), "smoke.v0"),
    ] {
        let error = control.solve(request).await.unwrap_err();
        assert!(error.message().contains(says), "{error}");
    }
}

#[tokio::test]
async fn large_messages_are_taken() {
    let daemon = Start::default().on_unix().ready();
    let client = daemon.connect().await;
    let large = "x".repeat(12 << 20);
    let build = client.solve("large");
    let reference = reference_of(&client, "large", &one_file(&large)).await;
    let read = ReadFileRequest {
        r#ref: reference,
        file_path: "/greeting".to_owned(),
        ..Default::default()
    };
    let file = client.bridge().read_file(about("large", read)).await.unwrap().into_inner();
    assert_eq!(file.data.len(), large.len());
    build.abort();
}

/// The length of what an HTTP/2 connection begins with, and the kinds of frames that end and begin it.
const PREFACE: usize = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

fn kinds_of_frames(mut bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let [a, b, c, kind, ..] = *bytes {
        kinds.push(kind);
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        bytes = bytes.get(9 + length..).unwrap_or_default();
    }
    kinds
}

#[tokio::test]
async fn a_session_ends_well_when_its_client_has_said_its_last() {
    let daemon = Start::default().on_unix().ready();
    let mut control = daemon.connect().await.control();
    let (sender, messages) = tokio::sync::mpsc::channel(1);
    let mut request = Request::new(tokio_stream::wrappers::ReceiverStream::new(messages));
    request.metadata_mut().insert("x-docker-expose-session-uuid", "abc".parse().unwrap());
    let mut answers = control.session(request).await.unwrap().into_inner();
    // The daemon is the one who asks: it greets first.
    let greeting: BytesMessage = answers.message().await.unwrap().unwrap();
    assert!(greeting.data.starts_with(b"PRI * HTTP/2.0"));
    drop(sender);
    let mut said = greeting.data[PREFACE..].to_vec();
    while let Some(more) = answers.message().await.unwrap() {
        said.extend_from_slice(&more.data);
    }
    let kinds = kinds_of_frames(&said);
    assert_eq!(kinds.first(), Some(&SETTINGS));
    assert!(!kinds.contains(&GOAWAY), "who has said its last does not listen any more: {kinds:?}");
    let unnamed = control.session(tokio_stream::empty()).await.unwrap_err();
    assert!(unnamed.message().contains("x-docker-expose-session-uuid"));
}

#[tokio::test]
async fn what_takes_space_is_told_and_removed() {
    let daemon = Start::default().on_unix().ready();
    let mut control = daemon.connect().await.control();
    let request = SolveRequest {
        r#ref: "space".to_owned(),
        definition: Some(one_file("kept").to_wire()),
        ..Default::default()
    };
    control.solve(request).await.unwrap();
    let everything = vec![String::new()];
    let usage = DiskUsageRequest { filter: everything.clone(), age_limit: 0 };
    let records = control.disk_usage(usage.clone()).await.unwrap().into_inner().record;
    assert_eq!(records.len(), 1, "{records:?}");
    assert!(records[0].created_at.is_some());
    let prune = PruneRequest { filter: everything, all: true, ..Default::default() };
    let removed: Vec<_> = control.prune(prune).await.unwrap().into_inner().collect().await;
    assert_eq!(removed.len(), 1);
    assert_eq!(removed[0].as_ref().unwrap().id, records[0].id);
    assert!(control.disk_usage(usage).await.unwrap().into_inner().record.is_empty());
}
