//! Archives that `ADD` unpacks into a tree.
//!
//! An archive is hostile: every name is resolved beneath the directory it is unpacked into, a link in the
//! archive or below that directory leads nowhere else, and what is damaged is an error that names the archive.

use std::ffi::OsStr;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;

use bzip2::bufread::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;
use mount::{GuestPath, RootDir};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use tar::EntryType;

use super::FileError;
use super::entry::{self, Owner};

/// How much memory an xz archive may ask for, KiB: twice what its highest preset needs.
const XZ_MEMORY: u32 = 128 << 10;

/// What a file holds.
enum Format {
    Plain,
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

/// Unpacks `from` of the tree `source` into the directory `to` of `target`, if it is an archive; returns
/// whether it is. Everything unpacked gets `owner`, or what the archive says. Blocks.
pub(crate) fn unpack(
    source: &RootDir,
    from: &GuestPath,
    target: &RootDir,
    to: &GuestPath,
    owner: Option<Owner>,
) -> Result<bool, FileError> {
    let stat = source.stat(from).map_err(FileError::io("lstat", from))?;
    if entry::kind(&stat) != FileType::RegularFile {
        return Ok(false);
    }
    let mut file = source.open_file(from).map_err(FileError::io("open", from))?;
    let damaged = |source| FileError::Archive { path: from.to_string(), source };
    if !is_archive(&mut file).map_err(damaged)? {
        return Ok(false);
    }
    target
        .create_dir_all(to, Mode::from_raw_mode(0o755), |made| match owner {
            Some(owner) => entry::set_owner(made, OsStr::new("."), owner),
            None => Ok(()),
        })
        .map_err(FileError::io("mkdir", to))?;
    let reader = decompress(&mut file).map_err(damaged)?;
    let target = target.within(to).map_err(FileError::io("open", to))?;
    let mut unpacker = Unpacker { target, owner, directories: Vec::new() };
    unpacker.run(reader).map_err(damaged)?;
    Ok(true)
}

fn format(file: &mut std::fs::File) -> io::Result<Format> {
    let mut magic = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.by_ref().take(6).read_to_end(&mut magic)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(match magic.as_slice() {
        [0x1f, 0x8b, ..] => Format::Gzip,
        [b'B', b'Z', b'h', ..] => Format::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Format::Xz,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Format::Zstd,
        _ => Format::Plain,
    })
}

fn decompress(file: &mut std::fs::File) -> io::Result<Box<dyn Read + '_>> {
    Ok(match format(file)? {
        Format::Plain => Box::new(BufReader::with_capacity(128 << 10, file)),
        Format::Gzip => Box::new(MultiGzDecoder::new(BufReader::new(file))),
        Format::Bzip2 => Box::new(MultiBzDecoder::new(BufReader::new(file))),
        Format::Xz => Box::new(XzReader::new_mem_limit(BufReader::new(file), true, XZ_MEMORY)),
        Format::Zstd => Box::new(zstd::Decoder::new(file)?),
    })
}

/// Returns true if the file, once decompressed, begins with the header of an archive.
fn is_archive(file: &mut std::fs::File) -> io::Result<bool> {
    let mut header = [0; 512];
    // What cannot be decompressed is a file like any other.
    let Ok(mut reader) = decompress(file) else { return Ok(false) };
    if reader.read_exact(&mut header).is_err() {
        return Ok(false);
    }
    let header = tar::Header::from_byte_slice(&header);
    let sum: u32 = header
        .as_bytes()
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { u32::from(b' ') } else { u32::from(*byte) })
        .sum();
    // A header of extensions needs no name, so an empty one is none against it; a block of zeros has a wrong sum.
    Ok(header.cksum().is_ok_and(|wanted| wanted == sum))
}

/// Extended attributes by name.
type Attributes = Vec<(String, Vec<u8>)>;

struct Unpacker {
    /// The directory that is unpacked into.
    target: RootDir,
    owner: Option<Owner>,
    /// Directories with the times they get when nothing is made in them any more.
    directories: Vec<(GuestPath, i64)>,
}

