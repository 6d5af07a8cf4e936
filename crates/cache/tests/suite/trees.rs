//! Clients' directories: one for each build at a time, reused by the next.

use std::fs;

use cache::LocalTree;
use mount::GuestPath;

use crate::world::{World, files};

fn write(tree: &LocalTree, name: &str, content: &str) {
    fs::write(tree.directory().unwrap().join(name).as_path(), content).unwrap();
}

#[tokio::test]
async fn a_directory_is_reused_when_its_build_has_ended() {
    let world = World::new().await;
    let tree = world.trees.take("context", "for people").await.unwrap();
    write(&tree, "a", "1");
    let key = tree.key().clone();
    let result = tree.share(false);
    assert!(result.is_local());
    assert_eq!(world.files(&result).await, files(&[("/a", "1")]));
    let second = world.trees.take("context", "for people").await.unwrap();
    assert_ne!(second.key(), &key, "the first is in use");
    let other = world.trees.take("dockerfile", "for people").await.unwrap();
    drop(second);
    let view = world.refs.view(&result).await.unwrap();
    drop(result);
    assert!(!world.trees.free().contains(&key), "a view holds the directory");
    drop(view);
    assert!(world.trees.free().contains(&key));
    let again = world.trees.take("context", "for people").await.unwrap();
    assert_eq!(again.key(), &key);
    drop((other, again));
    assert_eq!(world.trees.free().len(), 3);
}

#[tokio::test]
async fn directories_survive_a_restart_and_a_crash() {
    let world = World::new().await;
    let tree = world.trees.take("context", "").await.unwrap();
    write(&tree, "a", "1");
    let key = tree.key().clone();
    drop(tree.share(false));
    let world = world.reopen().await;
    let tree = world.trees.take("context", "").await.unwrap();
    assert_eq!(tree.key(), &key);
    write(&tree, "b", "2");
    // In the middle of a sync.
    std::mem::forget(tree);
    let world = world.crash().await;
    let tree = world.trees.take("context", "").await.unwrap();
    assert_eq!(tree.key(), &key);
    let result = tree.share(false);
    assert_eq!(world.files(&result).await, files(&[("/a", "1"), ("/b", "2")]));
}

#[tokio::test]
async fn a_result_over_a_directory_does_not_change_with_it() {
    let world = World::new().await;
    let tree = world.trees.take("context", "").await.unwrap();
    write(&tree, "a", "1");
    let shared = tree.share(false);
    let made = world.layer(&shared, &[("/b", "2")]).await;
    let merged = world.refs.merge(std::slice::from_ref(&shared)).await.unwrap();
    assert!(!made.is_local() && !merged.is_local());
    drop(shared);
    let tree = world.trees.take("context", "").await.unwrap();
    write(&tree, "a", "changed");
    assert_eq!(world.files(&made).await, files(&[("/a", "1"), ("/b", "2")]));
    assert_eq!(world.files(&merged).await, files(&[("/a", "1")]));
}

#[tokio::test]
async fn checksums_stay_with_the_directory_and_forget_what_is_told() {
    let world = World::new().await;
    let tree = world.trees.take("context", "").await.unwrap();
    write(&tree, "a", "1");
    write(&tree, "b", "1");
    let shared = tree.share(false);
    let path = |text: &str| GuestPath::new(text).unwrap();
    let before = digest(&world, &shared).await;
    drop(shared);
    let tree = world.trees.take("context", "").await.unwrap();
    write(&tree, "a", "2");
    write(&tree, "b", "2");
    let sums = tree.checksums().clone();
    let shared = tree.share(false);
    assert_eq!(digest(&world, &shared).await, before, "nobody told of a change");
    sums.forget(&path("/a"));
    let one = digest(&world, &shared).await;
    assert_ne!(one, before);
    sums.forget(&path("/b"));
    assert_ne!(digest(&world, &shared).await, one);
}

async fn digest(world: &World, tree: &cache::ImmutableRef) -> digests::Digest {
    let root = world.refs.view(tree).await.unwrap().root().unwrap();
    world.refs.checksums(tree).digest(&root, &GuestPath::root()).unwrap()
}

#[tokio::test]
async fn free_directories_can_be_removed_and_used_ones_cannot() {
    let world = World::new().await;
    let collector = world.collector();
    let tree = world.trees.take("context", "local source for context").await.unwrap();
    let id = tree.key().to_string();
    let shown = || collector.usage().into_iter().find(|record| record.id == id);
    let record = shown().unwrap();
    assert!(record.in_use && record.mutable);
    assert_eq!(record.kind, cache::RecordKind::LocalSource);
    assert!(!collector.remove(&id).await.unwrap());
    drop(tree);
    assert!(!shown().unwrap().in_use);
    assert!(collector.remove(&id).await.unwrap());
    assert!(shown().is_none());
    assert_eq!(world.layers_on_disk().await, 0);
    assert!(world.trees.free().is_empty());
}
