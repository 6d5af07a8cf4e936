//! Layers as archives, and back.

use std::io::Read as _;

use cache::{ArchiveOptions, ImmutableRef, LayerArchive};
use digests::Digest;
use snapshot::Compression;

use crate::world::World;

const GZIP: Compression = Compression::Gzip(6);
const ZSTD: Compression = Compression::Zstd(3);
const PLAIN: Compression = Compression::Uncompressed;

fn options(compression: Compression, force: bool) -> ArchiveOptions {
    ArchiveOptions { compression, force, newest: None }
}

async fn one(world: &World, tree: &ImmutableRef, options: ArchiveOptions) -> LayerArchive {
    let mut all = world.refs.archives(tree, options).await.unwrap();
    assert_eq!(all.len(), tree.height());
    all.pop().unwrap()
}

/// Returns the digest of what an archive holds, uncompressed.
async fn unpacked(world: &World, archive: &LayerArchive) -> Digest {
    let blob = world.refs.content().open(&archive.blob.digest).await.unwrap().into_read();
    let mut bytes = Vec::new();
    snapshot::decompress(blob).unwrap().read_to_end(&mut bytes).unwrap();
    Digest::of(bytes)
}

#[tokio::test]
async fn each_compression_packs_the_same_archive() {
    let world = World::new().await;
    let tree = world.layer(&ImmutableRef::default(), &[("/a", "1"), ("/d/b", "2")]).await;
    let mut media = Vec::new();
    for compression in [GZIP, ZSTD, PLAIN] {
        let archive = one(&world, &tree, options(compression, true)).await;
        assert_eq!(unpacked(&world, &archive).await, archive.diff_id.digest());
        media.push(archive.blob.media_type);
    }
    assert_eq!(
        media,
        [
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.oci.image.layer.v1.tar"
        ]
    );
}

#[tokio::test]
async fn an_archive_that_is_there_is_used_unless_another_is_forced() {
    let world = World::new().await;
    let tree = world.layer(&ImmutableRef::default(), &[("/a", "1")]).await;
    let gzip = one(&world, &tree, options(GZIP, false)).await;
    assert_eq!(one(&world, &tree, options(ZSTD, false)).await, gzip);
    let zstd = one(&world, &tree, options(ZSTD, true)).await;
    assert_ne!(zstd.blob, gzip.blob);
    assert_eq!(zstd.diff_id, gzip.diff_id);
    assert_eq!(one(&world, &tree, options(GZIP, true)).await, gzip);
    let keys = tree.keys();
    drop(tree);
    let world = world.reopen().await;
    let tree = world.refs.get(&keys).unwrap();
    assert_eq!(one(&world, &tree, options(ZSTD, true)).await, zstd);
    // All go with the layer.
    drop(tree);
    assert!(world.collector().remove(keys[0].as_str()).await.unwrap());
    assert_eq!(world.refs.content().list().await.unwrap().len(), 0);
}

#[tokio::test]
async fn archives_that_there_are_are_told_without_making_any() {
    let world = World::new().await;
    let base = world.layer(&ImmutableRef::default(), &[("/a", "1")]).await;
    let tree = world.layer(&base, &[("/b", "2")]).await;
    let trees = [tree.clone(), base.clone(), ImmutableRef::default()];
    let below = one(&world, &base, options(GZIP, false)).await.blob;
    let known = world.refs.known_archives(&trees).await.unwrap();
    assert_eq!(known, [vec![], vec![vec![below.clone()]], vec![]]);
    let above = one(&world, &tree, options(GZIP, false)).await.blob;
    let packed = one(&world, &tree, options(ZSTD, true)).await.blob;
    let below_packed = one(&world, &base, options(ZSTD, true)).await.blob;
    let known = world.refs.known_archives(&trees).await.unwrap();
    let stacks = [vec![below.clone(), above], vec![below_packed.clone(), packed]];
    assert_eq!(known[0], stacks);
    assert_eq!(known[1], [[below], [below_packed]]);
}

#[tokio::test]
async fn an_archive_that_was_lost_is_made_again() {
    let world = World::new().await;
    let tree = world.layer(&ImmutableRef::default(), &[("/a", "1")]).await;
    let first = one(&world, &tree, options(GZIP, false)).await;
    world.refs.content().remove(&first.blob.digest).await.unwrap();
    assert_eq!(one(&world, &tree, options(GZIP, false)).await, first, "the same bytes");
    assert!(world.refs.content().contains(&first.blob.digest).await.unwrap());
}

#[tokio::test]
async fn a_layer_that_only_removes_is_packed() {
    for world in [World::new().await, World::of_copies().await] {
        let base = world.layer(&ImmutableRef::default(), &[("/a", "1"), ("/b", "1")]).await;
        let tree = world.without(&base, "/a").await;
        let archive = one(&world, &tree, options(PLAIN, true)).await;
        let blob = world.refs.content().open(&archive.blob.digest).await.unwrap();
        let bytes = blob.read_all().await.unwrap();
        assert!(bytes.starts_with(b".wh.a\0"), "the removal is told");
        // One entry, and the two empty blocks of the end.
        assert_eq!(bytes.len(), 512 + 1024);
    }
}

#[tokio::test]
async fn later_times_are_changed_and_not_remembered() {
    let world = World::new().await;
    let tree = world.layer(&ImmutableRef::default(), &[("/a", "1")]).await;
    let plain = one(&world, &tree, options(GZIP, false)).await;
    let newest = ArchiveOptions { newest: Some(1000), ..options(GZIP, false) };
    let old = one(&world, &tree, newest).await;
    assert_ne!(old.diff_id, plain.diff_id);
    assert_eq!(unpacked(&world, &old).await, old.diff_id.digest());
    assert_eq!(one(&world, &tree, newest).await, old);
    assert_eq!(one(&world, &tree, options(GZIP, false)).await, plain);
}

#[tokio::test]
async fn many_at_once_get_one_archive() {
    let world = World::new().await;
    let base = world.layer(&ImmutableRef::default(), &[("/a", "1")]).await;
    let tree = world.layer(&base, &[("/b", "1")]).await;
    let all = (0..8).map(|_| world.refs.archives(&tree, options(ZSTD, false)));
    let all = futures::future::try_join_all(all).await.unwrap();
    assert!(all.iter().all(|archives| *archives == all[0]));
    assert_eq!(world.refs.content().list().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_no_hang() {
    let directory = tempfile::tempdir().unwrap();
    let meta = cache::MetaStore::open(directory.path()).unwrap();
    let place = mount::HostPath::new(directory.path().join("snapshots")).unwrap();
    let snapshotter = snapshot::OverlaySnapshotter::open(place).await.unwrap();
    let store = content::testing::Faulty::new(content::testing::MemoryStore::new());
    let store = std::sync::Arc::new(store);
    let refs =
        cache::Refs::open(meta, std::sync::Arc::new(snapshotter), store.clone()).await.unwrap();
    let info = cache::LayerInfo::regular("x");
    let layer = refs.new_layer(&ImmutableRef::default(), info).await.unwrap();
    // More than fits between the one that packs and the one that writes.
    let noise: String =
        (0..1_200_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_string()).collect();
    crate::world::put(&layer.root().unwrap(), "/noise", &noise);
    let tree = layer.commit().await.unwrap();
    store.fail_next(content::testing::Call::Append);
    let error = refs.archives(&tree, options(PLAIN, false)).await.unwrap_err();
    assert!(error.is_disk_full(), "{error}");
    refs.archives(&tree, options(PLAIN, false)).await.unwrap();
}
