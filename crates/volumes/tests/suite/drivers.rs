//! The same on other file systems, by each way of forking. Each test makes its own file system in a
//! file, where the programs for that are.

use std::fs;
use std::path::Path;

use proptest::strategy::Strategy as _;
use proptest::test_runner::{Config, TestRunner};
use volumes::{
    Driver, Form, Merge, Origin, Outcome, PolicyPatch, Quota, Sharing, VolumeError, VolumeManager,
    VolumeSettings,
};

use crate::trees;
use crate::world::{Mounted, Told, World, key, label, mounted, name};

/// Every driver on every file system that has it.
const ALL: [(&str, Driver); 6] = [
    ("ext4", Driver::Overlay),
    ("xfs", Driver::Overlay),
    ("xfs", Driver::Reflink),
    ("btrfs", Driver::Overlay),
    ("btrfs", Driver::Reflink),
    ("btrfs", Driver::Subvolume),
];

fn with(driver: Driver) -> VolumeSettings {
    let defaults = PolicyPatch { driver: Some(driver), ..Default::default() };
    VolumeSettings { defaults, ..Default::default() }
}

/// The names in the trees of a volume's head, which is one layer.
async fn whole(world: &World, id: &str) -> std::path::PathBuf {
    let head = world.manager.path(key(id)).await.unwrap().head;
    assert_eq!(head.len(), 1, "{id} stands on nothing");
    head[0].as_path().to_owned()
}

fn is_subvolume(path: &Path) -> bool {
    executor::subvolume::is_one(path).unwrap()
}

#[tokio::test]
async fn where_files_can_share_blocks_not_even_the_first_fork_waits() {
    for (file_system, driver) in
        [("xfs", Driver::Reflink), ("btrfs", Driver::Reflink), ("btrfs", Driver::Subvolume)]
    {
        let Some(world) = World::on(file_system, with(driver)).await else { continue };
        let writer = world.take("v", Sharing::Shared).await;
        let writing = mounted(&writer.mount(0).unwrap());
        writing.write("warm", &"x".repeat(1 << 20));
        writing.set_root(0, 7, 0o711);
        let fork = world.take("v", Sharing::Private).await;
        let forked = mounted(&fork.mount(0).unwrap());
        assert_eq!(forked.read("warm").unwrap().len(), 1 << 20);
        assert_eq!(forked.root(), (0, 7, 0o711));
        forked.write("own", "");
        writing.write("late", "");
        assert_eq!((forked.names().len(), writing.names().len()), (2, 2), "two trees");
        // A reader waits all the same.
        let told = Told::default();
        let reader = world.spawn_take("v", Sharing::ReadOnly, &told);
        told.waiting().await;
        writer.finish(Outcome::Succeeded).await.unwrap();
        drop(reader.await.unwrap().unwrap());
        fork.finish(Outcome::Succeeded).await.unwrap();
        assert_eq!(world.head("v").await, ["own", "warm"], "{file_system}: the last writer");
    }
}

#[tokio::test]
async fn forks_and_publishes_are_the_same_on_every_file_system() {
    for (file_system, driver) in ALL {
        let Some(world) = World::on(file_system, with(driver)).await else { continue };
        world.fill("v", &[("a", "1"), ("b", "1")]).await;
        for round in 0..6 {
            let fork = world.take("v", Sharing::Private).await;
            let tree = mounted(&fork.mount(0).unwrap());
            tree.write("a", &round.to_string());
            tree.write(&format!("n{round}"), "");
            drop(tree);
            fork.finish(Outcome::Succeeded).await.unwrap();
        }
        world.manager.sweep().await.unwrap();
        let names = ["a", "b", "n0", "n1", "n2", "n3", "n4", "n5"];
        assert_eq!(world.head("v").await, names, "{file_system} {driver:?}");
        assert!(world.manager.path(key("v")).await.unwrap().head.len() <= 4);
    }
}

#[test]
fn steps_and_owners_find_the_same_on_every_file_system() {
    for (file_system, driver) in [("xfs", "auto"), ("btrfs", "auto"), ("btrfs", "subvolume")] {
        let Some(mounted) = Mounted::new(file_system) else { continue };
        #[expect(clippy::disallowed_methods, reason = "the same tests again, elsewhere")]
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        // All that they make is below the directory for what is temporary.
        again.args(["leases::", "owner::", "processes::", "ends::"]);
        // It is about waiting where these file systems need no wait.
        again.args(["--skip", "the_first_fork_of"]).env("TMPDIR", &mounted.path);
        again.env("VOLUMES_DRIVER", driver);
        let output = again.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let warned = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{file_system} {driver}: {said}\n{warned}");
        assert!(!said.contains("running 0 tests"), "{said}");
    }
}

