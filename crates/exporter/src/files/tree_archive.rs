//! Archives of trees as they are seen, unlike those of layers: nothing in them hides anything.

use std::io::{self, Read as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use bytes::Bytes;
use mount::RootDir;
use rustix::fs::{FileType, major, minor};
use snapshot::walk::{Entry, Event, HardLinks, Walk};
use tar::{EntryType, Header};

const BLOCK: usize = 512;

/// Writes an archive; all of it blocks. The same trees give the same bytes.
pub(super) struct TreeArchive<W> {
    sink: W,
    buffer: Vec<u8>,
}

/// Where the entries of one tree go, and how old they are.
struct Place<'a> {
    /// The directory that the tree goes into, with a slash; empty for the top.
    prefix: &'a [u8],
    epoch: Option<i64>,
}

/// An entry to be written.
struct Record {
    header: Header,
    name: Vec<u8>,
    target: Vec<u8>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<W: Write> TreeArchive<W> {
    pub(super) fn new(sink: W) -> Self {
        Self { sink, buffer: vec![0; 1 << 17] }
    }

    pub(super) const fn sink(&self) -> &W {
        &self.sink
    }

    /// Writes a tree, and `files` beside what is in it; they replace what has their name.
    pub(super) fn tree(
        &mut self,
        prefix: Option<&str>,
        root: Option<&RootDir>,
        files: &[(String, Bytes)],
        epoch: Option<i64>,
    ) -> io::Result<()> {
        let prefix = prefix.map(|prefix| format!("{prefix}/")).unwrap_or_default();
        let place = Place { prefix: prefix.as_bytes(), epoch };
        if !prefix.is_empty() {
            let mut record = Record::new(EntryType::Directory, prefix.as_bytes());
            record.header.set_mode(0o755);
            self.record(record, epoch.unwrap_or(0))?;
        }
        if let Some(root) = root {
            self.entries(root, files, &place)?;
        }
        for (name, data) in files {
            let mut record = Record::new(EntryType::Regular, &place.path(Path::new(name)));
            record.header.set_mode(0o600);
            record.header.set_size(data.len() as u64);
            self.record(record, epoch.unwrap_or(0))?;
            self.sink.write_all(data)?;
            self.pad(data.len() as u64)?;
        }
        Ok(())
    }

    /// Writes the end.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.sink.write_all(&[0; 2 * BLOCK])?;
        self.sink.flush()
    }

