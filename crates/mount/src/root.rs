//! Lookups that cannot leave a tree.
//!
//! Uses `openat2` with `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS` (Linux 5.6): every symbolic link,
//! absolute or climbing, is resolved as if the tree were the whole file system.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::{GuestPath, HostPath};

/// How often a lookup is tried again when the tree changes under it (`EAGAIN` of `openat2`).
const ATTEMPTS: usize = 128;

/// A directory within which guest paths are resolved.
#[derive(Debug)]
pub struct RootDir(OwnedFd);

impl RootDir {
    /// Opens the tree at `path`.
    ///
    /// # Errors
    /// Returns the error of `open(2)`; `ENOTDIR` if `path` is not a directory.
    pub fn open(path: &HostPath) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path.as_path(), flags, Mode::empty())?))
    }

    /// Takes an open directory as the root of a tree.
    pub const fn from_fd(directory: OwnedFd) -> Self {
        Self(directory)
    }

    /// Opens `path` with `flags`, following every symbolic link inside the tree; with
    /// [`OFlags::NOFOLLOW`] the last component is not followed.
    ///
    /// # Errors
    /// Returns the error of `openat2(2)`.
    pub fn open_at(&self, path: &GuestPath, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let relative = path.relative();
        let target = if path.is_root() { ".".as_ref() } else { relative.as_os_str() };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        for _ in 0..ATTEMPTS {
            match rustix::fs::openat2(&self.0, target, flags, mode, resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                done => return Ok(done?),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// Opens a regular file for reading; the last component may be a link.
    ///
    /// # Errors
    /// Returns the error of `openat2(2)`.
    pub fn open_file(&self, path: &GuestPath) -> io::Result<std::fs::File> {
        // NONBLOCK, so that opening a pipe of a hostile tree does not hang.
        let fd = self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())?;
        Ok(fd.into())
    }

    /// Opens a directory, following links.
    ///
    /// # Errors
    /// Returns the error of `openat2(2)`.
    pub fn open_dir(&self, path: &GuestPath) -> io::Result<OwnedFd> {
        self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    /// Returns the directory at `path` as a root of its own: what is looked up in it never leads out of it.
    ///
    /// # Errors
    /// Fails if it is no directory.
    pub fn within(&self, path: &GuestPath) -> io::Result<Self> {
        Ok(Self(self.open_dir(path)?))
    }

    /// Returns what is at `path`, following links also at the end.
    ///
    /// # Errors
    /// Returns the error of `openat2(2)`.
    pub fn stat(&self, path: &GuestPath) -> io::Result<Stat> {
        let fd = self.open_at(path, OFlags::PATH, Mode::empty())?;
        Ok(rustix::fs::fstat(fd)?)
    }

    /// Returns what is at `path`; a link at the end is not followed.
    ///
    /// # Errors
    /// Returns the error of `openat2(2)`.
    pub fn symlink_stat(&self, path: &GuestPath) -> io::Result<Stat> {
        let fd = self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
        Ok(rustix::fs::fstat(fd)?)
    }

    /// Opens the directory that `path` is in, following links on the way, and returns it with the
    /// last component; none if `path` is the root. Operations on the pair do not follow a link at
    /// the end.
    ///
    /// # Errors
    /// Returns the error of `openat2(2)`.
    pub fn parent_of<'a>(&self, path: &'a GuestPath) -> io::Result<Option<(OwnedFd, &'a OsStr)>> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(None);
        };
        Ok(Some((self.open_dir(&parent)?, name)))
    }

    /// Opens `path` as a directory and creates what is missing on the way, with `mode` and no
    /// regard to the umask. Calls `created` with the descriptor of each new directory.
    ///
    /// A dangling link on the way is created where it points to, inside the tree.
    ///
    /// # Errors
    /// Returns the error of `openat2(2)`, `mkdirat(2)` or of `created`.
    pub fn create_dir_all(
        &self,
        path: &GuestPath,
        mode: Mode,
        mut created: impl FnMut(BorrowedFd<'_>) -> io::Result<()>,
    ) -> io::Result<OwnedFd> {
        self.create_dirs(path, mode, &mut created, 0)
    }

    fn create_dirs(
        &self,
        path: &GuestPath,
        mode: Mode,
        created: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<()>,
        links: usize,
    ) -> io::Result<OwnedFd> {
        match self.open_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => return done,
        }
        let (Some(parent_path), Some(name)) = (path.parent(), path.file_name()) else {
            return self.open_dir(path);
        };
        let parent = self.create_dirs(&parent_path, mode, created, links)?;
        match rustix::fs::mkdirat(&parent, name, mode) {
            Ok(()) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let directory = rustix::fs::openat(&parent, name, flags, Mode::empty())?;
                rustix::fs::fchmod(&directory, mode)?;
                created(directory.as_fd())?;
                Ok(directory)
            }
            Err(Errno::EXIST) => {
                let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
                let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
                if !is_link || links >= 40 {
                    return self.open_dir(path);
                }
                let target = rustix::fs::readlinkat(&parent, name, Vec::new())?;
                let target = parent_path
                    .join(OsStr::from_bytes(target.as_bytes()))
                    .map_err(io::Error::other)?;
                self.create_dirs(&target, mode, created, links + 1)
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for RootDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> (tempfile::TempDir, RootDir) {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::open(&HostPath::new(directory.path()).unwrap()).unwrap();
        (directory, root)
    }

    fn guest(path: &str) -> GuestPath {
        GuestPath::new(path).unwrap()
    }

    #[test]
    fn links_never_lead_outside() {
        let (directory, root) = tree();
        fs::create_dir(directory.path().join("etc")).unwrap();
        fs::write(directory.path().join("etc/name"), "inside").unwrap();
        symlink("/etc", directory.path().join("absolute")).unwrap();
        symlink("../../../../etc", directory.path().join("climbing")).unwrap();
        for path in ["absolute/name", "climbing/name", "../etc/name"] {
            let file = root.open_file(&guest(path)).unwrap();
            assert_eq!(std::io::read_to_string(file).unwrap(), "inside", "{path}");
        }
        let stat = root.symlink_stat(&guest("absolute")).unwrap();
        assert_eq!(FileType::from_raw_mode(stat.st_mode), FileType::Symlink);
    }

    #[test]
    fn directories_are_created_inside_through_links() {
        let (directory, root) = tree();
        symlink("/real/place", directory.path().join("link")).unwrap();
        let mut count = 0;
        root.create_dir_all(&guest("link/a/b"), Mode::from_raw_mode(0o755), |_| {
            count += 1;
            Ok(())
        })
        .unwrap();
        assert!(directory.path().join("real/place/a/b").is_dir());
        assert_eq!(count, 4);
    }

    #[test]
    fn a_loop_of_links_is_an_error() {
        let (directory, root) = tree();
        symlink("b", directory.path().join("a")).unwrap();
        symlink("a", directory.path().join("b")).unwrap();
        let created = root.create_dir_all(&guest("a/x"), Mode::from_raw_mode(0o755), |_| Ok(()));
        assert!(created.is_err());
        assert!(root.stat(&guest("a")).is_err());
    }

    #[test]
    fn the_parent_of_the_root_is_none() {
        let (_directory, root) = tree();
        assert!(root.parent_of(&GuestPath::root()).unwrap().is_none());
        let path = guest("file");
        let (_, name) = root.parent_of(&path).unwrap().unwrap();
        assert_eq!(name, "file");
    }
}
