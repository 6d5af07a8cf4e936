//! Places to mount on, created where they are missing.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use mount::{GuestPath, RootDir};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::attach::attach;
use super::reason::Doing as _;
use super::stubs::Stub;
use crate::SetupError;

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
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);
/// The kernel's magic number of a proc file system.
const PROC_MAGIC: i64 = 0x9fa0;
/// As many links are followed as the kernel does.
const LINKS: usize = 40;

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

    /// Attaches `tree` at `target`, which is created if it is missing.
    pub(super) fn mount(&mut self, tree: OwnedFd, target: &GuestPath) -> Result<(), SetupError> {
        let kind = Kind::of(tree.as_fd()).mounting(target, "look at the source")?;
        let point = self.point(target, kind).mounting(target, "make the mount point")?;
        if Kind::of(point.as_fd()).mounting(target, "look at the mount point")? != kind {
            let error = "a directory and a file cannot be mounted on one another";
            return Err(error).mounting(target, "attach");
        }
        let is_proc = rustix::fs::fstatfs(&point).is_ok_and(|fs| fs.f_type == PROC_MAGIC);
        if is_proc {
            return Err("it is inside `/proc`").mounting(target, "attach");
        }
        attach(tree, point).mounting(target, "attach")
    }

    /// Opens what is at `path`, not following a link there; none if there is nothing.
    pub(super) fn existing(&self, path: &GuestPath) -> io::Result<Option<OwnedFd>> {
        match self.root.open_at(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(point) => Ok(Some(point)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Opens what is at `path`, links followed inside the tree, and creates it if it is missing.
    fn point(&mut self, path: &GuestPath, kind: Kind) -> io::Result<OwnedFd> {
        match self.root.open_at(path, OFlags::PATH, Mode::empty()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => return done,
        }
        let before = self.stubs.len();
        let created = match kind {
            Kind::Directory => self.directory(path, 0),
            Kind::File => self.file(path),
        };
        if let [parents @ .., _] = self.stubs.get_mut(before..).unwrap_or_default() {
            for parent in parents {
                parent.is_parent = true;
            }
        }
        created
    }

    /// Opens a directory and creates what is missing of it; where a dangling link points, if there is
    /// one on the way.
    fn directory(&mut self, path: &GuestPath, links: usize) -> io::Result<OwnedFd> {
        match self.root.open_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => return done,
        }
        let (Some(parent_path), Some(name)) = (path.parent(), path.file_name()) else {
            return self.root.open_dir(path);
        };
        let parent = self.directory(&parent_path, links)?;
        let times = Times::of(parent.try_clone()?)?;
        match rustix::fs::mkdirat(&parent, name, DIRECTORY_MODE) {
            Ok(()) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let directory = rustix::fs::openat(&parent, name, flags, Mode::empty())?;
                self.created(directory.as_fd())?;
                times.restore();
                Ok(directory)
            }
            Err(Errno::EXIST) if links < LINKS => {
                let target = link_target(&parent, &parent_path, name)?;
                self.directory(&target, links + 1)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Creates an empty file; where a dangling link points, if `path` is one.
    fn file(&mut self, path: &GuestPath) -> io::Result<OwnedFd> {
        let mut path = path.clone();
        for _ in 0..LINKS {
            let (Some(parent_path), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(Errno::ISDIR.into());
            };
            let parent = self.directory(&parent_path, 0)?;
            let times = Times::of(parent.try_clone()?)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            match rustix::fs::openat(&parent, name, flags, FILE_MODE) {
                Ok(file) => {
                    self.created(file.as_fd())?;
                    times.restore();
                    return Ok(file);
                }
                Err(Errno::EXIST) => path = link_target(&parent, &parent_path, name)?,
                Err(errno) => return Err(errno.into()),
            }
            match self.root.open_at(&path, OFlags::PATH, Mode::empty()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => return done,
            }
        }
        Err(Errno::LOOP.into())
    }

    /// Remembers what was just created, unless it is not in the root itself but in a mount on it,
    /// where it is left alone.
    fn created(&mut self, created: BorrowedFd<'_>) -> io::Result<()> {
        if mount_id(created)? == self.mount_id {
            let link = format!("/proc/self/fd/{}", created.as_raw_fd());
            let path = std::fs::read_link(link)?;
            if let Ok(inside) = path.strip_prefix(&self.place) {
                let path = GuestPath::new(inside).map_err(io::Error::other)?;
                self.stubs.push(Stub { path, is_parent: false });
            }
        }
        Ok(())
    }
}

fn link_target(parent: &OwnedFd, path: &GuestPath, name: &OsStr) -> io::Result<GuestPath> {
    let target = rustix::fs::readlinkat(parent, name, Vec::new())?;
    path.join(OsStr::from_bytes(target.as_bytes())).map_err(io::Error::other)
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