    fn entries(
        &mut self,
        root: &RootDir,
        files: &[(String, Bytes)],
        place: &Place<'_>,
    ) -> io::Result<()> {
        let mut links = HardLinks::default();
        let mut walk = Walk::new(root).map_err(io::Error::other)?;
        while let Some(event) = walk.next().map_err(io::Error::other)? {
            let Event::Enter(entry) = event else { continue };
            if files.iter().any(|(name, _)| entry.path() == Path::new(name)) {
                walk.skip();
                continue;
            }
            self.entry(&entry, &mut links, place)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        entry: &Entry<'_>,
        links: &mut HardLinks,
        place: &Place<'_>,
    ) -> io::Result<()> {
        let stat = entry.stat();
        let kind = match entry.file_type() {
            FileType::RegularFile => EntryType::Regular,
            FileType::Directory => EntryType::Directory,
            FileType::Symlink => EntryType::Symlink,
            FileType::CharacterDevice => EntryType::Char,
            FileType::BlockDevice => EntryType::Block,
            FileType::Fifo => EntryType::Fifo,
            // Nobody is behind a socket that was unpacked.
            FileType::Socket | FileType::Unknown => return Ok(()),
        };
        let mut record = Record::new(kind, &place.path(entry.path()));
        record.header.set_mode(stat.st_mode & 0o7777);
        record.header.set_uid(stat.st_uid.into());
        record.header.set_gid(stat.st_gid.into());
        let xattrs = entry.xattrs().map_err(io::Error::other)?.into_iter();
        record.xattrs = xattrs.map(|(key, value)| (key.into_bytes(), value)).collect();
        let modified = place.epoch.unwrap_or_else(|| rounded(stat.st_mtime, stat.st_mtime_nsec));
        if let Some(first) = links.first(entry) {
            record.header.set_entry_type(EntryType::Link);
            record.target = place.path(first);
            return self.record(record, modified);
        }
        match kind {
            EntryType::Directory => record.name.push(b'/'),
            EntryType::Symlink => {
                let target = entry.read_link().map_err(io::Error::other)?;
                record.target = target.as_bytes().to_vec();
            }
            EntryType::Char | EntryType::Block => {
                record.header.set_device_major(major(stat.st_rdev))?;
                record.header.set_device_minor(minor(stat.st_rdev))?;
            }
            EntryType::Regular => {
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                record.header.set_size(size);
                self.record(record, modified)?;
                return self.content(entry, size);
            }
            _ => {}
        }
        self.record(record, modified)
    }

    fn content(&mut self, entry: &Entry<'_>, size: u64) -> io::Result<()> {
        let mut file = entry.open().map_err(io::Error::other)?.take(size);
        let mut written = 0;
        loop {
            let count = file.read(&mut self.buffer)?;
            if count == 0 {
                break;
            }
            self.sink.write_all(&self.buffer[..count])?;
            written += count as u64;
        }
        if written != size {
            let reason = format!("`{}` became shorter while it was read", entry.path().display());
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
        }
        self.pad(size)
    }

    fn record(&mut self, mut record: Record, modified: i64) -> io::Result<()> {
        let mut extensions = Vec::new();
        let ustar = record.header.as_ustar_mut().ok_or(io::ErrorKind::InvalidData)?;
        for (key, value, field) in [
            ("path", &record.name, &mut ustar.name),
            ("linkpath", &record.target, &mut ustar.linkname),
        ] {
            if value.len() > field.len() || !value.is_ascii() {
                extensions.push(extension(key.as_bytes(), value));
            }
            let length = value.len().min(field.len());
            field[..length].copy_from_slice(&value[..length]);
        }
        match u64::try_from(modified) {
            Ok(modified) if modified < 1 << 33 => record.header.set_mtime(modified),
            _ => extensions.push(extension(b"mtime", modified.to_string().as_bytes())),
        }
        for (key, value) in &record.xattrs {
            extensions.push(extension(&[b"SCHILY.xattr.", &key[..]].concat(), value));
        }
        if !extensions.is_empty() {
            let data = extensions.concat();
            let mut header = Record::new(EntryType::XHeader, b"PaxHeaders.0/entry").header;
            header.as_mut_bytes()[..18].copy_from_slice(b"PaxHeaders.0/entry");
            header.set_size(data.len() as u64);
            header.set_cksum();
            self.sink.write_all(header.as_bytes())?;
            self.sink.write_all(&data)?;
            self.pad(data.len() as u64)?;
        }
        record.header.set_cksum();
        self.sink.write_all(record.header.as_bytes())
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = size % BLOCK as u64;
        if over == 0 {
            return Ok(());
        }
        // Less than a block.
        let missing = BLOCK - over as usize;
        self.sink.write_all(&[0; BLOCK][..missing])
    }
}

impl Place<'_> {
    fn path(&self, path: &Path) -> Vec<u8> {
        [self.prefix, path.as_os_str().as_bytes()].concat()
    }
}

impl Record {
    fn new(kind: EntryType, name: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        for set in [Header::set_uid, Header::set_gid, Header::set_size] {
            set(&mut header, 0);
        }
        header.set_mode(0o644);
        Self { header, name: name.to_vec(), target: Vec::new(), xattrs: Vec::new() }
    }
}

/// Returns the nearest whole second.
fn rounded(seconds: i64, nanoseconds: impl TryInto<i64>) -> i64 {
    seconds + i64::from(nanoseconds.try_into().unwrap_or(0) >= 500_000_000)
}

/// Returns `<length> <key>=<value>\n`, where the length counts its own digits.
fn extension(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn extensions_count_their_own_length(
            key in "[a-zA-Z.]{1,20}",
            value in proptest::collection::vec(any::<u8>(), 0..2000),
        ) {
            let record = extension(key.as_bytes(), &value);
            let text = format!("{} {key}=", record.len());
            prop_assert!(record.starts_with(text.as_bytes()));
            prop_assert_eq!(&record[text.len()..record.len() - 1], &value[..]);
            prop_assert_eq!(record.last(), Some(&b'\n'));
        }
    }
}
