//! Both ways of showing stacks must show the same trees and keep the same promises.

use std::sync::Arc;

use super::*;
use crate::{CopySnapshotter, Driver, OverlaySnapshotter, Usage, probe};

async fn drivers(place: &Place) -> Vec<(&'static str, Arc<dyn Snapshotter>)> {
    vec![
        ("overlay", Arc::new(OverlaySnapshotter::open(place.path("overlay")).await.unwrap())),
        ("copy", Arc::new(CopySnapshotter::open(place.path("copy")).await.unwrap())),
    ]
}

async fn open(name: &str, place: &Place) -> Arc<dyn Snapshotter> {
    match name {
        "overlay" => Arc::new(OverlaySnapshotter::open(place.path(name)).await.unwrap()),
        _ => Arc::new(CopySnapshotter::open(place.path(name)).await.unwrap()),
    }
}

async fn shown(snapshotter: &dyn Snapshotter, stack: &[LayerKey], times: Times) -> Picture {
    let view = snapshotter.view(stack).await.unwrap();
    picture(&Mounted::new(view.mount()).0, times)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap()
}

#[test]
fn an_overlay_works_here() {
    let place = Place::new();
    assert_eq!(probe(&place.path(".")), Driver::Overlay);
    assert_eq!(fs::read_dir(place.path(".")).unwrap().count(), 0);
    let Driver::Copy { reason } = probe(&HostPath::new("/proc").unwrap()) else { panic!() };
    assert!(!reason.is_empty());
}

#[tokio::test]
async fn layers_hide_replace_and_remove_what_is_below() {
    let place = Place::new();
    for (name, snapshotter) in drivers(&place).await {
        let base = layer(&*snapshotter, "base", &[], |root| {
            write(root, "etc/kept", "base");
            write(root, "etc/changed", "base");
            write(root, "etc/gone", "base");
            write(root, "tree/file", "base");
            write(root, "file-to-tree", "base");
            write(root, "emptied/old", "base");
            write(root, "moved/deep/file", "base");
        })
        .await
        .unwrap();
        let stack = layer(&*snapshotter, "top", &base, |root| {
            write(root, "etc/changed", "top");
            fs::remove_file(root.join("etc/gone")).unwrap();
            fs::remove_dir_all(root.join("tree")).unwrap();
            fs::write(root.join("tree"), "now a file").unwrap();
            fs::remove_file(root.join("file-to-tree")).unwrap();
            write(root, "file-to-tree/inside", "top");
            fs::remove_dir_all(root.join("emptied")).unwrap();
            write(root, "emptied/new", "top");
            // A program that moves a directory gets EXDEV and copies; so do we.
            write(root, "renamed/deep/file", "base");
            fs::remove_dir_all(root.join("moved")).unwrap();
        })
        .await
        .unwrap();
        let files: Vec<_> = shown(&*snapshotter, &stack, Times::None)
            .await
            .into_keys()
            .map(|path| path.display().to_string())
            .collect();
        let expected = [
            "emptied",
            "emptied/new",
            "etc",
            "etc/changed",
            "etc/kept",
            "file-to-tree",
            "file-to-tree/inside",
            "renamed",
            "renamed/deep",
            "renamed/deep/file",
            "tree",
        ];
        assert_eq!(files, expected, "{name}");
        let view = snapshotter.view(&stack).await.unwrap();
        let tree = Mounted::new(view.mount());
        assert_eq!(fs::read_to_string(tree.path("etc/changed")).unwrap(), "top");
        assert_eq!(shown(&*snapshotter, &base, Times::None).await.len(), 12, "{name}");
    }
}

