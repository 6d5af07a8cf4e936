//! Writes a layer as an archive.

use std::ffi::OsStr;
use std::io::{self, Read as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use digests::{DiffId, DigestWriter};
use mount::HostPath;
use rustix::fs::{FileType, Mode, OFlags, major, minor};

use super::header::PlainHeader;
use super::{ArchiveError, WriteOptions, Written};
use crate::walk::{Entry, Event, HardLinks, TreeError, Walk};

/// Attributes that say something of this machine and nothing of the file.
const OF_THE_MACHINE: [&[u8]; 3] = [b"security.selinux", b"security.ima", b"security.evm"];

/// Writes the layer in `directory` as an uncompressed OCI layer archive; blocking.
///
/// The same layer gives the same bytes: entries are sorted, names of users and groups are left out,
/// times are whole seconds, and PAX records are there only where the plain header does not suffice.
/// The layer's root is not an entry, and sockets are left out.
///
/// # Errors
/// Returns an error if a file cannot be read or `archive` cannot be written.
pub fn write_layer(
    directory: &HostPath,
    archive: impl Write,
    options: WriteOptions,
) -> Result<Written, ArchiveError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(directory.as_path(), flags, Mode::empty())
        .map_err(TreeError::at("open directory", directory.as_path()))?;
    let mut writing = Writing {
        archive: DigestWriter::new(archive),
        options,
        links: HardLinks::default(),
        buffer: vec![0; 1 << 17],
    };
    let mut walk = Walk::new(&root)?;
    while let Some(event) = walk.next()? {
        if let Event::Enter(entry) = event {
            writing.entry(&entry)?;
        }
    }
    writing.put(&[0; 1024])?;
    writing.archive.flush().map_err(ArchiveError::Write)?;
    let (_, digest, size) = writing.archive.finish();
    Ok(Written { diff_id: DiffId::new(digest), size })
}

struct Writing<W> {
    archive: DigestWriter<W>,
    options: WriteOptions,
    links: HardLinks,
    buffer: Vec<u8>,
}

impl<W: Write> Writing<W> {
    fn entry(&mut self, entry: &Entry<'_>) -> Result<(), ArchiveError> {
        let name = entry.path().as_os_str().as_bytes();
        if entry.is_whiteout() {
            let hidden = entry.path().with_file_name(whiteout_name(entry.name()));
            return self.whiteout(&hidden);
        }
        let first = self.links.first(entry).map(Path::to_path_buf);
        let mut header = self.header(entry, name)?;
        if let Some(first) = first {
            header.kind = b'1';
            header.target = first.as_os_str().as_bytes().to_vec();
            return self.put(&header.encode());
        }
        match entry.file_type() {
            FileType::RegularFile => self.file(entry, header),
            FileType::Directory => {
                header.kind = b'5';
                header.name.push(b'/');
                self.put(&header.encode())?;
                if entry.is_opaque()? {
                    self.whiteout(&entry.path().join(".wh..wh..opq"))?;
                }
                Ok(())
            }
            FileType::Symlink => {
                header.kind = b'2';
                header.target = entry.read_link()?.as_bytes().to_vec();
                self.put(&header.encode())
            }
            FileType::CharacterDevice => self.device(entry, b'3', header),
            FileType::BlockDevice => self.device(entry, b'4', header),
            FileType::Fifo => {
                header.kind = b'6';
                self.put(&header.encode())
            }
            // Nobody is behind a socket that was unpacked.
            FileType::Socket | FileType::Unknown => Ok(()),
        }
    }

    fn header(&self, entry: &Entry<'_>, name: &[u8]) -> Result<PlainHeader, TreeError> {
        let stat = entry.stat();
        let mut xattrs = entry.xattrs()?;
        xattrs.retain(|(key, _)| !OF_THE_MACHINE.contains(&key.to_bytes()));
        Ok(PlainHeader {
            name: name.to_vec(),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            modified: self.options.newest.map_or(stat.st_mtime, |new| stat.st_mtime.min(new)),
            xattrs,
            ..PlainHeader::default()
        })
    }

    fn whiteout(&mut self, path: &Path) -> Result<(), ArchiveError> {
        let name = path.as_os_str().as_bytes().to_vec();
        self.put(&PlainHeader { name, ..PlainHeader::default() }.encode())
    }

    fn device(
        &mut self,
        entry: &Entry<'_>,
        kind: u8,
        mut header: PlainHeader,
    ) -> Result<(), ArchiveError> {
        let device = entry.stat().st_rdev;
        header.kind = kind;
        header.device = (major(device), minor(device));
        self.put(&header.encode())
    }

    fn file(&mut self, entry: &Entry<'_>, mut header: PlainHeader) -> Result<(), ArchiveError> {
        let mut file = entry.open()?;
        let size = u64::try_from(entry.stat().st_size).unwrap_or(0);
        header.size = size;
        self.put(&header.encode())?;
        let mut left = size;
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let count = match file.read(&mut self.buffer[..length]) {
                Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter")),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read,
            };
            let count = count.map_err(TreeError::at("read", entry.path()))?;
            self.archive.write_all(&self.buffer[..count]).map_err(ArchiveError::Write)?;
            left -= count as u64;
        }
        let padding = usize::try_from(size.next_multiple_of(512) - size).unwrap_or(0);
        self.put(&[0; 512][..padding])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.archive.write_all(bytes).map_err(ArchiveError::Write)
    }
}

fn whiteout_name(hidden: &OsStr) -> std::ffi::OsString {
    let mut name = std::ffi::OsString::from(".wh.");
    name.push(hidden);
    name
}
