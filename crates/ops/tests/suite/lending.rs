//! Files of clients that a layer has as further names of the same files.

use std::fs;

use cache::{ImmutableRef, RecordKind};
use llb::{CopyFiles, CopyMode, FileActions, LocalOptions, MakeDir, MakeFile, OpOptions, State};
use session::testing::{ConnectedClient, FakeClient};

use crate::world::World;

const SIZE: usize = 1 << 20;

fn context(id: &str) -> State {
    let local = LocalOptions { session: id.to_owned(), ..LocalOptions::default() };
    State::local("context", local, OpOptions::named("context"))
}

fn to(dest: &str) -> CopyFiles {
    CopyFiles {
        src: "/f".to_owned(),
        dest: dest.to_owned(),
        create_dest_path: true,
        ..CopyFiles::default()
    }
}

fn copied(id: &str, copy: CopyFiles) -> State {
    State::scratch().file(FileActions::new().copy(&context(id), copy), OpOptions::default())
}

/// Connects a client whose directory has the file `f`.
async fn client(world: &World, id: &str, here: &tempfile::TempDir) -> ConnectedClient {
    let client = FakeClient::new().with_shared_key("key");
    client.with_directory("context", here.path()).connect(&world.sessions, id).await.unwrap()
}

fn here() -> tempfile::TempDir {
    let here = tempfile::tempdir().unwrap();
    fs::write(here.path().join("f"), vec![b'1'; SIZE]).unwrap();
    here
}

/// Returns how many names the file has in a result.
async fn names(world: &World, tree: &ImmutableRef, path: &str) -> u64 {
    world.stat(tree, path).await.st_nlink
}

#[tokio::test]
async fn a_copy_is_a_further_name_and_stays_when_the_client_changes_the_file() {
    let (world, here) = (World::new().await, here());
    let _client = client(&world, "one", &here).await;
    let first = world.build_for(&copied("one", to("/d/f")), ["one"]).await.unwrap().tree;
    assert_eq!(names(&world, &first, "/d/f").await, 2);
    // Two layers never have names of the same file.
    let second = world.build_for(&copied("one", to("/e")), ["one"]).await.unwrap().tree;
    assert_eq!(names(&world, &second, "/e").await, 1);
    fs::write(here.path().join("f"), "changed").unwrap();
    let _client = client(&world, "two", &here).await;
    let third = world.build_for(&copied("two", to("/d/f")), ["two"]).await.unwrap().tree;
    assert_eq!(world.read(&third, "/d/f").await, "changed");
    assert_eq!(world.read(&first, "/d/f").await, "1".repeat(SIZE));
    assert_eq!(names(&world, &first, "/d/f").await, 1);
}

#[tokio::test]
async fn what_is_changed_by_the_copy_or_written_over_after_it_is_a_file_of_its_own() {
    let (world, here) = (World::new().await, here());
    let _client = client(&world, "one", &here).await;
    let mode = Some(CopyMode::Bits(0o600));
    let changed = copied("one", CopyFiles { mode, ..to("/f") });
    let changed = world.build_for(&changed, ["one"]).await.unwrap().tree;
    assert_eq!(names(&world, &changed, "/f").await, 1);
    let over =
        MakeFile { path: "/f".to_owned(), data: "over".into(), mode: 0o644, ..MakeFile::default() };
    let actions = FileActions::new().copy(&context("one"), to("/f")).make_file(over);
    let over = State::scratch().file(actions, OpOptions::default());
    let over = world.build_for(&over, ["one"]).await.unwrap().tree;
    assert_eq!(world.read(&over, "/f").await, "over");
    let copy = world.build_for(&copied("one", to("/f")), ["one"]).await.unwrap().tree;
    assert_eq!(world.read(&copy, "/f").await, "1".repeat(SIZE));
}

#[tokio::test]
async fn what_a_removal_gives_free_is_told_as_it_is() {
    for layer_goes_first in [true, false] {
        let (world, here) = (World::new().await, here());
        let _client = client(&world, "one", &here).await;
        let built = world.build_for(&copied("one", to("/f")), ["one"]).await.unwrap();
        assert_eq!(names(&world, &built.tree, "/f").await, 2);
        drop(built);
        let collector = world.collector();
        let id = |kind| {
            let records = collector.usage();
            let found = records.iter().find(|record| record.kind == kind);
            found.map(|record| record.id.clone()).unwrap()
        };
        let (layer, tree) = (id(RecordKind::Regular), id(RecordKind::LocalSource));
        let order = if layer_goes_first { [&layer, &tree] } else { [&tree, &layer] };
        let mut freed = Vec::new();
        for id in order {
            freed.extend(collector.remove_all(&[id.as_str()]).await.unwrap());
        }
        let large: Vec<_> = freed.iter().map(|bytes| bytes.unwrap() >= SIZE as u64).collect();
        assert_eq!(large, [false, true], "the last name takes the space along: {freed:?}");
    }
}