#[tokio::test]
async fn every_kind_of_file_survives_on_every_file_system() {
    for (file_system, driver) in ALL {
        let patch = PolicyPatch { driver: Some(driver), ..Default::default() };
        let Some(world) = World::on(file_system, trees::shallow(patch)).await else { continue };
        trees::every_kind_of_file_survives(&world).await;
    }
}

#[tokio::test]
async fn what_a_file_system_lacks_is_refused() {
    let Some(mounted) = Mounted::new("ext4") else { return };
    let root = mount::HostPath::new(mounted.path.join("other")).unwrap();
    let error = VolumeManager::open(root.clone(), with(Driver::Reflink)).await.unwrap_err();
    assert!(matches!(error, VolumeError::NoReflinks(_)), "{error}");
    let error = VolumeManager::open(root.clone(), with(Driver::Subvolume)).await.unwrap_err();
    assert!(matches!(error, VolumeError::NoSubvolumes { .. }), "{error}");
    assert!(error.to_string().contains(&root.to_string()), "{error}");
    drop(VolumeManager::open(root, with(Driver::Auto)).await.unwrap());
}

#[tokio::test]
async fn on_btrfs_forks_are_overlays_unless_a_snapshot_spares_a_wait() {
    let Some(world) = World::on("btrfs", VolumeSettings::default()).await else { return };
    let writer = world.take("v", Sharing::Locked).await;
    mounted(&writer.mount(0).unwrap()).write("warm", "");
    // Nobody waits for who writes in place.
    let fork = world.take("v", Sharing::Private).await;
    let tree = mounted(&fork.mount(0).unwrap());
    assert!(is_subvolume(&tree.path), "found out by itself");
    assert_eq!(tree.names(), ["warm"]);
    tree.write("own", "");
    writer.finish(Outcome::Succeeded).await.unwrap();
    fork.finish(Outcome::Succeeded).await.unwrap();
    assert_eq!(world.head("v").await, ["own", "warm"]);
    world.take("v", Sharing::ReadOnly).await.finish(Outcome::Succeeded).await.unwrap();
    let fork = world.take("v", Sharing::Private).await;
    let mount = fork.mount(0).unwrap();
    assert!(matches!(mount.source, mount::MountSource::Overlay { .. }), "{mount:?}");
    mounted(&mount).write("more", "");
    fork.finish(Outcome::Succeeded).await.unwrap();
    assert_eq!(world.head("v").await, ["more", "own", "warm"]);
}

#[tokio::test]
async fn on_btrfs_every_writer_has_a_snapshot_and_no_layers_are_stacked() {
    let Some(world) = World::on("btrfs", with(Driver::Subvolume)).await else { return };
    world.fill("v", &[("a", "1")]).await;
    assert!(is_subvolume(&whole(&world, "v").await));
    world.take("v", Sharing::ReadOnly).await.finish(Outcome::Succeeded).await.unwrap();
    for (number, sharing) in
        [Sharing::Private, Sharing::Locked, Sharing::Shared].into_iter().enumerate()
    {
        let lease = world.take("v", sharing).await;
        let mount = lease.mount(0).unwrap();
        assert!(matches!(mount.source, mount::MountSource::Bind(_)), "{sharing}: no overlay");
        let tree = mounted(&mount);
        assert!(is_subvolume(&tree.path));
        // A directory of the head can be renamed, which an overlay refuses.
        if number > 0 {
            fs::rename(tree.path.join("d0"), tree.path.join("d1")).unwrap_or_default();
        } else {
            fs::create_dir(tree.path.join("d0")).unwrap();
        }
        tree.write(&format!("{sharing}"), "");
        lease.finish(Outcome::Succeeded).await.unwrap();
        assert!(is_subvolume(&whole(&world, "v").await), "{sharing}");
    }
    assert_eq!(world.head("v").await, ["a", "d1", "locked", "private", "shared"]);
    let record = world.record("v").await;
    assert!(record.versions.iter().all(|version| version.depth == 1), "{record:?}");
    assert_eq!(record.versions.last().unwrap().origin, Origin::Published);
    // Who wrote nothing has made no version.
    world.take("v", Sharing::Private).await.finish(Outcome::Succeeded).await.unwrap();
    assert_eq!(world.record("v").await.head, record.head);
    assert_eq!(world.layers("v").await, record.versions.len(), "nothing is left over");
}

