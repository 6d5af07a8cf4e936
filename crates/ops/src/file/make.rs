//! The actions that need one tree only: directories, files, links, removal (protocol page `llb.md` §6).

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd};

use mount::{GuestPath, RootDir};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::entry::{self, Owner};
use super::{FileError, wildcard};

/// What a new file or directory is given.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Attributes {
    /// The owner; root if none.
    pub(crate) owner: Option<Owner>,
    /// Both times, in nanoseconds since 1970; now if none.
    pub(crate) timestamp: Option<i64>,
}

impl Attributes {
    fn apply(&self, directory: BorrowedFd<'_>, name: &OsStr) -> std::io::Result<()> {
        entry::set_owner(directory, name, self.owner.unwrap_or(Owner { uid: 0, gid: 0 }))?;
        match self.timestamp {
            Some(time) => entry::set_times(directory, name, entry::timespec(time)),
            None => Ok(()),
        }
    }

    fn apply_to(&self, file: &std::fs::File) -> std::io::Result<()> {
        let owner = self.owner.unwrap_or(Owner { uid: 0, gid: 0 });
        std::os::unix::fs::fchown(file, Some(owner.uid), Some(owner.gid))?;
        if let Some(time) = self.timestamp {
            let time = entry::timespec(time);
            let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
            rustix::fs::futimens(file, &times)?;
        }
        Ok(())
    }
}

/// Makes a directory. One that is there already is left as it is.
pub(crate) fn directory(
    tree: &RootDir,
    path: &GuestPath,
    mode: u32,
    parents: bool,
    attributes: Attributes,
) -> Result<(), FileError> {
    let error = || FileError::io("mkdir", path);
    let mode = Mode::from_raw_mode(mode & 0o777);
    if parents {
        let mut made = Vec::new();
        tree.create_dir_all(path, mode, |directory| {
            made.push(directory.try_clone_to_owned()?);
            Ok(())
        })
        .map_err(error())?;
        // Times last: making a child changes its parent's.
        for directory in made.iter().rev() {
            attributes.apply(directory.as_fd(), OsStr::new(".")).map_err(error())?;
        }
        return Ok(());
    }
    let Some((parent, name)) = tree.parent_of(path).map_err(error())? else { return Ok(()) };
    match rustix::fs::mkdirat(&parent, name, mode) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let stat = tree.stat(path).map_err(error())?;
            let is_directory = entry::kind(&stat) == FileType::Directory;
            return if is_directory { Ok(()) } else { Err(error()(Errno::NOTDIR.into())) };
        }
        Err(errno) => return Err(error()(errno.into())),
    }
    entry::set_mode(parent.as_fd(), name, mode.as_raw_mode()).map_err(error())?;
    attributes.apply(parent.as_fd(), name).map_err(error())
}

/// Writes a file, over what is there.
pub(crate) fn file(
    tree: &RootDir,
    path: &GuestPath,
    mode: u32,
    data: &[u8],
    attributes: Attributes,
) -> Result<(), FileError> {
    let error = || FileError::io("open", path);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NONBLOCK;
    let mode = Mode::from_raw_mode(mode & 0o777);
    let mut file = std::fs::File::from(tree.open_at(path, flags, mode).map_err(error())?);
    file.write_all(data).map_err(FileError::io("write", path))?;
    rustix::fs::fchmod(&file, mode).map_err(|errno| error()(errno.into()))?;
    // By the descriptor: the path may be that of a link to the file.
    attributes.apply_to(&file).map_err(error())
}

/// Makes a symbolic link at `path` with the text `target`. Nothing may be there yet.
pub(crate) fn symlink(
    tree: &RootDir,
    path: &GuestPath,
    target: &str,
    attributes: Attributes,
) -> Result<(), FileError> {
    let error = || FileError::io("symlink", path);
    let Some((parent, name)) = tree.parent_of(path).map_err(error())? else {
        return Err(error()(Errno::EXIST.into()));
    };
    rustix::fs::symlinkat(target, &parent, name).map_err(|errno| error()(errno.into()))?;
    attributes.apply(parent.as_fd(), name).map_err(error())
}

