//! The same on other file systems. Each test makes its own in a file, where the programs for that are.

use volumes::{Driver, Outcome, PolicyPatch, Sharing, VolumeError, VolumeManager, VolumeSettings};

use crate::world::{Told, World, mounted};

fn with(driver: Driver) -> VolumeSettings {
    let defaults = PolicyPatch { driver: Some(driver), ..Default::default() };
    VolumeSettings { defaults, ..Default::default() }
}

#[tokio::test]
async fn where_files_can_share_blocks_not_even_the_first_fork_waits() {
    for file_system in ["xfs", "btrfs"] {
        let Some(world) = World::on(file_system, with(Driver::Reflink)).await else {
            eprintln!("no mkfs.{file_system} here: not tried");
            continue;
        };
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
    for file_system in ["xfs", "btrfs", "ext4"] {
        let Some(world) = World::on(file_system, with(Driver::Overlay)).await else {
            eprintln!("no mkfs.{file_system} here: not tried");
            continue;
        };
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
        assert_eq!(world.head("v").await, names, "{file_system}");
        assert!(world.manager.path(crate::world::key("v")).await.unwrap().head.len() <= 4);
    }
}

#[tokio::test]
async fn reflinks_are_refused_where_there_are_none() {
    let Some(world) = World::on("ext4", VolumeSettings::default()).await else {
        eprintln!("no mkfs.ext4 here: not tried");
        return;
    };
    let root = mount::HostPath::new(world.root.path().join("mounted/other")).unwrap();
    let error = VolumeManager::open(root, with(Driver::Reflink)).await.unwrap_err();
    assert!(matches!(error, VolumeError::NoReflinks(_)), "{error}");
}
