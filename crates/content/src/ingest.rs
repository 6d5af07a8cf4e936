//! A blob on its way in.

use std::fmt::{self, Debug};
use std::io::{self, Write as _};

use bytes::Bytes;
use digests::{Digest, DigestWriter};

use crate::ContentError;

/// How much is gathered before it is hashed and written in one go.
const BATCH: usize = 1 << 20;

/// Where an [`Ingest`] puts its bytes; implemented by each store. Dropping it discards them.
pub trait IngestSink: Send {
    /// Appends `bytes`; blocking.
    ///
    /// # Errors
    /// Returns an error if they cannot be kept.
    fn append(&mut self, bytes: &[u8]) -> Result<(), ContentError>;

    /// Makes all that was appended visible as the blob `digest`, at once and durably; blocking. If
    /// the blob is already there, nothing changes.
    ///
    /// # Errors
    /// Returns an error if the blob could not be made visible.
    fn publish(self: Box<Self>, digest: Digest) -> Result<(), ContentError>;
}

/// A blob on its way in. Dropping it discards what came.
#[must_use = "what was written is discarded unless it is committed"]
pub struct Ingest {
    expected: Option<Digest>,
    expected_size: Option<u64>,
    gathered: Vec<Bytes>,
    gathered_size: usize,
    /// Always some, except while a batch is being written: a write that is cancelled or fails in
    /// between leaves none, and nothing can be committed any more.
    state: Option<State>,
}

struct State {
    sink: Box<dyn IngestSink>,
    hash: DigestWriter<io::Sink>,
}

impl Ingest {
    /// Starts an ingest into `sink`; for implementations of a store.
    pub fn new(
        expected: Option<Digest>,
        expected_size: Option<u64>,
        sink: Box<dyn IngestSink>,
    ) -> Self {
        let state = Some(State { sink, hash: DigestWriter::new(io::sink()) });
        Self { expected, expected_size, gathered: Vec::new(), gathered_size: 0, state }
    }

    /// Puts a layer round the sink; for decorators of a store.
    pub fn wrap(mut self, layer: impl FnOnce(Box<dyn IngestSink>) -> Box<dyn IngestSink>) -> Self {
        self.state = self.state.map(|State { sink, hash }| State { sink: layer(sink), hash });
        self
    }

    /// Returns how many bytes came so far.
    pub fn received(&self) -> u64 {
        let written = self.state.as_ref().map_or(0, |state| state.hash.written());
        written + self.gathered_size as u64
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// Returns an error if they cannot be kept, or are more than was promised. Then, or when this
    /// call is cancelled, the ingest cannot be committed any more.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), ContentError> {
        let actual = self.received() + chunk.len() as u64;
        if let Some(expected) = self.expected_size.filter(|expected| actual > *expected) {
            self.state = None;
            return Err(ContentError::TooLong { expected, actual });
        }
        self.gathered_size += chunk.len();
        self.gathered.push(chunk);
        if self.gathered_size < BATCH {
            return Ok(());
        }
        let (state, gathered) = self.take_batch()?;
        self.state = Some(tasks::blocking("write blob", move || state.append(&gathered)).await??);
        Ok(())
    }

    /// Ends the blob: checks it against what was promised and makes it visible.
    ///
    /// # Errors
    /// Returns an error if it is not what was promised or cannot be kept; nothing is stored then.
    pub async fn commit(mut self) -> Result<(Digest, u64), ContentError> {
        let (expected, expected_size) = (self.expected, self.expected_size);
        let (state, gathered) = self.take_batch()?;
        tasks::blocking("commit blob", move || {
            state.append(&gathered)?.publish(expected, expected_size)
        })
        .await?
    }

    fn take_batch(&mut self) -> Result<(State, Vec<Bytes>), ContentError> {
        self.gathered_size = 0;
        let gathered = std::mem::take(&mut self.gathered);
        match self.state.take() {
            Some(state) => Ok((state, gathered)),
            None => Err(ContentError::Abandoned),
        }
    }
}

impl State {
    fn append(mut self, chunks: &[Bytes]) -> Result<Self, ContentError> {
        for chunk in chunks {
            self.sink.append(chunk)?;
            // Writing to a sink cannot fail.
            let _ = self.hash.write_all(chunk);
        }
        Ok(self)
    }

    fn publish(
        self,
        expected: Option<Digest>,
        expected_size: Option<u64>,
    ) -> Result<(Digest, u64), ContentError> {
        let (_, actual, size) = self.hash.finish();
        if let Some(expected) = expected_size.filter(|expected| *expected != size) {
            return Err(ContentError::TooShort { expected, actual: size });
        }
        if let Some(expected) = expected.filter(|expected| *expected != actual) {
            return Err(ContentError::WrongDigest { expected, actual, size });
        }
        self.sink.publish(actual)?;
        Ok((actual, size))
    }
}

impl Debug for Ingest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ingest")
            .field("expected", &self.expected)
            .field("expected_size", &self.expected_size)
            .field("received", &self.received())
            .finish_non_exhaustive()
    }
}
