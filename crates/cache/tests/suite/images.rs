//! Layers of images: fetched, compared with what is promised, shared.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cache::{
    ArchiveOptions, CacheError, ImageLayer, ImmutableRef, LayerInfo, LayerPhase, LayerSource, Refs,
};
use content::ContentStore;
use digests::{DiffId, Digest};
use oci::Descriptor;
use parking_lot::Mutex;
use snapshot::Compression;
use tokio::sync::Semaphore;

use crate::world::{World, files};

/// Has archives, and gives one away for each permit.
#[derive(Debug)]
struct Shelf {
    content: Arc<dyn ContentStore>,
    archives: BTreeMap<Digest, Bytes>,
    permits: Semaphore,
    fetched: Mutex<Vec<Digest>>,
    extracted: Mutex<Vec<Digest>>,
}

impl Shelf {
    fn new(refs: &Refs, archives: &[(ImageLayer, Bytes)], permits: usize) -> Arc<Self> {
        let archives =
            archives.iter().map(|(layer, bytes)| (layer.blob.digest, bytes.clone())).collect();
        Arc::new(Self {
            content: refs.content().clone(),
            archives,
            permits: Semaphore::new(permits),
            fetched: Mutex::default(),
            extracted: Mutex::default(),
        })
    }
}

#[async_trait]
impl LayerSource for Shelf {
    async fn fetch(&self, blob: &Descriptor) -> Result<(), CacheError> {
        self.fetched.lock().push(blob.digest);
        self.permits.acquire().await.unwrap().forget();
        let bytes = self.archives.get(&blob.digest).cloned();
        let bytes =
            bytes.ok_or_else(|| CacheError::from_error(std::io::Error::other("not found")))?;
        let mut ingest = self.content.ingest(Some(blob.digest), Some(blob.size)).await?;
        ingest.write(bytes).await?;
        ingest.commit().await?;
        Ok(())
    }

    fn progress(&self, blob: &Descriptor, phase: LayerPhase) {
        if phase == LayerPhase::Extracted {
            self.extracted.lock().push(blob.digest);
        }
    }
}

/// Makes the layers of an image elsewhere: each with these files.
async fn image(layers: &[&[(&str, &str)]]) -> Vec<(ImageLayer, Bytes)> {
    let elsewhere = World::new().await;
    let mut tree = ImmutableRef::default();
    for files in layers {
        tree = elsewhere.layer(&tree, files).await;
    }
    let options =
        ArchiveOptions { compression: Compression::Gzip(1), force: true, newest: Some(0) };
    let mut all = Vec::new();
    for archive in elsewhere.refs.archives(&tree, options).await.unwrap() {
        let blob = elsewhere.refs.content().open(&archive.blob.digest).await.unwrap();
        let bytes = blob.read_all().await.unwrap();
        all.push((ImageLayer { diff_id: archive.diff_id, blob: archive.blob }, bytes));
    }
    all
}

fn layers(image: &[(ImageLayer, Bytes)]) -> Vec<ImageLayer> {
    image.iter().map(|(layer, _)| layer.clone()).collect()
}

async fn pull(
    world: &World,
    layers: &[ImageLayer],
    shelf: &Arc<Shelf>,
) -> Result<ImmutableRef, CacheError> {
    let source: Arc<dyn LayerSource> = shelf.clone();
    world.refs.image(layers, &source, &LayerInfo::regular("pulled")).await
}

#[tokio::test]
async fn an_image_is_unpacked_and_kept() {
    let world = World::new().await;
    let image = image(&[&[("/a", "1"), ("/d/b", "1")], &[("/d/b", "2")]]).await;
    let shelf = Shelf::new(&world.refs, &image, 10);
    let tree = pull(&world, &layers(&image), &shelf).await.unwrap();
    assert_eq!(world.files(&tree).await, files(&[("/a", "1"), ("/d/b", "2")]));
    assert_eq!(shelf.extracted.lock().len(), 2);
    drop(tree);
    let world = world.reopen().await;
    let empty = Shelf::new(&world.refs, &[], 0);
    let tree = pull(&world, &layers(&image), &empty).await.unwrap();
    assert_eq!(world.files(&tree).await.len(), 2);
    // Exported again it is what it was.
    let options = ArchiveOptions { compression: Compression::Zstd(1), force: false, newest: None };
    let archives = world.refs.archives(&tree, options).await.unwrap();
    let same: Vec<_> =
        archives.into_iter().map(|archive| (archive.blob, archive.diff_id)).collect();
    let expected: Vec<_> = layers(&image).into_iter().map(|one| (one.blob, one.diff_id)).collect();
    assert_eq!(same, expected);
}

#[tokio::test]
async fn an_image_compressed_anew_keeps_its_identity() {
    let world = World::new().await;
    let image = image(&[&[("/a", "1")]]).await;
    let shelf = Shelf::new(&world.refs, &image, 10);
    let tree = pull(&world, &layers(&image), &shelf).await.unwrap();
    let options = ArchiveOptions { compression: Compression::Zstd(1), force: true, newest: None };
    let archive = world.refs.archives(&tree, options).await.unwrap().remove(0);
    assert_eq!(archive.diff_id, image[0].0.diff_id);
    assert_ne!(archive.blob.digest, image[0].0.blob.digest);
}