impl Unpacker {
    fn run(&mut self, reader: impl Read) -> io::Result<()> {
        let mut archive = tar::Archive::new(reader);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let name = entry.path_bytes().into_owned();
            let wrong = |error: io::Error| {
                let name = String::from_utf8_lossy(&name);
                io::Error::new(error.kind(), format!("entry `{name}`: {error}"))
            };
            self.entry(&mut entry, &name).map_err(wrong)?;
        }
        for (path, time) in self.directories.iter().rev() {
            let directory = self.target.open_dir(path)?;
            let time = entry::timespec(time.saturating_mul(1_000_000_000));
            entry::set_times(directory.as_fd(), OsStr::new("."), time)?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &mut tar::Entry<'_, impl Read>, name: &[u8]) -> io::Result<()> {
        let path = place(OsStr::from_bytes(name))?;
        let attributes = attributes(entry)?;
        let header = entry.header().clone();
        let kind = header.entry_type();
        let raw = header.as_old();
        let mode = if is_blank(&raw.mode) { 0 } else { header.mode()? & 0o7777 };
        let time = if is_blank(&raw.mtime) { 0 } else { header.mtime()? };
        let time = i64::try_from(time).unwrap_or(0);
        if kind == EntryType::Directory {
            return self.directory(&path, &header, (mode, time), &attributes);
        }
        let Some(parent) = path.parent() else { return Ok(()) };
        self.target.create_dir_all(&parent, Mode::from_raw_mode(0o755), |_| Ok(()))?;
        let Some((directory, name)) = self.target.parent_of(&path)? else { return Ok(()) };
        let directory = directory.as_fd();
        match kind {
            EntryType::XGlobalHeader => return Ok(()),
            EntryType::Link => {
                entry::remove_all(directory, name)?;
                return self.hard_link(entry, &path);
            }
            _ => entry::remove_all(directory, name)?,
        }
        let mut regular = None;
        match kind {
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                rustix::fs::symlinkat(OsStr::from_bytes(&target), directory, name)?;
            }
            EntryType::Fifo | EntryType::Char | EntryType::Block => {
                special(directory, name, &header)?;
            }
            _ => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let bits = Mode::from_raw_mode(0o600);
                let file = rustix::fs::openat(directory, name, flags, bits)?;
                let mut file = std::fs::File::from(file);
                io::copy(entry, &mut file)?;
                regular = Some(file);
            }
        }
        entry::set_owner(directory, name, self.owner_of(&header)?)?;
        // After the owner: changing that drops capabilities.
        if let Some(file) = regular {
            for (attribute, value) in &attributes {
                entry::set_xattr(file.as_fd(), attribute, value);
            }
        }
        if kind != EntryType::Symlink {
            entry::set_mode(directory, name, mode)?;
        }
        entry::set_times(directory, name, entry::timespec(time.saturating_mul(1_000_000_000)))
    }

    fn directory(
        &mut self,
        path: &GuestPath,
        header: &tar::Header,
        (mode, time): (u32, i64),
        attributes: &Attributes,
    ) -> io::Result<()> {
        let directory = self.target.create_dir_all(path, Mode::from_raw_mode(0o755), |_| Ok(()))?;
        if *path == GuestPath::root() {
            return Ok(());
        }
        let here = OsStr::new(".");
        entry::set_owner(directory.as_fd(), here, self.owner_of(header)?)?;
        for (attribute, value) in attributes {
            entry::set_xattr(directory.as_fd(), attribute, value);
        }
        entry::set_mode(directory.as_fd(), here, mode)?;
        self.directories.push((path.clone(), time));
        Ok(())
    }

    fn hard_link(&self, entry: &tar::Entry<'_, impl Read>, path: &GuestPath) -> io::Result<()> {
        let target = entry.link_name_bytes().unwrap_or_default().into_owned();
        let target = place(OsStr::from_bytes(&target))?;
        let from = self.target.parent_of(&target)?;
        let to = self.target.parent_of(path)?;
        let (Some((from, from_name)), Some((to, to_name))) = (from, to) else {
            return Err(io::Error::other("a hard link to a directory"));
        };
        Ok(rustix::fs::linkat(&from, from_name, &to, to_name, AtFlags::empty())?)
    }

    fn owner_of(&self, header: &tar::Header) -> io::Result<Owner> {
        let narrow = |id: u64| u32::try_from(id).map_err(io::Error::other);
        match self.owner {
            Some(owner) => Ok(owner),
            None => {
                let raw = header.as_old();
                let uid = if is_blank(&raw.uid) { 0 } else { header.uid()? };
                let gid = if is_blank(&raw.gid) { 0 } else { header.gid()? };
                Ok(Owner { uid: narrow(uid)?, gid: narrow(gid)? })
            }
        }
    }
}

/// Returns where the archive's `name` goes below the directory that is unpacked into.
fn place(name: &OsStr) -> io::Result<GuestPath> {
    GuestPath::new(name).map_err(io::Error::other)
}

/// Returns the extended attributes that an entry comes with.
fn attributes(entry: &mut tar::Entry<'_, impl Read>) -> io::Result<Attributes> {
    const PREFIX: &str = "SCHILY.xattr.";
    let mut found = Vec::new();
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        let extension = extension?;
        if let Some(name) = extension.key().ok().and_then(|key| key.strip_prefix(PREFIX)) {
            found.push((name.to_owned(), extension.value_bytes().to_vec()));
        }
    }
    Ok(found)
}

/// Returns true for a number that its writer left out: it counts as zero.
fn is_blank(field: &[u8]) -> bool {
    field.iter().all(|byte| matches!(byte, 0 | b' '))
}

