//! Subvolumes of btrfs: trees that are forked and removed as a whole, in one instant.
//!
//! This is here and not with those who use it because making one is a system call that no library
//! offers, and those have one home. A subvolume looks like a directory. Nothing here decides anything.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::linux::sys::{self, SubvolumeCall};

/// The number of every subvolume's root, and of nothing else.
const ROOT_NUMBER: u64 = 256;

/// The place of two of the words that the kernel says about a subvolume: the transaction that last
/// changed something in it, and the one that it was made in.
const CHANGED: usize = 43;
const MADE: usize = 44;

/// The byte after 255 references that says how many there are.
const COUNT: usize = 511;

/// Makes an empty subvolume at `path`, where nothing is.
///
/// # Errors
/// If the file system is not btrfs, or the system refuses.
pub fn create(path: &Path) -> io::Result<()> {
    call(path, SubvolumeCall::Create)
}

/// Makes a subvolume at `path`, where nothing is, with all that is in the one at `source`. What is
/// written to either from then on is not in the other. Subvolumes inside `source` are not in it: see
/// [`has_children`].
///
/// # Errors
/// If `source` is not a subvolume of the same file system, or the system refuses.
pub fn snapshot(source: &Path, path: &Path) -> io::Result<()> {
    let source = open(source)?;
    call(path, SubvolumeCall::Snapshot(source.as_fd()))
}

/// Removes the subvolume at `path` with all that is in it, which costs the same however much it is.
///
/// # Errors
/// If it is not a subvolume, if subvolumes are in it ([`io::ErrorKind::DirectoryNotEmpty`]), or if the
/// system refuses.
pub fn remove(path: &Path) -> io::Result<()> {
    call(path, SubvolumeCall::Destroy)
}

/// As [`remove`], for what is at `name` in an open directory.
///
/// # Errors
/// As [`remove`].
pub fn remove_at(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    sys::subvolume_call(parent, name.as_bytes(), SubvolumeCall::Destroy)
}

/// Returns true if a subvolume is at `path`.
///
/// # Errors
/// If nothing is there, or the system refuses.
pub fn is_one(path: &Path) -> io::Result<bool> {
    let stat = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    if !directory || stat.st_ino != ROOT_NUMBER {
        return Ok(false);
    }
    // Other file systems have such numbers too, and do not know the question.
    match sys::subvolume_info(open(path)?.as_fd()) {
        Ok(_) => Ok(true),
        Err(error) if unknown(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns true if something in the subvolume at `path` was changed since it was made. That a file was
/// read is such a change where the file system notes it.
///
/// # Errors
/// If it is not a subvolume.
pub fn has_changed(path: &Path) -> io::Result<bool> {
    let words = sys::subvolume_info(open(path)?.as_fd())?;
    Ok(words[CHANGED] > words[MADE])
}

/// Returns true if other subvolumes are inside the one at `path`.
///
/// # Errors
/// If it is not a subvolume.
pub fn has_children(path: &Path) -> io::Result<bool> {
    match sys::subvolume_children(open(path)?.as_fd()) {
        Ok(words) => Ok(words[COUNT].to_ne_bytes()[0] > 0),
        // More than fit.
        Err(error) if error.raw_os_error() == Some(Errno::OVERFLOW.raw_os_error()) => Ok(true),
        Err(error) => Err(error),
    }
}

fn call(path: &Path, call: SubvolumeCall<'_>) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidFilename.into());
    };
    sys::subvolume_call(open(parent)?.as_fd(), name.as_bytes(), call)
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn unknown(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    [Errno::NOTTY, Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL]
        .iter()
        .any(|unknown| number == Some(unknown.raw_os_error()))
}
