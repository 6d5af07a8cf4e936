//! A careful walk over a tree, by descriptors.
//!
//! Entries come in the order of their names' bytes, each directory before what is in it and once more
//! after. No link is followed, no path is resolved twice, and a tree of any depth takes a bounded
//! number of descriptors. All of it blocks.

use std::collections::{HashMap, hash_map};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Stat, fstat, openat, statat};
use rustix::io::Errno;

use crate::attributes;
pub use crate::attributes::Xattrs;
use crate::node::open_directory;

/// How many directories are held open at once.
const HELD: usize = 64;

/// Why a file of a tree could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{action} `{}`", path.display())]
pub struct TreeError {
    /// What was attempted.
    pub action: &'static str,
    /// The file, relative to the tree's root.
    pub path: PathBuf,
    /// The kernel's answer.
    #[source]
    pub source: io::Error,
}

impl TreeError {
    /// Returns a function that turns the kernel's answer into an error about `path`.
    pub fn at<E: Into<io::Error>>(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |source| Self { action, path, source: source.into() }
    }
}

/// A walk over the tree below a directory. The directory itself is not an entry of it.
#[derive(Debug)]
pub struct Walk {
    frames: Vec<Frame>,
    path: PathBuf,
    state: State,
}

/// What the walk met.
#[derive(Debug)]
pub enum Event<'w> {
    /// An entry; if it is a directory, what is in it comes next.
    Enter(Entry<'w>),
    /// A directory again, after all that is in it.
    Leave(Entry<'w>),
}

/// One entry of a directory.
#[derive(Debug)]
pub struct Entry<'w> {
    path: &'w Path,
    parent: BorrowedFd<'w>,
    name: &'w OsStr,
    stat: &'w Stat,
}

/// A directory on the way to the current entry.
#[derive(Debug)]
struct Frame {
    /// None while it is closed to save descriptors.
    directory: Option<OwnedFd>,
    /// Its device and inode, to know it again.
    identity: (u64, u64),
    names: std::vec::IntoIter<OsString>,
    /// The entry that was met last.
    current: Option<(OsString, Stat)>,
}

/// Where [`Walk::path`] points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the directory of the last frame.
    Inside,
    /// At an entry of it.
    At,
    /// At an entry of it that is a directory to be looked into.
    Descend,
}

impl Walk {
    /// Starts a walk below `root`.
    ///
    /// # Errors
    /// Returns an error if `root` cannot be listed.
    pub fn new(root: impl AsFd) -> Result<Self, TreeError> {
        let frame = Frame::open(root.as_fd(), OsStr::new("."))
            .map_err(TreeError::at("list directory", "."))?;
        Ok(Self { frames: vec![frame], path: PathBuf::new(), state: State::Inside })
    }

    /// Returns what comes next; none at the end.
    ///
    /// # Errors
    /// Returns an error if an entry cannot be looked at. What vanished since its directory was listed
    /// is left out.
    #[expect(clippy::should_implement_trait, reason = "an event borrows from the walk")]
    pub fn next(&mut self) -> Result<Option<Event<'_>>, TreeError> {
        if self.state == State::Descend {
            self.descend()?;
        } else if self.state == State::At {
            self.path.pop();
        }
        self.state = State::Inside;
        while let Some(frame) = self.frames.last_mut() {
            let Some(name) = frame.names.next() else {
                if self.frames.len() == 1 {
                    self.frames.clear();
                    return Ok(None);
                }
                self.ascend()?;
                return Ok(Some(Event::Leave(self.current()?)));
            };
            self.path.push(&name);
            match statat(frame.held(&self.path)?, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => {
                    let descend = file_type(&stat) == FileType::Directory;
                    self.state = if descend { State::Descend } else { State::At };
                    frame.current = Some((name, stat));
                    return Ok(Some(Event::Enter(self.current()?)));
                }
                Err(Errno::NOENT) => {
                    self.path.pop();
                }
                Err(error) => return Err(TreeError::at("stat", &self.path)(error)),
            }
        }
        Ok(None)
    }

    /// Does not look into the directory that was entered last; it is not left either.
    pub fn skip(&mut self) {
        if self.state == State::Descend {
            self.state = State::At;
        }
    }

    fn current(&self) -> Result<Entry<'_>, TreeError> {
        let frame = self.frames.last();
        let (Some(frame), Some((name, stat))) = (frame, frame.and_then(|f| f.current.as_ref()))
        else {
            return Err(TreeError::at("look at", &self.path)(Errno::NOENT));
        };
        Ok(Entry { path: &self.path, parent: frame.held(&self.path)?, name, stat })
    }

    fn descend(&mut self) -> Result<(), TreeError> {
        let Entry { parent, name, .. } = self.current()?;
        let frame =
            Frame::open(parent, name).map_err(TreeError::at("list directory", &self.path))?;
        self.frames.push(frame);
        if let Some(far) = self.frames.len().checked_sub(HELD + 1) {
            self.frames[far].directory = None;
        }
        Ok(())
    }

    fn ascend(&mut self) -> Result<(), TreeError> {
        let left = self.frames.pop();
        self.state = State::At;
        let (Some(left), Some(frame)) = (left, self.frames.last_mut()) else { return Ok(()) };
        if frame.directory.is_none() {
            let parent = left.held(&self.path)?;
            let reopened = open_directory(parent, OsStr::new(".."))
                .and_then(|directory| {
                    let moved = identity(&fstat(&directory)?) != frame.identity;
                    if moved { Err(Errno::STALE) } else { Ok(directory) }
                })
                .map_err(TreeError::at("return from directory", &self.path))?;
            frame.directory = Some(reopened);
        }
        Ok(())
    }
}