fn special(
    directory: std::os::fd::BorrowedFd<'_>,
    name: &OsStr,
    header: &tar::Header,
) -> io::Result<()> {
    let kind = match header.entry_type() {
        EntryType::Fifo => FileType::Fifo,
        EntryType::Char => FileType::CharacterDevice,
        _ => FileType::BlockDevice,
    };
    let major = header.device_major()?.unwrap_or(0);
    let minor = header.device_minor()?.unwrap_or(0);
    let device = rustix::fs::makedev(major, minor);
    Ok(rustix::fs::mknodat(directory, name, kind, Mode::from_raw_mode(0o600), device)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::MetadataExt as _;

    use lzma_rust2::XzOptions;
    use mount::HostPath;

    use super::*;

    fn open(directory: &tempfile::TempDir) -> RootDir {
        RootDir::open(&HostPath::new(directory.path()).unwrap()).unwrap()
    }

    fn archive(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            header.set_uid(3);
            header.set_gid(4);
            header.set_mtime(77);
            // Written by hand: the library refuses the hostile names that are tested here.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            let data = if *kind == EntryType::Regular { content.as_bytes() } else { b"" };
            if *kind != EntryType::Regular {
                header.as_mut_bytes()[157..157 + content.len()].copy_from_slice(content.as_bytes());
            }
            header.set_size(data.len() as u64);
            header.set_cksum();
            builder.append(&header, data).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn run(bytes: &[u8]) -> (tempfile::TempDir, Result<bool, FileError>) {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(from.path().join("a"), bytes).unwrap();
        let place = GuestPath::new("/into").unwrap();
        let source = GuestPath::new("/a").unwrap();
        let done = unpack(&open(&from), &source, &open(&to), &place, None);
        (to, done)
    }

    #[test]
    fn archives_of_each_compression_are_unpacked() {
        let plain = archive(&[
            ("d", EntryType::Directory, ""),
            ("d/f", EntryType::Regular, "hello"),
            ("d/l", EntryType::Link, "d/f"),
        ]);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(&plain).unwrap();
        let mut xz = lzma_rust2::XzWriter::new(Vec::new(), XzOptions::with_preset(0)).unwrap();
        xz.write_all(&plain).unwrap();
        let made = [gzip.finish().unwrap(), bzip2.finish().unwrap(), xz.finish().unwrap(), zstd];
        for bytes in made.into_iter().chain([plain]) {
            let (to, done) = run(&bytes);
            assert!(done.unwrap());
            assert_eq!(fs::read(to.path().join("into/d/f")).unwrap(), b"hello");
            assert_eq!(fs::read(to.path().join("into/d/l")).unwrap(), b"hello");
        }
    }

    #[test]
    fn numbers_that_are_left_out_are_zero() {
        let mut header = tar::Header::new_gnu();
        header.set_path("f").unwrap();
        header.set_size(0);
        let old = header.as_old_mut();
        (old.uid, old.gid, old.mtime) = ([0; 8], [b' '; 8], [0; 12]);
        header.set_mode(0o644);
        header.set_cksum();
        let mut builder = tar::Builder::new(Vec::new());
        builder.append(&header, &b""[..]).unwrap();
        let (to, done) = run(&builder.into_inner().unwrap());
        assert!(done.unwrap());
        let made = fs::metadata(to.path().join("into/f")).unwrap();
        assert_eq!((made.uid(), made.gid(), made.mtime()), (0, 0, 0));
    }

    #[test]
    fn nothing_is_written_outside() {
        let outside = tempfile::tempdir().unwrap();
        let link = outside.path().to_str().unwrap();
        let (to, done) = run(&archive(&[
            ("../../up", EntryType::Regular, "x"),
            ("out", EntryType::Symlink, link),
            ("out/through", EntryType::Regular, "x"),
            ("beside", EntryType::Symlink, "/etc"),
            ("beside/through", EntryType::Regular, "x"),
        ]));
        done.unwrap();
        assert!(to.path().join("into/up").exists());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        // Nor into what is beside the directory, in the same tree.
        assert!(to.path().join("into/etc/through").exists());
        assert!(!to.path().join("etc").exists());
    }

    #[test]
    fn extended_attributes_are_kept() {
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_pax_extensions([("SCHILY.xattr.trusted.note", b"kept".as_slice())]).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        builder.append_data(&mut header, "f", &b""[..]).unwrap();
        let (to, done) = run(&builder.into_inner().unwrap());
        assert!(done.unwrap());
        let mut value = [0; 16];
        let file = fs::File::open(to.path().join("into/f")).unwrap();
        let length = rustix::fs::fgetxattr(&file, "trusted.note", &mut value[..]).unwrap();
        assert_eq!(&value[..length], b"kept");
    }

    #[test]
    fn other_files_are_no_archives_and_damaged_ones_are_errors() {
        assert!(!run(b"just text").1.unwrap());
        assert!(!run(b"").1.unwrap());
        assert!(!run(&[0; 2048]).1.unwrap());
        let mut cut = archive(&[("f", EntryType::Regular, "hello")]);
        cut.truncate(514);
        assert!(run(&cut).1.unwrap_err().to_string().contains("/a"));
    }
}
