//! A stack of layers made into one plain tree elsewhere.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Uid};
use rustix::io::Errno;

use super::Pace;
use super::entry;
use super::view::{Found, View};

/// How files get from one tree into the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Means {
    /// As further names of the same files: only for trees that never change again.
    Link,
    /// As files of their own, sharing blocks where the file system can.
    Copy,
    /// As [`Means::Copy`], from a tree that others are writing: what goes away meanwhile is left out.
    CopyLive,
}

/// Fills the empty directory `to` with the tree `from`, its root's attributes included.
pub(crate) fn transfer(
    from: &View,
    to: &Path,
    means: Means,
    pace: &mut Pace<'_>,
) -> io::Result<()> {
    let root = entry::open_root(to)?;
    let mut work = Transfer { copies: Copies::new(&root), means, pace };
    work.fill(from, &root, &mut PathBuf::new())?;
    from.face().map_or(Ok(()), |face| entry::copy_directory_attributes(face, &root))
}

struct Transfer<'a, 'p> {
    copies: Copies<'a>,
    means: Means,
    pace: &'a mut Pace<'p>,
}

/// Copies of files in a tree, of which those that were one file are one again.
pub(super) struct Copies<'a> {
    root: &'a OwnedFd,
    /// Where the first name of a copied file with several names is.
    made: HashMap<(u64, u64), PathBuf>,
}

impl<'a> Copies<'a> {
    /// Takes the tree's root.
    pub(super) fn new(root: &'a OwnedFd) -> Self {
        Self { root, made: HashMap::new() }
    }

    /// Copies a file to `to`, a directory of the tree, where it gets the same name; `path` is its path
    /// in the tree.
    pub(super) fn leaf(
        &mut self,
        from: &OwnedFd,
        name: &CStr,
        stat: &Stat,
        to: &OwnedFd,
        path: &Path,
    ) -> io::Result<()> {
        let identity = (stat.st_dev, stat.st_ino);
        if let Some(first) = self.made.get(&identity) {
            return Ok(rustix::fs::linkat(self.root, first, to, name, AtFlags::empty())?);
        }
        copy_leaf(from.as_fd(), name, stat, to.as_fd())?;
        if stat.st_nlink > 1 {
            self.made.insert(identity, path.to_owned());
        }
        Ok(())
    }
}

impl Transfer<'_, '_> {
    fn fill(&mut self, from: &View, to: &OwnedFd, path: &mut PathBuf) -> io::Result<()> {
        for name in from.names()? {
            (self.pace)()?;
            path.push(std::ffi::OsStr::from_bytes(name.as_bytes()));
            match from.child(&name)? {
                None => {}
                Some(Found::Leaf { layer, stat }) => {
                    let copied = self.leaf(from.layer(layer), &name, &stat, to, path);
                    match copied {
                        Err(error) if self.means == Means::CopyLive && gone(&error) => {
                            entry::remove(to, &name)?;
                        }
                        copied => copied?,
                    }
                }
                Some(Found::Directory(inner)) => {
                    rustix::fs::mkdirat(to, &name, Mode::RWXU)?;
                    let made = entry::open_directory(to, &name)?;
                    self.fill(&inner, &made, path)?;
                    if let Some(face) = inner.face() {
                        entry::copy_directory_attributes(face, &made)?;
                    }
                }
            }
            path.pop();
        }
        Ok(())
    }

    fn leaf(
        &mut self,
        from: &OwnedFd,
        name: &CString,
        stat: &Stat,
        to: &OwnedFd,
        path: &Path,
    ) -> io::Result<()> {
        if self.means == Means::Link && link(from.as_fd(), name, to.as_fd(), name)? {
            return Ok(());
        }
        self.copies.leaf(from, name, stat, to, path)
    }
}

/// A file that went away, or was replaced by something else, between the look and the copy.
fn gone(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    let causes = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::INVAL, Errno::STALE];
    causes.iter().any(|cause| number == Some(cause.raw_os_error()))
}

