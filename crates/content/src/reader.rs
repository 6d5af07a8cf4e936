//! A blob that is open for reading.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use digests::{Digest, DigestWriter};

use crate::ContentError;

/// A blob that is open for reading. Clones share one open file.
#[derive(Debug, Clone)]
pub struct Reader {
    digest: Digest,
    size: u64,
    file: Arc<File>,
}

impl Reader {
    /// Takes an open file as the blob `digest`; its size is the file's.
    ///
    /// # Errors
    /// Returns the error of `fstat(2)`.
    pub fn new(digest: Digest, file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        Ok(Self { digest, size, file: Arc::new(file) })
    }

    /// Returns the blob's digest.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the blob's length in bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Returns the file, for blocking work. Its position is shared by all clones: read it at
    /// explicit offsets, or through [`Reader::into_read`].
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns a blocking reader of the whole blob, from its start, with a position of its own.
    pub fn into_read(self) -> BlobRead {
        BlobRead { reader: self, position: 0 }
    }

    /// Reads `length` bytes at `offset`.
    ///
    /// # Errors
    /// Returns an error if the range is not inside the blob.
    pub async fn read_range(&self, offset: u64, length: usize) -> Result<Bytes, ContentError> {
        let end = offset.checked_add(length as u64);
        if end.is_none_or(|end| end > self.size) {
            let (digest, size) = (self.digest, self.size);
            return Err(ContentError::Range { digest, size, offset, length });
        }
        let reader = self.clone();
        tasks::blocking("read blob", move || {
            let mut buffer = vec![0; length];
            reader
                .file
                .read_exact_at(&mut buffer, offset)
                .map_err(ContentError::io("read blob", reader.digest.hex()))?;
            Ok(Bytes::from(buffer))
        })
        .await?
    }

    /// Reads the whole blob into memory, and checks it: for manifests and the like.
    ///
    /// # Errors
    /// Returns an error if it cannot be read or is corrupt.
    pub async fn read_all(&self) -> Result<Bytes, ContentError> {
        let length = usize::try_from(self.size).unwrap_or(usize::MAX);
        let bytes = self.read_range(0, length).await?;
        let actual = Digest::of(&bytes);
        if actual == self.digest {
            return Ok(bytes);
        }
        Err(ContentError::Corrupt { digest: self.digest, actual, size: self.size })
    }

    /// Reads the whole blob and compares it with its digest.
    ///
    /// # Errors
    /// Returns an error if it cannot be read or is corrupt.
    pub async fn verify(&self) -> Result<(), ContentError> {
        let reader = self.clone();
        tasks::blocking("verify blob", move || {
            let mut hash = DigestWriter::new(io::sink());
            let digest = reader.digest;
            io::copy(&mut reader.into_read(), &mut hash)
                .map_err(ContentError::io("read blob", digest.hex()))?;
            let (_, actual, size) = hash.finish();
            if actual == digest {
                return Ok(());
            }
            Err(ContentError::Corrupt { digest, actual, size })
        })
        .await?
    }
}

/// Reads a blob from its start; blocking.
#[derive(Debug)]
pub struct BlobRead {
    reader: Reader,
    position: u64,
}

impl io::Read for BlobRead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.file.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl io::Seek for BlobRead {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let position = match to {
            io::SeekFrom::Start(offset) => Some(offset),
            io::SeekFrom::End(offset) => self.reader.size.checked_add_signed(offset),
            io::SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
