//! Blobs of the store, in and out.

use std::io;

use bytes::{Bytes, BytesMut};
use content::{BlobRead, ContentError, ContentStore, Reader};
use digests::{Digest, DigestWriter};
use futures::stream::{self, BoxStream, StreamExt as _};
use tokio_util::io::StreamReader;

/// How much of a blob is read at once, bytes.
const CHUNK: usize = 1 << 20;

/// Puts a small document into the store, unless it is there.
pub(crate) async fn keep(content: &dyn ContentStore, document: &Bytes) -> Result<(), ContentError> {
    let digest = Digest::of(document);
    if content.contains(&digest).await? {
        return Ok(());
    }
    let mut ingest = content.ingest(Some(digest), Some(document.len() as u64)).await?;
    ingest.write(document.clone()).await?;
    ingest.commit().await?;
    Ok(())
}

/// Reads a blob, and fails at its end if it is not what its digest says.
pub(crate) type VerifiedBlob = StreamReader<BoxStream<'static, io::Result<Bytes>>, Bytes>;

/// Returns the bytes of a blob.
pub(crate) fn verified(blob: Reader) -> VerifiedBlob {
    let digest = blob.digest();
    let start = Reading { digest, blob: blob.into_read(), seen: DigestWriter::new(io::sink()) };
    let chunks = stream::try_unfold(start, |reading| async {
        let next = tasks::blocking("read blob", move || reading.next());
        next.await.map_err(io::Error::other)?
    });
    StreamReader::new(chunks.boxed())
}

struct Reading {
    digest: Digest,
    blob: BlobRead,
    seen: DigestWriter<io::Sink>,
}

impl Reading {
    /// Reads the next chunk; blocking.
    fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        use io::{Read as _, Write as _};
        let mut chunk = BytesMut::zeroed(CHUNK);
        let mut length = 0;
        while length < CHUNK {
            match self.blob.read(&mut chunk[length..])? {
                0 => break,
                count => length += count,
            }
        }
        chunk.truncate(length);
        self.seen.write_all(&chunk)?;
        if !chunk.is_empty() {
            return Ok(Some((chunk.freeze(), self)));
        }
        let (_, actual, size) = self.seen.finish();
        if actual == self.digest {
            return Ok(None);
        }
        Err(io::Error::other(ContentError::Corrupt { digest: self.digest, actual, size }))
    }
}
