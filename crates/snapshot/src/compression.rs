//! Compressed archives: found out by their first bytes, and written the same on every machine.

mod gzip;

use std::fmt::{self, Debug};
use std::io::{self, BufRead as _, BufReader, Read, Write};

use flate2::bufread::MultiGzDecoder;
use gzip::GzipWriter;

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
    pub const fn detect(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A frame, or a skippable frame.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::Uncompressed,
        }
    }
}

/// What was read to find out the format, and then the rest.
type Whole<R> = BufReader<io::Chain<io::Cursor<Vec<u8>>, R>>;

/// Reads an archive of any known format, uncompressed.
pub struct Decompressor<R: Read>(Decoder<R>);

enum Decoder<R: Read> {
    Plain(Whole<R>),
    Gzip(Box<MultiGzDecoder<Whole<R>>>),
    Zstd(zstd::stream::read::Decoder<'static, Whole<R>>),
}

/// Finds out the format of an archive, and returns a reader of its uncompressed bytes; blocking.
///
/// # Errors
/// Returns an error if the first bytes cannot be read.
pub fn decompress<R: Read>(mut archive: R) -> io::Result<Decompressor<R>> {
    let mut start = Vec::with_capacity(ArchiveFormat::MAGIC);
    archive.by_ref().take(ArchiveFormat::MAGIC as u64).read_to_end(&mut start)?;
    let format = ArchiveFormat::detect(&start);
    let whole = BufReader::with_capacity(1 << 16, io::Cursor::new(start).chain(archive));
    Ok(Decompressor(match format {
        ArchiveFormat::Uncompressed => Decoder::Plain(whole),
        ArchiveFormat::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(whole))),
        ArchiveFormat::Zstd => Decoder::Zstd(zstd::stream::read::Decoder::with_buffer(whole)?),
    }))
}

impl<R: Read> Decompressor<R> {
    /// Returns the format that was found.
    pub const fn format(&self) -> ArchiveFormat {
        match self.0 {
            Decoder::Plain(_) => ArchiveFormat::Uncompressed,
            Decoder::Gzip(_) => ArchiveFormat::Gzip,
            Decoder::Zstd(_) => ArchiveFormat::Zstd,
        }
    }

    /// Reads what follows the end of the compressed bytes, so that a reader below sees all there is.
    ///
    /// # Errors
    /// Returns an error if it cannot be read.
    pub fn drain(self) -> io::Result<R> {
        let mut whole = match self.0 {
            Decoder::Plain(whole) => whole,
            Decoder::Gzip(decoder) => decoder.into_inner(),
            Decoder::Zstd(decoder) => decoder.finish(),
        };
        loop {
            match whole.fill_buf()?.len() {
                0 => return Ok(whole.into_inner().into_inner().1),
                count => whole.consume(count),
            }
        }
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Decoder::Plain(reader) => reader.read(buffer),
            Decoder::Gzip(reader) => reader.read(buffer),
            Decoder::Zstd(reader) => reader.read(buffer),
        }
    }
}

impl<R: Read> Debug for Decompressor<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Decompressor").field(&self.format()).finish()
    }
}

/// Writes an archive compressed; blocking. End it with [`Compressor::finish`].
#[must_use = "an archive is whole only after `finish`"]
pub struct Compressor<W: Write>(Encoder<W>);

enum Encoder<W: Write> {
    Plain(W),
    Gzip(GzipWriter<W>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

/// Returns a writer that compresses into `archive`.
///
/// The bytes depend only on what is written and on `compression`, not on the machine. Gzip is made of
/// one member for each mebibyte, by all cores.
///
/// # Errors
/// Returns an error if the level is out of range.
pub fn compress<W: Write>(archive: W, compression: Compression) -> io::Result<Compressor<W>> {
    Ok(Compressor(match compression {
        Compression::Uncompressed => Encoder::Plain(archive),
        Compression::Gzip(level @ 0..=9) => Encoder::Gzip(GzipWriter::new(archive, level)),
        Compression::Gzip(level) => return Err(out_of_range("gzip", level.into(), 0..=9)),
        Compression::Zstd(level @ 1..=22) => {
            Encoder::Zstd(zstd::stream::write::Encoder::new(archive, level)?)
        }
        Compression::Zstd(level) => return Err(out_of_range("zstd", level.into(), 1..=22)),
    }))
}

fn out_of_range(kind: &str, level: i64, range: std::ops::RangeInclusive<i64>) -> io::Error {
    let (low, high) = range.into_inner();
    let message = format!("{kind} has the levels {low} to {high}, not {level}");
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

impl<W: Write> Compressor<W> {
    /// Writes what is left and returns the inner writer.
    ///
    /// # Errors
    /// Returns an error if the inner writer fails.
    pub fn finish(self) -> io::Result<W> {
        match self.0 {
            Encoder::Plain(writer) => Ok(writer),
            Encoder::Gzip(writer) => writer.finish(),
            Encoder::Zstd(writer) => writer.finish(),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Encoder::Plain(writer) => writer.write(buffer),
            Encoder::Gzip(writer) => writer.write(buffer),
            Encoder::Zstd(writer) => writer.write(buffer),
        }
    }

    /// Passes on what is compressed already. It does not end a block, or the bytes would depend on
    /// who flushes when.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write> Debug for Compressor<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.0 {
            Encoder::Plain(_) => "uncompressed",
            Encoder::Gzip(_) => "gzip",
            Encoder::Zstd(_) => "zstd",
        };
        f.debug_tuple("Compressor").field(&kind).finish()
    }
}
