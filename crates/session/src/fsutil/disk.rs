//! Writing a tree: every path strictly beneath it, no link ever followed.
//!
//! Paths come from [`super::order::Order`], so they are clean, and each path's directory was made or
//! confirmed before it. Directories are opened with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`
//! nevertheless, so that a surprise in the tree is an error and not an escape.

use std::collections::HashMap;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::order::split;
use super::packet::{Kind, Stat};
use super::walk::entry_path;
use crate::TransferError;

/// How many directories stay open; files mostly come directory by directory.
const OPEN_DIRECTORIES: usize = 32;

/// Nobody but us looks into what is not complete.
const PRIVATE_FILE: Mode = Mode::from_raw_mode(0o600);
const PRIVATE_DIRECTORY: Mode = Mode::from_raw_mode(0o700);

/// The tree that is written.
#[derive(Debug)]
pub(crate) struct TreeWriter {
    root: OwnedFd,
    /// Whom files that are made belong to by themselves.
    ours: (Uid, Gid),
    /// The directories used last, most recent at the end.
    open: Vec<(Vec<u8>, OwnedFd)>,
    /// The directory asked last whether files made in it get its group, and the answer.
    giving: Option<(Vec<u8>, bool)>,
    /// Directories to be completed once nothing in them changes any more.
    directories: Vec<Stat>,
    /// Every directory's time, and whether we changed something in it.
    times: HashMap<Box<[u8]>, DirectoryTime>,
    /// Hard links to be made once the files they name are complete.
    links: Vec<Stat>,
}

#[derive(Debug, Clone, Copy)]
struct DirectoryTime {
    modified: i64,
    touched: bool,
}

/// A regular file whose content is arriving. It has no final time yet, so a half-written one is
/// found to be different by the next sync.
#[derive(Debug)]
pub(crate) struct PartialFile {
    file: std::fs::File,
    /// Whom it belongs to, if that is known without asking.
    owner: Option<(Uid, Gid)>,
}

impl PartialFile {
    pub(crate) fn write(&mut self, path: &[u8], data: &[u8]) -> Result<(), TransferError> {
        self.file.write_all(data).map_err(|error| TransferError::disk("write", path, error))
    }
}

impl TreeWriter {
    pub(crate) fn new(root: OwnedFd) -> Self {
        Self {
            root,
            ours: (rustix::process::geteuid(), rustix::process::getegid()),
            open: Vec::new(),
            giving: None,
            directories: Vec::new(),
            times: HashMap::new(),
            links: Vec::new(),
        }
    }

    /// Notes a directory that will be there, so that its time can be restored.
    pub(crate) fn note_directory(&mut self, stat: &Stat) {
        let time = DirectoryTime { modified: stat.modified, touched: false };
        self.times.insert(Box::from(&stat.path[..]), time);
    }

    /// Makes a directory; it is completed by [`TreeWriter::finish`].
    pub(crate) fn make_directory(&mut self, stat: &Stat) -> Result<(), TransferError> {
        self.create("make directory", &stat.path, |parent, name| {
            rustix::fs::mkdirat(parent, name, PRIVATE_DIRECTORY)
        })?;
        self.directories.push(stat.clone());
        Ok(())
    }

    /// Gives a directory that is there new metadata, when [`TreeWriter::finish`] is called.
    pub(crate) fn change_directory(&mut self, stat: &Stat) {
        self.directories.push(stat.clone());
    }

    /// Makes a symbolic link, device or pipe, complete.
    pub(crate) fn make_special(&mut self, stat: &Stat, kind: Kind) -> Result<(), TransferError> {
        let mode = stat.file_mode().permissions();
        let device = device_number(stat)?;
        self.create("make", &stat.path, |parent, name| match kind {
            Kind::Symlink => rustix::fs::symlinkat(&stat.link[..], parent, name),
            Kind::Fifo => rustix::fs::mknodat(parent, name, FileType::Fifo, mode, 0),
            Kind::CharDevice => {
                rustix::fs::mknodat(parent, name, FileType::CharacterDevice, mode, device)
            }
            Kind::BlockDevice => {
                rustix::fs::mknodat(parent, name, FileType::BlockDevice, mode, device)
            }
            Kind::Directory | Kind::Regular => Err(Errno::INVAL),
        })?;
        self.complete_special(stat, kind)
    }

