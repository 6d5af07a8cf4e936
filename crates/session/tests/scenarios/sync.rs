//! Bringing the client's directories here.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};

use digests::FileContent;
use proptest::prelude::*;
use session::testing::{ConnectedClient, FakeClient};
use session::{
    Change, ChangeKind, Differ, KeptTree, MetadataOnly, Sessions, SyncRequest, Synced,
    TransferError,
};

use crate::trees::{Edit, edits, kept, look};

async fn client(name: &str, directory: &tempfile::TempDir) -> ConnectedClient {
    FakeClient::new()
        .with_directory(name, directory.path())
        .connect(&Sessions::new(), "s")
        .await
        .unwrap()
}

async fn sync(client: &ConnectedClient, tree: &KeptTree) -> Result<Synced, TransferError> {
    let request = SyncRequest { name: "context".to_owned(), ..SyncRequest::default() };
    client.session().sync_directory(request, tree, &mut |_| {}).await
}

fn summary(changes: &[Change]) -> Vec<String> {
    changes
        .iter()
        .map(|change| {
            let sign = match change.kind {
                ChangeKind::Added => '+',
                ChangeKind::Modified => '~',
                ChangeKind::Removed => '-',
            };
            format!("{sign}{}", String::from_utf8_lossy(&change.path))
        })
        .collect()
}

