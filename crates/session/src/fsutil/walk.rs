//! What is in a directory, in the order of a transfer, without ever following a link.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use bytes::Bytes;
use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use super::packet::{FileMode, Kind, Stat};
use crate::TransferError;

/// Attributes of one platform's finder, of no use to anyone else.
const SKIPPED_XATTRS: &[u8] = b"com.apple.";

/// Whether extended attributes are read: one more system call for each entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Xattrs {
    Read,
    Skip,
}

/// Calls `visit` for every entry below `root`, in the order of a transfer.
///
/// A second name of a file is a hard link to the first. Only the directories from the root to the
/// entry are open.
///
/// # Errors
/// Returns an error if something cannot be read, or the error of `visit`.
pub(crate) fn walk(
    root: impl AsFd,
    xattrs: Xattrs,
    mut visit: impl FnMut(Stat) -> Result<(), TransferError>,
) -> Result<(), TransferError> {
    let mut links = HashMap::new();
    let mut levels = vec![Level::open(root.as_fd(), c".", Vec::new())?];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.names.pop() else {
            levels.pop();
            continue;
        };
        let path = level.path_of(&name);
        let Some(stat) = entry(level.directory.as_fd(), &name, &path, xattrs, &mut links)? else {
            continue;
        };
        let is_dir = stat.is_dir();
        visit(stat)?;
        if is_dir {
            let level = Level::open(level.directory.as_fd(), &name, path)?;
            levels.push(level);
        }
    }
    Ok(())
}

/// A directory on the way, and the names in it that are still to come, last first.
struct Level {
    directory: OwnedFd,
    path: Vec<u8>,
    names: Vec<CString>,
}

impl Level {
    fn open(parent: BorrowedFd<'_>, name: &CStr, path: Vec<u8>) -> Result<Self, TransferError> {
        let failed = |error: Errno| TransferError::disk("read directory", &path, error);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(failed)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name() != c"." && entry.file_name() != c".." {
                names.push(entry.file_name().to_owned());
            }
        }
        names.sort_unstable_by(|left, right| right.cmp(left));
        Ok(Self { directory, path, names })
    }

    fn path_of(&self, name: &CStr) -> Vec<u8> {
        let mut path = Vec::with_capacity(self.path.len() + 1 + name.count_bytes());
        if !self.path.is_empty() {
            path.extend_from_slice(&self.path);
            path.push(b'/');
        }
        path.extend_from_slice(name.to_bytes());
        path
    }
}

/// Where each file of more than one name was first seen, by device and inode.
type Links = HashMap<(u64, u64), Bytes>;

/// Describes one entry; none if it has gone since its directory was read.
fn entry(
    directory: BorrowedFd<'_>,
    name: &CStr,
    path: &[u8],
    xattrs: Xattrs,
    links: &mut Links,
) -> Result<Option<Stat>, TransferError> {
    let found = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(None),
        found => found.map_err(|error| TransferError::disk("look at", path, error))?,
    };
    let mode = FileMode::from_raw(found.st_mode);
    let mut stat = Stat {
        path: Bytes::copy_from_slice(path),
        mode: mode.0,
        uid: found.st_uid,
        gid: found.st_gid,
        size: found.st_size,
        modified: nanoseconds(found.st_mtime, found.st_mtime_nsec as i64),
        ..Stat::default()
    };
    match mode.kind() {
        Some(Kind::Directory) => stat.size = 0,
        Some(Kind::Symlink) => {
            let target = rustix::fs::readlinkat(directory, name, Vec::new())
                .map_err(|error| TransferError::disk("read link", path, error))?;
            stat.link = target.into_bytes().into();
        }
        Some(Kind::CharDevice | Kind::BlockDevice) => {
            stat.device_major = rustix::fs::major(found.st_rdev).into();
            stat.device_minor = rustix::fs::minor(found.st_rdev).into();
        }
        Some(Kind::Regular | Kind::Fifo) | None => {}
    }
    if found.st_nlink > 1 && !matches!(mode.kind(), Some(Kind::Directory | Kind::Symlink)) {
        let first = links.entry((found.st_dev, found.st_ino)).or_insert_with(|| stat.path.clone());
        if *first != stat.path {
            stat.link = first.clone();
            stat.size = 0;
        }
    }
    if xattrs == Xattrs::Read {
        read_xattrs(directory, name, &mut stat)
            .map_err(|error| TransferError::disk("read attributes of", path, error))?;
    }
    Ok(Some(stat))
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

fn read_xattrs(directory: BorrowedFd<'_>, name: &CStr, stat: &mut Stat) -> io::Result<()> {
    let path = entry_path(directory, name.to_bytes());
    let names = match sized(|buffer| rustix::fs::llistxattr(&path, buffer)) {
        Err(Errno::NOTSUP | Errno::NOENT) => return Ok(()),
        names => names?,
    };
    for key in names.split(|byte| *byte == 0).filter(|key| !key.is_empty()) {
        let Ok(text) = std::str::from_utf8(key) else { continue };
        if key.starts_with(SKIPPED_XATTRS) {
            continue;
        }
        // One that may not be read, or has just gone, is not there for us.
        if let Ok(value) = sized(|buffer| rustix::fs::lgetxattr(&path, text, buffer)) {
            stat.xattrs.insert(text.to_owned(), value);
        }
    }
    Ok(())
}

/// Returns a path to an entry of an open directory, for calls that have no `at` form.
pub(crate) fn entry_path(directory: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

/// Calls `read` with a growing buffer until what it reads fits.
fn sized(mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 256];
    loop {
        match read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 64 << 10 => buffer.resize(buffer.len() * 4, 0),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn paths(directory: &tempfile::TempDir) -> Vec<String> {
        let root = fs::File::open(directory.path()).unwrap();
        let mut seen = Vec::new();
        walk(root, Xattrs::Read, |stat| {
            let (path, link) = (&stat.path, &stat.link);
            seen.push(format!(
                "{} {:o} {} {}",
                String::from_utf8_lossy(path),
                stat.mode & 0o777,
                stat.size,
                String::from_utf8_lossy(link)
            ));
            Ok(())
        })
        .unwrap();
        seen
    }

    #[test]
    fn entries_come_in_the_order_of_a_transfer() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        fs::create_dir(at("a")).unwrap();
        fs::write(at("a/x"), "12345").unwrap();
        fs::write(at("a-b"), "").unwrap();
        fs::hard_link(at("a/x"), at("z")).unwrap();
        symlink("/etc/passwd", at("m")).unwrap();
        let root_mode = "755";
        assert_eq!(
            paths(&directory),
            [
                &format!("a {root_mode} 0 ") as &str,
                "a/x 644 5 ",
                "a-b 644 0 ",
                "m 777 11 /etc/passwd",
                "z 644 0 a/x",
            ]
        );
    }

    #[test]
    fn attributes_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("f");
        fs::write(&file, "").unwrap();
        let value = vec![7; 1000];
        if rustix::fs::setxattr(&file, "user.note", &value, rustix::fs::XattrFlags::empty())
            .is_err()
        {
            return;
        }
        let root = fs::File::open(directory.path()).unwrap();
        let mut xattrs = Vec::new();
        walk(&root, Xattrs::Read, |stat| {
            xattrs.push(stat.xattrs);
            Ok(())
        })
        .unwrap();
        assert_eq!(xattrs[0]["user.note"], value);
    }
}
