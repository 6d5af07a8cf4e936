//! Processes in containers, over the one stream of a frontend.

use bytes::Bytes;
use proto::gateway::exec_message::Input;
use proto::gateway::{FdMessage, InitMessage, ResizeMessage};
use tonic::Code;

use crate::connection::Connection;

#[tokio::test]
async fn a_process_is_started_fed_heard_and_ends() {
    let connection = Connection::open().await;
    connection.container("c").await.unwrap();
    let mut exec = connection.exec().await;
    exec.start("c", "p", "cat", &[0, 1, 2]).await;
    exec.write("p", "one ").await;
    exec.write("p", "two").await;
    exec.until("p", |told| told.said(1) == "one two").await;
    exec.close("p").await;
    let told = exec.until_done("p").await;
    assert_eq!((told.code(), &*told.said(2)), (Some(0), ""));
    assert_eq!(connection.events(), ["made c", "main cat"]);
}

#[tokio::test]
async fn only_what_was_asked_for_is_connected() {
    let connection = Connection::open().await;
    connection.container("c").await.unwrap();
    let mut exec = connection.exec().await;
    exec.start("c", "both", "complain", &[1, 2]).await;
    let both = exec.until_done("both").await;
    assert_eq!((&*both.said(1), &*both.said(2)), ("fine", "not fine"));
    connection.container("d").await.unwrap();
    exec.start("d", "one", "complain", &[2]).await;
    assert_eq!(exec.until_done("one").await.said(2), "not fine");
    connection.container("e").await.unwrap();
    // A descriptor that means nothing is closed at once.
    exec.start("e", "odd", "cat", &[1, 7]).await;
    assert_eq!(exec.until_done("odd").await.code(), Some(0));
}

#[tokio::test]
async fn an_exit_says_how_and_why() {
    let connection = Connection::open().await;
    connection.container("c").await.unwrap();
    let mut exec = connection.exec().await;
    exec.start("c", "p", "exit 3", &[]).await;
    let exit = exec.until_done("p").await.exit.unwrap();
    let error = exit.error.unwrap();
    assert_eq!((exit.code, error.code, &*error.message), (3, 2, "exit code: 3"));
    let [detail] = &error.details[..] else { panic!("{error:?}") };
    assert_eq!(detail.type_url, "github.com/moby/buildkit/gatewayapi.ExitMessage+json");
    assert_eq!(detail.value, br#"{"Code":3}"#);
}

#[tokio::test]
async fn signals_and_sizes_arrive_in_their_order() {
    let connection = Connection::open().await;
    connection.container("c").await.unwrap();
    let mut exec = connection.exec().await;
    exec.start_with("c", "p", "wait", &[1], true).await;
    exec.send("p", Input::Resize(ResizeMessage { rows: 24, cols: 80 })).await;
    exec.send("p", Input::Resize(ResizeMessage { rows: 70_000, cols: 1 })).await;
    exec.signal("p", "TERM").await;
    let told = exec.until_done("p").await;
    assert_eq!((&*told.said(1), told.code()), ("24x8065535x1", Some(143)));
    // It cannot be known here that it has ended.
    exec.signal("p", "TERM").await;
    exec.send("p", Input::Resize(ResizeMessage { rows: 1, cols: 1 })).await;
    exec.finish();
    assert_eq!(exec.end().await, Code::Ok);
}

#[tokio::test]
async fn processes_share_the_stream_and_the_first_is_the_main_one() {
    let connection = Connection::open().await;
    connection.container("c").await.unwrap();
    connection.container("d").await.unwrap();
    let mut exec = connection.exec().await;
    exec.start("c", "1", "wait", &[]).await;
    exec.start("c", "2", "cat", &[0, 1]).await;
    exec.start("d", "3", "cat", &[0, 1]).await;
    exec.write("2", "second").await;
    exec.write("3", "third").await;
    exec.until("2", |told| told.said(1) == "second").await;
    exec.until("3", |told| told.said(1) == "third").await;
    let begun = ["made c", "made d", "main wait", "beside cat", "main cat"];
    assert_eq!(connection.events(), begun);
    exec.signal("1", "KILL").await;
    assert_eq!(exec.until_done("1").await.code(), Some(137));
    // What cannot be started is told as an end, and the others go on.
    exec.start("c", "late", "cat", &[0, 1]).await;
    let late = exec.until_done("late").await.exit.unwrap();
    assert_eq!((late.code, &*late.error.unwrap().message), (255, "container c is over"));
    exec.start("d", "missing", "missing", &[2]).await;
    let missing = exec.until_done("missing").await.exit.unwrap();
    assert_eq!((missing.code, &*missing.error.unwrap().message), (255, "no such command"));
    exec.close("3").await;
    assert_eq!(exec.until_done("3").await.code(), Some(0));
}

#[tokio::test]
async fn a_frontend_that_has_nothing_more_to_say_hears_the_rest() {
    let connection = Connection::open().await;
    connection.container("c").await.unwrap();
    let mut exec = connection.exec().await;
    exec.start("c", "p", "cat", &[0, 1]).await;
    exec.write("p", "last").await;
    exec.finish();
    assert_eq!(exec.until_done("p").await.said(1), "last");
    assert_eq!(exec.end().await, Code::Ok);
}

#[tokio::test]
async fn a_stream_that_breaks_off_takes_its_processes_along() {
    let connection = Connection::open().await;
    connection.container("c").await.unwrap();
    let mut exec = connection.exec().await;
    exec.start("c", "p", "wait", &[1]).await;
    exec.until_started("p").await;
    drop(exec);
    connection.happened("killed wait").await;
    assert!(!connection.events().contains(&"dropped c".to_owned()), "the container is there");
}

#[tokio::test]
async fn a_connection_that_breaks_off_takes_its_containers_along() {
    let connection = Connection::open().await;
    connection.container("c").await.unwrap();
    let mut exec = connection.exec().await;
    exec.start("c", "p", "wait", &[1]).await;
    exec.until_started("p").await;
    let Connection { client, verdict, events, .. } = connection;
    drop((client, exec));
    assert!(verdict.await.is_err(), "it said nothing at the end");
    while !["killed wait", "dropped c"].iter().all(|one| events.lock().iter().any(|e| e == one)) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_makes_no_sense_ends_the_stream() {
    let connection = Connection::open().await;
    connection.container("c").await.unwrap();
    let file = |fd| Input::File(FdMessage { fd, eof: true, data: Bytes::new() });
    let cases: [(&str, Input, Code); 6] = [
        ("", Input::Init(InitMessage::default()), Code::InvalidArgument),
        ("stranger", file(0), Code::NotFound),
        ("stranger", Input::Resize(ResizeMessage::default()), Code::NotFound),
        ("p", Input::Init(InitMessage::default()), Code::AlreadyExists),
        ("p", file(1), Code::OutOfRange),
        ("p", Input::Signal(proto::gateway::SignalMessage::default()), Code::InvalidArgument),
    ];
    for (process, input, code) in cases {
        let mut exec = connection.exec().await;
        exec.start("c", "p", "wait", &[1]).await;
        exec.send(process, input.clone()).await;
        assert_eq!(exec.end().await, code, "{input:?}");
    }
    let mut exec = connection.exec().await;
    exec.start("nowhere", "p", "wait", &[1]).await;
    assert_eq!(exec.end().await, Code::NotFound);
    let mut exec = connection.exec().await;
    exec.signal("stranger", "TERM").await;
    assert_eq!(exec.end().await, Code::NotFound);
}
