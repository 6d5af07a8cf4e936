//! What was created to mount on is removed again, so that it is in no layer.

use std::io;

use mount::GuestPath;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use serde::{Deserialize, Serialize};
use std::os::fd::{BorrowedFd, OwnedFd};

use super::points::Times;

/// A file or directory that was created to mount on, or to hold such a one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stub {
    /// Where, with no link on the way.
    pub path: GuestPath,
    /// True if it only holds another.
    pub is_parent: bool,
}

/// Removes what is still as it was made, empty, last made first.
///
/// The process may have put anything in place of what was there: no link is followed.
pub(super) fn remove(root: BorrowedFd<'_>, stubs: &[Stub], with_parents: bool) {
    for stub in stubs.iter().rev().filter(|stub| with_parents || !stub.is_parent) {
        // What cannot be removed is in use or not ours any more.
        let _ = remove_one(root, &stub.path);
    }
}

fn remove_one(root: BorrowedFd<'_>, path: &GuestPath) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let parent = open_directory(root, &parent)?;
    let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let flags = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => AtFlags::REMOVEDIR,
        FileType::RegularFile if stat.st_size == 0 => AtFlags::empty(),
        _ => return Ok(()),
    };
    let times = Times::of(parent.try_clone()?)?;
    rustix::fs::unlinkat(&parent, name, flags)?;
    times.restore();
    Ok(())
}

fn open_directory(root: BorrowedFd<'_>, path: &GuestPath) -> io::Result<OwnedFd> {
    let relative = if path.is_root() { ".".as_ref() } else { path.relative() };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    Ok(rustix::fs::openat2(root, relative, flags, Mode::empty(), resolve)?)
}
