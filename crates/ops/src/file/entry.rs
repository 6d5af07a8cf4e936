//! One entry of a tree: what it is, and how its attributes are carried over.
//!
//! Everything works on a directory's descriptor and a plain name below it, and never follows a link
//! at the end: by the time these functions run, the way there has been resolved inside its tree.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

/// The longest name list of extended attributes, and the longest value, that Linux has (bytes).
const XATTR_MAX: usize = 64 << 10;

/// Who shall own a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Returns what is called `name` in `directory`.
pub(crate) fn stat(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<Stat> {
    Ok(rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Returns what is called `name` in `directory`, none if nothing is.
pub(crate) fn stat_if_any(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Returns the type of what `stat` describes.
pub(crate) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Opens the directory called `name`.
pub(crate) fn open_dir(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, name, flags, Mode::empty())?)
}

/// Opens the file called `name` for reading.
pub(crate) fn open_file(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, name, flags, Mode::empty())?)
}

/// Returns the names in `directory`, sorted by bytes.
pub(crate) fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Returns where the link called `name` points to.
pub(crate) fn read_link(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<OsString> {
    let target = rustix::fs::readlinkat(directory, name, Vec::new())?;
    Ok(OsString::from_vec(target.into_bytes()))
}

/// Removes `name` and, if it is a directory, all below it. Nothing there is no error.
pub(crate) fn remove_all(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    // Not by recursion: how deep a tree is decides who made it.
    let mut open = vec![Emptied::open(directory, name.to_owned())?];
    while let Some(level) = open.last_mut() {
        let Some(child) = level.left.pop() else {
            let done = open.pop().map(|level| level.name).unwrap_or_default();
            let above = open.last().map_or(directory, |level| level.directory.as_fd());
            rustix::fs::unlinkat(above, &done, AtFlags::REMOVEDIR)?;
            continue;
        };
        match rustix::fs::unlinkat(&level.directory, &child, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR | Errno::PERM) => {
                let inner = Emptied::open(level.directory.as_fd(), child)?;
                open.push(inner);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A directory that is being emptied.
struct Emptied {
    name: OsString,
    directory: OwnedFd,
    left: Vec<OsString>,
}

impl Emptied {
    fn open(above: BorrowedFd<'_>, name: OsString) -> io::Result<Self> {
        let directory = open_dir(above, &name)?;
        let left = names(directory.as_fd())?;
        Ok(Self { name, directory, left })
    }
}

/// Sets the owner of `name`, which may be a link itself.
pub(crate) fn set_owner(directory: BorrowedFd<'_>, name: &OsStr, owner: Owner) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    Ok(rustix::fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Sets the permission bits of `name`, which must not be a link.
pub(crate) fn set_mode(directory: BorrowedFd<'_>, name: &OsStr, mode: u32) -> io::Result<()> {
    let mode = Mode::from_raw_mode(mode & 0o7777);
    Ok(rustix::fs::chmodat(directory, name, mode, AtFlags::empty())?)
}

/// Sets both times of `name`, which may be a link itself.
pub(crate) fn set_times(directory: BorrowedFd<'_>, name: &OsStr, time: Timespec) -> io::Result<()> {
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Returns when the file that `stat` describes was last changed.
pub(crate) fn modified(stat: &Stat) -> Timespec {
    Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ }
}

/// Returns a moment given in nanoseconds since 1970 as the kernel takes it.
pub(crate) fn timespec(nanoseconds: i64) -> Timespec {
    Timespec {
        tv_sec: nanoseconds.div_euclid(1_000_000_000),
        tv_nsec: nanoseconds.rem_euclid(1_000_000_000),
    }
}

/// Copies the extended attributes of one open file to another. An attribute that the target file
/// system does not take is left out, as BuildKit does.
pub(crate) fn copy_xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let mut list = Vec::new();
    match xattr_bytes(&mut list, |buffer| rustix::fs::flistxattr(from, buffer)) {
        Ok(()) => {}
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    for name in list.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        // What overlays keep for themselves is not the file's.
        if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
            continue;
        }
        let mut value = Vec::new();
        if xattr_bytes(&mut value, |buffer| rustix::fs::fgetxattr(from, name, buffer)).is_ok() {
            let set = rustix::fs::fsetxattr(to, name, &value, rustix::fs::XattrFlags::empty());
            if let Err(error) = set {
                tracing::debug!(%error, "an extended attribute was not carried over");
            }
        }
    }
    Ok(())
}

/// Sets an extended attribute, if the file system and the kind of file have such.
pub(crate) fn set_xattr(file: BorrowedFd<'_>, name: &str, value: &[u8]) {
    if let Err(error) = rustix::fs::fsetxattr(file, name, value, rustix::fs::XattrFlags::empty()) {
        tracing::debug!(%error, name, "an extended attribute was not set");
    }
}

fn xattr_bytes(
    buffer: &mut Vec<u8>,
    read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<()> {
    buffer.resize(512, 0);
    let count = match read(buffer.as_mut_slice()) {
        Err(Errno::RANGE) => {
            buffer.resize(XATTR_MAX, 0);
            read(buffer.as_mut_slice())?
        }
        other => other?,
    };
    buffer.truncate(count);
    Ok(())
}
