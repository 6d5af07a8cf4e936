//! Finding sessions, and losing them.

use std::time::Duration;

use bytes::Bytes;
use session::testing::FakeClient;
use session::{Registration, SessionError, SessionGroup, SessionId, Sessions, Tunnel};
use tokio::sync::mpsc;
use tokio::time::Instant;

fn id(text: &str) -> SessionId {
    SessionId::new(text).unwrap()
}

fn registration(text: &str) -> Registration {
    let (shared_key, methods) = (String::new(), Vec::new());
    Registration { id: id(text), shared_key, methods, health_interval: None }
}

#[tokio::test]
async fn a_lookup_waits_for_the_client_to_come() {
    let sessions = Sessions::new();
    let waiting = sessions.clone();
    let lookup = tasks::spawn("lookup", async move { waiting.get(&id("late")).await });
    tokio::task::yield_now().await;
    let client =
        FakeClient::new().with_shared_key("ctx:node").connect(&sessions, "late").await.unwrap();
    let found = lookup.await.unwrap().unwrap();
    assert_eq!((found.id().as_str(), found.shared_key()), ("late", "ctx:node"));
    drop(client);
    assert!(sessions.is_empty());
    found.closed().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_never_comes_is_an_error_clients_know() {
    let error = Sessions::new().get(&id("abc")).await.unwrap_err();
    assert_eq!(error.to_string(), "no active session for abc: context deadline exceeded");
}

#[tokio::test]
async fn a_newer_connection_takes_the_place_of_the_older() {
    let sessions = Sessions::new();
    let older = FakeClient::new().with_shared_key("1").connect(&sessions, "s").await.unwrap();
    let newer = FakeClient::new().with_shared_key("2").connect(&sessions, "s").await.unwrap();
    assert_eq!(sessions.get(&id("s")).await.unwrap().shared_key(), "2");
    drop(older);
    assert_eq!(sessions.get(&id("s")).await.unwrap().shared_key(), "2");
    drop(newer);
    assert!(sessions.find(&id("s")).is_none());
}

#[tokio::test]
async fn methods_are_matched_in_any_case() {
    let directory = tempfile::tempdir().unwrap();
    let client = FakeClient::new()
        .with_directory("context", directory.path())
        .connect(&Sessions::new(), "s")
        .await
        .unwrap();
    assert!(client.session().supports("/moby.filesync.v1.filesync/diffcopy"));
    assert!(!client.session().supports("/moby.filesync.v1.FileSend/DiffCopy"));
}

#[tokio::test]
async fn the_end_of_the_stream_ends_the_session_and_what_runs_in_it() {
    let sessions = Sessions::new();
    let (to_daemon, at_daemon) = mpsc::channel::<Bytes>(16);
    let (to_client, mut at_client) = mpsc::channel::<Bytes>(16);
    let inbound =
        tokio_stream::StreamExt::map(tokio_stream::wrappers::ReceiverStream::new(at_daemon), Ok);
    let registration = registration("s");
    let guard = sessions.register(registration, Tunnel::new(inbound, to_client)).await.unwrap();
    let preface = at_client.recv().await.unwrap();
    assert!(preface.starts_with(b"PRI * HTTP/2.0"), "{preface:?}");
    let session = guard.session().clone();
    let call = tasks::spawn("call", async move { session.secret("x").await });
    // The request goes out, and instead of an answer the client half-closes.
    while at_client.recv().await.is_some_and(|bytes| !bytes.windows(6).any(|w| w == b"Secret")) {
        tokio::task::yield_now().await;
        if at_client.is_empty() {
            break;
        }
    }
    drop(to_daemon);
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, SessionError::Ended(_)), "{error:?}");
    guard.closed().await;
    assert!(sessions.find(&id("s")).is_none());
    // Our side of the stream ends as well, so that the call that carries it can.
    while at_client.recv().await.is_some() {}
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_answer_is_dropped() {
    let sessions = Sessions::new();
    let (_to_daemon, at_daemon) = mpsc::channel::<Bytes>(16);
    let (to_client, mut at_client) = mpsc::channel::<Bytes>(1024);
    let inbound =
        tokio_stream::StreamExt::map(tokio_stream::wrappers::ReceiverStream::new(at_daemon), Ok);
    let registration = registration("s");
    let guard = sessions.register(registration, Tunnel::new(inbound, to_client)).await.unwrap();
    guard.closed().await;
    assert!(sessions.find(&id("s")).is_none());
    while at_client.recv().await.is_some() {}
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_answered_was_heard_and_others_are_waited_for_a_moment() {
    let sessions = Sessions::new();
    let client = FakeClient::new().connect(&sessions, "s").await.unwrap();
    let begin = Instant::now();
    sessions.heard(&id("s")).await;
    assert_eq!(begin.elapsed(), Duration::ZERO);
    drop(client);

    let (_to_daemon, at_daemon) = mpsc::channel::<Bytes>(16);
    let (to_client, _at_client) = mpsc::channel::<Bytes>(1024);
    let inbound =
        tokio_stream::StreamExt::map(tokio_stream::wrappers::ReceiverStream::new(at_daemon), Ok);
    let registration = registration("mute");
    let _mute = sessions.register(registration, Tunnel::new(inbound, to_client)).await.unwrap();
    sessions.heard(&id("mute")).await;
    sessions.heard(&id("never-there")).await;
    assert_eq!(begin.elapsed(), Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_comes_late_is_heard_too() {
    let sessions = Sessions::new();
    let waiting = sessions.clone();
    let hearing = tasks::spawn("hearing", async move { waiting.heard(&id("late")).await });
    tokio::task::yield_now().await;
    let begin = Instant::now();
    let client = FakeClient::new().connect(&sessions, "late").await.unwrap();
    hearing.await.unwrap();
    assert_eq!(begin.elapsed(), Duration::ZERO);
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_group_asks_the_specified_session_first_and_then_the_others() {
    let sessions = Sessions::new();
    let with = FakeClient::new().with_secret("x", "value").connect(&sessions, "with").await;
    let without = FakeClient::new().with_secret("y", "other").connect(&sessions, "without").await;
    let (_with, _without) = (with.unwrap(), without.unwrap());
    let group = SessionGroup::new([id("gone"), id("without"), id("with"), id("with")]);
    assert_eq!(group.ids().len(), 3);
    let mut asked = Vec::new();
    let found: Result<_, SessionError> = group
        .any(&sessions, Some(&id("without")), |session| {
            asked.push(session.id().to_string());
            async move {
                let secret = session.secret("x").await?;
                secret.ok_or_else(|| SessionError::NoSshKey("none".to_owned()))
            }
        })
        .await;
    assert_eq!(found.unwrap().expose(), b"value");
    assert_eq!(asked, ["without", "with"]);

    let nobody: Result<(), SessionError> =
        SessionGroup::default().any(&sessions, None, |_| async { Ok(()) }).await;
    assert_eq!(nobody.unwrap_err().to_string(), "no active sessions");
}
