//! Directories of clients.

use std::fs;

use llb::{CopyFiles, FileActions, LocalOptions, OpOptions, State};
use session::testing::FakeClient;

use crate::world::World;

fn context(session: &str) -> State {
    let local = LocalOptions { session: session.to_owned(), ..LocalOptions::default() };
    let from = State::local("context", local, OpOptions::named("context"));
    let copy = CopyFiles {
        src: "/".to_owned(),
        dest: "/".to_owned(),
        dir_copy_contents: true,
        ..CopyFiles::default()
    };
    State::scratch().file(FileActions::new().copy(&from, copy), OpOptions::named("copy"))
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

#[tokio::test]
async fn only_what_changed_travels_and_what_did_not_is_found() {
    let world = World::new().await;
    let here = tempfile::tempdir().unwrap();
    fs::write(here.path().join("a"), "1").unwrap();
    fs::write(here.path().join("b"), "1").unwrap();
    // Each build comes with a session of its own, as from real clients.
    let build = async |id: &str| {
        let client = FakeClient::new().with_shared_key("key");
        let client = client.with_directory("context", here.path());
        let client = client.connect(&world.sessions, id).await.unwrap();
        let built = world.build_for(&context(id), [id]).await.unwrap();
        (built, client.take_record().requested)
    };
    let (built, mut requested) = build("one").await;
    requested.sort();
    assert_eq!(
        (world.list(&built.tree).await, requested),
        (texts(&["/a", "/b"]), texts(&["a", "b"]))
    );
    let (built, requested) = build("two").await;
    assert_eq!((built.ran(), requested), (texts(&["context"]), texts(&[])));
    fs::write(here.path().join("b"), "changed").unwrap();
    let (built, requested) = build("three").await;
    assert_eq!((built.ran(), requested), (texts(&["context", "copy"]), texts(&["b"])));
    assert_eq!(world.read(&built.tree, "/b").await, "changed");
    assert_eq!(world.trees.free().len(), 1);
}

#[tokio::test]
async fn the_next_client_is_asked_for_what_the_first_lacks() {
    let world = World::new().await;
    let here = tempfile::tempdir().unwrap();
    fs::write(here.path().join("a"), "1").unwrap();
    let one = FakeClient::new().connect(&world.sessions, "one").await.unwrap();
    let two = FakeClient::new().with_directory("context", here.path());
    let two = two.connect(&world.sessions, "two").await.unwrap();
    let built = world.build_for(&context(""), ["one", "two"]).await.unwrap();
    assert_eq!(world.list(&built.tree).await, ["/a"]);
    drop((one, two));
}

#[tokio::test]
async fn a_client_that_vanishes_fails_its_build_and_leaves_the_directory_usable() {
    let world = World::new().await;
    let here = tempfile::tempdir().unwrap();
    fs::write(here.path().join("a"), "1").unwrap();
    let gone = FakeClient::new().with_vanishing("context", here.path(), 1);
    let _gone = gone.connect(&world.sessions, "one").await.unwrap();
    let error = world.build_for(&context("one"), ["one"]).await.map(|_| ()).unwrap_err();
    assert_eq!(error.source.lost_job().map(solver::JobId::as_str), Some("job"));
    let client = FakeClient::new().with_directory("context", here.path());
    let _client = client.connect(&world.sessions, "two").await.unwrap();
    let built = world.build_for(&context("two"), ["two"]).await.unwrap();
    assert_eq!(world.list(&built.tree).await, ["/a"]);
}
