//! Reads an archive entry by entry: ustar, GNU and PAX headers, as found in image layers.
//!
//! PAX records are cut by their length, because the values of attributes are bytes that may contain
//! anything. What cannot be represented is an error, never a guess.

use std::ffi::{CString, OsString};
use std::io::{self, Read, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use digests::{Digest, DigestWriter};
use rustix::fs::Timespec;

use super::ArchiveError;
use super::format::{BLOCK, Field, field};
use crate::attributes::Xattrs;

/// The longest extension (a name, a set of attributes) of an entry.
const LONGEST_EXTENSION: u64 = 4 << 20;

/// An archive being read.
pub(super) struct ArchiveReader<R> {
    input: R,
    hash: DigestWriter<io::Sink>,
    /// What is left of the current entry's content, and of the padding after it.
    content: u64,
    padding: u64,
    ended: bool,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    HardLink,
    Symlink,
    CharacterDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// An entry's header, with its extensions.
#[derive(Debug)]
pub(super) struct Header {
    /// Where it is in the archive.
    pub(super) offset: u64,
    pub(super) name: PathBuf,
    pub(super) kind: Kind,
    /// Where a link points.
    pub(super) target: PathBuf,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) modified: Timespec,
    pub(super) device: (u32, u32),
    pub(super) xattrs: Xattrs,
}

/// What the headers before an entry's own say of it.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    modified: Option<Timespec>,
    xattrs: Xattrs,
}

impl<R: Read> ArchiveReader<R> {
    pub(super) fn new(input: R) -> Self {
        let hash = DigestWriter::new(io::sink());
        Self { input, hash, content: 0, padding: 0, ended: false }
    }