#[tokio::test]
async fn everything_said_of_a_file_survives() {
    let place = Place::new();
    let plain = place.directory("plain");
    write_zoo(plain.as_path());
    for (name, snapshotter) in drivers(&place).await {
        let base = layer(&*snapshotter, "base", &[], |root| {
            write(root, "other", "");
        })
        .await
        .unwrap();
        let stack = layer(&*snapshotter, "zoo", &base, write_zoo).await.unwrap();
        let top = layer(&*snapshotter, "top", &stack, |root| {
            fs::remove_file(root.join("other")).unwrap();
        })
        .await
        .unwrap();
        let given = picture_of(&plain, Times::None);
        assert_is_zoo(&given);
        assert_eq!(shown(&*snapshotter, &top, Times::None).await, given, "{name}");
        let exact = shown(&*snapshotter, &top, Times::Exact).await;
        assert!(exact[Path::new("bin/su")].contains("1000000000.123456789"), "{name}");
        let view = snapshotter.view(&top).await.unwrap();
        let tree = Mounted::new(view.mount());
        let sparse = tree.path("sparse");
        let blocks = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(sparse).unwrap());
        assert!(blocks < 1000, "{name}: the hole was filled");
    }
}

#[tokio::test]
async fn stacks_can_be_put_together_from_any_layers() {
    let place = Place::new();
    for (name, snapshotter) in drivers(&place).await {
        let base = layer(&*snapshotter, "base", &[], |root| {
            write(root, "a/old", "");
            write(root, "a/b/older", "");
        })
        .await
        .unwrap();
        let over = layer(&*snapshotter, "over", &base, |root| {
            fs::remove_file(root.join("a/old")).unwrap();
            fs::remove_dir_all(root.join("a/b")).unwrap();
            write(root, "a/b/new", "");
        })
        .await
        .unwrap();
        let other = layer(&*snapshotter, "other", &[], |root| write(root, "x", "")).await.unwrap();
        // The upper layer alone, and over a tree in which its whiteouts have nothing to hide.
        for (stack, expected) in [
            (keys(&["over"]), vec!["a", "a/b", "a/b/new"]),
            ([other.as_slice(), &keys(&["over"])].concat(), vec!["a", "a/b", "a/b/new", "x"]),
            (keys(&["over", "base"]), vec!["a", "a/b", "a/b/new", "a/b/older", "a/old"]),
            // A layer may stand in a stack more than once.
            (keys(&["base", "over", "base"]), vec!["a", "a/b", "a/b/new", "a/b/older", "a/old"]),
            (keys(&["base", "base"]), vec!["a", "a/b", "a/b/older", "a/old"]),
        ] {
            let view = snapshotter.view(&stack).await.unwrap();
            let tree = Mounted::new(view.mount());
            let listed: Vec<_> =
                fs::read_dir(tree.path("a")).unwrap().map(|e| e.unwrap()).collect();
            assert!(listed.iter().all(|entry| entry.metadata().is_ok()), "{name}: {listed:?}");
            let found = shown(&*snapshotter, &stack, Times::None).await;
            let found: Vec<_> = found.keys().map(|path| path.display().to_string()).collect();
            assert_eq!(found, expected, "{name} {stack:?}");
        }
        assert_eq!(over.len(), 2);
    }
}

#[tokio::test]
async fn a_layer_is_opened_with_its_marks_of_what_it_removes() {
    let place = Place::new();
    for (name, snapshotter) in drivers(&place).await {
        let base = layer(&*snapshotter, "base", &[], |root| {
            write(root, "a/gone", "");
            write(root, "a/kept", "");
        });
        let base = base.await.unwrap();
        let over = layer(&*snapshotter, "over", &base, |root| {
            fs::remove_file(root.join("a/gone")).unwrap();
        });
        over.await.unwrap();
        let files = snapshotter.layer(&key("over")).await.unwrap();
        let found = picture_of(files.directory(), Times::None);
        let found: Vec<_> =
            found.into_iter().map(|(path, text)| (path, text == "whiteout")).collect();
        assert_eq!(found, [(PathBuf::from("a"), false), (PathBuf::from("a/gone"), true)], "{name}");
        let absent = snapshotter.layer(&key("absent")).await.unwrap_err();
        assert_eq!(absent.to_string(), "layer `absent` is not committed");
    }
}

