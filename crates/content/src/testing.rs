//! Stores for tests: in memory and strict, and one that fails when told to.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use digests::Digest;
use mount::HostPath;
use rustix::fs::MemfdFlags;

use crate::{BlobInfo, ContentError, ContentStore, Ingest, IngestSink, Reader};

/// Blobs in memory.
///
/// Stricter than a disk: to remove a blob that is not there is a panic. Its clock ticks once per blob.
#[derive(Debug, Default)]
pub struct MemoryStore(Arc<Mutex<Memory>>);

#[derive(Default)]
struct Memory {
    blobs: BTreeMap<Digest, (Bytes, SystemTime)>,
    open_ingests: usize,
    ticks: u64,
}

impl MemoryStore {
    /// Returns an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a blob in place without an ingest.
    pub fn insert(&self, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        self.memory().insert(digest, bytes);
        digest
    }

    /// Replaces a blob's bytes by others that do not have its digest.
    pub fn corrupt(&self, digest: &Digest, bytes: impl Into<Bytes>) {
        if let Some((content, _)) = self.memory().blobs.get_mut(digest) {
            *content = bytes.into();
        }
    }

    /// Returns how many ingests are neither committed nor dropped.
    pub fn open_ingests(&self) -> usize {
        self.memory().open_ingests
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn insert(&mut self, digest: Digest, bytes: Bytes) {
        self.ticks += 1;
        let created = SystemTime::UNIX_EPOCH + Duration::from_secs(self.ticks);
        self.blobs.entry(digest).or_insert((bytes, created));
    }
}

impl Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.blobs.keys()).finish()
    }
}

#[async_trait]
impl ContentStore for MemoryStore {
    async fn info(&self, digest: &Digest) -> Result<Option<BlobInfo>, ContentError> {
        Ok(self.memory().blobs.get(digest).map(|(bytes, created)| BlobInfo {
            digest: *digest,
            size: bytes.len() as u64,
            created: *created,
        }))
    }

    async fn open(&self, digest: &Digest) -> Result<Reader, ContentError> {
        let bytes = self.memory().blobs.get(digest).map(|(bytes, _)| bytes.clone());
        let bytes = bytes.ok_or(ContentError::NotFound { digest: *digest })?;
        rustix::fs::memfd_create("blob", MemfdFlags::CLOEXEC)
            .map_err(std::io::Error::from)
            .and_then(|memory| {
                let mut file = File::from(memory);
                file.write_all(&bytes)?;
                file.rewind()?;
                Reader::new(*digest, file)
            })
            .map_err(ContentError::io("open in memory", digest.hex()))
    }

    async fn ingest(
        &self,
        expected: Option<Digest>,
        expected_size: Option<u64>,
    ) -> Result<Ingest, ContentError> {
        self.memory().open_ingests += 1;
        let sink = MemorySink { content: Vec::new(), memory: self.0.clone() };
        Ok(Ingest::new(expected, expected_size, Box::new(sink)))
    }

    async fn remove(&self, digest: &Digest) -> Result<bool, ContentError> {
        let removed = self.memory().blobs.remove(digest);
        assert!(removed.is_some(), "blob {digest} is removed but not there");
        Ok(true)
    }

    async fn list(&self) -> Result<Vec<BlobInfo>, ContentError> {
        let memory = self.memory();
        let blobs = memory.blobs.iter().map(|(digest, (bytes, created))| BlobInfo {
            digest: *digest,
            size: bytes.len() as u64,
            created: *created,
        });
        Ok(blobs.collect())
    }

    fn path(&self, _digest: &Digest) -> Option<HostPath> {
        None
    }
}

struct MemorySink {
    content: Vec<u8>,
    memory: Arc<Mutex<Memory>>,
}

impl IngestSink for MemorySink {
    fn append(&mut self, bytes: &[u8]) -> Result<(), ContentError> {
        self.content.extend_from_slice(bytes);
        Ok(())
    }

    fn publish(mut self: Box<Self>, digest: Digest) -> Result<(), ContentError> {
        let bytes = std::mem::take(&mut self.content);
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.insert(digest, bytes.into());
        Ok(())
    }
}

impl Drop for MemorySink {
    fn drop(&mut self) {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).open_ingests -= 1;
    }
}

/// Calls that [`Faulty`] can make fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// [`ContentStore::info`].
    Info,
    /// [`ContentStore::open`].
    Open,
    /// [`ContentStore::ingest`].
    Ingest,
    /// A batch of bytes of an ingest.
    Append,
    /// The end of an ingest.
    Publish,
    /// [`ContentStore::remove`].
    Remove,
    /// [`ContentStore::list`].
    List,
}

/// Any store, some of whose calls fail as if the disk were full.
#[derive(Debug)]
pub struct Faulty<S> {
    inner: S,
    faults: Arc<Mutex<Vec<Call>>>,
}

impl<S> Faulty<S> {
    /// Returns a store that does not fail yet.
    pub fn new(inner: S) -> Self {
        Self { inner, faults: Arc::default() }
    }

    /// Makes the next `call` fail. Said twice, the next two fail.
    pub fn fail_next(&self, call: Call) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }

    /// Returns the store that is wrapped.
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    fn check(&self, call: Call) -> Result<(), ContentError> {
        check(&self.faults, call)
    }
}

fn check(faults: &Mutex<Vec<Call>>, call: Call) -> Result<(), ContentError> {
    let mut faults = faults.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(index) = faults.iter().position(|fault| *fault == call) else { return Ok(()) };
    faults.remove(index);
    let source = std::io::ErrorKind::StorageFull.into();
    Err(ContentError::io("injected fault in", format!("{call:?}"))(source))
}

#[async_trait]
impl<S: ContentStore> ContentStore for Faulty<S> {
    async fn info(&self, digest: &Digest) -> Result<Option<BlobInfo>, ContentError> {
        self.check(Call::Info)?;
        self.inner.info(digest).await
    }

    async fn open(&self, digest: &Digest) -> Result<Reader, ContentError> {
        self.check(Call::Open)?;
        self.inner.open(digest).await
    }

    async fn ingest(
        &self,
        expected: Option<Digest>,
        expected_size: Option<u64>,
    ) -> Result<Ingest, ContentError> {
        self.check(Call::Ingest)?;
        let ingest = self.inner.ingest(expected, expected_size).await?;
        let faults = self.faults.clone();
        Ok(ingest.wrap(|sink| Box::new(FaultySink { sink, faults })))
    }

    async fn remove(&self, digest: &Digest) -> Result<bool, ContentError> {
        self.check(Call::Remove)?;
        self.inner.remove(digest).await
    }

    async fn list(&self) -> Result<Vec<BlobInfo>, ContentError> {
        self.check(Call::List)?;
        self.inner.list().await
    }

    fn path(&self, digest: &Digest) -> Option<HostPath> {
        self.inner.path(digest)
    }
}

struct FaultySink {
    sink: Box<dyn IngestSink>,
    faults: Arc<Mutex<Vec<Call>>>,
}

impl IngestSink for FaultySink {
    fn append(&mut self, bytes: &[u8]) -> Result<(), ContentError> {
        check(&self.faults, Call::Append)?;
        self.sink.append(bytes)
    }

    fn publish(self: Box<Self>, digest: Digest) -> Result<(), ContentError> {
        check(&self.faults, Call::Publish)?;
        self.sink.publish(digest)
    }
}