    /// Returns the next entry; none at the end. Its content, if any, is read from this reader.
    pub(super) fn next_entry(&mut self) -> Result<Option<Header>, ArchiveError> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_content()?;
            let offset = self.hash.written();
            let Some(block) = self.block()? else { return Ok(None) };
            let malformed =
                |reason| ArchiveError::Malformed { offset, entry: plain_name(&block), reason };
            check_sum(&block).ok_or_else(|| malformed("the header's checksum is wrong"))?;
            let size = number(&block, field::SIZE).ok_or_else(|| malformed("no valid size"))?;
            match block[field::KIND.start] {
                b'x' => {
                    self.set_content(size);
                    let records = self.extension(offset)?;
                    extensions.read_pax(&records).map_err(malformed)?;
                }
                b'L' => {
                    self.set_content(size);
                    extensions.name = Some(until_nul(&self.extension(offset)?).to_vec());
                }
                b'K' => {
                    self.set_content(size);
                    extensions.target = Some(until_nul(&self.extension(offset)?).to_vec());
                }
                // Global records say nothing that a layer needs.
                b'g' => self.set_content(size),
                _ => {
                    let size = extensions.size.unwrap_or(size);
                    let header = header(offset, &block, extensions).map_err(malformed)?;
                    self.set_content(if header.kind == Kind::File { size } else { 0 });
                    return Ok(Some(header));
                }
            }
        }
    }

    /// Reads what follows the archive's end, and returns the digest and the length of all of it.
    pub(super) fn finish(mut self) -> Result<(Digest, u64), ArchiveError> {
        let mut buffer = vec![0; 1 << 16];
        while self.read_some(&mut buffer)? > 0 {}
        let (_, digest, size) = self.hash.finish();
        Ok((digest, size))
    }

    /// Returns how much was read so far.
    pub(super) fn offset(&self) -> u64 {
        self.hash.written()
    }

    fn set_content(&mut self, size: u64) {
        self.content = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
    }

    fn skip_content(&mut self) -> Result<(), ArchiveError> {
        let mut left = self.content.saturating_add(self.padding);
        (self.content, self.padding) = (0, 0);
        let mut buffer = [0; 1 << 13];
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            match self.read_some(&mut buffer[..length])? {
                0 => return Err(self.cut_off()),
                count => left -= count as u64,
            }
        }
        Ok(())
    }

    fn extension(&mut self, offset: u64) -> Result<Vec<u8>, ArchiveError> {
        if self.content > LONGEST_EXTENSION {
            let reason = "an extension of more than 4 MiB";
            return Err(ArchiveError::Malformed { offset, entry: None, reason });
        }
        let mut records = vec![0; usize::try_from(self.content).unwrap_or(0)];
        let length = records.len();
        if self.fill(&mut records)? < length {
            return Err(self.cut_off());
        }
        self.content = 0;
        Ok(records)
    }

    /// Returns the next header; none at the end of the archive.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, ArchiveError> {
        if self.ended {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        match self.fill(&mut block)? {
            // An archive without its end mark is taken, as others do.
            0 => self.ended = true,
            BLOCK if block.iter().any(|byte| *byte != 0) => return Ok(Some(block)),
            BLOCK => self.ended = true,
            _ => return Err(self.cut_off()),
        }
        Ok(None)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_some(&mut buffer[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(filled)
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        loop {
            match self.input.read(buffer) {
                Ok(count) => {
                    // Writing to a sink cannot fail.
                    let _ = self.hash.write_all(&buffer[..count]);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(ArchiveError::Read { offset: self.offset(), source }),
            }
        }
    }

    fn cut_off(&self) -> ArchiveError {
        let reason = "it ends in the middle of an entry";
        ArchiveError::Malformed { offset: self.offset(), entry: None, reason }
    }

    /// Reads the next bytes of the current entry's content; none at its end.
    pub(super) fn read_content(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        let length = usize::try_from(self.content).unwrap_or(usize::MAX).min(buffer.len());
        if length == 0 {
            return Ok(0);
        }
        match self.read_some(&mut buffer[..length])? {
            0 => Err(self.cut_off()),
            count => {
                self.content -= count as u64;
                Ok(count)
            }
        }
    }
}

fn plain_name(block: &[u8; BLOCK]) -> Option<PathBuf> {
    let name = until_nul(&block[field::NAME]);
    (!name.is_empty()).then(|| path(name.to_vec()))
}

fn path(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or(bytes)
}

/// Checks the sum of a header's bytes; old programs added them as signed.
fn check_sum(block: &[u8; BLOCK]) -> Option<()> {
    let stored = number(block, field::SUM)?;
    let bytes = || {
        block
            .iter()
            .enumerate()
            .map(|(at, byte)| if field::SUM.contains(&at) { b' ' } else { *byte })
    };
    let unsigned: u64 = bytes().map(u64::from).sum();
    let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
    (stored == unsigned || i64::try_from(stored) == Ok(signed)).then_some(())
}

/// Reads a number: octal text, or bytes in base 256 when the first bit is set.
fn number(block: &[u8; BLOCK], at: Field) -> Option<u64> {
    let bytes = &block[at];
    if bytes[0] & 0x80 != 0 {
        // A negative number begins with 0xff; nothing here may be negative.
        if bytes[0] & 0x40 != 0 {
            return None;
        }
        let first = u64::from(bytes[0] & 0x3f);
        return bytes[1..].iter().try_fold(first, |value, byte| {
            value.checked_mul(256).map(|value| value | u64::from(*byte))
        });
    }
    let text = bytes.iter().copied().skip_while(|byte| *byte == b' ');
    let mut digits = text.take_while(|byte| *byte != 0 && *byte != b' ');
    digits.try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8).map(|value| value | u64::from(digit - b'0')),
        _ => None,
    })
}

