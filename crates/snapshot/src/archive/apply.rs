//! Unpacks an archive into a layer.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use digests::DiffId;
use mount::{HostPath, RootDir};
use rustix::fs::{
    AtFlags, FileType, Mode, Stat, Timestamps, makedev, mkdirat, mknodat, statat, symlinkat,
};
use rustix::io::Errno;

use super::reader::{ArchiveReader, Header, Kind};
use super::target::{Below, Target};
use super::{Applied, ArchiveError};
use crate::attributes::{self, Attributes, is_overlay_mark};
use crate::node;
use crate::walk::{TreeError, file_type};

/// What a whiteout's name begins with.
const WHITEOUT: &[u8] = b".wh.";
/// What the names begin with by which a union file system kept notes for itself.
const NOTES: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Unpacks an uncompressed OCI layer archive into `directory`, in the format of a layer; blocking.
///
/// `below` is the tree the layer will lie on. A directory that the archive implies but does not
/// contain takes its owner, mode and times from there, and a hard link to a file that is only there
/// copies it up. With none, such directories belong to root with mode 0755, and such a link is an
/// error.
///
/// No entry reaches outside `directory`, whatever its name or the links on the way; a name with `..`
/// that climbs is an error. Reads the archive to its end, so that the digest covers all of it.
///
/// # Errors
/// Returns an error that names the entry; what was unpacked so far stays for the caller to discard.
pub fn apply(
    archive: impl Read,
    directory: &HostPath,
    below: Option<&RootDir>,
) -> Result<Applied, ArchiveError> {
    let mut unpacking = Unpacking {
        reader: ArchiveReader::new(archive),
        target: Target::open(directory, below)?,
        hides_all: false,
        buffer: vec![0; 1 << 17],
    };
    while let Some(header) = unpacking.reader.next_entry()? {
        unpacking.entry(header)?;
    }
    unpacking.hide_all_below()?;
    unpacking.target.finish()?;
    let (digest, size) = unpacking.reader.finish()?;
    Ok(Applied { diff_id: DiffId::new(digest), size })
}

struct Unpacking<'b, R> {
    reader: ArchiveReader<R>,
    target: Target<'b>,
    /// True if the root is opaque, which the kernel does not know of a layer.
    hides_all: bool,
    buffer: Vec<u8>,
}