#[tokio::test]
async fn a_dropped_layer_is_gone_and_its_key_free() {
    let place = Place::new();
    for (name, snapshotter) in drivers(&place).await {
        let active = snapshotter.prepare(key("one"), &[]).await.unwrap();
        let again = snapshotter.prepare(key("one"), &[]).await.unwrap_err();
        assert!(matches!(again, SnapshotError::Exists { .. }), "{name}");
        let below = snapshotter.view(&keys(&["one"])).await.unwrap_err();
        assert_eq!(below.to_string(), "layer `one` is not committed");
        drop(active);
        assert!(snapshotter.layers().await.unwrap().is_empty(), "{name}");
        let ingest = snapshotter.ingest(key("one")).await.unwrap();
        fs::write(ingest.directory().join("file"), "").unwrap();
        drop(ingest);
        layer(&*snapshotter, "one", &[], |root| write(root, "x", "")).await.unwrap();
        let again = snapshotter.ingest(key("one")).await.unwrap_err();
        assert!(matches!(again, SnapshotError::Exists { .. }), "{name}");
        assert_eq!(snapshotter.layers().await.unwrap(), keys(&["one"]), "{name}");
    }
}

#[tokio::test]
async fn what_is_not_finished_is_swept_and_the_rest_stays() {
    let place = Place::new();
    for (name, snapshotter) in drivers(&place).await {
        let stack = layer(&*snapshotter, "done", &[], |root| write(root, "x", "1")).await.unwrap();
        let kept = snapshotter.prepare(key("kept"), &stack).await.unwrap();
        write(&Mounted::new(kept.mount()).path("."), "y", "2");
        kept.keep().await.unwrap();
        // A crash: nothing is dropped.
        let active = snapshotter.prepare(key("cut-off"), &stack).await.unwrap();
        write(&Mounted::new(active.mount()).path("."), "z", "3");
        std::mem::forget(active);
        let resumed = snapshotter.resume(key("kept"), &stack).await.unwrap();
        std::mem::forget(resumed);

        let snapshotter = open(name, &place).await;
        assert_eq!(snapshotter.layers().await.unwrap(), keys(&["done", "kept"]), "{name}");
        let active = snapshotter.resume(key("kept"), &stack).await.unwrap();
        let tree = Mounted::new(active.mount());
        assert_eq!(fs::read_to_string(tree.path("x")).unwrap(), "1", "{name}");
        assert_eq!(fs::read_to_string(tree.path("y")).unwrap(), "2", "{name}");
        fs::remove_file(tree.path("x")).unwrap();
        drop(tree);
        active.commit().await.unwrap();
        let found = shown(&*snapshotter, &keys(&["done", "kept"]), Times::None).await;
        assert_eq!(found.into_keys().collect::<Vec<_>>(), [PathBuf::from("y")], "{name}");
        drop(snapshotter.prepare(key("cut-off"), &stack).await.unwrap());
    }
}

#[tokio::test]
async fn a_committed_layer_can_be_resumed_and_a_dropped_resumption_keeps_it() {
    let place = Place::new();
    for (name, snapshotter) in drivers(&place).await {
        layer(&*snapshotter, "tree", &[], |root| write(root, "x", "1")).await.unwrap();
        let active = snapshotter.resume(key("tree"), &[]).await.unwrap();
        assert!(snapshotter.view(&keys(&["tree"])).await.is_err(), "{name}");
        write(&Mounted::new(active.mount()).path("."), "y", "2");
        drop(active);
        assert!(snapshotter.view(&keys(&["tree"])).await.is_err(), "{name}: it is kept now");
        let active = snapshotter.resume(key("tree"), &[]).await.unwrap();
        active.commit().await.unwrap();
        assert_eq!(shown(&*snapshotter, &keys(&["tree"]), Times::None).await.len(), 2, "{name}");
    }
}

