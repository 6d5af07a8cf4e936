//! Compressed archives: found out by their first bytes, and written the same on every machine.

use std::io::{self, Read, Write};

/// How an archive is to be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    Uncompressed,
    /// gzip with a level from 0 to 9.
    Gzip(u32),
    /// zstd with a level from 1 to 22.
    Zstd(i32),
}

/// How an archive is compressed, as its first bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ArchiveFormat {
    /// Not compressed, or in a way that is not known here.
    Uncompressed,
    /// gzip, of one or more members.
    Gzip,
    /// zstd, of one or more frames.
    Zstd,
}

impl ArchiveFormat {
    /// How many bytes [`ArchiveFormat::detect`] wants to see.
    pub const MAGIC: usize = 4;

    /// Returns the format of what begins with `start`.
    pub fn detect(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame of zstd.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::Uncompressed,
        }
    }
}

/// Reads an archive of any known format, uncompressed.
pub struct Decompressor<R: Read>(R);

impl<R: Read> Decompressor<R> {
    /// Returns the format that was found.
    pub const fn format(&self) -> ArchiveFormat {
        todo!()
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
        todo!()
    }
}

/// Finds out the format of an archive, and returns a reader of its uncompressed bytes; blocking.
///
/// # Errors
/// Returns an error if the first bytes cannot be read.
pub fn decompress<R: Read>(_archive: R) -> io::Result<Decompressor<R>> {
    todo!()
}

/// Writes an archive compressed; blocking. End it with [`Compressor::finish`].
#[must_use = "an archive is whole only after `finish`"]
pub struct Compressor<W: Write>(W);

/// Returns a writer that compresses into `archive`.
///
/// The bytes depend only on what is written and on `compression`, not on the machine. Gzip is made of
/// one member for each mebibyte, by all cores.
///
/// # Errors
/// Returns an error if the level is out of range.
pub fn compress<W: Write>(_archive: W, _compression: Compression) -> io::Result<Compressor<W>> {
    todo!()
}

impl<W: Write> Compressor<W> {
    /// Writes what is left and returns the inner writer.
    ///
    /// # Errors
    /// Returns an error if the inner writer fails.
    pub fn finish(self) -> io::Result<W> {
        todo!()
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, _buffer: &[u8]) -> io::Result<usize> {
        todo!()
    }

    fn flush(&mut self) -> io::Result<()> {
        todo!()
    }
}