fn header(
    offset: u64,
    block: &[u8; BLOCK],
    extensions: Extensions,
) -> Result<Header, &'static str> {
    let name = extensions.name.unwrap_or_else(|| stored_name(block));
    let kind = match block[field::KIND.start] {
        // Before ustar, a directory was a file whose name ends like this.
        b'0' | 0 | b'7' if name.ends_with(b"/") => Kind::Directory,
        b'0' | 0 | b'7' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharacterDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        b'S' => return Err("sparse entries of GNU tar are not supported"),
        _ => return Err("an unknown type of entry"),
    };
    let target = extensions.target.unwrap_or_else(|| until_nul(&block[field::TARGET]).to_vec());
    if name.contains(&0) || target.contains(&0) {
        return Err("a name with a NUL byte");
    }
    let is_link = matches!(kind, Kind::HardLink | Kind::Symlink);
    if is_link && target.is_empty() {
        return Err("a link to nowhere");
    }
    let owner = |extension: Option<u64>, at| {
        let id = extension.or_else(|| number(block, at)).ok_or("no valid owner")?;
        // The last number means "do not change" to the kernel.
        u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or("an owner out of range")
    };
    let seconds = number(block, field::MODIFIED).and_then(|time| i64::try_from(time).ok());
    let is_device = matches!(kind, Kind::CharacterDevice | Kind::BlockDevice);
    let device = |at| match is_device.then(|| number(block, at)) {
        None => Ok(0),
        Some(number) => {
            number.and_then(|number| u32::try_from(number).ok()).ok_or("no valid device number")
        }
    };
    Ok(Header {
        offset,
        name: path(name),
        kind,
        target: path(target),
        mode: u32::try_from(number(block, field::MODE).ok_or("no valid mode")? & 0o7777)
            .unwrap_or(0),
        uid: owner(extensions.uid, field::UID)?,
        gid: owner(extensions.gid, field::GID)?,
        modified: extensions
            .modified
            .unwrap_or(Timespec { tv_sec: seconds.unwrap_or(0), tv_nsec: 0 }),
        device: (device(field::MAJOR)?, device(field::MINOR)?),
        xattrs: extensions.xattrs,
    })
}

/// Returns the name of the header itself; only POSIX's own form has a prefix.
fn stored_name(block: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(&block[field::NAME]);
    let prefix = until_nul(&block[field::PREFIX]);
    if block[field::MAGIC] == *b"ustar\0" && !prefix.is_empty() {
        return [prefix, b"/", name].concat();
    }
    name.to_vec()
}

impl Extensions {
    /// Reads records of the form `<length> <key>=<value>\n`.
    fn read_pax(&mut self, mut records: &[u8]) -> Result<(), &'static str> {
        const MALFORMED: &str = "a malformed PAX record";
        while !records.is_empty() && records[0] != 0 {
            let digits = records.iter().position(|byte| *byte == b' ').ok_or(MALFORMED)?;
            let length = text(&records[..digits]).and_then(|text| text.parse().ok());
            let length: usize = length.ok_or(MALFORMED)?;
            let record = records.get(digits + 1..length).ok_or(MALFORMED)?;
            let record = record.strip_suffix(b"\n").ok_or(MALFORMED)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or(MALFORMED)?;
            self.take_record(&record[..equals], &record[equals + 1..])?;
            records = &records[length..];
        }
        Ok(())
    }

    fn take_record(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let number = || text(value).and_then(|text| text.parse().ok()).ok_or("a malformed number");
        match key {
            b"path" => self.name = Some(value.to_vec()),
            b"linkpath" => self.target = Some(value.to_vec()),
            b"size" => self.size = Some(number()?),
            b"uid" => self.uid = Some(number()?),
            b"gid" => self.gid = Some(number()?),
            b"mtime" => {
                self.modified = Some(text(value).and_then(time).ok_or("a malformed time")?);
            }
            _ if key.starts_with(b"GNU.sparse.") => {
                return Err("sparse entries of GNU tar are not supported");
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    let name = CString::new(name).map_err(|_| "an attribute with a NUL byte")?;
                    self.xattrs.push((name, value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// Reads seconds with up to nine decimals; more are cut off.
fn time(text: &str) -> Option<Timespec> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (seconds, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if seconds.is_empty() || !all_digits(seconds) || !all_digits(decimals) {
        return None;
    }
    let seconds: i64 = seconds.parse().ok()?;
    let nanos: i64 = format!("{:0<9.9}", decimals).parse().ok()?;
    Some(match (negative, nanos) {
        (false, _) => Timespec { tv_sec: seconds, tv_nsec: nanos },
        (true, 0) => Timespec { tv_sec: -seconds, tv_nsec: 0 },
        (true, _) => Timespec { tv_sec: -seconds - 1, tv_nsec: 1_000_000_000 - nanos },
    })
}
