//! The layer that an archive is unpacked into: finds and makes the directories entries go to.
//!
//! Links that the archive itself made are followed, but never out of the layer: each component is
//! opened on its own, without following, and a link's target is resolved by the same rule from the
//! layer's root.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use mount::{GuestPath, HostPath, RootDir};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, chmodat, mkdirat, readlinkat, statat};
use rustix::io::Errno;

use crate::attributes::{self, Attributes};
use crate::node::{self, open_directory};
use crate::walk::{Entry, TreeError, file_type};

/// How many links one name may go through.
const LINKS: usize = 40;
/// The longest path, as the kernel has it.
const LONGEST_PATH: usize = 4095;

/// A layer being filled.
pub(super) struct Target<'b> {
    root: OwnedFd,
    /// The tree the layer will lie on.
    below: Option<&'b RootDir>,
    /// Directories, whose times are given when all is done.
    directories: BTreeMap<PathBuf, Attributes>,
    /// The directory that was asked for last: archives name neighbours in a row.
    last: Option<(PathBuf, Place)>,
}

/// A directory of the layer.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) directory: OwnedFd,
    /// Its path, without links.
    pub(super) path: PathBuf,
}

/// What to do where a directory is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absent {
    Make,
    Fail,
}

impl<'b> Target<'b> {
    pub(super) fn open(
        directory: &HostPath,
        below: Option<&'b RootDir>,
    ) -> Result<Self, TreeError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(directory.as_path(), flags, Mode::empty())
            .map_err(TreeError::at("open directory", directory.as_path()))?;
        if let Some(below) = below {
            node::copy_attributes(below.as_fd(), root.as_fd(), OsStr::new("."))?;
        }
        Ok(Self { root, below, directories: BTreeMap::new(), last: None })
    }

    /// Returns the layer's root.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Returns the tree below.
    pub(super) const fn below(&self) -> Option<&'b RootDir> {
        self.below
    }

    /// Returns the directory `path`, and makes what is missing on the way.
    pub(super) fn directory(&mut self, path: &Path) -> Result<&Place, TreeError> {
        let known = self.last.take().filter(|(last, _)| last == path);
        let place = match known {
            Some((_, place)) => place,
            None => self.resolve(path, Absent::Make)?,
        };
        Ok(&self.last.insert((path.to_path_buf(), place)).1)
    }

    /// Returns the directory `path` if it is there.
    pub(super) fn existing(&mut self, path: &Path) -> Result<Option<Place>, TreeError> {
        match self.resolve(path, Absent::Fail) {
            Ok(place) => Ok(Some(place)),
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Remembers the attributes of a directory, so that it gets its times when all is done.
    pub(super) fn remember(&mut self, path: PathBuf, attributes: Attributes) {
        self.directories.insert(path, attributes);
    }

    /// Forgets what is known of the paths at and below `path`: something there was removed.
    pub(super) fn forget(&mut self, path: &Path) {
        self.last = None;
        self.directories.retain(|known, _| !known.starts_with(path));
    }

    /// Gives all directories their times.
    pub(super) fn finish(mut self) -> Result<(), TreeError> {
        self.last = None;
        let directories = std::mem::take(&mut self.directories);
        for (path, attributes) in directories {
            let Some(place) = self.existing(&path)? else { continue };
            attributes
                .give_times(place.directory.as_fd(), OsStr::new("."))
                .map_err(TreeError::at("set the times of", path))?;
        }
        Ok(())
    }

    fn resolve(&mut self, path: &Path, absent: Absent) -> Result<Place, TreeError> {
        let failed = |error: Errno| TreeError::at("open directory", path)(error);
        let mut way = Way::start(&self.root, path).map_err(failed)?;
        while let Some(name) = way.next_name() {
            match way.enter(&name) {
                Ok(()) => {}
                Err(Errno::NOENT) if absent == Absent::Make => {
                    let place = self.make(way.here(), &name, Over::Nothing)?;
                    way.done.push(place);
                }
                Err(Errno::NOTDIR | Errno::LOOP) => match way.obstacle(&name).map_err(failed)? {
                    Obstacle::Link(target) => way.follow(&target).map_err(failed)?,
                    Obstacle::Whiteout if absent == Absent::Make => {
                        let place = self.make(way.here(), &name, Over::Whiteout)?;
                        way.done.push(place);
                    }
                    Obstacle::Whiteout => return Err(failed(Errno::NOENT)),
                    Obstacle::Other => return Err(failed(Errno::NOTDIR)),
                },
                Err(error) => return Err(failed(error)),
            }
        }
        // The way always has the root.
        way.done.pop().ok_or_else(|| failed(Errno::NOENT))
    }

    /// Makes a directory that the archive implies.
    fn make(&mut self, parent: &Place, name: &OsStr, over: Over) -> Result<Place, TreeError> {
        let path = parent.path.join(name);
        let directory = parent.directory.as_fd();
        if over == Over::Whiteout {
            node::remove(directory, name, &path)?;
        }
        let below = match self.below {
            Some(below) if over == Over::Nothing => attributes_below(below, &path)?,
            _ => None,
        };
        mkdirat(directory, name, Mode::from_raw_mode(0o755))
            .and_then(|()| match &below {
                Some(attributes) => attributes.give(directory, name),
                None => chmodat(directory, name, Mode::from_raw_mode(0o755), AtFlags::empty()),
            })
            .and_then(|()| match over {
                Over::Whiteout => attributes::set_opaque(directory, name),
                Over::Nothing => Ok(()),
            })
            .map_err(TreeError::at("create directory", &path))?;
        let opened =
            open_directory(directory, name).map_err(TreeError::at("open directory", &path))?;
        if let Some(attributes) = below {
            self.directories.insert(path.clone(), attributes);
        }
        Ok(Place { directory: opened, path })
    }
}

/// What a new directory takes the place of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Nothing,
    Whiteout,
}