    fn complete_special(&mut self, stat: &Stat, kind: Kind) -> Result<(), TransferError> {
        let failed = |error: Errno| TransferError::disk("set metadata of", &stat.path, error);
        let (directory, name) = split(&stat.path);
        let parent = self.directory(directory)?;
        let (uid, gid) = owner(stat).map_err(failed)?;
        let no_follow = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(parent, name, uid, gid, no_follow).map_err(failed)?;
        set_xattrs(&entry_path(parent, name), stat);
        if kind != Kind::Symlink {
            let mode = stat.file_mode().permissions();
            rustix::fs::chmodat(parent, name, mode, AtFlags::empty()).map_err(failed)?;
        }
        rustix::fs::utimensat(parent, name, &times(stat.modified), no_follow).map_err(failed)
    }

    /// Notes a hard link; it is made by [`TreeWriter::finish`].
    pub(crate) fn make_link(&mut self, stat: &Stat) -> Result<(), TransferError> {
        self.touch(split(&stat.path).0);
        self.links.push(stat.clone());
        Ok(())
    }

    /// Begins a regular file.
    pub(crate) fn begin_file(&mut self, path: &[u8]) -> Result<PartialFile, TransferError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = self.create("create", path, |parent, name| {
            rustix::fs::openat(parent, name, flags | OFlags::NOFOLLOW, PRIVATE_FILE)
        })?;
        let owner = (!self.gives_group(split(path).0)?).then_some(self.ours);
        Ok(PartialFile { file: file.into(), owner })
    }

    /// Returns true if files made in a directory get its group.
    fn gives_group(&mut self, path: &[u8]) -> Result<bool, TransferError> {
        if let Some((known, gives)) = &self.giving
            && known == path
        {
            return Ok(*gives);
        }
        let failed = |error| TransferError::disk("look at", path, error);
        let stat = rustix::fs::fstat(self.directory(path)?).map_err(failed)?;
        let gives = Mode::from_raw_mode(stat.st_mode).contains(Mode::SGID);
        self.giving = Some((path.to_vec(), gives));
        Ok(gives)
    }

    /// Completes a regular file: owner, attributes, mode, and last its time.
    pub(crate) fn finish_file(&self, file: PartialFile, stat: &Stat) -> Result<(), TransferError> {
        complete(file.file.as_fd(), file.owner, stat)
    }

    /// Writes a small file of our own at the top of the tree.
    pub(crate) fn write_own(&mut self, name: &[u8], data: &[u8]) -> Result<(), TransferError> {
        self.remove(name)?;
        let mut file = self.begin_file(name)?;
        file.write(name, data)?;
        rustix::fs::fchmod(&file.file, Mode::from_raw_mode(0o644))
            .map_err(|error| TransferError::disk("set metadata of", name, error))
    }

    /// Removes whatever is at `path`, with all below it; nothing there is fine.
    pub(crate) fn remove(&mut self, path: &[u8]) -> Result<(), TransferError> {
        let (directory, name) = split(path);
        self.touch(directory);
        let parent = self.directory(directory)?;
        let removed =
            remove_at(parent, name).map_err(|error| TransferError::disk("remove", path, error))?;
        if removed == Removed::Directory {
            // It, or one below it, may be among them.
            self.open.clear();
            self.giving = None;
        }
        Ok(())
    }

    /// Makes the hard links, completes the directories, and gives those we touched their time back.
    pub(crate) fn finish(&mut self) -> Result<(), TransferError> {
        for stat in std::mem::take(&mut self.links) {
            self.link(&stat)?;
        }
        // What is inside comes before what it is inside of.
        for stat in std::mem::take(&mut self.directories).iter().rev() {
            self.complete_directory(stat)?;
        }
        let touched: Vec<_> = self
            .times
            .iter()
            .filter(|(_, time)| time.touched)
            .map(|(path, time)| (path.clone(), time.modified))
            .collect();
        for (path, modified) in touched {
            let directory = self.directory(&path)?;
            rustix::fs::futimens(directory, &times(modified))
                .map_err(|error| TransferError::disk("set time of", &path, error))?;
        }
        Ok(())
    }

    fn complete_directory(&mut self, stat: &Stat) -> Result<(), TransferError> {
        let directory = self.directory(&stat.path)?;
        complete(directory, None, stat)
    }

    fn link(&mut self, stat: &Stat) -> Result<(), TransferError> {
        let (directory, name) = split(&stat.link);
        // Both directories are needed at once; the cache lends one at a time.
        let target = self.directory(directory)?.try_clone_to_owned();
        let target =
            target.map_err(|error| TransferError::disk("open directory", directory, error))?;
        self.create("link", &stat.path, |parent, new_name| {
            rustix::fs::linkat(&target, name, parent, new_name, AtFlags::empty())
        })
    }

    /// Calls `make` for the entry at `path`; what is unexpectedly there already gives way.
    fn create<T>(
        &mut self,
        action: &'static str,
        path: &[u8],
        mut make: impl FnMut(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, TransferError> {
        let (directory, name) = split(path);
        self.touch(directory);
        match make(self.directory(directory)?, name) {
            Err(Errno::EXIST) => {
                self.remove(path)?;
                make(self.directory(directory)?, name)
            }
            made => made,
        }
        .map_err(|error| TransferError::disk(action, path, error))
    }

    fn touch(&mut self, directory: &[u8]) {
        if let Some(time) = self.times.get_mut(directory) {
            time.touched = true;
        }
    }

    fn directory(&mut self, path: &[u8]) -> Result<BorrowedFd<'_>, TransferError> {
        if path.is_empty() {
            return Ok(self.root.as_fd());
        }
        match self.open.iter().rposition(|(open, _)| open == path) {
            Some(place) if place + 1 == self.open.len() => {}
            Some(place) => {
                let entry = self.open.remove(place);
                self.open.push(entry);
            }
            None => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
                let directory =
                    rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve)
                        .map_err(|error| TransferError::disk("open directory", path, error))?;
                if self.open.len() == OPEN_DIRECTORIES {
                    self.open.remove(0);
                }
                self.open.push((path.to_vec(), directory));
            }
        }
        match self.open.last() {
            Some((_, directory)) => Ok(directory.as_fd()),
            None => Ok(self.root.as_fd()),
        }
    }
}