#[tokio::test]
async fn images_share_their_lower_layers() {
    let world = World::new().await;
    let image = image(&[&[("/a", "1")], &[("/b", "1")], &[("/c", "1")]]).await;
    let all = layers(&image);
    let shelf = Shelf::new(&world.refs, &image, 10);
    let short = pull(&world, &all[..2], &shelf).await.unwrap();
    let long = pull(&world, &all, &shelf).await.unwrap();
    assert_eq!(long.keys()[..2], short.keys());
    assert_eq!(shelf.fetched.lock().len(), 3);
    // The same layer elsewhere in a stack is another: what lies below it may matter.
    let turned = [all[1].clone(), all[0].clone()];
    let turned = pull(&world, &turned, &shelf).await.unwrap();
    assert_ne!(turned.keys()[1], short.keys()[0]);
    assert_eq!(world.files(&turned).await, world.files(&short).await);
    assert_eq!(shelf.fetched.lock().len(), 3, "the archives are here");
}

#[tokio::test]
async fn the_same_layer_twice_in_one_image_is_fetched() {
    let world = World::new().await;
    let image = image(&[&[("/a", "1")]]).await;
    let twice = [image[0].0.clone(), image[0].0.clone(), image[0].0.clone()];
    let shelf = Shelf::new(&world.refs, &image, 10);
    let tree = pull(&world, &twice, &shelf).await.unwrap();
    assert_eq!((tree.height(), world.files(&tree).await), (3, files(&[("/a", "1")])));
}

#[tokio::test]
async fn pulls_at_once_are_one_pull() {
    let world = World::new().await;
    let image = image(&[&[("/a", "1")], &[("/b", "1")]]).await;
    let all = layers(&image);
    let shelf = Shelf::new(&world.refs, &image, 2);
    let pulls = (0..6).map(|_| pull(&world, &all, &shelf));
    let trees = futures::future::try_join_all(pulls).await.unwrap();
    assert!(trees.iter().all(|tree| tree.keys() == trees[0].keys()));
    assert_eq!(shelf.fetched.lock().len(), 2);
    assert_eq!(world.layers_on_disk().await, 2);
}

#[tokio::test]
async fn a_pull_goes_on_for_who_still_waits_and_stops_with_the_last() {
    let world = World::new().await;
    let image = image(&[&[("/a", "1")]]).await;
    let all = layers(&image);
    let shelf = Shelf::new(&world.refs, &image, 0);
    let mut first = Box::pin(pull(&world, &all, &shelf));
    let mut second = Box::pin(pull(&world, &all, &shelf));
    assert!(futures::poll!(&mut first).is_pending());
    assert!(futures::poll!(&mut second).is_pending());
    drop(first);
    shelf.permits.add_permits(1);
    let tree = second.await.unwrap();
    assert_eq!(world.files(&tree).await, files(&[("/a", "1")]));

    let other = World::new().await;
    let shelf = Shelf::new(&other.refs, &image, 0);
    let mut only = Box::pin(pull(&other, &all, &shelf));
    assert!(futures::poll!(&mut only).is_pending());
    drop(only);
    shelf.permits.add_permits(2);
    let tree = pull(&other, &all, &shelf).await.unwrap();
    assert_eq!((tree.height(), other.layers_on_disk().await), (1, 1));
}

#[tokio::test]
async fn a_layer_with_other_content_than_promised_is_refused() {
    let world = World::new().await;
    let image = image(&[&[("/a", "1")], &[("/b", "1")]]).await;
    let shelf = Shelf::new(&world.refs, &image, 10);
    let mut wrong = layers(&image);
    wrong[1].diff_id = DiffId::new(Digest::of("something else"));
    let error = pull(&world, &wrong, &shelf).await.unwrap_err().to_string();
    assert!(error.contains(&wrong[1].blob.digest.to_string()), "{error}");
    assert!(error.contains(&image[1].0.diff_id.to_string()), "{error}");
    // What was right stays, what was wrong leaves nothing, and the next pull works.
    assert_eq!(world.layers_on_disk().await, 1);
    pull(&world, &layers(&image), &shelf).await.unwrap();
    let mut cut = self::image(&[&[("/z", "1")]]).await;
    let bytes = cut[0].1.slice(..cut[0].1.len() / 2);
    cut[0].0.blob = Descriptor::of(&cut[0].0.blob.media_type, &bytes);
    cut[0].1 = bytes;
    let shelf = Shelf::new(&world.refs, &cut, 10);
    pull(&world, &layers(&cut), &shelf).await.unwrap_err();
    assert_eq!(world.layers_on_disk().await, 2);
}

#[tokio::test]
async fn a_failed_fetch_is_told_to_all_and_tried_again() {
    let world = World::new().await;
    let image = image(&[&[("/a", "1")], &[("/b", "1")]]).await;
    let all = layers(&image);
    let broken = Shelf::new(&world.refs, &image[..1], 10);
    let (one, two) = tokio::join!(pull(&world, &all, &broken), pull(&world, &all, &broken));
    assert_eq!(one.unwrap_err().to_string(), "not found");
    assert_eq!(two.unwrap_err().to_string(), "not found");
    let shelf = Shelf::new(&world.refs, &image, 10);
    pull(&world, &all, &shelf).await.unwrap();
}

#[tokio::test]
async fn a_layer_is_pulled_while_its_namesake_is_removed() {
    let world = World::new().await;
    let image = image(&[&[("/a", "1")]]).await;
    let all = layers(&image);
    let shelf = Shelf::new(&world.refs, &image, 100);
    for _ in 0..20 {
        let key = pull(&world, &all, &shelf).await.unwrap().keys()[0].to_string();
        let collector = world.collector();
        let (_, again) = tokio::join!(collector.remove(&key), pull(&world, &all, &shelf));
        assert_eq!(world.files(&again.unwrap()).await, files(&[("/a", "1")]));
    }
}