impl<R: Read> Unpacking<'_, R> {
    fn entry(&mut self, header: Header) -> Result<(), ArchiveError> {
        let path = clean(&header.name)
            .ok_or_else(|| ArchiveError::Outside { entry: header.name.clone() })?;
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            return self.root(&header);
        };
        let parent = path.parent().unwrap_or(Path::new("")).to_path_buf();
        if name.as_bytes() == OPAQUE {
            return self.opaque(&parent);
        }
        let is_note = |part: Component<'_>| part.as_os_str().as_bytes().starts_with(NOTES);
        if path.components().any(is_note) {
            return Ok(());
        }
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            return self.whiteout(&header, &parent, OsStr::from_bytes(hidden));
        }
        match header.kind {
            Kind::HardLink => self.hard_link(&header, &parent, &name),
            Kind::Directory => self.directory(&header, &parent, &name),
            Kind::File | Kind::Symlink | Kind::CharacterDevice | Kind::BlockDevice | Kind::Fifo => {
                self.node(&header, &parent, &name)
            }
        }
    }

    fn root(&mut self, header: &Header) -> Result<(), ArchiveError> {
        if header.kind != Kind::Directory {
            return Err(malformed(header, "the root is not a directory"));
        }
        let attributes = attributes_of(header);
        attributes
            .give(self.target.root(), OsStr::new("."))
            .map_err(TreeError::at("set the attributes of", "."))?;
        self.target.remember(PathBuf::new(), attributes);
        Ok(())
    }

    fn opaque(&mut self, parent: &Path) -> Result<(), ArchiveError> {
        let place = self.target.directory(parent)?;
        self.hides_all |= place.path.as_os_str().is_empty();
        attributes::set_opaque(place.directory.as_fd(), OsStr::new("."))
            .map_err(TreeError::at("mark as opaque", &place.path))?;
        Ok(())
    }

    fn whiteout(
        &mut self,
        header: &Header,
        parent: &Path,
        hidden: &OsStr,
    ) -> Result<(), ArchiveError> {
        if matches!(hidden.as_bytes(), b"" | b"." | b"..") {
            return Err(malformed(header, "a whiteout of no name"));
        }
        self.clear_way(parent, hidden)?;
        let place = self.target.directory(parent)?;
        make_whiteout(place.directory.as_fd(), hidden)
            .map_err(TreeError::at("make a whiteout of", place.path.join(hidden)))?;
        Ok(())
    }

    fn directory(
        &mut self,
        header: &Header,
        parent: &Path,
        name: &OsStr,
    ) -> Result<(), ArchiveError> {
        let place = self.target.directory(parent)?;
        let path = place.path.join(name);
        let there = statat(&place.directory, name, AtFlags::SYMLINK_NOFOLLOW);
        let is_directory = there.is_ok_and(|stat| file_type(&stat) == FileType::Directory);
        let mut was_whiteout = false;
        if !is_directory {
            was_whiteout = self.clear_way(parent, name)?;
        }
        let place = self.target.directory(parent)?;
        let directory = place.directory.as_fd();
        let attributes = attributes_of(header);
        let made = if is_directory { Ok(()) } else { mkdirat(directory, name, Mode::RWXU) };
        made.and_then(
            |()| if was_whiteout { attributes::set_opaque(directory, name) } else { Ok(()) },
        )
        .and_then(|()| attributes.give(directory, name))
        .map_err(TreeError::at("create directory", &path))?;
        self.target.remember(path, attributes);
        Ok(())
    }

    fn node(&mut self, header: &Header, parent: &Path, name: &OsStr) -> Result<(), ArchiveError> {
        self.clear_way(parent, name)?;
        let place = self.target.directory(parent)?;
        let path = place.path.join(name);
        let directory = place.directory.as_fd();
        let failed = |error: Errno| TreeError::at("create", &path)(error);
        let device = makedev(header.device.0, header.device.1);
        match header.kind {
            Kind::File => {
                let mut file = node::create_file(directory, name).map_err(failed)?;
                loop {
                    let count = match self.reader.read_content(&mut self.buffer) {
                        Err(ArchiveError::Malformed { offset, reason, .. }) => {
                            let entry = Some(header.name.clone());
                            return Err(ArchiveError::Malformed { offset, entry, reason });
                        }
                        read => read?,
                    };
                    if count == 0 {
                        break;
                    }
                    file.write_all(&self.buffer[..count]).map_err(TreeError::at("write", &path))?;
                }
            }
            Kind::Symlink => symlinkat(&header.target, directory, name).map_err(failed)?,
            Kind::Fifo => {
                mknodat(directory, name, FileType::Fifo, Mode::RUSR, 0).map_err(failed)?
            }
            Kind::CharacterDevice => {
                mknodat(directory, name, FileType::CharacterDevice, Mode::RUSR, device)
                    .map_err(failed)?;
            }
            Kind::BlockDevice => {
                mknodat(directory, name, FileType::BlockDevice, Mode::RUSR, device)
                    .map_err(failed)?;
            }
            Kind::Directory | Kind::HardLink => {}
        }
        attributes_of(header)
            .give(directory, name)
            .map_err(TreeError::at("set the attributes of", &path))?;
        Ok(())
    }

    fn hard_link(
        &mut self,
        header: &Header,
        parent: &Path,
        name: &OsStr,
    ) -> Result<(), ArchiveError> {
        let outside = || ArchiveError::Outside { entry: header.name.clone() };
        let target = clean(&header.target).ok_or_else(outside)?;
        let missing = || ArchiveError::LinkTarget {
            entry: header.name.clone(),
            target: header.target.clone(),
        };
        let target_name = target.file_name().map(OsStr::to_owned).ok_or_else(missing)?;
        let target_parent = target.parent().unwrap_or(Path::new(""));
        if target_parent == parent && target_name == name {
            return Ok(());
        }
        match self.look(target_parent, &target_name)? {
            // This very layer deletes it.
            Some(stat) if is_whiteout(&stat) => return Err(missing()),
            Some(_) => {}
            None => self.copy_up(&target)?.ok_or_else(missing)?,
        }
        self.clear_way(parent, name)?;
        // The target may have been in the way itself.
        let from = self.target.existing(target_parent)?.ok_or_else(missing)?;
        let place = self.target.directory(parent)?;
        match node::link((from.directory.as_fd(), &target_name), place.directory.as_fd(), name) {
            Err(Errno::NOENT) => Err(missing()),
            done => Ok(done.map_err(TreeError::at("link", place.path.join(name)))?),
        }
    }

    /// Returns what the layer itself has at this name.
    fn look(&mut self, parent: &Path, name: &OsStr) -> Result<Option<Stat>, ArchiveError> {
        let Some(place) = self.target.existing(parent)? else { return Ok(None) };
        match statat(&place.directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(TreeError::at("stat", place.path.join(name))(error).into()),
        }
    }

    /// Makes a file of the tree below part of this layer; none if there is no such file.
    fn copy_up(&mut self, path: &Path) -> Result<Option<()>, ArchiveError> {
        let Some(below) = self.target.below() else { return Ok(None) };
        let Some(found) = Below::find(below, path)? else { return Ok(None) };
        let entry = found.entry();
        if entry.file_type() == FileType::Directory || entry.is_whiteout() {
            return Ok(None);
        }
        let place = self.target.directory(path.parent().unwrap_or(Path::new("")))?;
        node::copy_node(&entry, place.directory.as_fd(), entry.name())?;
        Ok(Some(()))
    }

    /// Removes what this layer has at a name that is used again. Returns true if it was a whiteout.
    fn clear_way(&mut self, parent: &Path, name: &OsStr) -> Result<bool, ArchiveError> {
        let Some(stat) = self.look(parent, name)? else { return Ok(false) };
        let place = self.target.directory(parent)?;
        let path = place.path.join(name);
        node::remove(place.directory.as_fd(), name, &path)?;
        if file_type(&stat) == FileType::Directory {
            self.target.forget(&path);
        }
        Ok(is_whiteout(&stat))
    }

    /// Makes an opaque root of what it means: a whiteout for each name of the tree below.
    fn hide_all_below(&mut self) -> Result<(), ArchiveError> {
        let Some(below) = self.target.below().filter(|_| self.hides_all) else { return Ok(()) };
        let names = names_of(below).map_err(TreeError::at("list the tree below", "."))?;
        for name in names {
            match make_whiteout(self.target.root(), &name) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => {
                    return Err(TreeError::at("make a whiteout of", name)(error).into());
                }
            }
        }
        Ok(())
    }
}

