//! Tests of stores, through the public interface.

use std::fs;
use std::io::{Read as _, Seek as _};
use std::sync::Arc;

use bytes::Bytes;
use digests::Digest;
use mount::HostPath;
use proptest::prelude::*;

use crate::testing::{Call, Faulty, MemoryStore};
use crate::{ContentError, ContentStore, DiskStore};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    async fn store(&self) -> DiskStore {
        DiskStore::open(HostPath::new(self.0.path().join("content")).unwrap()).await.unwrap()
    }

    fn files(&self, directory: &str) -> usize {
        fs::read_dir(self.0.path().join("content").join(directory)).unwrap().count()
    }
}

async fn stores(place: &Place) -> Vec<Arc<dyn ContentStore>> {
    vec![
        Arc::new(place.store().await),
        Arc::new(MemoryStore::new()),
        Arc::new(Faulty::new(MemoryStore::new())),
    ]
}

async fn put(store: &dyn ContentStore, content: &[u8]) -> Result<Digest, ContentError> {
    let mut ingest = store.ingest(None, None).await?;
    for chunk in content.chunks(1000) {
        ingest.write(Bytes::copy_from_slice(chunk)).await?;
    }
    Ok(ingest.commit().await?.0)
}

#[tokio::test]
async fn what_was_committed_is_read_back() {
    let place = Place::new();
    for store in stores(&place).await {
        let content: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let expected = Digest::of(&content);
        let size = content.len() as u64;
        let mut ingest = store.ingest(Some(expected), Some(size)).await.unwrap();
        for chunk in content.chunks(70_001) {
            ingest.write(Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        assert_eq!(ingest.received(), size);
        assert!(!store.contains(&expected).await.unwrap(), "{store:?}: not before the commit");
        assert_eq!(ingest.commit().await.unwrap(), (expected, size));

        let info = store.info(&expected).await.unwrap().unwrap();
        assert_eq!((info.digest, info.size), (expected, size));
        assert_eq!(store.list().await.unwrap(), [info]);
        let reader = store.open(&expected).await.unwrap();
        assert_eq!(reader.size(), size);
        assert_eq!(reader.read_range(4_000, 8).await.unwrap(), content[4_000..4_008]);
        assert_eq!(reader.read_all().await.unwrap(), content);
        let mut read = reader.clone().into_read();
        read.seek(std::io::SeekFrom::End(-4)).unwrap();
        let mut end = Vec::new();
        read.read_to_end(&mut end).unwrap();
        assert_eq!(end, content[content.len() - 4..]);
        store.verify(&expected).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_not_promised_is_not_stored() {
    let place = Place::new();
    for store in stores(&place).await {
        let promised = Digest::of("promised");
        let mut ingest = store.ingest(Some(promised), None).await.unwrap();
        ingest.write("something else".into()).await.unwrap();
        let error = ingest.commit().await.unwrap_err();
        assert!(
            matches!(error, ContentError::WrongDigest { expected, .. } if expected == promised)
        );

        let mut ingest = store.ingest(Some(promised), Some(8)).await.unwrap();
        ingest.write("promise".into()).await.unwrap();
        let error = ingest.commit().await.unwrap_err();
        assert_eq!(error.to_string(), "expected a blob of 8 bytes, but only 7 came");

        let mut ingest = store.ingest(None, Some(8)).await.unwrap();
        let error = ingest.write("promised and more".into()).await.unwrap_err();
        assert!(matches!(error, ContentError::TooLong { expected: 8, actual: 17 }));
        assert!(matches!(ingest.commit().await.unwrap_err(), ContentError::Abandoned));

        assert!(store.list().await.unwrap().is_empty(), "{store:?}");
    }
    assert_eq!(place.files("ingests"), 0);
}

#[tokio::test]
async fn a_dropped_ingest_leaves_nothing() {
    let place = Place::new();
    let (disk, memory) = (place.store().await, MemoryStore::new());
    for store in [&disk as &dyn ContentStore, &memory] {
        let mut ingest = store.ingest(None, None).await.unwrap();
        ingest.write(vec![0; 2 << 20].into()).await.unwrap();
        drop(ingest);
        assert!(store.list().await.unwrap().is_empty());
    }
    assert_eq!(place.files("ingests"), 0);
    assert_eq!(memory.open_ingests(), 0);
}

#[tokio::test]
async fn two_ingests_of_one_blob_leave_one_blob() {
    let place = Place::new();
    for store in stores(&place).await {
        let mut first = store.ingest(None, None).await.unwrap();
        let mut second = store.ingest(None, None).await.unwrap();
        first.write("same".into()).await.unwrap();
        second.write("same".into()).await.unwrap();
        let (first, second) = tokio::join!(first.commit(), second.commit());
        assert_eq!(first.unwrap(), second.unwrap());
        put(&*store, b"same").await.unwrap();
        assert_eq!(store.list().await.unwrap().len(), 1, "{store:?}");
    }
    assert_eq!(place.files("ingests"), 0);
}

#[tokio::test]
async fn what_is_not_there_is_an_error_that_names_it() {
    let place = Place::new();
    for store in stores(&place).await {
        let digest = Digest::of("nowhere");
        assert_eq!(store.info(&digest).await.unwrap(), None);
        let error = store.open(&digest).await.unwrap_err();
        assert_eq!(error.to_string(), format!("blob `{digest}` is not in the store"));
        assert!(matches!(store.verify(&digest).await, Err(ContentError::NotFound { .. })));
    }
    let store = place.store().await;
    assert!(!store.remove(&Digest::of("nowhere")).await.unwrap());
}

#[tokio::test]
async fn an_open_blob_survives_its_removal() {
    let place = Place::new();
    for store in stores(&place).await {
        let digest = put(&*store, b"content").await.unwrap();
        let reader = store.open(&digest).await.unwrap();
        assert!(store.remove(&digest).await.unwrap());
        assert!(!store.contains(&digest).await.unwrap());
        assert_eq!(&reader.read_all().await.unwrap()[..], b"content", "{store:?}");
    }
}

#[tokio::test]
async fn damage_is_found_when_asked_for() {
    let place = Place::new();
    let store = place.store().await;
    let digest = put(&store, b"0123456789").await.unwrap();
    let path = store.path(&digest).unwrap();
    for damage in ["01234", "0123456780"] {
        fs::remove_file(&path).unwrap();
        fs::write(&path, damage).unwrap();
        for error in [
            store.verify(&digest).await.unwrap_err(),
            store.open(&digest).await.unwrap().read_all().await.unwrap_err(),
        ] {
            let ContentError::Corrupt { digest: found, size, .. } = error else {
                panic!("{error}")
            };
            assert_eq!((found, size), (digest, damage.len() as u64));
        }
    }
}

#[tokio::test]
async fn ranges_outside_a_blob_are_errors() {
    let place = Place::new();
    for store in stores(&place).await {
        let digest = put(&*store, b"0123456789").await.unwrap();
        let reader = store.open(&digest).await.unwrap();
        assert_eq!(&reader.read_range(10, 0).await.unwrap()[..], b"");
        for (offset, length) in [(5, 6), (11, 0), (u64::MAX, 2)] {
            let error = reader.read_range(offset, length).await.unwrap_err();
            assert!(matches!(error, ContentError::Range { .. }), "{error}");
        }
    }
}

#[tokio::test]
async fn a_restart_keeps_blobs_and_sweeps_the_rest() {
    let place = Place::new();
    let store = place.store().await;
    let digest = put(&store, b"whole").await.unwrap();
    let mut ingest = store.ingest(None, None).await.unwrap();
    ingest.write(vec![1; 2 << 20].into()).await.unwrap();
    // A crash: nothing is dropped.
    std::mem::forget(ingest);
    assert_eq!(place.files("ingests"), 1);
    fs::write(place.0.path().join("content/blobs/sha256/README"), "not ours").unwrap();
    let store = place.store().await;
    assert_eq!(place.files("ingests"), 0);
    let blobs: Vec<_> = store.list().await.unwrap().iter().map(|blob| blob.digest).collect();
    assert_eq!(blobs, [digest]);
    store.verify(&digest).await.unwrap();
}

#[tokio::test]
async fn a_faulty_store_fails_once_and_keeps_nothing() {
    let store = Faulty::new(MemoryStore::new());
    for call in [Call::Ingest, Call::Append, Call::Publish] {
        store.fail_next(call);
        let error = put(&store, b"content").await.unwrap_err();
        assert_eq!(error.to_string(), format!("injected fault in `{call:?}`"));
        assert_eq!(store.inner().open_ingests(), 0);
    }
    let digest = put(&store, b"content").await.unwrap();
    store.inner().corrupt(&digest, "other");
    assert!(matches!(store.verify(&digest).await, Err(ContentError::Corrupt { .. })));
    assert!(store.inner().insert("inserted") != digest);
}

#[tokio::test]
#[should_panic(expected = "is removed but not there")]
async fn the_fake_is_strict_about_removal() {
    let _ = MemoryStore::new().remove(&Digest::of("nowhere")).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_chunks_make_the_same_blob(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5_000), 0..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let place = Place::new();
            for store in stores(&place).await {
                let content = chunks.concat();
                let size = content.len() as u64;
                let expected = Digest::of(&content);
                let mut ingest = store.ingest(Some(expected), Some(size)).await.unwrap();
                for chunk in &chunks {
                    ingest.write(chunk.clone().into()).await.unwrap();
                }
                assert_eq!(ingest.commit().await.unwrap(), (expected, size));
                let reader = store.open(&expected).await.unwrap();
                assert_eq!(reader.read_all().await.unwrap(), content);
            }
        });
    }
}