/// What is in the way of entering a directory.
enum Obstacle {
    Link(PathBuf),
    Whiteout,
    Other,
}

/// How far a path is resolved.
struct Way {
    /// The directories from the root to where we are, for a link that climbs; never empty.
    done: Vec<Place>,
    /// What is left; none is a step up.
    left: VecDeque<Option<OsString>>,
    links: usize,
}

impl Way {
    fn start(root: &OwnedFd, path: &Path) -> Result<Self, Errno> {
        if path.as_os_str().len() > LONGEST_PATH {
            return Err(Errno::NAMETOOLONG);
        }
        let directory = open_directory(root.as_fd(), OsStr::new("."))?;
        let done = vec![Place { directory, path: PathBuf::new() }];
        Ok(Self { done, left: components(path), links: 0 })
    }

    fn here(&self) -> &Place {
        &self.done[self.done.len() - 1]
    }

    fn next_name(&mut self) -> Option<OsString> {
        loop {
            match self.left.pop_front()? {
                Some(name) => return Some(name),
                // Above the root is the root.
                None => self.done.truncate((self.done.len() - 1).max(1)),
            }
        }
    }

    fn enter(&mut self, name: &OsStr) -> Result<(), Errno> {
        let here = self.here();
        let directory = open_directory(here.directory.as_fd(), name)?;
        let path = here.path.join(name);
        self.done.push(Place { directory, path });
        Ok(())
    }

    fn obstacle(&self, name: &OsStr) -> Result<Obstacle, Errno> {
        let here = &self.here().directory;
        let stat = statat(here, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(match file_type(&stat) {
            FileType::Symlink => {
                let target = readlinkat(here, name, Vec::new())?;
                Obstacle::Link(OsString::from_vec(target.into_bytes()).into())
            }
            FileType::CharacterDevice if stat.st_rdev == 0 => Obstacle::Whiteout,
            _ => Obstacle::Other,
        })
    }

    fn follow(&mut self, target: &Path) -> Result<(), Errno> {
        self.links += 1;
        if self.links > LINKS {
            return Err(Errno::LOOP);
        }
        if target.is_absolute() {
            self.done.truncate(1);
        }
        let mut left = components(target);
        left.append(&mut self.left);
        self.left = left;
        Ok(())
    }
}

fn components(path: &Path) -> VecDeque<Option<OsString>> {
    let component = |component: Component<'_>| match component {
        Component::Normal(name) => Some(Some(name.to_owned())),
        Component::ParentDir => Some(None),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(component).collect()
}

/// Returns the attributes of the directory `path` of the tree below; none if there is no such.
fn attributes_below(below: &RootDir, path: &Path) -> Result<Option<Attributes>, TreeError> {
    let Some(found) = Below::find(below, path)? else { return Ok(None) };
    if found.entry().file_type() != FileType::Directory {
        return Ok(None);
    }
    let entry = found.entry();
    Ok(Some(Attributes::of(entry.stat(), entry.xattrs()?)))
}

/// A file of the tree below.
pub(super) struct Below {
    parent: OwnedFd,
    path: PathBuf,
    name: OsString,
    stat: Stat,
}

impl Below {
    /// Finds what is at `path`, whose last component is not followed; none if nothing is.
    pub(super) fn find(below: &RootDir, path: &Path) -> Result<Option<Self>, TreeError> {
        let failed = |error: std::io::Error| TreeError::at("look below for", path)(error);
        let guest = GuestPath::new(path).map_err(|error| failed(std::io::Error::other(error)))?;
        let found = below.parent_of(&guest).and_then(|found| {
            let Some((parent, name)) = found else { return Ok(None) };
            let stat = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(Some(Self { parent, path: path.to_path_buf(), name: name.to_owned(), stat }))
        });
        match found {
            Ok(found) => Ok(found),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
                _ => Err(failed(error)),
            },
        }
    }

    pub(super) fn entry(&self) -> Entry<'_> {
        Entry::new(&self.path, self.parent.as_fd(), &self.name, &self.stat)
    }
}