/// Removes what is at `path` with all below it, or all that `path` matches as a wildcard.
pub(crate) fn remove(
    tree: &RootDir,
    path: &str,
    allow_missing: bool,
    allow_wildcard: bool,
) -> Result<(), FileError> {
    let paths = if allow_wildcard && wildcard::is_pattern(path) {
        wildcard::expand(tree, path)?
    } else {
        vec![GuestPath::new(path)?]
    };
    for path in &paths {
        let error = || FileError::io("remove", path);
        let parent = match tree.parent_of(path) {
            Ok(Some(parent)) => parent,
            Ok(None) => return Err(FileError::Invalid("the root cannot be removed".to_owned())),
            Err(cause) if allow_missing && cause.kind() == std::io::ErrorKind::NotFound => continue,
            Err(cause) => return Err(error()(cause)),
        };
        let (directory, name) = parent;
        let there = entry::stat_if_any(directory.as_fd(), name).map_err(error())?;
        if there.is_none() && !allow_missing {
            return Err(error()(Errno::NOENT.into()));
        }
        entry::remove_all(directory.as_fd(), name).map_err(error())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink as host_symlink};

    use mount::HostPath;

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
    fn directories_get_what_was_asked_for() {
        let (host, tree) = tree();
        let owner = Some(Owner { uid: 7, gid: 8 });
        let attributes = Attributes { owner, timestamp: Some(5_000_000_001) };
        directory(&tree, &guest("/a/b"), 0o750, true, attributes).unwrap();
        for path in ["a", "a/b"] {
            let stat = fs::metadata(host.path().join(path)).unwrap();
            let seen =
                (stat.mode() & 0o7777, stat.uid(), stat.gid(), stat.mtime(), stat.mtime_nsec());
            assert_eq!(seen, (0o750, 7, 8, 5, 1), "{path}");
        }
        directory(&tree, &guest("/a"), 0o700, false, Attributes::default()).unwrap();
        assert_eq!(fs::metadata(host.path().join("a")).unwrap().mode() & 0o777, 0o750);
        assert!(directory(&tree, &guest("/x/y"), 0o700, false, Attributes::default()).is_err());
        fs::write(host.path().join("f"), "").unwrap();
        assert!(directory(&tree, &guest("/f"), 0o700, false, Attributes::default()).is_err());
    }

    #[test]
    fn files_are_written_inside_and_over_what_is_there() {
        let (host, tree) = tree();
        host_symlink("/target", host.path().join("link")).unwrap();
        fs::write(host.path().join("target"), "longer than before").unwrap();
        file(&tree, &guest("/link"), 0o640, b"new", Attributes::default()).unwrap();
        let path = host.path().join("target");
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o7777, 0o640);
        let error = file(&tree, &guest("/no/f"), 0o640, b"", Attributes::default()).unwrap_err();
        assert_eq!(error.to_string(), "open /no/f");
    }

    #[test]
    fn links_are_made_once_and_not_followed_by_removal() {
        let (host, tree) = tree();
        fs::create_dir(host.path().join("kept")).unwrap();
        symlink(&tree, &guest("/l"), "/kept", Attributes::default()).unwrap();
        assert!(symlink(&tree, &guest("/l"), "/other", Attributes::default()).is_err());
        remove(&tree, "/l", false, false).unwrap();
        assert!(host.path().join("kept").is_dir());
        assert!(remove(&tree, "/l", false, false).is_err());
        remove(&tree, "/l", true, false).unwrap();
        remove(&tree, "/no/such/place", true, false).unwrap();
        assert!(remove(&tree, "/", false, false).is_err());
    }

    #[test]
    fn removal_takes_trees_and_wildcards() {
        let (host, tree) = tree();
        fs::create_dir_all(host.path().join("d/e")).unwrap();
        fs::write(host.path().join("d/e/f"), "").unwrap();
        for name in ["a.txt", "b.txt", "c.md"] {
            fs::write(host.path().join(name), "").unwrap();
        }
        remove(&tree, "/d", false, false).unwrap();
        remove(&tree, "/*.txt", false, true).unwrap();
        let left: Vec<_> =
            fs::read_dir(host.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["c.md"]);
    }
}