#[tokio::test]
async fn layers_that_a_power_loss_may_have_damaged_are_dropped() {
    let place = Place::new();
    for (name, snapshotter) in drivers(&place).await {
        layer(&*snapshotter, "safe", &[], |root| write(root, "x", "")).await.unwrap();
        snapshotter.sync().await.unwrap();
        layer(&*snapshotter, "unsafe", &[], |root| write(root, "x", "")).await.unwrap();
        drop(snapshotter);
        // The process died: all is there.
        let snapshotter = open(name, &place).await;
        assert_eq!(snapshotter.layers().await.unwrap().len(), 2, "{name}");
        drop(snapshotter);
        // The machine died: the marks are of an earlier boot.
        let marks = place.path(name).join(".unsynced");
        let boot = fs::read_dir(&marks).unwrap().next().unwrap().unwrap();
        fs::rename(boot.path(), marks.join("an-earlier-boot")).unwrap();
        let snapshotter = open(name, &place).await;
        assert_eq!(snapshotter.layers().await.unwrap(), keys(&["safe"]), "{name}");
        drop(snapshotter);
        assert_eq!(open(name, &place).await.layers().await.unwrap(), keys(&["safe"]), "{name}");
    }
}

#[tokio::test]
async fn a_layer_is_removed_once_and_only_when_it_is_there() {
    let place = Place::new();
    for (name, snapshotter) in drivers(&place).await {
        layer(&*snapshotter, "one", &[], |root| write(root, "x", "")).await.unwrap();
        snapshotter.remove(&key("one")).await.unwrap();
        assert!(snapshotter.layers().await.unwrap().is_empty(), "{name}");
        let error = snapshotter.remove(&key("one")).await.unwrap_err();
        assert_eq!(error.to_string(), "layer `one` is not committed or kept", "{name}");
        assert!(snapshotter.usage(&key("one")).await.is_err(), "{name}");
        let active = snapshotter.prepare(key("one"), &[]).await.unwrap();
        assert!(snapshotter.remove(&key("one")).await.is_err(), "{name}: it is active");
        drop(active);
    }
}

#[tokio::test]
async fn many_layers_are_removed_up_to_the_first_that_is_not_there() {
    let place = Place::new();
    for (name, snapshotter) in drivers(&place).await {
        let keys = ["a", "b", "c"].map(key);
        for key in ["a", "b", "c"] {
            layer(&*snapshotter, key, &[], |root| write(root, "x", "")).await.unwrap();
        }
        let wanted = [keys[0].clone(), key("none"), keys[1].clone()];
        let (count, outcome) = snapshotter.remove_all(&wanted).await;
        assert!(matches!(outcome, Err(SnapshotError::Missing { .. })), "{name}: {outcome:?}");
        assert_eq!((count, snapshotter.layers().await.unwrap()), (1, keys[1..].to_vec()), "{name}");
        let (count, outcome) = snapshotter.remove_all(&keys[1..]).await;
        assert!(outcome.is_ok(), "{name}: {outcome:?}");
        assert_eq!((count, snapshotter.layers().await.unwrap().len()), (2, 0), "{name}");
        snapshotter.reclaim().await;
        let left = fs::read_dir(place.path(name)).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = left.filter(|name| !name.as_encoded_bytes().starts_with(b".")).collect();
        assert!(left.is_empty(), "{name}: {left:?} still takes space");
    }
}

