//! What is remembered of builds.

use proto::content::{InfoRequest, ReadContentRequest, WriteContentRequest};
use proto::control::{
    BuildHistoryEvent, BuildHistoryRequest, SolveRequest, StatusRequest, UpdateBuildHistoryRequest,
};
use tokio_stream::StreamExt as _;
use tonic::Code;

use crate::builds::one_file;
use crate::fixture::{Client, Start};

/// Builds one file under this id.
async fn build(client: &Client, reference: &str) {
    let request = SolveRequest {
        r#ref: reference.to_owned(),
        definition: Some(one_file(reference).to_wire()),
        ..Default::default()
    };
    client.control().solve(request).await.unwrap();
}

async fn known(client: &Client, reference: &str) -> Vec<BuildHistoryEvent> {
    let asked =
        BuildHistoryRequest { r#ref: reference.to_owned(), early_exit: true, ..Default::default() };
    let events = client.control().listen_build_history(asked).await.unwrap();
    assert!(events.metadata().contains_key("buildkit-current-timestamp"));
    events.into_inner().map(Result::unwrap).collect().await
}

#[tokio::test]
async fn a_finished_build_is_remembered_with_its_log() {
    let daemon = Start::default().on_unix().ready();
    let client = daemon.connect().await;
    build(&client, "one").await;
    let daemon = daemon.stop().on_unix().ready();
    let client = daemon.connect().await;
    let [event] = &known(&client, "one").await[..] else { panic!("one record") };
    let record = event.record.as_ref().unwrap();
    assert_eq!((event.r#type, &*record.r#ref), (1, "one"));
    assert!(record.completed_at.is_some() && record.error.is_none());
    assert_eq!((record.num_total_steps, record.num_completed_steps), (1, 1));
    let status = StatusRequest { r#ref: "one".to_owned() };
    let replay = client.control().status(status).await.unwrap().into_inner();
    let messages: Vec<_> = replay.map(Result::unwrap).collect().await;
    let names = messages.iter().flat_map(|message| &message.vertexes).map(|vertex| &*vertex.name);
    assert!(names.into_iter().any(|name| name.contains("mkfile")), "{messages:?}");
}

#[tokio::test]
async fn what_happens_is_told_as_it_happens() {
    let daemon = Start::default().on_unix().ready();
    let client = daemon.connect().await;
    let mut control = client.control();
    let events = control.listen_build_history(BuildHistoryRequest::default()).await.unwrap();
    build(&client, "live").await;
    let delete =
        UpdateBuildHistoryRequest { r#ref: "live".to_owned(), delete: true, ..Default::default() };
    control.update_build_history(delete.clone()).await.unwrap();
    let events: Vec<_> = events.into_inner().map(Result::unwrap).take(3).collect().await;
    let kinds: Vec<_> = events.iter().map(|event| event.r#type).collect();
    assert_eq!(kinds, [0, 1, 2]);
    assert!(known(&client, "").await.is_empty());
    let again = control.update_build_history(delete).await.unwrap_err();
    assert!(again.message().contains("not found"), "{again}");
}

#[tokio::test]
async fn a_record_is_pinned_by_its_id() {
    let daemon = Start::default().on_unix().ready();
    let client = daemon.connect().await;
    build(&client, "pinned").await;
    let pin = UpdateBuildHistoryRequest {
        r#ref: "pinned".to_owned(),
        pinned: true,
        ..Default::default()
    };
    client.control().update_build_history(pin).await.unwrap();
    let [event] = &known(&client, "pinned").await[..] else { panic!("one record") };
    assert!(event.record.as_ref().unwrap().pinned);
    assert!(known(&client, "other").await.is_empty());
}

#[tokio::test]
async fn the_blobs_of_a_record_can_be_read_in_parts() {
    let daemon = Start::default().on_unix().ready();
    let client = daemon.connect().await;
    build(&client, "blobs").await;
    let [event] = &known(&client, "blobs").await[..] else { panic!("one record") };
    let log = event.record.clone().unwrap().logs.unwrap();
    let mut content = client.content();
    let info = InfoRequest { digest: log.digest.clone() };
    let info = content.info(info).await.unwrap().into_inner().info.unwrap();
    assert_eq!(info.size, log.size);
    let mut read = async |offset: i64, size: i64| {
        let part = ReadContentRequest { digest: log.digest.clone(), offset, size };
        let parts = content.read(part).await?.into_inner();
        let parts: Vec<_> = parts.collect::<Result<Vec<_>, _>>().await?;
        Ok::<_, tonic::Status>(parts.iter().flat_map(|part| part.data.to_vec()).collect::<Vec<_>>())
    };
    let whole = read(0, 0).await.unwrap();
    assert_eq!(i64::try_from(whole.len()).unwrap(), log.size);
    assert_eq!(read(3, 4).await.unwrap(), whole[3..7]);
    assert_eq!(read(3, 1 << 40).await.unwrap(), whole[3..]);
    assert_eq!(read(log.size + 1, 0).await.unwrap_err().code(), Code::OutOfRange);
    assert_eq!(read(-1, 0).await.unwrap_err().code(), Code::OutOfRange);
}

#[tokio::test]
async fn content_is_for_reading_only() {
    let daemon = Start::default().on_unix().ready();
    let mut content = daemon.connect().await.content();
    let absent = InfoRequest { digest: digests::Digest::of("absent").to_string() };
    assert_eq!(content.info(absent).await.unwrap_err().code(), Code::NotFound);
    let nonsense = InfoRequest { digest: "nonsense".to_owned() };
    assert_eq!(content.info(nonsense).await.unwrap_err().code(), Code::InvalidArgument);
    let write = tokio_stream::once(WriteContentRequest::default());
    assert_eq!(content.write(write).await.unwrap_err().code(), Code::Unimplemented);
}