impl Frame {
    fn open(parent: BorrowedFd<'_>, name: &OsStr) -> Result<Self, Errno> {
        let directory = open_directory(parent, name)?;
        let identity = identity(&fstat(&directory)?);
        let names = names(&directory)?.into_iter();
        Ok(Self { directory: Some(directory), identity, names, current: None })
    }

    fn held(&self, path: &Path) -> Result<BorrowedFd<'_>, TreeError> {
        let directory = self.directory.as_ref().map(AsFd::as_fd);
        directory.ok_or_else(|| TreeError::at("return to directory", path)(Errno::BADF))
    }
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Returns the type of what `stat` describes.
pub fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Returns the names in a directory, in the order of their bytes.
pub(crate) fn names(directory: &OwnedFd) -> Result<Vec<OsString>, Errno> {
    let mut names = Vec::new();
    let mut buffer = Vec::with_capacity(1 << 15);
    let mut listing = RawDir::new(directory, buffer.spare_capacity_mut());
    while let Some(entry) = listing.next() {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    names.sort_unstable();
    Ok(names)
}

impl<'w> Entry<'w> {
    /// Takes a file that was found without a walk.
    pub(crate) const fn new(
        path: &'w Path,
        parent: BorrowedFd<'w>,
        name: &'w OsStr,
        stat: &'w Stat,
    ) -> Self {
        Self { path, parent, name, stat }
    }

    /// Returns the path from the root of the walk.
    pub fn path(&self) -> &Path {
        self.path
    }

    /// Returns the directory the entry is in.
    pub fn parent(&self) -> BorrowedFd<'_> {
        self.parent
    }

    /// Returns the entry's name in its directory.
    pub fn name(&self) -> &OsStr {
        self.name
    }

    /// Returns what the entry is, as it was when the walk met it.
    pub fn stat(&self) -> &Stat {
        self.stat
    }

    /// Returns the type of the entry.
    pub fn file_type(&self) -> FileType {
        file_type(self.stat)
    }

    /// Returns true for the mark of a deleted file in a layer: a character device 0:0.
    pub fn is_whiteout(&self) -> bool {
        self.file_type() == FileType::CharacterDevice && self.stat.st_rdev == 0
    }

    /// Returns true for a directory of a layer that hides what is below it.
    ///
    /// # Errors
    /// Returns an error if its attributes cannot be read.
    pub fn is_opaque(&self) -> Result<bool, TreeError> {
        if self.file_type() != FileType::Directory {
            return Ok(false);
        }
        attributes::is_opaque(self.parent, self.name)
            .map_err(TreeError::at("read attributes of", self.path))
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// Returns an error if it cannot be opened.
    pub fn open(&self) -> Result<File, TreeError> {
        // NONBLOCK, so that a pipe that took the file's place does not hang us.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        openat(self.parent, self.name, flags, Mode::empty())
            .map(File::from)
            .map_err(TreeError::at("open", self.path))
    }

    /// Returns where a symbolic link points.
    ///
    /// # Errors
    /// Returns an error if it cannot be read.
    pub fn read_link(&self) -> Result<OsString, TreeError> {
        rustix::fs::readlinkat(self.parent, self.name, Vec::new())
            .map(|target| OsString::from_vec(target.into_bytes()))
            .map_err(TreeError::at("read link", self.path))
    }

    /// Returns the extended attributes, sorted by name, without the marks of an overlay.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    pub fn xattrs(&self) -> Result<Xattrs, TreeError> {
        attributes::xattrs(self.parent, self.name)
            .map_err(TreeError::at("read attributes of", self.path))
    }
}

/// Knows the files with several names that a walk has met.
#[derive(Debug, Default)]
pub struct HardLinks(HashMap<(u64, u64), PathBuf>);

impl HardLinks {
    /// Returns the name under which this file was met before; none if it is the first time, or has
    /// only one name.
    pub fn first(&mut self, entry: &Entry<'_>) -> Option<&Path> {
        if entry.stat.st_nlink < 2 || entry.file_type() == FileType::Directory {
            return None;
        }
        match self.0.entry(identity(entry.stat)) {
            hash_map::Entry::Occupied(first) => Some(first.into_mut()),
            hash_map::Entry::Vacant(unknown) => {
                unknown.insert(entry.path.to_path_buf());
                None
            }
        }
    }
}
