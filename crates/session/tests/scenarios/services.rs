//! Secrets, credentials, agents, uploads and blobs of the client.

use bytes::Bytes;
use digests::Digest;
use futures::TryStreamExt as _;
use mount::HostPath;
use session::testing::{ConnectedClient, FakeClient};
use session::{BlobRange, BlobWrite, SessionError, Sessions, SshSocket, StoreId, TokenRequest};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

async fn connect(client: FakeClient) -> ConnectedClient {
    client.connect(&Sessions::new(), "s").await.unwrap()
}

#[tokio::test]
async fn a_secret_is_there_or_not() {
    let client = connect(FakeClient::new().with_secret("token", "hunter2")).await;
    let session = client.session();
    assert_eq!(session.secret("token").await.unwrap().unwrap().expose(), b"hunter2");
    assert!(session.secret("other").await.unwrap().is_none());
    let without = connect(FakeClient::new()).await;
    assert!(without.session().secret("token").await.unwrap().is_none());
}

#[tokio::test]
async fn credentials_and_tokens_come_from_the_client() {
    let client =
        connect(FakeClient::new().with_credentials("r.test", "me", "pw").with_token("t.test", "T"))
            .await;
    let session = client.session();
    let known = session.credentials("r.test").await.unwrap();
    assert_eq!((known.username.as_str(), known.secret.expose()), ("me", &b"pw"[..]));
    assert!(session.credentials("other").await.unwrap().is_anonymous());
    let request = TokenRequest {
        host: "t.test".to_owned(),
        scopes: vec!["repository:a:pull".to_owned()],
        ..TokenRequest::default()
    };
    let token = session.fetch_token(request).await.unwrap();
    assert_eq!(token.token.expose(), b"T for repository:a:pull");
    assert!(session.token_authority("r.test", b"salt").await.unwrap().is_none());
    let key = session.token_authority("t.test", b"salt").await.unwrap().unwrap();
    let signed = session.verify_token_authority("t.test", b"payload", b"salt").await.unwrap();
    assert_eq!(signed, [&key[..], b"payload"].concat());

    let without = connect(FakeClient::new()).await;
    assert!(without.session().credentials("r.test").await.unwrap_err().is_absent());
    assert!(without.session().token_authority("r.test", b"").await.unwrap().is_none());
}

#[tokio::test]
async fn connections_to_the_socket_reach_the_clients_agent() {
    let place = tempfile::tempdir().unwrap();
    let client = connect(FakeClient::new().with_ssh("default")).await;
    let session = client.session();
    session.check_ssh("").await.unwrap();
    let path = HostPath::new(place.path()).unwrap().join("agent");
    let socket = SshSocket { path: path.clone(), uid: 12, gid: 34, mode: 0o600 };
    let forward = session.forward_ssh("", socket).unwrap();
    let metadata = std::fs::metadata(path.as_path()).unwrap();
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o777), (12, 34, 0o600));
    let mut connections = Vec::new();
    for _ in 0..3 {
        connections.push(tokio::net::UnixStream::connect(path.as_path()).await.unwrap());
    }
    for (number, connection) in connections.iter_mut().enumerate() {
        let said = vec![number as u8; 100_000];
        let (mut reader, mut writer) = connection.split();
        let mut heard = Vec::new();
        let (sent, received) = tokio::join!(
            async {
                writer.write_all(&said).await?;
                writer.shutdown().await
            },
            reader.read_to_end(&mut heard)
        );
        sent.unwrap();
        received.unwrap();
        assert_eq!(heard, said);
    }
    drop(forward);
    assert!(!path.as_path().exists());
}

#[tokio::test]
async fn a_missing_agent_is_named() {
    let client = connect(FakeClient::new().with_ssh("default")).await;
    let error = client.session().check_ssh("work").await.unwrap_err();
    assert_eq!(error.to_string(), "unset ssh forward key work");
    let without = connect(FakeClient::new()).await;
    let error = without.session().check_ssh("").await.unwrap_err();
    assert_eq!(error.to_string(), "no SSH key \"default\" forwarded from the client");
    assert!(matches!(error, SessionError::NoSshKey(_)));
}

#[tokio::test]
async fn an_upload_is_given_once() {
    let data: Vec<u8> = (0..100_000u32).map(|number| number as u8).collect();
    let client = connect(FakeClient::new().with_upload("ctx", data.clone())).await;
    let stream = client.session().upload("ctx").await.unwrap();
    let mut received = Vec::new();
    stream.into_reader().read_to_end(&mut received).await.unwrap();
    assert_eq!(received, data);
    let error = client.session().upload("ctx").await.unwrap_err();
    assert_eq!(error.to_string(), "no such upload");
}

#[tokio::test]
async fn blobs_are_read_whole_or_in_part() {
    let blob = Bytes::from((0..5000u32).map(|number| number as u8).collect::<Vec<_>>());
    let digest = Digest::of(&blob);
    let client = connect(FakeClient::new().with_store("oci:abc", [blob.clone()])).await;
    let store = client.session().content(StoreId::Layout("abc".to_owned()));
    assert_eq!(store.info(&digest).await.unwrap().unwrap().size, 5000);
    assert!(store.info(&Digest::of(b"other")).await.unwrap().is_none());
    for (offset, size, expected) in [
        (0, None, &blob[..]),
        (10, Some(20), &blob[10..30]),
        (4990, Some(1000), &blob[4990..]),
        (5000, Some(0), &[]),
    ] {
        let stream = store.read(&digest, BlobRange { offset, size }).await.unwrap();
        let parts: Vec<Bytes> = stream.try_collect().await.unwrap();
        assert_eq!(parts.concat(), expected, "{offset} {size:?}");
    }
    let unknown = client.session().content(StoreId::Export);
    assert_eq!(
        unknown.read(&digest, BlobRange::default()).await.unwrap_err().to_string(),
        "unknown store export"
    );
}

#[tokio::test]
async fn a_blob_is_written_continued_or_there_already() {
    let client = connect(
        FakeClient::new()
            .with_store("local:/cache", [Bytes::from_static(b"there already")])
            .with_partial_write("layer-b", vec![5; 1000]),
    )
    .await;
    let store = client.session().content(StoreId::LocalCache("/cache".to_owned()));
    let write = |reference: &str, data: &[u8]| BlobWrite {
        reference: reference.to_owned(),
        digest: Digest::of(data),
        size: data.len() as u64,
        labels: std::collections::BTreeMap::new(),
    };
    let large: Vec<u8> = (0..2_500_000u32).map(|number| number as u8).collect();
    let continued = vec![5; 3000];
    for (reference, data) in [
        ("layer-a", &large[..]),
        ("layer-b", &continued),
        ("layer-c", b"there already"),
        ("layer-d", b""),
    ] {
        store.write(&write(reference, data), data).await.unwrap();
        assert_eq!(client.blobs("local:/cache")[&Digest::of(data)], data, "{reference}");
    }
    let error = store.write(&write("layer-e", b"longer"), &b"short"[..]).await.unwrap_err();
    assert!(matches!(error, SessionError::Local { .. }), "{error:?}");
    let mut wrong = write("layer-f", b"right");
    wrong.digest = Digest::of(b"wrong");
    let error = store.write(&wrong, &b"right"[..]).await.unwrap_err();
    assert!(error.to_string().contains("unexpected commit digest"), "{error}");
}