/// Sets what an open file or directory of the owner `before` has beside its content; the time comes last.
fn complete(
    file: BorrowedFd<'_>,
    before: Option<(Uid, Gid)>,
    stat: &Stat,
) -> Result<(), TransferError> {
    let failed = |error: Errno| TransferError::disk("set metadata of", &stat.path, error);
    let (uid, gid) = owner(stat).map_err(failed)?;
    // Changing the owner clears the set-id bits, so the mode comes after it.
    if before.is_none_or(|before| (Some(before.0), Some(before.1)) != (uid, gid)) {
        rustix::fs::fchown(file, uid, gid).map_err(failed)?;
    }
    for (name, value) in &stat.xattrs {
        if let Err(error) = rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()) {
            tracing::debug!(%error, name, "an attribute of a client's file was not kept");
        }
    }
    rustix::fs::fchmod(file, stat.file_mode().permissions()).map_err(failed)?;
    rustix::fs::futimens(file, &times(stat.modified)).map_err(failed)
}

/// Sets attributes by path; those that the file system refuses are not kept.
fn set_xattrs(path: &[u8], stat: &Stat) {
    for (name, value) in &stat.xattrs {
        if let Err(error) = rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()) {
            tracing::debug!(%error, name, "an attribute of a client's file was not kept");
        }
    }
}

/// Returns a stat's owner; the one number that means "keep" to the kernel is no owner.
fn owner(stat: &Stat) -> Result<(Option<Uid>, Option<Gid>), Errno> {
    if stat.uid == u32::MAX || stat.gid == u32::MAX {
        return Err(Errno::INVAL);
    }
    Ok((Some(Uid::from_raw(stat.uid)), Some(Gid::from_raw(stat.gid))))
}

fn device_number(stat: &Stat) -> Result<u64, TransferError> {
    let invalid = |_| TransferError::disk("make", &stat.path, Errno::INVAL);
    let major = u32::try_from(stat.device_major).map_err(invalid)?;
    let minor = u32::try_from(stat.device_minor).map_err(invalid)?;
    Ok(rustix::fs::makedev(major, minor))
}

fn times(modified: i64) -> Timestamps {
    let time = Timespec {
        tv_sec: modified.div_euclid(1_000_000_000),
        tv_nsec: modified.rem_euclid(1_000_000_000),
    };
    Timestamps { last_access: time, last_modification: time }
}

#[derive(Debug, PartialEq, Eq)]
enum Removed {
    Directory,
    Other,
}

/// Removes an entry of a directory and all below it, without following links.
fn remove_at(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Removed, Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(Removed::Other),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let child = entry.file_name().to_bytes();
        if child != b"." && child != b".." {
            remove_at(directory.as_fd(), child)?;
        }
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?;
    Ok(Removed::Directory)
}
