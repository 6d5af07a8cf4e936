//! References: layers made, kept, combined and removed.

use cache::{ImmutableRef, LayerInfo, Leftover};

use crate::world::{World, files, put};

#[tokio::test]
async fn a_layer_lies_over_its_base_and_is_found_after_a_restart() {
    let world = World::new().await;
    let base = world.layer(&ImmutableRef::default(), &[("/a", "1"), ("/b", "1")]).await;
    let top = world.layer(&base, &[("/b", "2"), ("/d/c", "3")]).await;
    let expected = files(&[("/a", "1"), ("/b", "2"), ("/d/c", "3")]);
    assert_eq!(world.files(&top).await, expected);
    assert_eq!(world.files(&base).await, files(&[("/a", "1"), ("/b", "1")]));
    assert_eq!((top.height(), top.descriptions()), (2, vec!["a step".to_owned(); 2]));
    let keys = top.keys();
    drop((base, top));
    let world = world.reopen().await;
    let found = world.refs.get(&keys).unwrap();
    assert_eq!(world.files(&found).await, expected);
    let record = |id: &str| {
        let all = world.refs.usage();
        all.into_iter().find(|record| record.id == id).unwrap()
    };
    assert_eq!(record(keys[1].as_str()).parents, [keys[0].to_string()]);
    assert!(record(keys[1].as_str()).in_use);
    assert_eq!(record(keys[1].as_str()).use_count, 2);
}

#[tokio::test]
async fn what_is_not_committed_leaves_nothing() {
    let world = World::new().await;
    let layer = world.start(&ImmutableRef::default()).await;
    crate::world::put(&layer.root().unwrap(), "/a", "1");
    drop(layer);
    assert_eq!(world.layers_on_disk().await, 0);
    assert!(world.refs.usage().is_empty());
    let kept = world.layer(&ImmutableRef::default(), &[("/a", "1")]).await;
    let unfinished = snapshot::LayerKey::new("unfinished").unwrap();
    let active = world.refs.snapshotter().prepare(unfinished, &kept.keys()).await.unwrap();
    // As by a crash: the guard is never dropped.
    std::mem::forget(active);
    drop(kept);
    let world = world.crash().await;
    assert_eq!((world.layers_on_disk().await, world.refs.usage().len()), (1, 1));
}

#[tokio::test]
async fn layers_that_nobody_knows_are_swept_and_those_that_are_gone_forgotten() {
    let world = World::new().await;
    let gone = world.layer(&ImmutableRef::default(), &[("/a", "1")]).await.keys();
    let snapshotter = world.refs.snapshotter().clone();
    let unknown = snapshot::LayerKey::new("nobody-knows-me").unwrap();
    snapshotter.prepare(unknown, &[]).await.unwrap().commit().await.unwrap();
    snapshotter.remove(&gone[0]).await.unwrap();
    drop(snapshotter);
    let world = world.crash().await;
    assert_eq!(world.layers_on_disk().await, 0);
    assert!(world.refs.get(&gone).is_none());
    assert!(world.refs.usage().is_empty());
}

#[tokio::test]
async fn what_is_held_is_not_removed() {
    let world = World::new().await;
    let base = world.layer(&ImmutableRef::default(), &[("/a", "1")]).await;
    let key = base.keys()[0].to_string();
    let collector = world.collector();
    assert!(!collector.remove(&key).await.unwrap());
    let view = world.refs.view(&base).await.unwrap();
    drop(base);
    assert!(!collector.remove(&key).await.unwrap(), "a view holds its tree");
    drop(view);
    assert!(collector.remove(&key).await.unwrap());
    assert!(!collector.remove(&key).await.unwrap(), "it is gone already");
    assert!(!collector.remove("../../etc").await.unwrap());
    assert_eq!(world.layers_on_disk().await, 0);
}

#[tokio::test]
async fn a_removal_whose_caller_leaves_is_whole() {
    let world = World::new().await;
    let key = world.layer(&ImmutableRef::default(), &[("/a", "1")]).await.keys()[0].to_string();
    let collector = world.collector();
    let mut removal = Box::pin(collector.remove(&key));
    assert!(futures::poll!(&mut removal).is_pending());
    drop(removal);
    // The next one waits for it.
    assert!(!collector.remove(&key).await.unwrap());
    assert_eq!(world.layers_on_disk().await, 0);
    assert!(world.refs.usage().is_empty());
}

#[tokio::test]
async fn merged_trees_lie_one_above_the_other() {
    let world = World::new().await;
    let base = world.layer(&ImmutableRef::default(), &[("/a", "1"), ("/b", "1")]).await;
    let other = world.layer(&ImmutableRef::default(), &[("/b", "2"), ("/c", "2")]).await;
    let merged = world.refs.merge(&[base.clone(), other.clone()]).await.unwrap();
    assert_eq!(world.files(&merged).await, files(&[("/a", "1"), ("/b", "2"), ("/c", "2")]));
    let turned = world.refs.merge(&[other, base.clone()]).await.unwrap();
    assert_eq!(world.files(&turned).await, files(&[("/a", "1"), ("/b", "1"), ("/c", "2")]));
    let scratch = ImmutableRef::default();
    let alone = world.refs.merge(&[scratch.clone(), base.clone(), scratch.clone()]).await.unwrap();
    assert_eq!(alone.keys(), base.keys());
    assert!(world.refs.merge(&[scratch]).await.unwrap().is_empty());
}

