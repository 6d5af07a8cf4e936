//! The layer that turns one tree into another.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use mount::{HostPath, RootDir};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, mkdirat, mknodat, statat};
use rustix::io::Errno;

use crate::attributes::{Attributes, modified};
use crate::node::{self, open_directory};
use crate::walk::{Entry, Event, TreeError, Walk, file_type, names};

/// Compares two trees and fills `directory`, empty so far, with the layer that turns `lower` into
/// `upper`; blocking.
///
/// Two files are the same if all that is said of them is, and their times tell that it cannot be by
/// accident. Where a time has no fraction of a second, as in archives, or the file was just made, their
/// content is compared. The time of a directory alone is no difference.
///
/// # Errors
/// Returns an error that names the file which could not be read or copied.
pub fn diff_trees(lower: &RootDir, upper: &RootDir, directory: &HostPath) -> Result<(), TreeError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let layer = rustix::fs::open(directory.as_path(), flags, Mode::empty())
        .map_err(TreeError::at("open directory", directory.as_path()))?;
    let here = OsStr::new(".");
    let [lower, upper] = [lower, upper].map(|tree| {
        open_directory(tree.as_fd(), here).map_err(TreeError::at("open directory", "."))
    });
    let (lower, upper) = (lower?, upper?);
    let stat = statat(&upper, ".", AtFlags::empty()).map_err(TreeError::at("stat", "."))?;
    let root = Entry::new(Path::new("."), upper.as_fd(), here, &stat);
    let attributes = Attributes::of(&stat, root.xattrs()?);
    attributes.give(layer.as_fd(), here).map_err(TreeError::at("set attributes of", "."))?;
    let made = layer.try_clone().map_err(TreeError::at("open directory", "."))?;
    let frame = Frame { lower: Some(lower), made: Some(made), attributes, name: here.to_owned() };
    let mut comparison = Comparison { layer, way: vec![frame], copied: HashMap::new() };
    comparison.hide_removed(&upper, Path::new(""))?;
    let mut walk = Walk::new(&upper)?;
    while let Some(event) = walk.next()? {
        match event {
            Event::Enter(entry) => comparison.enter(&entry)?,
            Event::Leave(entry) => comparison.leave(entry.path())?,
        }
    }
    comparison.leave(Path::new("."))
}

/// A comparison under way.
struct Comparison {
    /// The root of the layer that is filled.
    layer: OwnedFd,
    /// The directories from the root to where we are.
    way: Vec<Frame>,
    /// Files with several names that were copied, and their first name.
    copied: HashMap<(u64, u64), PathBuf>,
}

/// A directory of the upper tree.
struct Frame {
    /// The same directory of the lower tree, if it is one there.
    lower: Option<OwnedFd>,
    /// The same directory of the layer, if something had to be put there.
    made: Option<OwnedFd>,
    attributes: Attributes,
    name: OsString,
}

impl Comparison {
    fn enter(&mut self, entry: &Entry<'_>) -> Result<(), TreeError> {
        let below = self.below(entry)?;
        if entry.file_type() == FileType::Directory {
            return self.enter_directory(entry, below.as_ref());
        }
        if entry.file_type() == FileType::Socket {
            return Ok(());
        }
        if let (Some(stat), Some(frame)) = (&below, self.way.last())
            && let Some(lower) = &frame.lower
            && same(&Entry::new(entry.path(), lower.as_fd(), entry.name(), stat), entry)?
        {
            return Ok(());
        }
        self.copy(entry)
    }

    fn below(&self, entry: &Entry<'_>) -> Result<Option<Stat>, TreeError> {
        let lower = self.way.last().and_then(|frame| frame.lower.as_ref());
        let Some(lower) = lower else { return Ok(None) };
        match statat(lower, entry.name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(TreeError::at("stat", entry.path())(error)),
        }
    }

    fn enter_directory(
        &mut self,
        entry: &Entry<'_>,
        below: Option<&Stat>,
    ) -> Result<(), TreeError> {
        let failed = || TreeError::at("open directory", entry.path());
        let attributes = Attributes::of(entry.stat(), entry.xattrs()?);
        let was_directory = below.is_some_and(|stat| file_type(stat) == FileType::Directory);
        let lower = match self.way.last().and_then(|frame| frame.lower.as_ref()) {
            Some(lower) if was_directory => {
                Some(open_directory(lower.as_fd(), entry.name()).map_err(failed())?)
            }
            _ => None,
        };
        let unchanged = match (below, self.way.last().and_then(|frame| frame.lower.as_ref())) {
            (Some(stat), Some(parent)) if was_directory => {
                let before = Entry::new(entry.path(), parent.as_fd(), entry.name(), stat);
                same_attributes(&before, entry)?
            }
            _ => false,
        };
        let name = entry.name().to_owned();
        self.way.push(Frame { lower, made: None, attributes, name });
        if !unchanged {
            self.made(entry.path())?;
        }
        let upper = open_directory(entry.parent(), entry.name()).map_err(failed())?;
        self.hide_removed(&upper, entry.path())
    }

