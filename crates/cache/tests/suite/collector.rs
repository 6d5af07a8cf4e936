//! What takes space, and its removal, also where there is much of it.

use std::time::{Instant, SystemTime};

use cache::{ImmutableRef, PruneRequest, plan};

use crate::world::World;

#[tokio::test]
async fn pruning_removes_what_nobody_holds_children_first() {
    let world = World::new().await;
    let base = world.layer(&ImmutableRef::default(), &[("/a", "1")]).await;
    let kept = world.layer(&base, &[("/b", "1")]).await;
    let _ = world.layer(&base, &[("/c", "1")]).await;
    drop(base);
    let collector = world.collector();
    let records = collector.usage();
    let chosen = plan(&records, &PruneRequest::default(), SystemTime::now(), 0);
    assert_eq!(chosen.len(), 1);
    for index in chosen {
        assert!(collector.remove(&records[index].id).await.unwrap());
    }
    assert_eq!(world.files(&kept).await.len(), 2);
    drop(kept);
    let records = collector.usage();
    let chosen = plan(&records, &PruneRequest::default(), SystemTime::now(), 0);
    assert_eq!(chosen.len(), 2);
    for index in chosen {
        assert!(collector.remove(&records[index].id).await.unwrap());
    }
    assert_eq!(world.layers_on_disk().await, 0);
    drop(collector);
    let world = world.reopen().await;
    assert!(world.refs.usage().is_empty());
}

/// Prints how long the usual questions take with many records. Nothing is asserted about time.
#[tokio::test]
async fn two_thousand_records_are_opened_listed_and_removed() {
    const CHAINS: usize = 20;
    const HEIGHT: usize = 100;
    let world = World::new().await;
    let begun = Instant::now();
    for chain in 0..CHAINS {
        let mut tree = ImmutableRef::default();
        for number in 0..HEIGHT {
            tree = world.layer(&tree, &[(&format!("/{chain}"), &number.to_string())]).await;
        }
    }
    println!("made {} layers in {:?}", CHAINS * HEIGHT, begun.elapsed());
    let begun = Instant::now();
    world.meta.flush().await.unwrap();
    println!("flushed in {:?}", begun.elapsed());
    let begun = Instant::now();
    let world = world.reopen().await;
    println!("reopened in {:?}", begun.elapsed());
    let collector = world.collector();
    let begun = Instant::now();
    let records = collector.usage();
    println!("listed in {:?}", begun.elapsed());
    assert_eq!(records.len(), CHAINS * HEIGHT);
    let begun = Instant::now();
    let chosen = plan(&records, &PruneRequest::default(), SystemTime::now(), 0);
    println!("planned in {:?}", begun.elapsed());
    assert_eq!(chosen.len(), CHAINS * HEIGHT);
    let begun = Instant::now();
    for index in chosen {
        assert!(collector.remove(&records[index].id).await.unwrap());
    }
    println!("removed in {:?}", begun.elapsed());
    assert_eq!(world.layers_on_disk().await, 0);
}
