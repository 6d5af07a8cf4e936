//! Single entries of a directory, and what the overlay format says with them.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use crate::state::Root;

/// The attributes that make a directory opaque: for the privileged, and for the others.
const OPAQUE: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];

/// What an entry of a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    /// Hides what is below it.
    Whiteout,
    Leaf,
}

pub(crate) fn kind(stat: &Stat) -> Kind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Directory,
        FileType::CharacterDevice if stat.st_rdev == 0 => Kind::Whiteout,
        _ => Kind::Leaf,
    }
}

pub(crate) fn open_root(path: &Path) -> io::Result<OwnedFd> {
    open_directory(CWD, path)
}

pub(crate) fn open_directory(at: impl AsFd, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, name, flags, Mode::empty())?)
}

/// Returns what is at `name`; none if nothing is.
pub(crate) fn look(at: impl AsFd, name: &CStr) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Returns the names in a directory, in no order.
pub(crate) fn names(directory: impl AsFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Returns true if nothing is in the directory at `path`.
pub(crate) fn is_empty(path: &Path) -> io::Result<bool> {
    Ok(names(open_root(path)?)?.is_empty())
}

pub(crate) fn is_opaque(directory: impl AsFd) -> io::Result<bool> {
    for name in OPAQUE {
        let mut value = [0; 8];
        match rustix::fs::fgetxattr(&directory, name, &mut value[..]) {
            Ok(1) if value[0] == b'y' => return Ok(true),
            Ok(_) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

pub(crate) fn set_opaque(directory: impl AsFd) -> io::Result<()> {
    let [privileged, other] = OPAQUE;
    match rustix::fs::fsetxattr(&directory, privileged, b"y", XattrFlags::empty()) {
        Err(Errno::PERM) => {
            Ok(rustix::fs::fsetxattr(&directory, other, b"y", XattrFlags::empty())?)
        }
        done => Ok(done?),
    }
}

pub(crate) fn clear_opaque(directory: impl AsFd) -> io::Result<()> {
    for name in OPAQUE {
        match rustix::fs::fremovexattr(&directory, name) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

pub(crate) fn whiteout(at: impl AsFd, name: &CStr) -> io::Result<()> {
    Ok(rustix::fs::mknodat(at, name, FileType::CharacterDevice, Mode::empty(), 0)?)
}

/// Removes what is at `name`, with all that is in it; nothing there is fine too, and so is somebody
/// else who removes it meanwhile.
pub(crate) fn remove(at: impl AsFd, name: &CStr) -> io::Result<()> {
    let at = at.as_fd();
    match rustix::fs::unlinkat(at, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let directory = match open_directory(at, name) {
        Ok(directory) => directory,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    // The number that every subvolume of btrfs has: it goes as a whole, even if it is read-only. What
    // else has it, or has more of them inside, is emptied.
    let whole = rustix::fs::fstat(&directory)?.st_ino == 256;
    if whole && executor::subvolume::remove_at(at, os(name)).is_ok() {
        return Ok(());
    }
    for inner in names(&directory)? {
        remove(&directory, &inner)?;
    }
    match rustix::fs::unlinkat(at, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Returns a name as paths are made of.
pub(crate) fn os(name: &CStr) -> &std::ffi::OsStr {
    std::ffi::OsStr::from_bytes(name.to_bytes())
}

/// Removes what is at `path`, with all that is in it; nothing there is fine too.
pub(crate) fn remove_all(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidFilename.into());
    };
    remove(open_root(parent)?, &CString::new(name.as_bytes())?)
}

/// Gives `to` the owner, mode, times and extended attributes of the directory `from`. What the
/// overlay says with attributes is not copied.
pub(crate) fn copy_directory_attributes(from: impl AsFd, to: impl AsFd) -> io::Result<()> {
    let stat = rustix::fs::fstat(&from)?;
    rustix::fs::fchown(&to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    copy_xattrs(&through(&from), &through(&to))?;
    rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode))?;
    Ok(rustix::fs::futimens(&to, &times(&stat))?)
}

/// Returns a path that leads through an open descriptor.
pub(crate) fn through(directory: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd()))
}

pub(crate) fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
    }
}

/// Copies extended attributes between the files at two paths. A descriptor's own path (`…/fd/N`) is
/// itself a link and is followed; a link below one is not.
pub(crate) fn copy_xattrs(from: &Path, to: &Path) -> io::Result<()> {
    let follow = from.parent() == Some(Path::new("/proc/self/fd"));
    let mut list = vec![0; 64 * 1024];
    let listed = if follow {
        rustix::fs::listxattr(from, &mut list[..])
    } else {
        rustix::fs::llistxattr(from, &mut list[..])
    };
    let length = match listed {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut value = Vec::new();
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
            continue;
        }
        value.resize(64 * 1024, 0);
        let size = if follow {
            rustix::fs::getxattr(from, name, &mut value[..])?
        } else {
            rustix::fs::lgetxattr(from, name, &mut value[..])?
        };
        let flags = XattrFlags::empty();
        if follow {
            rustix::fs::setxattr(to, name, &value[..size], flags)?;
        } else {
            rustix::fs::lsetxattr(to, name, &value[..size], flags)?;
        }
    }
    Ok(())
}

/// Returns owner and mode of the directory at `path`.
pub(crate) fn root_attributes(path: &Path) -> io::Result<Root> {
    let stat = rustix::fs::lstat(path)?;
    if kind(&stat) != Kind::Directory {
        return Err(Errno::NOTDIR.into());
    }
    Ok(Root { uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode & 0o7777 })
}

/// Gives the directory at `path` an owner and a mode, unless it has them.
pub(crate) fn set_root(path: &Path, wanted: Root) -> io::Result<()> {
    let found = root_attributes(path)?;
    if found == wanted {
        return Ok(());
    }
    let directory = open_root(path)?;
    if (found.uid, found.gid) != (wanted.uid, wanted.gid) {
        let (uid, gid) = (Uid::from_raw(wanted.uid), Gid::from_raw(wanted.gid));
        rustix::fs::fchown(&directory, Some(uid), Some(gid))?;
    }
    Ok(rustix::fs::fchmod(&directory, Mode::from_raw_mode(wanted.mode))?)
}

/// Gives the directory at `to` the extended attributes of the one at `from`.
pub(crate) fn copy_root_xattrs(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (open_root(from)?, open_root(to)?);
    copy_xattrs(&through(&from), &through(&to))
}