#[tokio::test]
async fn usage_counts_blocks_and_a_linked_file_once() {
    let place = Place::new();
    for (name, snapshotter) in drivers(&place).await {
        let empty = snapshotter.prepare(key("empty"), &[]).await.unwrap().commit().await.unwrap();
        assert_eq!(empty.inodes, 1, "{name}: the root");
        layer(&*snapshotter, "one", &[], |root| {
            write(root, "d/file", &"x".repeat(10_000));
            fs::hard_link(root.join("d/file"), root.join("d/link")).unwrap();
        })
        .await
        .unwrap();
        let usage = snapshotter.usage(&key("one")).await.unwrap();
        assert_eq!(usage.inodes, 3, "{name}");
        assert_eq!(usage.bytes, empty.bytes * 2 + 12_288, "{name}");
        // It is known after a restart, and counted again if it was lost.
        fs::remove_file(place.path(name).join("empty/usage.json")).unwrap();
        let again = open(name, &place).await;
        assert_eq!(again.usage(&key("one")).await.unwrap(), usage, "{name}");
        assert_eq!(again.usage(&key("empty")).await.unwrap(), empty, "{name}");
        assert_eq!(Usage::default().bytes, 0);
    }
}

#[tokio::test]
async fn the_empty_stack_is_an_empty_tree() {
    let place = Place::new();
    for (name, snapshotter) in drivers(&place).await {
        assert!(shown(&*snapshotter, &[], Times::None).await.is_empty(), "{name}");
        assert!(snapshotter.view(&[]).await.unwrap().mount().readonly, "{name}");
    }
}

#[tokio::test]
async fn the_root_of_a_tree_keeps_its_mode() {
    let place = Place::new();
    for (name, snapshotter) in drivers(&place).await {
        let stack = layer(&*snapshotter, "base", &[], |root| set_mode(root, 0o711)).await.unwrap();
        let stack = layer(&*snapshotter, "top", &stack, |root| write(root, "x", "")).await.unwrap();
        let view = snapshotter.view(&stack).await.unwrap();
        let mode = fs::metadata(Mounted::new(view.mount()).path(".")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o711, "{name}");
    }
}