#[tokio::test]
async fn members_of_a_group_share_a_snapshot() {
    let Some(world) = World::on("btrfs", with(Driver::Subvolume)).await else { return };
    world.fill("v", &[("a", "1")]).await;
    world.take("v", Sharing::ReadOnly).await.finish(Outcome::Succeeded).await.unwrap();
    let [one, two] =
        [world.take("v", Sharing::Shared).await, world.take("v", Sharing::Shared).await];
    mounted(&one.mount(0).unwrap()).write("seen", "by both");
    assert_eq!(mounted(&two.mount(0).unwrap()).read("seen").as_deref(), Some("by both"));
    one.finish(Outcome::Succeeded).await.unwrap();
    assert_eq!(world.head("v").await, ["a"], "not before the last has left");
    two.finish(Outcome::Succeeded).await.unwrap();
    assert_eq!(world.head("v").await, ["a", "seen"]);
}

#[tokio::test]
async fn a_snapshot_is_kept_or_thrown_away_as_a_layer_is() {
    let Some(world) = World::on("btrfs", with(Driver::Subvolume)).await else { return };
    world.fill("v", &[("base", "")]).await;
    world.take("v", Sharing::ReadOnly).await.finish(Outcome::Succeeded).await.unwrap();
    for (outcome, kept) in [(Outcome::Failed, true), (Outcome::Killed, false)] {
        let fork = world.take("v", Sharing::Private).await;
        mounted(&fork.mount(0).unwrap()).write(&format!("{outcome:?}"), "");
        fork.finish(outcome).await.unwrap();
        assert_eq!(world.head("v").await.contains(&format!("{outcome:?}")), kept);
    }
    world.manager.sweep().await.unwrap();
    assert_eq!(world.layers("v").await, world.record("v").await.versions.len());
    let trash = fs::read_dir(world.root.path().join("v1/trash")).unwrap().count();
    assert_eq!(trash, 0, "subvolumes are deleted as well");
}

#[tokio::test]
async fn a_tree_with_subvolumes_of_its_own_is_forked_by_overlay_and_goes_as_a_whole() {
    let Some(world) = World::on("btrfs", with(Driver::Subvolume)).await else { return };
    let lease = world.take("v", Sharing::Locked).await;
    let tree = mounted(&lease.mount(0).unwrap());
    // As a step may do, which needs no privilege for it; the second cannot be emptied.
    executor::subvolume::create(&tree.path.join("inner")).unwrap();
    tree.write("inner/file", "kept");
    #[expect(clippy::disallowed_methods, reason = "only the program makes read-only ones")]
    let mut command = std::process::Command::new("btrfs");
    command.args(["subvolume", "snapshot", "-r"]);
    let made = command.arg(tree.path.join("inner")).arg(tree.path.join("fixed")).output();
    assert!(made.unwrap().status.success());
    lease.finish(Outcome::Succeeded).await.unwrap();
    let fork = world.take("v", Sharing::Private).await;
    let tree = mounted(&fork.mount(0).unwrap());
    assert_eq!(tree.read("inner/file").as_deref(), Some("kept"));
    assert_eq!(tree.read("fixed/file").as_deref(), Some("kept"));
    tree.write("more", "");
    drop(tree);
    fork.finish(Outcome::Succeeded).await.unwrap();
    assert_eq!(world.head("v").await, ["fixed", "inner", "more"]);
    let copy = world.manager.fork(key("v"), name("w"), label()).await.unwrap();
    assert_eq!(copy, key("w"));
    assert_eq!(fs::read_to_string(whole(&world, "w").await.join("inner/file")).unwrap(), "kept");
    world.manager.remove(key("v")).await.unwrap();
    world.manager.sweep().await.unwrap();
    let trash = fs::read_dir(world.root.path().join("v1/trash")).unwrap().count();
    assert_eq!(trash, 0, "read-only ones inside and all");
}

