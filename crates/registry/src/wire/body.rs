//! What is sent with a request. It can be sent more than once.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use digests::Digest;
use futures::stream;
use parking_lot::Mutex;

use crate::{BlobSource, RegistryError, SentBytes};

/// How much is read from a file at once.
const CHUNK: u64 = 256 << 10;

/// What is sent with a request.
#[derive(Debug, Clone)]
pub(super) enum Body {
    Empty,
    Bytes(Bytes),
    Blob(BlobPart),
}

/// A part of a blob, or all of it.
#[derive(Clone)]
pub(super) struct BlobPart {
    pub(super) source: BlobSource,
    pub(super) digest: Digest,
    pub(super) start: u64,
    pub(super) length: u64,
    pub(super) progress: Option<SentBytes>,
}

impl std::fmt::Debug for BlobPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "bytes {} and {} on of {}", self.start, self.length, self.digest)
    }
}

/// Shows how one sending goes.
#[derive(Debug, Default)]
pub(super) struct Meter {
    chunks: AtomicU64,
    finished: AtomicBool,
    failure: Mutex<Option<io::Error>>,
}

impl Meter {
    /// Returns a number that grows while something is sent.
    pub(super) fn chunks(&self) -> u64 {
        self.chunks.load(Ordering::Relaxed)
    }

    /// Returns true once everything has been handed to the connection.
    pub(super) fn finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }

    /// Takes why the content could not be read, if that ended the sending.
    pub(super) fn take_failure(&self) -> Option<io::Error> {
        self.failure.lock().take()
    }
}

impl Body {
    /// Returns the number of bytes.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Blob(part) => part.length,
        }
    }

    /// Opens the content at its start.
    pub(super) async fn open(&self) -> Result<(reqwest::Body, Arc<Meter>), RegistryError> {
        let meter = Arc::new(Meter::default());
        let body = match self {
            Self::Empty => {
                meter.finished.store(true, Ordering::Relaxed);
                reqwest::Body::default()
            }
            Self::Bytes(bytes) => {
                meter.finished.store(true, Ordering::Relaxed);
                reqwest::Body::from(bytes.clone())
            }
            Self::Blob(part) => {
                let reader = part.open().await;
                let digest = part.digest;
                let reader = reader.map_err(|source| RegistryError::Source { digest, source })?;
                stream_body(reader, part.clone(), meter.clone())
            }
        };
        Ok((body, meter))
    }
}

/// An opened source, at the place to read next.
enum Reader {
    Bytes(Bytes),
    File(File),
}

impl BlobPart {
    async fn open(&self) -> io::Result<Reader> {
        let start = self.start;
        match &self.source {
            BlobSource::Bytes(bytes) => {
                let start = usize::try_from(start).unwrap_or(usize::MAX).min(bytes.len());
                Ok(Reader::Bytes(bytes.slice(start..)))
            }
            BlobSource::File(open) => {
                let open = open.clone();
                let opened = tasks::blocking("open blob to push", move || {
                    let mut file = open()?;
                    file.seek(SeekFrom::Start(start))?;
                    Ok(file)
                });
                opened.await.map_err(io::Error::other)?.map(Reader::File)
            }
        }
    }
}

impl Reader {
    /// Reads at most `limit` bytes; none at the end.
    async fn read(self, limit: u64) -> io::Result<(Self, Bytes)> {
        match self {
            Self::Bytes(mut bytes) => {
                let length = usize::try_from(limit).unwrap_or(usize::MAX).min(bytes.len());
                let chunk = bytes.split_to(length);
                Ok((Self::Bytes(bytes), chunk))
            }
            Self::File(file) => {
                let read = tasks::blocking("read blob to push", move || {
                    let mut chunk = Vec::with_capacity(usize::try_from(limit).unwrap_or_default());
                    (&file).take(limit).read_to_end(&mut chunk)?;
                    Ok((Self::File(file), chunk.into()))
                });
                read.await.map_err(io::Error::other)?
            }
        }
    }
}

fn stream_body(reader: Reader, part: BlobPart, meter: Arc<Meter>) -> reqwest::Body {
    let start = (Some(reader), part.length);
    let chunks = stream::try_unfold(start, move |(reader, left)| {
        let (meter, part) = (meter.clone(), part.clone());
        async move {
            let Some(reader) = reader.filter(|_| left > 0) else {
                meter.finished.store(true, Ordering::Relaxed);
                return Ok::<_, io::Error>(None);
            };
            match reader.read(left.min(CHUNK)).await {
                Ok((_, chunk)) if chunk.is_empty() => {
                    let problem = format!("it ends {left} bytes too early");
                    let error = io::Error::new(io::ErrorKind::UnexpectedEof, problem);
                    *meter.failure.lock() = Some(error);
                    Err(io::ErrorKind::UnexpectedEof.into())
                }
                Ok((reader, chunk)) => {
                    let left = left - chunk.len() as u64;
                    meter.chunks.fetch_add(1, Ordering::Relaxed);
                    if let Some(progress) = &part.progress {
                        progress(part.start + part.length - left);
                    }
                    Ok(Some((chunk, (Some(reader), left))))
                }
                Err(error) => {
                    let kind = error.kind();
                    *meter.failure.lock() = Some(error);
                    Err(kind.into())
                }
            }
        }
    });
    reqwest::Body::wrap_stream(chunks)
}
