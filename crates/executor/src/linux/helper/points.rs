//! Places to mount on, created where they are missing.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use mount::{GuestPath, RootDir};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::stubs::Stub;

/// What is mounted on a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A directory, on a directory.
    Directory,
    /// Anything else, on a file.
    File,
}

impl Kind {
    /// Returns the kind of what is open.
    pub(super) fn of(open: BorrowedFd<'_>) -> io::Result<Self> {
        let stat = rustix::fs::fstat(open)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        Ok(if kind == FileType::Directory { Self::Directory } else { Self::File })
    }
}

/// A container's tree, mounted in this namespace, in which places are looked up.
#[derive(Debug)]
pub(super) struct Points {
    /// Every lookup is resolved in here.
    root: RootDir,
    /// Where the tree is mounted.
    place: PathBuf,
    /// The mount that is the root itself, as the kernel numbers it.
    mount_id: u64,
    /// What was created in the root itself, in that order.
    stubs: Vec<Stub>,
}

const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);

impl Points {
    /// Takes the tree that is mounted at `place`.
    pub(super) fn new(place: PathBuf, tree: OwnedFd) -> io::Result<Self> {
        let mount_id = mount_id(tree.as_fd())?;
        Ok(Self { root: RootDir::from_fd(tree), place, mount_id, stubs: Vec::new() })
    }

    /// Returns the tree.
    pub(super) const fn root(&self) -> &RootDir {
        &self.root
    }

    /// Returns what was created in the root itself so far.
    pub(super) fn stubs(&self) -> &[Stub] {
        &self.stubs
    }

    /// Opens what is at `path`, links followed inside the tree, and creates it if it is missing.
    pub(super) fn point(&mut self, path: &GuestPath, kind: Kind) -> io::Result<OwnedFd> {
        match self.root.open_at(path, OFlags::PATH, Mode::empty()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => return done,
        }
        let times = self.nearest(path)?;
        let created = match kind {
            Kind::Directory => self.create_directories(path),
            Kind::File => self.create_file(path),
        }?;
        times.restore();
        Ok(created)
    }

    /// Remembers the times of the nearest existing directory above `path`.
    fn nearest(&self, path: &GuestPath) -> io::Result<Times> {
        let mut above = path.parent();
        while let Some(directory) = above {
            match self.root.open_dir(&directory) {
                Ok(open) => return Times::of(open),
                Err(error) if error.kind() == io::ErrorKind::NotFound => above = directory.parent(),
                Err(error) => return Err(error),
            }
        }
        Err(Errno::NOENT.into())
    }

    fn create_directories(&mut self, path: &GuestPath) -> io::Result<OwnedFd> {
        let Self { root, place, mount_id, stubs } = self;
        let open = root.create_dir_all(path, DIRECTORY_MODE, |directory| {
            stubs.extend(Stub::new(directory, place, *mount_id)?);
            Ok(())
        })?;
        Ok(open)
    }

    /// Creates an empty file; where a dangling link points, if `path` is one.
    fn create_file(&mut self, path: &GuestPath) -> io::Result<OwnedFd> {
        let mut path = path.clone();
        for _ in 0..40 {
            let (Some(parent_path), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(Errno::ISDIR.into());
            };
            let parent = self.create_parents(&parent_path)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            match rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644)) {
                Ok(file) => {
                    self.stubs.extend(Stub::new(file.as_fd(), &self.place, self.mount_id)?);
                    return Ok(file);
                }
                Err(Errno::EXIST) => {
                    let target = rustix::fs::readlinkat(&parent, name, Vec::new())?;
                    let target = OsStr::from_bytes(target.as_bytes());
                    path = parent_path.join(target).map_err(io::Error::other)?;
                }
                Err(errno) => return Err(errno.into()),
            }
            match self.root.open_at(&path, OFlags::PATH, Mode::empty()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => return done,
            }
        }
        Err(Errno::LOOP.into())
    }

    fn create_parents(&mut self, path: &GuestPath) -> io::Result<OwnedFd> {
        let before = self.stubs.len();
        let open = self.create_directories(path)?;
        for stub in self.stubs.iter_mut().skip(before) {
            stub.is_parent = true;
        }
        Ok(open)
    }
}

impl Stub {
    /// Describes what was just created, unless it is not in the root itself but in a mount on it,
    /// where it is left alone.
    fn new(created: BorrowedFd<'_>, place: &Path, root: u64) -> io::Result<Option<Self>> {
        if mount_id(created)? != root {
            return Ok(None);
        }
        let link = format!("/proc/self/fd/{}", created.as_raw_fd());
        let path = std::fs::read_link(link)?;
        let Ok(inside) = path.strip_prefix(place) else { return Ok(None) };
        let path = GuestPath::new(inside).map_err(io::Error::other)?;
        Ok(Some(Self { path, is_parent: false }))
    }
}

fn mount_id(open: BorrowedFd<'_>) -> io::Result<u64> {
    let stat = rustix::fs::statx(open, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    Ok(stat.stx_mnt_id)
}

/// A directory's times, to be put back after something was created or removed in it.
#[derive(Debug)]
pub(super) struct Times {
    directory: OwnedFd,
    times: Timestamps,
}

impl Times {
    /// Remembers the times of an open directory.
    pub(super) fn of(directory: OwnedFd) -> io::Result<Self> {
        let stat = rustix::fs::fstat(&directory)?;
        let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps {
            last_access: time(stat.st_atime, stat.st_atime_nsec.cast_signed()),
            last_modification: time(stat.st_mtime, stat.st_mtime_nsec.cast_signed()),
        };
        Ok(Self { directory, times })
    }

    /// Puts them back, as far as the file system lets us.
    pub(super) fn restore(self) {
        let _ = rustix::fs::futimens(&self.directory, &self.times);
    }
}