/// Returns what a client sees of a tree: all but how many names a file has, and when directories changed.
async fn picture(world: &World, tree: &ImmutableRef) -> Vec<String> {
    let mut picture = Vec::new();
    for entry in world.list(tree).await {
        let path = entry.split(" -> ").next().unwrap_or_default();
        let stat = world.stat(tree, path).await;
        let is_directory = stat.st_mode & 0o170_000 == 0o040_000;
        let time = if is_directory { 0 } else { stat.st_mtime };
        let (mode, uid, gid) = (stat.st_mode, stat.st_uid, stat.st_gid);
        picture.push(format!("{entry} {mode:o} {uid}:{gid} {time}"));
    }
    picture
}

fn make_file(path: &str) -> MakeFile {
    let (path, data) = (path.to_owned(), "below".into());
    MakeFile { path, data, mode: 0o640, timestamp: Some(0), ..MakeFile::default() }
}

fn make_dir(path: &str) -> MakeDir {
    MakeDir { path: path.to_owned(), mode: 0o711, make_parents: true, ..MakeDir::default() }
}

/// Returns a tree of one layer, and the same tree with another layer on it.
fn bases() -> [State; 2] {
    let actions = FileActions::new().make_dir(make_dir("/d/sub/below"));
    let actions = actions.make_file(make_file("/d/f")).make_file(make_file("/d/sub/old"));
    let one = State::scratch().file(actions, OpOptions::default());
    let actions = FileActions::new().make_file(make_file("/d/sub/older"));
    let two = one.file(actions, OpOptions::default());
    [one, two]
}

fn whole(id: &str) -> (State, CopyFiles) {
    let copy = CopyFiles {
        src: "/".to_owned(),
        dest: "/d".to_owned(),
        dir_copy_contents: true,
        create_dest_path: true,
        ..CopyFiles::default()
    };
    (context(id), copy)
}

#[tokio::test]
async fn a_tree_that_is_linked_into_another_is_as_if_it_had_been_copied() {
    let (world, here) = (World::new().await, here());
    fs::create_dir_all(here.path().join("sub/deep")).unwrap();
    fs::create_dir(here.path().join("empty")).unwrap();
    fs::write(here.path().join("sub/deep/y"), "1").unwrap();
    std::os::unix::fs::symlink("f", here.path().join("link")).unwrap();
    let _client = client(&world, "one", &here).await;
    let (from, copy) = whole("one");
    for base in bases() {
        // A copy is made if there is anything beside it in the operation.
        let beside = FileActions::new().copy(&from, copy.clone()).make_dir(make_dir("/other"));
        let copied = base.file(beside, OpOptions::default());
        let copied = world.build_for(&copied, ["one"]).await.unwrap().tree;
        assert_eq!(names(&world, &copied, "/d/f").await, 1);
        let linked = base.file(FileActions::new().copy(&from, copy.clone()), OpOptions::default());
        let linked = world.build_for(&linked, ["one"]).await.unwrap().tree;
        assert_eq!(names(&world, &linked, "/d/f").await, 2);
        let mut expected = picture(&world, &copied).await;
        expected.retain(|entry| !entry.starts_with("/other"));
        assert_eq!(picture(&world, &linked).await, expected);
        assert!(expected.iter().any(|entry| entry.starts_with("/d/sub/old ")), "{expected:?}");
        assert_eq!(world.read(&linked, "/d/f").await.len(), SIZE);
        // The next base finds the file with one name again.
        drop(linked);
        fs::write(here.path().join("f"), vec![b'2'; SIZE]).unwrap();
    }
}

#[tokio::test]
async fn what_is_in_the_way_is_the_same_error_for_both() {
    let (world, here) = (World::new().await, here());
    fs::create_dir_all(here.path().join("sub/old")).unwrap();
    let _client = client(&world, "one", &here).await;
    let (from, copy) = whole("one");
    for base in bases() {
        let mut texts = Vec::new();
        let alone = FileActions::new().copy(&from, copy.clone());
        let beside = FileActions::new().copy(&from, copy.clone()).make_dir(make_dir("/other"));
        for actions in [alone, beside] {
            let state = base.file(actions, OpOptions::default());
            let built = world.build_for(&state, ["one"]).await;
            texts.push(built.map(|_| ()).unwrap_err().source.full_text());
        }
        assert_eq!(texts[0], texts[1]);
        assert!(texts[0].contains("sub/old"), "{texts:?}");
    }
}