    /// Makes whiteouts of what the current directory had in the lower tree and has no more.
    fn hide_removed(&mut self, upper: &OwnedFd, path: &Path) -> Result<(), TreeError> {
        let lower = self.way.last().and_then(|frame| frame.lower.as_ref());
        let Some(lower) = lower else { return Ok(()) };
        let listed = |directory| names(directory).map_err(TreeError::at("list directory", path));
        let (before, now) = (listed(lower)?, listed(upper)?);
        for name in before {
            if now.binary_search(&name).is_err() {
                let directory = self.made(path)?;
                mknodat(directory, &name, FileType::CharacterDevice, Mode::empty(), 0)
                    .map_err(TreeError::at("make a whiteout of", path.join(&name)))?;
            }
        }
        Ok(())
    }

    fn copy(&mut self, entry: &Entry<'_>) -> Result<(), TreeError> {
        self.made(entry.path())?;
        let Some(Frame { made: Some(directory), .. }) = self.way.last() else { return Ok(()) };
        let identity = (entry.stat().st_dev, entry.stat().st_ino);
        if let Some(first) = self.copied.get(&identity) {
            let from = (self.layer.as_fd(), first.as_os_str());
            return node::link(from, directory.as_fd(), entry.name())
                .map_err(TreeError::at("link", entry.path()));
        }
        node::copy_node(entry, directory.as_fd(), entry.name())?;
        if entry.stat().st_nlink > 1 {
            self.copied.insert(identity, entry.path().to_path_buf());
        }
        Ok(())
    }

    /// Returns the current directory of the layer, and makes it and its parents if need be.
    fn made(&mut self, path: &Path) -> Result<BorrowedFd<'_>, TreeError> {
        for index in 1..self.way.len() {
            let (parents, rest) = self.way.split_at_mut(index);
            let (Some(Frame { made: Some(parent), .. }), [frame, ..]) = (parents.last(), rest)
            else {
                continue;
            };
            if frame.made.is_some() {
                continue;
            }
            let made = mkdirat(parent, &frame.name, Mode::RWXU)
                .and_then(|()| frame.attributes.give(parent.as_fd(), &frame.name))
                .and_then(|()| open_directory(parent.as_fd(), &frame.name))
                .map_err(TreeError::at("create directory", path))?;
            frame.made = Some(made);
        }
        let made = self.way.last().and_then(|frame| frame.made.as_ref());
        made.map(OwnedFd::as_fd)
            .ok_or_else(|| TreeError::at("create directory", path)(Errno::NOENT))
    }

    fn leave(&mut self, path: &Path) -> Result<(), TreeError> {
        match self.way.pop() {
            Some(Frame { made: Some(made), attributes, .. }) => attributes
                .give_times(made.as_fd(), OsStr::new("."))
                .map_err(TreeError::at("set the times of", path)),
            _ => Ok(()),
        }
    }
}

/// Returns true if two files that are no directories are the same.
fn same(before: &Entry<'_>, now: &Entry<'_>) -> Result<bool, TreeError> {
    if !same_attributes(before, now)? {
        return Ok(false);
    }
    if modified(before.stat()) != modified(now.stat())
        || before.stat().st_size != now.stat().st_size
    {
        return Ok(false);
    }
    match now.file_type() {
        FileType::Symlink => Ok(before.read_link()? == now.read_link()?),
        FileType::RegularFile if may_hide_a_change(now.stat()) => same_content(before, now),
        _ => Ok(true),
    }
}

/// Returns true if a file may have been changed without a change of its time: the time was rounded,
/// or the last change came so soon after it that the kernel's clock may not have moved on.
fn may_hide_a_change(stat: &Stat) -> bool {
    stat.st_mtime_nsec == 0 || stat.st_ctime - stat.st_mtime <= 1
}

fn same_attributes(before: &Entry<'_>, now: &Entry<'_>) -> Result<bool, TreeError> {
    let facts = |entry: &Entry<'_>| {
        let stat = entry.stat();
        let device = match entry.file_type() {
            FileType::CharacterDevice | FileType::BlockDevice => stat.st_rdev,
            _ => 0,
        };
        (stat.st_mode, stat.st_uid, stat.st_gid, device)
    };
    Ok(facts(before) == facts(now) && before.xattrs()? == now.xattrs()?)
}

fn same_content(before: &Entry<'_>, now: &Entry<'_>) -> Result<bool, TreeError> {
    if (before.stat().st_dev, before.stat().st_ino) == (now.stat().st_dev, now.stat().st_ino) {
        return Ok(true);
    }
    let (mut before, mut file) = (before.open()?, now.open()?);
    let failed = |error: io::Error| TreeError::at("read", now.path())(error);
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let count = fill(&mut before, &mut left).map_err(failed)?;
        if fill(&mut file, &mut right).map_err(failed)? != count || left[..count] != right[..count]
        {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
    }
}

fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