#[tokio::test]
async fn all_that_was_merged_counts_as_used() {
    let world = World::new().await;
    let base = world.layer(&ImmutableRef::default(), &[("/a", "1")]).await;
    let step = world.layer(&base, &[("/b", "1")]).await;
    let other = world.layer(&ImmutableRef::default(), &[("/c", "2")]).await;
    let merged = world.refs.merge(&[step, other]).await.unwrap();
    let before = uses(&world, &merged);
    let again = world.refs.get(&merged.keys()).unwrap();
    let after = uses(&world, &again);
    // The lowest is below the step because the step was made over it.
    assert_eq!(after, [before[0], before[1] + 1, before[2] + 1]);
}

fn uses(world: &World, tree: &ImmutableRef) -> Vec<u64> {
    let usage = world.refs.usage();
    let count = |key: &snapshot::LayerKey| {
        usage.iter().find(|record| record.id == key.to_string()).unwrap().use_count
    };
    tree.keys().iter().map(count).collect()
}

#[tokio::test]
async fn a_difference_is_the_layers_above_or_a_comparison() {
    let world = World::new().await;
    let info = || LayerInfo::regular("diff");
    let base = world.layer(&ImmutableRef::default(), &[("/a", "1"), ("/b", "1")]).await;
    let upper = world.without(&world.layer(&base, &[("/c", "1")]).await, "/a").await;
    let rest = world.refs.diff(&base, &upper, info()).await.unwrap();
    assert_eq!(rest.keys(), upper.keys()[1..]);
    assert!(world.refs.diff(&base, &base, info()).await.unwrap().is_empty());
    let scratch = ImmutableRef::default();
    assert_eq!(world.refs.diff(&scratch, &upper, info()).await.unwrap().keys(), upper.keys());
    // Made elsewhere, with the same and other files.
    let unrelated = world.layer(&scratch, &[("/b", "1"), ("/d", "1")]).await;
    let compared = world.refs.diff(&upper, &unrelated, info()).await.unwrap();
    assert_eq!(compared.height(), 1);
    let applied = world.refs.merge(&[upper, compared]).await.unwrap();
    assert_eq!(world.files(&applied).await, files(&[("/b", "1"), ("/d", "1")]));
}

#[tokio::test]
async fn stacks_higher_than_the_kernel_shows_are_flattened() {
    let world = World::new().await;
    let mut chains = Vec::new();
    for name in ["x", "y"] {
        let mut tree = ImmutableRef::default();
        for number in 0..300 {
            let (path, text) = (format!("/{name}{}", number % 7), number.to_string());
            tree = world.layer(&tree, &[(&path, &text), ("/both", name)]).await;
        }
        chains.push(tree);
    }
    let merged = world.refs.merge(&chains).await.unwrap();
    assert!(merged.height() <= 450, "{}", merged.height());
    let seen = world.files(&merged).await;
    assert_eq!(seen.len(), 15);
    assert_eq!(seen[0], ("/both".to_owned(), "y".to_owned()));
    assert!(seen.contains(&("/x6".to_owned(), "293".to_owned())));
    assert!(seen.contains(&("/y5".to_owned(), "299".to_owned())));
    let mut tree = merged;
    for number in 0..310 {
        tree = world.layer(&tree, &[("/n", &number.to_string())]).await;
    }
    assert!(tree.height() <= 451, "{}", tree.height());
    assert_eq!(world.files(&tree).await.len(), 16);
}

#[tokio::test]
async fn a_full_disk_is_told_and_keeps_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let meta = cache::MetaStore::open(directory.path()).unwrap();
    let snapshotter = std::sync::Arc::new(snapshot::testing::TestSnapshotter::new().await.unwrap());
    let content = std::sync::Arc::new(content::testing::MemoryStore::new());
    let refs = cache::Refs::open(meta, snapshotter.clone(), content).await.unwrap();
    let layer = refs.new_layer(&ImmutableRef::default(), LayerInfo::regular("x")).await.unwrap();
    snapshotter.fail_next(snapshot::testing::Call::Commit);
    let error = layer.commit().await.unwrap_err();
    assert!(error.is_disk_full(), "{error}");
    assert_eq!((refs.usage().len(), snapshotter.active()), (0, 0));
}

#[tokio::test]
async fn what_a_failed_operation_leaves_is_a_layer_only_if_somebody_looks() {
    let world = World::new().await;
    let base = world.layer(&ImmutableRef::default(), &[("/a", "1")]).await;
    let started = async || {
        let layer = world.start(&base).await;
        put(&layer.root().unwrap(), "/b", "2");
        Leftover::written(layer)
    };
    drop(started().await);
    assert_eq!(world.refs.usage().len(), 1, "it is discarded");
    let looked_at = started().await;
    let tree = looked_at.tree().await.unwrap();
    assert_eq!(world.files(&tree).await, files(&[("/a", "1"), ("/b", "2")]));
    assert_eq!(looked_at.tree().await.unwrap().keys(), tree.keys());
    assert_eq!(Leftover::unchanged(base.clone()).tree().await.unwrap().keys(), base.keys());
}
