//! The tree that a stack of layers amounts to, without mounting it.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::Stat;

use super::entry::{self, Kind};

/// A directory of the tree: the directories that make it up, topmost first.
#[derive(Debug)]
pub(crate) struct View(Vec<OwnedFd>);

/// What is at a name of a directory of the tree.
#[derive(Debug)]
pub(crate) enum Found {
    Directory(View),
    Leaf {
        /// Which of the directories that make up the view has it.
        layer: usize,
        stat: Stat,
    },
}

impl View {
    /// Opens the tree of some layers, topmost first; of none, the tree with nothing in it.
    pub(crate) fn open<P: AsRef<Path>>(layers: &[P]) -> io::Result<Self> {
        layers
            .iter()
            .map(|path| entry::open_root(path.as_ref()))
            .collect::<io::Result<_>>()
            .map(Self)
    }

    /// Returns a directory with nothing in it.
    pub(crate) const fn nothing() -> Self {
        Self(Vec::new())
    }

    /// Returns the directory whose owner, mode, times and attributes this one has.
    pub(crate) fn face(&self) -> Option<&OwnedFd> {
        self.0.first()
    }

    /// Returns one of the directories that make up this one.
    pub(crate) fn layer(&self, index: usize) -> &OwnedFd {
        &self.0[index]
    }

    /// Returns the names in this directory, in order.
    pub(crate) fn names(&self) -> io::Result<Vec<CString>> {
        let mut seen: BTreeMap<CString, bool> = BTreeMap::new();
        for directory in &self.0 {
            for name in entry::names(directory)? {
                if seen.contains_key(&name) {
                    continue;
                }
                let stat = entry::look(directory, &name)?;
                let shows = stat.is_some_and(|stat| entry::kind(&stat) != Kind::Whiteout);
                seen.insert(name, shows);
            }
        }
        Ok(seen.into_iter().filter(|(_, shows)| *shows).map(|(name, _)| name).collect())
    }

    /// Returns what is at `name`; none if nothing is.
    pub(crate) fn child(&self, name: &CStr) -> io::Result<Option<Found>> {
        let mut directories = Vec::new();
        for (layer, directory) in self.0.iter().enumerate() {
            let Some(stat) = entry::look(directory, name)? else { continue };
            match entry::kind(&stat) {
                Kind::Directory => {
                    let child = entry::open_directory(directory, name)?;
                    let opaque = entry::is_opaque(&child)?;
                    directories.push(child);
                    if opaque {
                        break;
                    }
                }
                Kind::Leaf if directories.is_empty() => {
                    return Ok(Some(Found::Leaf { layer, stat }));
                }
                Kind::Leaf | Kind::Whiteout => break,
            }
        }
        Ok((!directories.is_empty()).then_some(Found::Directory(Self(directories))))
    }

    /// Returns true if both directories and all below them are the same.
    pub(crate) fn is_deeply(&self, other: &Self) -> io::Result<bool> {
        if self.identity()? == other.identity()? {
            return Ok(true);
        }
        let names = self.names()?;
        if names != other.names()? || !self.has_face_of(other)? {
            return Ok(false);
        }
        for name in &names {
            let same = match (self.child(name)?, other.child(name)?) {
                (Some(Found::Directory(one)), Some(Found::Directory(two))) => {
                    one.is_deeply(&two)?
                }
                (one, two) => self.is_same_at(name, one.as_ref(), other, two.as_ref())?,
            };
            if !same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns true if what was found at `name` here and in `other` is the same. Of two directories,
    /// what is in them is not compared.
    pub(crate) fn is_same_at(
        &self,
        name: &CStr,
        here: Option<&Found>,
        other: &Self,
        there: Option<&Found>,
    ) -> io::Result<bool> {
        match (here, there) {
            (None, None) | (Some(Found::Directory(_)), Some(Found::Directory(_))) => Ok(true),
            (
                Some(Found::Leaf { layer: one, stat: a }),
                Some(Found::Leaf { layer: two, stat: b }),
            ) => {
                if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino) {
                    return Ok(true);
                }
                let facts = |s: &Stat| {
                    (
                        s.st_mode,
                        s.st_uid,
                        s.st_gid,
                        s.st_size,
                        s.st_mtime,
                        s.st_mtime_nsec,
                        s.st_rdev,
                    )
                };
                if facts(a) != facts(b) {
                    return Ok(false);
                }
                let target = |view: &Self, layer: usize| {
                    rustix::fs::readlinkat(view.layer(layer), name, Vec::new()).ok()
                };
                Ok(target(self, *one) == target(other, *two))
            }
            _ => Ok(false),
        }
    }

    /// Returns true if both directories have the same owner and mode.
    pub(crate) fn has_face_of(&self, other: &Self) -> io::Result<bool> {
        let face = |view: &Self| match view.face() {
            None => Ok(None),
            Some(directory) => rustix::fs::fstat(directory)
                .map(|stat| Some((stat.st_uid, stat.st_gid, stat.st_mode))),
        };
        Ok(face(self)? == face(other)?)
    }

    fn identity(&self) -> io::Result<Vec<(u64, u64)>> {
        let of = |directory| rustix::fs::fstat(directory).map(|stat| (stat.st_dev, stat.st_ino));
        Ok(self.0.iter().map(of).collect::<Result<_, _>>()?)
    }
}
