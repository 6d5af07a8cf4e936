//! Extended attributes of any kind of file, and those by which an overlay marks its layers.
//!
//! A link, a device or a pipe cannot be opened just to read its attributes, so a file is named as
//! `/proc/self/fd/<directory>/<name>` and its last component is not followed.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::path::PathBuf;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat,
    utimensat,
};
use rustix::io::Errno;

/// Extended attributes, sorted by name.
pub type Xattrs = Vec<(CString, Vec<u8>)>;

/// Prefixes of the attributes that belong to the overlay and not to the file.
const OVERLAY: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];
const OPAQUE: [&CStr; 2] = [c"trusted.overlay.opaque", c"user.overlay.opaque"];

/// Returns true if the attribute `name` belongs to an overlay and not to the file.
pub(crate) fn is_overlay_mark(name: &[u8]) -> bool {
    OVERLAY.iter().any(|prefix| name.starts_with(prefix))
}

fn path(directory: BorrowedFd<'_>, name: &OsStr) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name)
}

/// Returns the extended attributes of a file, without the marks of an overlay.
pub(crate) fn xattrs(directory: BorrowedFd<'_>, name: &OsStr) -> Result<Xattrs, Errno> {
    let path = path(directory, name);
    let mut list = match rustix::fs::llistxattr_query(&path) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Xattrs::new()),
        Ok(length) => Vec::with_capacity(length + 256),
        Err(error) => return Err(error),
    };
    rustix::fs::llistxattr(&path, rustix::buffer::spare_capacity(&mut list))?;
    let mut found = Xattrs::new();
    for key in list.split_inclusive(|byte| *byte == 0) {
        let Ok(key) = CStr::from_bytes_with_nul(key) else { continue };
        if is_overlay_mark(key.to_bytes()) {
            continue;
        }
        if let Some(value) = value(&path, key)? {
            found.push((key.to_owned(), value));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn value(path: &PathBuf, key: &CStr) -> Result<Option<Vec<u8>>, Errno> {
    let mut value = Vec::with_capacity(256);
    let read = rustix::fs::lgetxattr(path, key, rustix::buffer::spare_capacity(&mut value));
    let read = match read {
        Err(Errno::RANGE) => {
            value = Vec::with_capacity(1 << 16);
            rustix::fs::lgetxattr(path, key, rustix::buffer::spare_capacity(&mut value))
        }
        read => read,
    };
    match read {
        Ok(_) => Ok(Some(value)),
        // Removed since it was listed, or not for our eyes.
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sets one extended attribute of a file.
pub(crate) fn set_xattr(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    key: &CStr,
    value: &[u8],
) -> Result<(), Errno> {
    rustix::fs::lsetxattr(path(directory, name), key, value, XattrFlags::empty())
}

/// Takes one extended attribute of a file away.
pub(crate) fn remove_xattr(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    key: &CStr,
) -> Result<(), Errno> {
    rustix::fs::lremovexattr(path(directory, name), key)
}

/// Returns true if a directory of a layer hides what is below it.
pub(crate) fn is_opaque(directory: BorrowedFd<'_>, name: &OsStr) -> Result<bool, Errno> {
    opaque_value(directory, name).map(|value| value == Some(b'y'))
}

fn opaque_value(directory: BorrowedFd<'_>, name: &OsStr) -> Result<Option<u8>, Errno> {
    let path = path(directory, name);
    for key in OPAQUE {
        if let Some([first, ..]) = value(&path, key)?.as_deref() {
            return Ok(Some(*first));
        }
    }
    Ok(None)
}

/// Marks a directory of a layer: what is below it is hidden.
pub(crate) fn set_opaque(directory: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    mark(directory, name, b"y")
}

/// Marks a directory of a layer: there are whiteouts in it. It tells the kernel (since 6.8) to look
/// for them even where nothing below is hidden by them.
pub(crate) fn set_has_whiteouts(directory: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    match opaque_value(directory, name)? {
        None => mark(directory, name, b"x"),
        Some(_) => Ok(()),
    }
}

fn mark(directory: BorrowedFd<'_>, name: &OsStr, value: &[u8]) -> Result<(), Errno> {
    match set_xattr(directory, name, OPAQUE[0], value) {
        // In a user namespace the trusted attributes are not ours.
        Err(Errno::PERM) => set_xattr(directory, name, OPAQUE[1], value),
        done => done,
    }
}

/// All that is said of a file besides its content and its name.
#[derive(Debug, Clone)]
pub(crate) struct Attributes {
    pub(crate) file_type: FileType,
    /// Permission bits with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) times: Timestamps,
    pub(crate) xattrs: Xattrs,
}

impl Attributes {
    /// Returns the attributes of a file that was looked at.
    pub(crate) fn of(stat: &Stat, xattrs: Xattrs) -> Self {
        Self {
            file_type: FileType::from_raw_mode(stat.st_mode),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            times: Timestamps {
                last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as _ },
                last_modification: modified(stat),
            },
            xattrs,
        }
    }

    /// Gives the attributes to a file. The order matters: a change of owner takes the setuid bit and
    /// the capabilities away, and every change is a change of times.
    pub(crate) fn give(&self, directory: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if self.file_type != FileType::Symlink {
            chmodat(directory, name, Mode::from_raw_mode(self.mode), AtFlags::empty())?;
        }
        for (key, value) in &self.xattrs {
            match set_xattr(directory, name, key, value) {
                // The file system, or the kind of file, has no such attributes.
                Err(Errno::OPNOTSUPP) => {}
                Err(Errno::PERM) if self.file_type == FileType::Symlink => {}
                done => done?,
            }
        }
        self.give_times(directory, name)
    }

    /// Gives only the times: again, after something was made in a directory.
    pub(crate) fn give_times(&self, directory: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
        utimensat(directory, name, &self.times, AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// Returns when a file was last modified.
pub(crate) fn modified(stat: &Stat) -> Timespec {
    Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ }
}
