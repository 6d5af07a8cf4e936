//! The last look at a layer before it never changes again.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd};

use mount::HostPath;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, unlinkat};
use rustix::io::Errno;

use crate::Usage;
use crate::attributes::{self, Attributes, Xattrs};
use crate::store::Record;
use crate::walk::{Entry, Event, HardLinks, TreeError, Walk};

/// Counts the space of the layer in `directory` and makes its whiteouts safe in any stack; blocking.
///
/// A whiteout is meant to hide something below. In another stack there may be nothing to hide, and
/// then the kernel would show the device itself in a listing. So each directory with a whiteout, and
/// the layer's root, are marked for the kernel to look closer; and a whiteout below an opaque
/// directory, which never hides anything, is removed.
pub(crate) fn settle(directory: &HostPath) -> Result<Record, TreeError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(directory.as_path(), flags, Mode::empty())
        .map_err(TreeError::at("open directory", "."))?;
    let here = OsStr::new(".");
    let mut record = Record { usage: Usage::default(), plain: true, idle_over: None };
    count(&mut record.usage, &fstat(&root).map_err(TreeError::at("stat", "."))?);
    let opaque = attributes::is_opaque(root.as_fd(), here)
        .map_err(TreeError::at("read attributes of", "."))?;
    let mut has_whiteouts = false;
    // Whether what is in each directory on the way is hidden from the layers below.
    let mut hidden = vec![opaque];
    let mut links = HardLinks::default();
    let mut walk = Walk::new(&root)?;
    while let Some(event) = walk.next()? {
        let Event::Enter(entry) = event else {
            hidden.pop();
            continue;
        };
        let is_hidden = hidden.last() == Some(&true);
        if entry.is_whiteout() {
            if is_hidden {
                remove_whiteout(&entry).map_err(TreeError::at("remove", entry.path()))?;
                continue;
            }
            has_whiteouts = true;
            attributes::set_has_whiteouts(entry.parent(), here)
                .map_err(TreeError::at("mark the directory of", entry.path()))?;
        }
        if entry.file_type() == FileType::Directory {
            let is_opaque = entry.is_opaque()?;
            record.plain &= !is_opaque;
            hidden.push(is_hidden || is_opaque);
        }
        if links.first(&entry).is_none() {
            count(&mut record.usage, entry.stat());
        }
    }
    if has_whiteouts {
        attributes::set_has_whiteouts(root.as_fd(), here)
            .map_err(TreeError::at("mark the directory", "."))?;
    }
    record.plain &= !opaque && !has_whiteouts;
    Ok(record)
}

/// Returns true if a layer that was counted as `record` has nothing but its root, and that as the layer
/// below it has its own; blocking. False if that cannot be seen.
pub(crate) fn changes_nothing(record: &Record, layer: &HostPath, below: &HostPath) -> bool {
    let only_root = record.plain && record.usage.inodes == 1;
    only_root && root(layer).is_some_and(|layer| root(below).is_some_and(|below| layer == below))
}

/// Returns what is said of the root of a layer, but for when it was last looked at.
fn root(layer: &HostPath) -> Option<(u32, u32, u32, i64, i64, Xattrs)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(layer.as_path(), flags, Mode::empty()).ok()?;
    let stat = fstat(&root).ok()?;
    let xattrs = attributes::xattrs(root.as_fd(), OsStr::new(".")).ok()?;
    let time = (stat.st_mtime, stat.st_mtime_nsec as i64);
    Some((stat.st_mode, stat.st_uid, stat.st_gid, time.0, time.1, xattrs))
}

fn count(usage: &mut Usage, stat: &Stat) {
    // The unit of `st_blocks` is 512 bytes, whatever the file system's own is.
    usage.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
    usage.inodes += 1;
}

/// Removes a whiteout and leaves the times of its directory as they were.
fn remove_whiteout(entry: &Entry<'_>) -> Result<(), Errno> {
    let parent: BorrowedFd<'_> = entry.parent();
    let before = Attributes::of(&fstat(parent)?, Xattrs::new());
    unlinkat(parent, entry.name(), AtFlags::empty())?;
    before.give_times(parent, OsStr::new("."))
}