/// Gives a file one more name. Returns false if the file system will not.
pub(super) fn link(
    from: BorrowedFd<'_>,
    name: &CStr,
    to: BorrowedFd<'_>,
    new: &CStr,
) -> io::Result<bool> {
    match rustix::fs::linkat(from, name, to, new, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::MLINK | Errno::XDEV | Errno::PERM) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Copies one entry that is not a directory, with everything that belongs to it.
pub(super) fn copy_leaf(
    from: BorrowedFd<'_>,
    name: &CStr,
    stat: &Stat,
    to: BorrowedFd<'_>,
) -> io::Result<()> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    match kind {
        FileType::RegularFile => copy_content(from, name, to)?,
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from, name, Vec::new())?;
            rustix::fs::symlinkat(&target, to, name)?;
        }
        _ => rustix::fs::mknodat(to, name, kind, Mode::RUSR, stat.st_rdev)?,
    }
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    // The owner first: changing it takes away capabilities and set-user-id bits.
    rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    let bytes = std::ffi::OsStr::from_bytes(name.to_bytes());
    entry::copy_xattrs(&entry::through(from).join(bytes), &entry::through(to).join(bytes))?;
    if kind != FileType::Symlink {
        rustix::fs::chmodat(to, name, Mode::from_raw_mode(stat.st_mode), AtFlags::empty())?;
    }
    Ok(rustix::fs::utimensat(to, name, &entry::times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Returns true if files in `directory` can share blocks. Finds out by trying, on files without names.
pub(crate) fn has_reflinks(directory: &Path) -> bool {
    let nameless = || {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR)
    };
    let (Ok(source), Ok(target)) = (nameless(), nameless()) else { return false };
    let block = [1; 4096];
    rustix::io::pwrite(&source, &block, 0) == Ok(block.len())
        && rustix::fs::ioctl_ficlone(&target, &source).is_ok()
}

fn copy_content(from: BorrowedFd<'_>, name: &CStr, to: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let source = rustix::fs::openat(from, name, flags, Mode::empty())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let target = rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR)?;
    if rustix::fs::ioctl_ficlone(&target, &source).is_ok() {
        return Ok(());
    }
    let size = u64::try_from(rustix::fs::fstat(&source)?.st_size).unwrap_or(0);
    let mut at = 0;
    // Only what is there is copied, so that holes stay holes.
    while let Some((start, end)) = next_data(&source, at)? {
        copy_range(&source, &target, start, end)?;
        at = end;
    }
    Ok(rustix::fs::ftruncate(&target, size)?)
}

fn next_data(file: &OwnedFd, from: u64) -> io::Result<Option<(u64, u64)>> {
    match rustix::fs::seek(file, SeekFrom::Data(from)) {
        Ok(start) => Ok(Some((start, rustix::fs::seek(file, SeekFrom::Hole(start))?))),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn copy_range(source: &OwnedFd, target: &OwnedFd, start: u64, end: u64) -> io::Result<()> {
    let (mut read_at, mut write_at) = (start, start);
    while read_at < end {
        let length = usize::try_from(end - read_at).unwrap_or(usize::MAX).min(1 << 30);
        let (from, to) = (Some(&mut read_at), Some(&mut write_at));
        match rustix::fs::copy_file_range(source, from, target, to, length) {
            // The file was cut while we read: what is left is a hole.
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                return copy_through_memory(source, target, read_at, end);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_through_memory(source: &OwnedFd, target: &OwnedFd, at: u64, end: u64) -> io::Result<()> {
    let mut at = at;
    let mut buffer = vec![0; 256 * 1024];
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let count = rustix::io::pread(source, &mut buffer[..want], at)?;
        if count == 0 {
            return Ok(());
        }
        let mut written = 0;
        while written < count {
            written += rustix::io::pwrite(target, &buffer[written..count], at + written as u64)?;
        }
        at += count as u64;
    }
    Ok(())
}
