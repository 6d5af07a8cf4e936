//! Clients that break the protocol, by mistake or on purpose, or vanish.

use std::fs;
use std::os::unix::fs::symlink;

use session::testing::{ConnectedClient, FakeClient, Packet, Stat};
use session::{KeptTree, Refusal, SessionError, Sessions, SyncRequest, Synced, TransferError};

use crate::trees::{kept, look};

const DIRECTORY: u32 = 1 << 31 | 0o755;
const SYMLINK: u32 = 1 << 27 | 0o777;

fn entry(path: &str, mode: u32, link: &str) -> Packet {
    let stat = Stat { path: path.to_owned(), mode, linkname: link.to_owned(), ..Stat::default() };
    Packet { stat: Some(stat), ..Packet::default() }
}

fn packet(kind: i32, id: u32, data: &'static [u8]) -> Packet {
    Packet { r#type: kind, id, data: data.into(), ..Packet::default() }
}

async fn connect(client: FakeClient) -> ConnectedClient {
    client.connect(&Sessions::new(), "s").await.unwrap()
}

async fn sync(client: &ConnectedClient, tree: &KeptTree) -> Result<Synced, TransferError> {
    let request = SyncRequest { name: "context".to_owned(), ..SyncRequest::default() };
    client.session().sync_directory(request, tree, &mut |_| {}).await
}

/// Syncs from a client that says exactly this, and returns the error.
async fn refused(script: Vec<Packet>) -> TransferError {
    let place = tempfile::tempdir().unwrap();
    let tree = kept(&place);
    let client = connect(FakeClient::new().with_script("context", script)).await;
    let error = sync(&client, &tree).await.unwrap_err();
    assert!(fs::read_dir(place.path()).unwrap().count() <= 2, "something is beside the tree");
    error
}

#[tokio::test]
async fn paths_that_climb_out_are_errors() {
    for script in [
        vec![entry("../evil", 0o644, "")],
        vec![entry("/etc/evil", 0o644, "")],
        vec![entry("a", DIRECTORY, ""), entry("a/../../evil", 0o644, "")],
        vec![entry("a", SYMLINK, "/tmp"), entry("a/evil", 0o644, "")],
        vec![entry("a", SYMLINK, ".."), entry("a", DIRECTORY, ""), entry("a/evil", 0o644, "")],
        vec![entry("a", 0o644, "/etc/passwd")],
        vec![entry("a", SYMLINK, "/etc/passwd"), entry("b", 0o644, "a")],
        vec![entry("b", 0o644, ""), entry("a", 0o644, "")],
    ] {
        let shown = format!("{script:?}");
        let error = refused(script).await;
        assert!(matches!(error, TransferError::Protocol(_)), "{error:?} for {shown}");
    }
}

#[tokio::test]
async fn a_link_that_is_in_the_tree_is_not_walked_through() {
    // The tree has a link where the client now claims a directory.
    let (place, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tree = kept(&place);
    symlink(outside.path(), tree.tree.join("a").as_path()).unwrap();
    let script = vec![
        entry("a", DIRECTORY, ""),
        entry("a/evil", 0o644, ""),
        Packet::default(),
        packet(2, 1, b"x"),
        packet(2, 1, b""),
        packet(3, 0, b""),
    ];
    let client = connect(FakeClient::new().with_script("context", script)).await;
    sync(&client, &tree).await.unwrap();
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!(fs::read(tree.tree.join("a/evil").as_path()).unwrap(), b"x");
}

#[tokio::test]
async fn packets_out_of_place_are_errors_and_the_client_is_told() {
    for (script, reason) in [
        (vec![packet(2, 7, b"x")], "invalid file request 7"),
        (vec![packet(3, 0, b"")], "the end came too early"),
        (vec![packet(1, 0, b"")], "unexpected packet of type 1"),
        (vec![packet(9, 0, b"")], "unexpected packet of type 9"),
        (vec![entry("d", DIRECTORY, ""), packet(2, 0, b"x")], "invalid file request 0"),
        (vec![Packet::default(), entry("a", 0o644, "")], "an entry came after the last one"),
        (vec![entry("f", 1 << 19, "")], "unsupported file mode"),
    ] {
        let place = tempfile::tempdir().unwrap();
        let client = connect(FakeClient::new().with_script("context", script)).await;
        let error = sync(&client, &kept(&place)).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{error:?} instead of {reason:?}");
        assert_eq!(client.take_record().errors, [error]);
    }
}

#[tokio::test]
async fn a_client_that_gives_up_is_quoted() {
    let error = refused(vec![entry("a", 0o644, ""), packet(4, 0, b"disk on fire")]).await;
    assert_eq!(error.to_string(), "error from sender: disk on fire");
}

#[tokio::test]
async fn a_directory_that_is_not_offered_is_not_found() {
    let place = tempfile::tempdir().unwrap();
    let client = connect(FakeClient::new().with_script("other", Vec::new())).await;
    let error = sync(&client, &kept(&place)).await.unwrap_err();
    assert_eq!(error.to_string(), "no access allowed to dir \"context\"");
    let TransferError::Session(error) = error else { panic!("{error:?}") };
    assert_eq!(error.refusal(), Some(Refusal::NotFound));

    let none = connect(FakeClient::new()).await;
    let error = sync(&none, &kept(&place)).await.unwrap_err();
    assert!(matches!(error, TransferError::Session(SessionError::Unsupported(_))), "{error:?}");
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_a_tree_that_the_next_sync_repairs() {
    let (source, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tree = kept(&place);
    for number in 0..20 {
        fs::write(source.path().join(format!("f{number}")), vec![number; 50_000]).unwrap();
    }
    for packets in [0, 5, 25, 40] {
        let client =
            connect(FakeClient::new().with_vanishing("context", source.path(), packets)).await;
        let error = sync(&client, &tree).await.unwrap_err();
        assert!(
            matches!(error, TransferError::Session(SessionError::Ended(_))),
            "after {packets}: {error:?}"
        );
        assert!(client.session().is_closed());
    }
    let client = connect(FakeClient::new().with_directory("context", source.path())).await;
    sync(&client, &tree).await.unwrap();
    assert_eq!(look(tree.tree.as_path()), look(source.path()));
}

#[tokio::test]
async fn a_sync_that_is_dropped_does_not_meet_its_successor() {
    let (source, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tree = kept(&place);
    for number in 0..50 {
        fs::write(source.path().join(format!("f{number}")), vec![number; 20_000]).unwrap();
    }
    let client = connect(FakeClient::new().with_directory("context", source.path())).await;
    for polls in 1..20 {
        let mut sync = Box::pin(sync(&client, &tree));
        for _ in 0..polls {
            if futures::poll!(&mut sync).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    sync(&client, &tree).await.unwrap();
    assert_eq!(look(tree.tree.as_path()), look(source.path()));
}

#[tokio::test]
async fn a_full_disk_is_an_error_that_names_the_file() {
    // A name longer than file systems allow stands for whatever the disk refuses.
    let name = "n".repeat(300);
    let error = refused(vec![entry(&name, 0o644, ""), Packet::default(), packet(2, 0, b"x")]).await;
    let TransferError::Disk { path, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*path, name);
}