#[tokio::test]
async fn everything_arrives_once_and_then_only_what_changed() {
    let (source, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = |path: &str| source.path().join(path);
    fs::create_dir_all(at("src/sub")).unwrap();
    fs::write(at("src/a.txt"), "hello\n").unwrap();
    fs::write(at("src/empty"), "").unwrap();
    fs::write(at("src/sub/b.bin"), vec![7; 200_000]).unwrap();
    symlink("a.txt", at("src/link")).unwrap();
    fs::hard_link(at("src/a.txt"), at("src/zz")).unwrap();
    let (client, tree) = (client("context", &source).await, kept(&place));

    let first = sync(&client, &tree).await.unwrap();
    assert_eq!(look(tree.tree.as_path()), look(source.path()));
    assert_eq!((first.entries, first.files_received), (7, 3));
    assert!(first.bytes > 200_000);
    assert_eq!(first.changes.len(), 7);

    client.take_record();
    let again = sync(&client, &tree).await.unwrap();
    assert!(again.changes.is_empty() && again.files_received == 0, "{again:?}");
    assert!(client.take_record().requested.is_empty());

    fs::write(at("src/sub/b.bin"), "new").unwrap();
    fs::remove_file(at("src/link")).unwrap();
    fs::write(at("src/sub/c"), "c").unwrap();
    let third = sync(&client, &tree).await.unwrap();
    assert_eq!(
        summary(&third.changes),
        ["~src", "-src/link", "~src/sub", "~src/sub/b.bin", "+src/sub/c"]
    );
    assert_eq!(client.take_record().requested, ["src/sub/b.bin", "src/sub/c"]);
    assert_eq!(look(tree.tree.as_path()), look(source.path()));
}

#[tokio::test]
async fn an_unchanged_tree_is_not_looked_at_unless_its_index_is_lost() {
    let (source, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(source.path().join("a"), "1").unwrap();
    let (client, tree) = (client("context", &source).await, kept(&place));
    sync(&client, &tree).await.unwrap();
    // Nobody does this; it shows who looks.
    fs::remove_file(tree.tree.join("a").as_path()).unwrap();
    assert!(sync(&client, &tree).await.unwrap().changes.is_empty());
    fs::remove_file(tree.index.as_ref().unwrap().as_path()).unwrap();
    assert_eq!(summary(&sync(&client, &tree).await.unwrap().changes), ["+a"]);
    // Without a place for an index the tree is always looked at.
    let tree = KeptTree { index: None, ..tree };
    fs::remove_file(tree.tree.join("a").as_path()).unwrap();
    assert_eq!(summary(&sync(&client, &tree).await.unwrap().changes), ["+a"]);
    assert!(sync(&client, &tree).await.unwrap().changes.is_empty());
}

#[tokio::test]
async fn the_index_of_a_tree_does_not_count_for_its_successor() {
    let (source, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(source.path().join("a"), "1").unwrap();
    let (client, tree) = (client("context", &source).await, kept(&place));
    sync(&client, &tree).await.unwrap();
    fs::remove_dir_all(tree.tree.as_path()).unwrap();
    fs::create_dir(tree.tree.as_path()).unwrap();
    assert_eq!(summary(&sync(&client, &tree).await.unwrap().changes), ["+a"]);
    assert_eq!(look(tree.tree.as_path()), look(source.path()));
}

#[tokio::test]
async fn filters_go_to_the_client_whatever_their_letters() {
    let (source, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for name in ["a b.txt", "größe.log", "keep", "real"] {
        fs::write(source.path().join(name), name).unwrap();
    }
    symlink("real", source.path().join("link")).unwrap();
    let (client, tree) = (client("context", &source).await, kept(&place));
    let request = SyncRequest {
        name: "context".to_owned(),
        exclude: vec!["größe*".to_owned(), "a b.txt".to_owned()],
        ..SyncRequest::default()
    };
    client.session().sync_directory(request, &tree, &mut |_| {}).await.unwrap();
    assert_eq!(look(tree.tree.as_path()).into_keys().collect::<Vec<_>>(), ["keep", "link", "real"]);
    let metadata = client.take_record().syncs.remove(0);
    let sent = |key: &str, value: &str| metadata.contains(&(key.to_owned(), value.to_owned()));
    assert!(sent("exclude-patterns-encoded", "1") && sent("exclude-patterns", "a+b.txt"));
    assert!(sent("dir-name", "context") && !metadata.iter().any(|(key, _)| key == "followpaths"));

    let request = SyncRequest {
        name: "context".to_owned(),
        follow_paths: vec!["link".to_owned()],
        ..SyncRequest::default()
    };
    client.session().sync_directory(request, &tree, &mut |_| {}).await.unwrap();
    assert_eq!(look(tree.tree.as_path()).into_keys().collect::<Vec<_>>(), ["link", "real"]);
}

#[tokio::test]
async fn without_a_differ_everything_travels_again() {
    let (source, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(source.path().join("Dockerfile"), "FROM scratch").unwrap();
    let (client, tree) = (client("dockerfile", &source).await, kept(&place));
    for kind in ['+', '~'] {
        let request = SyncRequest {
            name: "dockerfile".to_owned(),
            differ: Differ::None,
            ..SyncRequest::default()
        };
        let done = client.session().sync_directory(request, &tree, &mut |_| {}).await.unwrap();
        assert_eq!(summary(&done.changes), [format!("{kind}Dockerfile")]);
        assert_eq!(client.take_record().requested, ["Dockerfile"]);
    }
    assert_eq!(look(tree.tree.as_path()), look(source.path()));
}

#[tokio::test]
async fn content_is_digested_while_it_passes() {
    let (source, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let content = vec![3; 100_000];
    fs::create_dir(source.path().join("d")).unwrap();
    fs::write(source.path().join("d/f"), &content).unwrap();
    let (client, tree) = (client("context", &source).await, kept(&place));
    let request =
        SyncRequest { name: "context".to_owned(), digest_content: true, ..SyncRequest::default() };
    let done = client.session().sync_directory(request, &tree, &mut |_| {}).await.unwrap();
    let files: Vec<_> = done.changes.iter().map(|change| change.file).collect();
    let [None, Some(file)] = files[..] else { panic!("{files:?}") };
    assert_eq!(file.content, FileContent::of(&content));
    let stat = fs::metadata(tree.tree.join("d/f").as_path()).unwrap();
    assert_eq!((file.mode, file.uid, file.gid), (stat.mode(), stat.uid(), stat.gid()));
    assert!(!file.has_attributes);
}

#[tokio::test]
async fn progress_is_told_up_to_the_total() {
    let (source, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(source.path().join("f"), vec![1; 500_000]).unwrap();
    let (client, tree) = (client("context", &source).await, kept(&place));
    let request = SyncRequest { name: "context".to_owned(), ..SyncRequest::default() };
    let mut told = Vec::new();
    let mut progress = |bytes| told.push(bytes);
    let done = client.session().sync_directory(request, &tree, &mut progress).await.unwrap();
    assert!(told.is_sorted() && told.last() == Some(&done.bytes), "{told:?} {}", done.bytes);
    // 500,000 bytes in 16 packets, and little around them.
    assert!((500_000..501_000).contains(&done.bytes), "{}", done.bytes);
}

#[tokio::test]
async fn metadata_alone_lists_everything_and_brings_what_is_wanted() {
    let (source, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for path in ["a", "a/b", "c"] {
        fs::create_dir(source.path().join(path)).unwrap();
    }
    for path in ["a/b/wanted", "a/b/other", "c/other"] {
        fs::write(source.path().join(path), path).unwrap();
    }
    let (client, tree) = (client("context", &source).await, kept(&place));
    for _ in 0..2 {
        let request = SyncRequest {
            name: "context".to_owned(),
            metadata_only: Some(MetadataOnly::except(|path| path.ends_with(b"/wanted"))),
            ..SyncRequest::default()
        };
        client.session().sync_directory(request, &tree, &mut |_| {}).await.unwrap();
        let names: Vec<_> = look(tree.tree.as_path()).into_keys().collect();
        assert_eq!(names, [".fsutil-metadata", "a", "a/b", "a/b/wanted"]);
    }
    assert_eq!(client.take_record().requested, ["a/b/wanted"]);
    let listed = fs::read(tree.tree.join(".fsutil-metadata").as_path()).unwrap();
    let length = u32::from_le_bytes(listed[..4].try_into().unwrap()) as usize;
    let stat: session::testing::Stat = prost::Message::decode(&listed[4..4 + length]).unwrap();
    assert_eq!(stat.path, "a");
}

#[tokio::test]
async fn a_file_written_to_while_it_travels_is_asked_for_again() {
    // The client lists five bytes but cannot open the file: it sends none.
    let (source, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(source.path().join("f"), "12345").unwrap();
    let stat =
        session::testing::Stat { path: "f".to_owned(), mode: 0o644, size: 5, ..Default::default() };
    let packet = |kind, stat| session::testing::Packet { r#type: kind, stat, ..Default::default() };
    let script = vec![packet(0, Some(stat)), packet(0, None), packet(2, None), packet(3, None)];
    let client = FakeClient::new()
        .with_script("context", script)
        .connect(&Sessions::new(), "s")
        .await
        .unwrap();
    let tree = kept(&place);
    for kind in ["+f", "~f"] {
        let done = sync(&client, &tree).await.unwrap();
        assert_eq!(summary(&done.changes), [kind]);
    }
}

#[tokio::test]
async fn a_complete_file_is_never_written_again() {
    let (source, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(source.path().join("f"), "old").unwrap();
    let (client, tree) = (client("context", &source).await, kept(&place));
    sync(&client, &tree).await.unwrap();
    let held = fs::File::open(tree.tree.join("f").as_path()).unwrap();
    fs::write(source.path().join("f"), "brand new").unwrap();
    sync(&client, &tree).await.unwrap();
    let mut content = [0; 3];
    held.read_exact_at(&mut content, 0).unwrap();
    assert_eq!((&content, held.metadata().unwrap().nlink()), (b"old", 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_trees_are_equal_after_every_sync(
        rounds in proptest::collection::vec((edits(), any::<bool>(), 0usize..40), 1..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check(&rounds));
    }
}

/// Each round edits the source, perhaps loses the index, and perhaps loses the client in the middle.
async fn check(rounds: &[(Vec<Edit>, bool, usize)]) {
    let (source, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tree = kept(&place);
    for (edits, loses_index, packets) in rounds {
        edits.iter().for_each(|edit| edit.apply(source.path()));
        let before = look(tree.tree.as_path());
        let client = client("context", &source).await;
        let done = sync(&client, &tree).await.unwrap();
        let after = look(tree.tree.as_path());
        assert_eq!(after, look(source.path()));

        // What was told is what happened.
        let told = |path: &String| done.changes.iter().any(|c| c.path == path.as_bytes());
        let went_with_directory = |path: &String| {
            done.changes.iter().any(|change| {
                let inside = [&change.path[..], b"/"].concat();
                let is_dir =
                    fs::metadata(tree.tree.join(OsStr::from_bytes(&change.path)).as_path())
                        .is_ok_and(|metadata| metadata.is_dir());
                change.kind != ChangeKind::Added && !is_dir && path.as_bytes().starts_with(&inside)
            })
        };
        for path in before.keys().chain(after.keys()) {
            if before.get(path) != after.get(path) {
                assert!(
                    told(path) || went_with_directory(path),
                    "{path} in {:?}",
                    summary(&done.changes)
                );
            }
        }
        for path in client.take_record().requested {
            assert!(told(&path), "{path} was requested but is not told");
        }
        drop(client);

        let vanishing = FakeClient::new()
            .with_vanishing("context", source.path(), *packets)
            .connect(&Sessions::new(), "s")
            .await
            .unwrap();
        Edit::File("b".to_owned(), vec![1; 70_000]).apply(source.path());
        let _ = sync(&vanishing, &tree).await;
        if *loses_index {
            let _ = fs::remove_file(tree.index.as_ref().unwrap().as_path());
        }
    }
}
