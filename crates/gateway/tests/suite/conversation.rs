//! The rest of a conversation: containers by their ids, and what is said at the end.

use std::collections::BTreeMap;

use bridge::Results;
use bridge::testing::MemoryBuild;
use llb::Definition;
use proto::gateway::{
    FileRange, InputsRequest, PingRequest, ReadDirRequest, ReadFileRequest, Ref,
    ReleaseContainerRequest, Result as Outcome, ReturnRequest, SolveRequest, StatFileRequest,
};
use proto::rpc;
use tonic::{Code, Status};

use crate::connection::Connection;

fn release(id: &str) -> ReleaseContainerRequest {
    ReleaseContainerRequest { container_id: id.to_owned() }
}

fn nothing() -> Outcome {
    use proto::gateway::result::Result;
    Outcome { result: Some(Result::Ref(Ref::default())), ..Outcome::default() }
}

#[tokio::test]
async fn containers_are_known_by_the_ids_that_they_were_given() {
    let connection = Connection::open().await;
    let mut client = connection.client.clone();
    connection.container("c").await.unwrap();
    let twice = connection.container("c").await.unwrap_err();
    assert_eq!(
        (twice.code(), twice.message()),
        (Code::AlreadyExists, "Container c already exists")
    );
    connection.container_named("d", "impossible").await.unwrap_err();
    connection.container("d").await.expect("an id is free again if nothing came of it");
    client.release_container(release("c")).await.unwrap();
    connection.happened("dropped c").await;
    for gone in ["c", "never"] {
        let status = client.release_container(release(gone)).await.unwrap_err();
        assert_eq!(status.message(), format!("container details for {gone} not found"));
    }
    connection.container("c").await.expect("a released id is free again");
}

#[tokio::test]
async fn a_release_tells_how_the_main_process_had_failed() {
    let connection = Connection::open().await;
    connection.container("c").await.unwrap();
    let mut exec = connection.exec().await;
    exec.start("c", "p", "exit 3", &[]).await;
    exec.until_done("p").await;
    let status = connection.client.clone().release_container(release("c")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unknown, "exit code: 3"));
    assert_eq!(connection.events().last().map(String::as_str), Some("dropped c"));
}

#[tokio::test]
async fn files_of_a_mount_are_those_of_the_container() {
    let connection = Connection::open().await;
    let mut client = connection.client.clone();
    connection.container("c").await.unwrap();
    let file = |id: &str, mount_index| ReadFileRequest {
        r#ref: id.to_owned(),
        file_path: "/f".to_owned(),
        range: Some(FileRange { offset: 2, length: 3 }),
        mount_index,
    };
    let read = client.read_file_container(file("c", 1)).await.unwrap().into_inner();
    assert_eq!(read.data, "c 1 /f 2+3");
    let status: Status = client.read_file_container(file("c", -1)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let status = client.read_file_container(file("d", 0)).await.unwrap_err();
    assert!(status.message().contains("d not found"), "{status}");
    let directory = ReadDirRequest {
        r#ref: "c".to_owned(),
        dir_path: "/d".to_owned(),
        ..ReadDirRequest::default()
    };
    let listed = client.read_dir_container(directory).await.unwrap().into_inner();
    assert_eq!(listed.entries[0].path, "/d None");
    let wanted = StatFileRequest { r#ref: "c".to_owned(), path: "/s".to_owned(), mount_index: 2 };
    let stat = client.stat_file_container(wanted).await.unwrap().into_inner().stat.unwrap();
    assert_eq!(stat.path, "2 /s");
}

#[tokio::test]
async fn a_build_may_be_without_containers() {
    let connection = Connection::to(MemoryBuild::new(), BTreeMap::new()).await;
    let status = connection.container("c").await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_frontend_asks_what_it_was_given_and_who_builds() {
    let inputs = [("base".to_owned(), Definition::empty())].into();
    let connection = Connection::given(inputs).await;
    let mut client = connection.client.clone();
    let given = client.inputs(InputsRequest {}).await.unwrap().into_inner();
    assert_eq!(given.definitions.keys().collect::<Vec<_>>(), ["base"]);
    let pong = client.ping(PingRequest {}).await.unwrap().into_inner();
    assert!(pong.frontend_api_caps.iter().any(|cap| cap.id == "gateway.exec" && cap.enabled));
    assert_eq!(pong.workers[0].id, "worker");
    let unnamed = ReadFileRequest { file_path: "/f".to_owned(), ..ReadFileRequest::default() };
    let status = client.read_file(unnamed).await.unwrap_err();
    assert!(status.message().contains("empty ref"), "{status}");
}

#[tokio::test]
async fn the_end_is_said_once() {
    let connection = Connection::open().await;
    let mut client = connection.client.clone();
    for wrong in [(None, None), (Some(nothing()), Some(rpc::Status::default()))] {
        let request = ReturnRequest { result: wrong.0, error: wrong.1 };
        let status = client.r#return(request).await.unwrap_err();
        assert_eq!(status.message(), "gateway return must be either result or err");
    }
    let error = rpc::Status { code: 2, message: "no".to_owned(), details: Vec::new() };
    let request = ReturnRequest { result: None, error: Some(error) };
    client.r#return(request.clone()).await.unwrap();
    let status = client.r#return(request).await.unwrap_err();
    assert_eq!(status.message(), "gateway result is already set");
    assert_eq!(connection.verdict.await.unwrap().unwrap_err().message(), "no");
}

#[tokio::test]
async fn an_old_frontend_says_the_end_with_its_last_question() {
    let connection = Connection::open().await;
    let request = SolveRequest {
        frontend: "x".to_owned(),
        allow_result_return: true,
        r#final: true,
        ..SolveRequest::default()
    };
    connection.client.clone().solve(request).await.unwrap();
    let verdict = connection.verdict.await.unwrap().unwrap();
    let Results::Single(one) = verdict.results else { panic!("one result") };
    assert_eq!(one.handle.as_str(), "r1");
    assert_eq!(connection.build.said().solved[0].frontend, "x");
}
