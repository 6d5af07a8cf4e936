//! One file, made again elsewhere with all that is said of it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, copy_file_range, ftruncate, ioctl_ficlone, linkat, mkdirat,
    mknodat, openat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::attributes::{self, Attributes, xattrs};
use crate::walk::{Entry, Event, TreeError, Walk};

/// Makes `entry` again as `name` in `directory`, where nothing of that name is. A directory is made
/// empty, and its times are to be given again when it is full. A socket is left out.
///
/// Returns the attributes that were given; none for a socket.
pub(crate) fn copy_node(
    entry: &Entry<'_>,
    directory: BorrowedFd<'_>,
    name: &OsStr,
) -> Result<Option<Attributes>, TreeError> {
    let attributes = Attributes::of(entry.stat(), entry.xattrs()?);
    let private = Mode::RUSR | Mode::WUSR;
    let made = match attributes.file_type {
        FileType::RegularFile => {
            let mut source = entry.open()?;
            create_file(directory, name)
                .map_err(io::Error::from)
                .and_then(|mut target| copy_content(&mut source, &mut target))
        }
        FileType::Directory => mkdirat(directory, name, Mode::RWXU).map_err(io::Error::from),
        FileType::Symlink => {
            symlinkat(entry.read_link()?, directory, name).map_err(io::Error::from)
        }
        FileType::Socket => return Ok(None),
        kind => {
            mknodat(directory, name, kind, private, entry.stat().st_rdev).map_err(io::Error::from)
        }
    };
    made.map_err(TreeError::at("copy", entry.path()))?;
    attributes.give(directory, name).map_err(TreeError::at("set attributes of", entry.path()))?;
    Ok(Some(attributes))
}

/// Gives all that is said of the directory `from` to the directory `to`, both named `name`.
pub(crate) fn copy_attributes(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &OsStr,
) -> Result<(), TreeError> {
    statat(from, name, AtFlags::SYMLINK_NOFOLLOW)
        .and_then(|stat| Ok(Attributes::of(&stat, xattrs(from, name)?)))
        .and_then(|attributes| attributes.give(to, name))
        .map_err(TreeError::at("copy the attributes of", name))
}

/// Takes the extended attributes of a file away.
pub(crate) fn remove_xattrs(directory: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    xattrs(directory, name)?
        .iter()
        .try_for_each(|(key, _)| attributes::remove_xattr(directory, name, key))
}

/// Makes a new, empty, private file.
pub(crate) fn create_file(directory: BorrowedFd<'_>, name: &OsStr) -> Result<File, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(directory, name, flags, Mode::RUSR | Mode::WUSR).map(File::from)
}

/// Opens a directory for listing; a link to one is an error.
pub(crate) fn open_directory(parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// Makes `name` in `directory` another name of a file.
pub(crate) fn link(
    from: (BorrowedFd<'_>, &OsStr),
    directory: BorrowedFd<'_>,
    name: &OsStr,
) -> Result<(), Errno> {
    linkat(from.0, from.1, directory, name, AtFlags::empty())
}

/// Removes what is at `name` in `directory`, with all below it. Returns false if nothing was.
pub(crate) fn remove(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    path: &Path,
) -> Result<bool, TreeError> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(Errno::ISDIR) => {
            let opened =
                open_directory(directory, name).map_err(TreeError::at("open directory", path))?;
            clear(&opened)?;
            unlinkat(directory, name, AtFlags::REMOVEDIR)
                .map_err(TreeError::at("remove directory", path))?;
            Ok(true)
        }
        Err(error) => Err(TreeError::at("remove", path)(error)),
    }
}

/// Removes all that is in a directory.
pub(crate) fn clear(directory: impl AsFd) -> Result<(), TreeError> {
    let mut walk = Walk::new(directory)?;
    while let Some(event) = walk.next()? {
        let (entry, flags) = match &event {
            Event::Enter(entry) if entry.file_type() == FileType::Directory => continue,
            Event::Enter(entry) => (entry, AtFlags::empty()),
            Event::Leave(entry) => (entry, AtFlags::REMOVEDIR),
        };
        match unlinkat(entry.parent(), entry.name(), flags) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(TreeError::at("remove", entry.path())(error)),
        }
    }
    Ok(())
}

/// Copies the content of a file into an empty one: by sharing it where the file system can, else
/// without its holes.
fn copy_content(source: &mut File, target: &mut File) -> io::Result<()> {
    if ioctl_ficlone(&*target, &*source).is_ok() {
        return Ok(());
    }
    let size = source.metadata()?.len();
    ftruncate(&*target, size)?;
    let mut offset = 0;
    while offset < size {
        let (start, end) = match next_data(source, offset, size)? {
            Some(range) => range,
            None => break,
        };
        copy_range(source, target, start, end)?;
        offset = end;
    }
    Ok(())
}

/// Returns the next range of a file, from `offset` on, that is not a hole; none if only a hole
/// follows.
pub(crate) fn next_data(file: &File, offset: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    let start = match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(offset)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        // The file system cannot tell.
        Err(Errno::INVAL) => return Ok(Some((offset, size))),
        Err(error) => return Err(error.into()),
    };
    let end = rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(start))?;
    Ok(Some((start, end.min(size))))
}

fn copy_range(source: &mut File, target: &mut File, start: u64, end: u64) -> io::Result<()> {
    let (mut from, mut to) = (start, start);
    while from < end {
        let length = usize::try_from(end - from).unwrap_or(usize::MAX).min(1 << 30);
        match copy_file_range(&*source, Some(&mut from), &*target, Some(&mut to), length) {
            // The file became shorter while it was copied.
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                source.seek(SeekFrom::Start(from))?;
                target.seek(SeekFrom::Start(from))?;
                io::copy(&mut source.take(end - from), target)?;
                return target.flush();
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