#[tokio::test]
async fn a_stack_may_be_as_high_as_the_kernel_allows() {
    let place = Place::new();
    let snapshotter = OverlaySnapshotter::open(place.path("overlay")).await.unwrap();
    let mut stack = Vec::new();
    for number in 0..500 {
        let ingest = snapshotter.ingest(key(&format!("layer-{number}"))).await.unwrap();
        fs::write(ingest.directory().join(format!("file-{number}")), "").unwrap();
        fs::write(ingest.directory().join("newest"), number.to_string()).unwrap();
        stack.push(ingest.key().clone());
        ingest.commit().await.unwrap();
    }
    assert_eq!(shown(&snapshotter, &stack, Times::None).await.len(), 501);
    let active = snapshotter.prepare(key("top"), &stack).await.unwrap();
    let tree = Mounted::new(active.mount());
    assert_eq!(fs::read_to_string(tree.path("newest")).unwrap(), "499");
    fs::write(tree.path("newest"), "top").unwrap();
    drop(tree);
    active.commit().await.unwrap();
    stack.push(key("top"));
    let error = snapshotter.view(&stack).await.unwrap_err();
    assert!(matches!(error, SnapshotError::TooHigh { layers: 501, limit: 500 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A stack built in any way shows the tree that the same changes make in one plain directory.
    #[test]
    fn stacks_show_what_was_done(steps in prop::collection::vec(changes(12), 1..4)) {
        runtime().block_on(async {
            let place = Place::new();
            for (name, snapshotter) in drivers(&place).await {
                let mut stack = Vec::new();
                for (number, step) in steps.iter().enumerate() {
                    // A directory from below cannot be renamed over layers: leave that out.
                    let step = step.iter().filter(|change| {
                        number == 0 || !matches!(change, Change::Rename(..) | Change::Link(..))
                    });
                    let step: Vec<_> = step.collect();
                    let plain = place.directory(&format!("plain-{name}"));
                    step.iter().for_each(|change| change.make(plain.as_path()));
                    let make = |root: &Path| step.iter().for_each(|change| change.make(root));
                    stack =
                        layer(&*snapshotter, &format!("n{number}"), &stack, make).await.unwrap();
                    let found = shown(&*snapshotter, &stack, Times::None).await;
                    let mut given = picture_of(&plain, Times::None);
                    if number > 0 {
                        // Links to what is below are broken by a change: compare what is read.
                        given.retain(|path, text| found.get(path) != Some(text));
                        given.retain(|_, text| !text.starts_with("link to"));
                        given.retain(|path, _| !has_other_names(plain.as_path(), path));
                        assert!(given.is_empty(), "{name}: {given:?}, found {found:?}");
                        continue;
                    }
                    assert_eq!(found, given, "{name}");
                }
            }
        });
    }
}

fn has_other_names(root: &Path, path: &Path) -> bool {
    let metadata = fs::symlink_metadata(root.join(path)).unwrap();
    metadata.is_file() && std::os::unix::fs::MetadataExt::nlink(&metadata) > 1
}

/// Returns how many directories lie below a layer over `stack`.
async fn depth(snapshotter: &dyn Snapshotter, stack: &[LayerKey]) -> usize {
    let active = snapshotter.prepare(key("probe"), stack).await.unwrap();
    match &active.mount().source {
        mount::MountSource::Overlay { lower, .. } => lower.len(),
        other => panic!("{other:?} is no overlay"),
    }
}

/// Makes a layer over `stack` in which nothing is.
async fn idle(snapshotter: &dyn Snapshotter, name: &str, stack: &[LayerKey]) -> Vec<LayerKey> {
    layer(snapshotter, name, stack, |_| {}).await.unwrap()
}

#[tokio::test]
async fn a_layer_that_changes_nothing_is_not_shown() {
    let place = Place::new();
    let snapshotter = open("overlay", &place).await;
    let base = layer(&*snapshotter, "base", &[], |root| write(root, "a", "")).await.unwrap();
    let stack = idle(&*snapshotter, "idle", &base).await;
    let stack = idle(&*snapshotter, "again", &stack).await;
    assert_eq!(depth(&*snapshotter, &stack).await, 1);
    let stack = layer(&*snapshotter, "root", &stack, |root| {
        fs::set_permissions(root, fs::Permissions::from_mode(0o700)).unwrap();
    });
    let stack = idle(&*snapshotter, "above", &stack.await.unwrap()).await;
    assert_eq!(depth(&*snapshotter, &stack).await, 2, "a root that changed is shown");
    drop(snapshotter);
    let snapshotter = open("overlay", &place).await;
    assert_eq!(depth(&*snapshotter, &stack).await, 2, "it is still known later");
    let view = snapshotter.view(&stack).await.unwrap();
    let tree = Mounted::new(view.mount());
    let root = tree.path(".");
    assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(root.join("a").exists());
}

#[tokio::test]
async fn a_layer_that_changes_nothing_where_it_was_made_may_change_something_elsewhere() {
    let place = Place::new();
    let snapshotter = open("overlay", &place).await;
    let closed = layer(&*snapshotter, "closed", &[], |root| {
        fs::set_permissions(root, fs::Permissions::from_mode(0o700)).unwrap();
    });
    let stack = idle(&*snapshotter, "idle", &closed.await.unwrap()).await;
    let other = layer(&*snapshotter, "other", &[], |root| write(root, "a", "")).await.unwrap();
    let merged = [other, stack[1..].to_vec()].concat();
    assert_eq!(depth(&*snapshotter, &merged).await, 2);
    let view = snapshotter.view(&merged).await.unwrap();
    let tree = Mounted::new(view.mount());
    let root = tree.path(".");
    assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn layers_that_change_nothing_do_not_count_towards_the_height() {
    let place = Place::new();
    let snapshotter = open("overlay", &place).await;
    let mut stack = layer(&*snapshotter, "base", &[], |root| write(root, "a", "")).await.unwrap();
    for number in 0..=mount::detached::OVERLAY_MAX_LOWER {
        stack = idle(&*snapshotter, &format!("idle-{number}"), &stack).await;
    }
    assert_eq!(depth(&*snapshotter, &stack).await, 1);
}