fn names_of(below: &RootDir) -> Result<Vec<OsString>, Errno> {
    let directory = node::open_directory(below.as_fd(), OsStr::new("."))?;
    crate::walk::names(&directory)
}

fn make_whiteout(directory: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    mknodat(directory, name, FileType::CharacterDevice, Mode::empty(), makedev(0, 0))
}

fn is_whiteout(stat: &Stat) -> bool {
    file_type(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn malformed(header: &Header, reason: &'static str) -> ArchiveError {
    ArchiveError::Malformed { offset: header.offset, entry: Some(header.name.clone()), reason }
}

/// Cleans an entry's name; none if it climbs out.
fn clean(name: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for component in name.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                if !clean.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Some(clean)
}

fn attributes_of(header: &Header) -> Attributes {
    let file_type = match header.kind {
        Kind::File | Kind::HardLink => FileType::RegularFile,
        Kind::Symlink => FileType::Symlink,
        Kind::CharacterDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::Directory => FileType::Directory,
        Kind::Fifo => FileType::Fifo,
    };
    let time = header.modified;
    // An archive must not forge the marks by which the kernel reads a layer.
    let xattrs = header.xattrs.iter().filter(|(key, _)| !is_overlay_mark(key.to_bytes()));
    Attributes {
        file_type,
        mode: header.mode,
        uid: header.uid,
        gid: header.gid,
        times: Timestamps { last_access: time, last_modification: time },
        xattrs: xattrs.cloned().collect(),
    }
}