#[tokio::test]
async fn what_snapshots_share_is_counted_once_also_by_quotas() {
    let quota = Some(Quota { bytes: Some(6 << 20), inodes: None });
    let driver = Some(Driver::Subvolume);
    let defaults = PolicyPatch { quota, driver, ..Default::default() };
    let settings = VolumeSettings { defaults, ..Default::default() };
    let Some(world) = World::on("btrfs", settings).await else { return };
    let block = |letter: &str| letter.repeat(1 << 20);
    world.fill("v", &[("a", &block("a")), ("b", &block("b"))]).await;
    world.take("v", Sharing::ReadOnly).await.finish(Outcome::Succeeded).await.unwrap();
    for (name, published) in [("c", true), ("d", true), ("e", true)] {
        let fork = world.take("v", Sharing::Private).await;
        mounted(&fork.mount(0).unwrap()).write(name, &block(name));
        let told = fork.conclude(Outcome::Succeeded).await.unwrap();
        assert_eq!(told.is_empty(), published, "three versions of up to 5 MiB: {told:?}");
    }
    let space = world.record("v").await.space;
    let layers = world.manager.path(key("v")).await.unwrap().layers;
    #[expect(clippy::disallowed_methods, reason = "the file system's own program is the judge")]
    let mut command = std::process::Command::new("btrfs");
    let command = command.args(["filesystem", "du", "--raw", "-s"]).arg(layers.as_path());
    let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let numbers: Vec<u64> = said
        .lines()
        .last()
        .unwrap()
        .split_whitespace()
        .map_while(|word| word.parse().ok())
        .collect();
    let [_total, exclusive, shared] = numbers[..] else { panic!("{said}") };
    assert_eq!(space.bytes, exclusive + shared, "{said}");
    assert_eq!(space.bytes, 5 << 20);

    let fork = world.take("v", Sharing::Private).await;
    mounted(&fork.mount(0).unwrap()).write("f", &block("f").repeat(2));
    let told = fork.conclude(Outcome::Succeeded).await.unwrap();
    assert_eq!(told.len(), 1, "7 MiB are too much: {told:?}");
    assert!(!world.head("v").await.contains(&"f".to_owned()));
}

#[tokio::test]
async fn a_volume_from_before_goes_on_in_layers_until_it_is_one_again() {
    let snapshots = PolicyPatch { driver: Some(Driver::Subvolume), ..Default::default() };
    let Some(mut world) = World::on("btrfs", trees::shallow(snapshots)).await else {
        return;
    };
    // Made by a daemon that was told to use the overlay.
    let settings =
        trees::shallow(PolicyPatch { driver: Some(Driver::Overlay), ..Default::default() });
    let subvolumes = std::mem::replace(
        &mut world.manager,
        crate::world::open(world.root.path().into(), settings).await,
    );
    world.fill("v", &[("a", "1")]).await;
    world.manager = subvolumes;
    world.take("v", Sharing::ReadOnly).await.finish(Outcome::Succeeded).await.unwrap();
    for file in ["b", "c"] {
        world.fill("v", &[(file, "1")]).await;
        assert!(!world.head("v").await.is_empty());
    }
    assert_eq!(world.head("v").await, ["a", "b", "c"]);
    assert_eq!(world.record("v").await.form, Form::Versioned);
    world.manager.reset(key("v"), label()).await.unwrap();
    assert!(is_subvolume(&whole(&world, "v").await));
}

#[test]
fn a_union_of_snapshots_takes_each_file_from_the_side_that_changed_it() {
    let (merge, driver) = (Some(Merge::Union), Some(Driver::Subvolume));
    let defaults = PolicyPatch { merge, driver, ..Default::default() };
    let settings = VolumeSettings { defaults, ..Default::default() };
    trees::run(async {
        let Some(world) = World::on("btrfs", settings).await else { return };
        let mut runner = TestRunner::new(Config { cases: 48, ..Config::default() });
        for case in 0..48 {
            let timeline = trees::any_timeline().new_tree(&mut runner).unwrap();
            let [before, ours, theirs] = proptest::strategy::ValueTree::current(&timeline);
            let id = format!("v-{case}");
            trees::is_united_as_documented(&world, &id, &before, &ours, &theirs).await;
            assert!(is_subvolume(&whole(&world, &id).await), "united without layers");
            world.manager.remove(key(&id)).await.unwrap();
        }
    });
}
