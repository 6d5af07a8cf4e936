//! What one side changed in a tree, done to a fork of what the other side made of it.
//!
//! The rule is that of [`super::unite`], for trees that are whole: what both sides changed, the head
//! keeps. The target begins as a snapshot of the head. What the fork has not touched since it was a
//! snapshot of the base is known by its number and times, which a snapshot keeps.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, Stat};
use rustix::io::Errno;

use super::Pace;
use super::entry;
use super::transfer::Copies;
use super::view::{Found, View};

/// Does to the tree at `target`, which is as `head` is, what was done to `base` to make it `fork`.
/// Returns true if anything was done.
pub(crate) fn graft(
    fork: &View,
    base: &View,
    head: &View,
    target: &Path,
    pace: &mut Pace<'_>,
) -> io::Result<bool> {
    let root = entry::open_root(target)?;
    let mut work = Graft { copies: Copies::new(&root), pace, changed: false, path: PathBuf::new() };
    work.directory(Sides { fork, base, head }, &root)?;
    Ok(work.changed)
}

struct Graft<'a, 'p> {
    copies: Copies<'a>,
    pace: &'a mut Pace<'p>,
    changed: bool,
    /// Where we are, below the root of the target.
    path: PathBuf,
}

/// A directory seen from three trees; where it is not, nothing is in it.
#[derive(Clone, Copy)]
struct Sides<'a> {
    fork: &'a View,
    base: &'a View,
    head: &'a View,
}

impl Graft<'_, '_> {
    fn directory(&mut self, sides: Sides<'_>, target: &OwnedFd) -> io::Result<()> {
        let Sides { fork, base, head } = sides;
        let names: BTreeSet<_> = fork.names()?.into_iter().chain(base.names()?).collect();
        for name in names {
            (self.pace)()?;
            self.path.push(entry::os(&name));
            self.entry(sides, &name, target)?;
            self.path.pop();
        }
        let ours = fork.face().filter(|_| base.face().is_some());
        if let (Some(face), true) = (ours, base.has_face_of(head)?)
            && !fork.has_face_of(base)?
        {
            entry::copy_directory_attributes(face, target)?;
            self.changed = true;
        }
        Ok(())
    }

    fn entry(&mut self, sides: Sides<'_>, name: &CStr, target: &OwnedFd) -> io::Result<()> {
        let Sides { fork, base, head } = sides;
        let (ours, before, now) = (fork.child(name)?, base.child(name)?, head.child(name)?);
        match (ours, before, now) {
            (Some(Found::Leaf { stat, .. }), Some(Found::Leaf { stat: was, .. }), _)
                if is_untouched(&stat, &was) =>
            {
                Ok(())
            }
            (Some(Found::Directory(ours)), before, Some(Found::Directory(now))) => {
                let before = directory(before);
                let inner = entry::open_directory(target, name)?;
                self.directory(Sides { fork: &ours, base: &before, head: &now }, &inner)
            }
            (None, Some(Found::Directory(before)), Some(Found::Directory(now))) => {
                if before.is_deeply(&now)? {
                    return self.take_away(target, name);
                }
                let (nothing, inner) = (View::nothing(), entry::open_directory(target, name)?);
                self.directory(Sides { fork: &nothing, base: &before, head: &now }, &inner)
            }
            // The head removed the directory: what the fork added in it comes back.
            (Some(Found::Directory(ours)), Some(Found::Directory(before)), None) => {
                self.bring_back(&ours, &before, name, target)
            }
            (ours, before, now) => {
                let same = match (&before, &now) {
                    (Some(Found::Directory(before)), Some(Found::Directory(now))) => {
                        before.is_deeply(now)?
                    }
                    _ => base.is_same_at(name, before.as_ref(), head, now.as_ref())?,
                };
                if same { self.put(fork, ours, name, target) } else { Ok(()) }
            }
        }
    }

    /// Puts what the fork has in the place of what is there.
    fn put(
        &mut self,
        fork: &View,
        ours: Option<Found>,
        name: &CStr,
        target: &OwnedFd,
    ) -> io::Result<()> {
        self.take_away(target, name)?;
        match ours {
            None => Ok(()),
            Some(Found::Leaf { layer, stat }) => {
                self.copies.leaf(fork.layer(layer), name, &stat, target, &self.path)
            }
            Some(Found::Directory(ours)) => {
                rustix::fs::mkdirat(target, name, Mode::RWXU)?;
                let inner = entry::open_directory(target, name)?;
                let nothing = View::nothing();
                self.directory(Sides { fork: &ours, base: &nothing, head: &nothing }, &inner)?;
                self.face_of(&ours, &inner)
            }
        }
    }

    fn bring_back(
        &mut self,
        ours: &View,
        before: &View,
        name: &CStr,
        target: &OwnedFd,
    ) -> io::Result<()> {
        rustix::fs::mkdirat(target, name, Mode::RWXU)?;
        let inner = entry::open_directory(target, name)?;
        let nothing = View::nothing();
        self.directory(Sides { fork: ours, base: before, head: &nothing }, &inner)?;
        match rustix::fs::unlinkat(target, name, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => self.face_of(ours, &inner),
            Err(error) => Err(error.into()),
        }
    }

    fn face_of(&mut self, ours: &View, made: &OwnedFd) -> io::Result<()> {
        self.changed = true;
        ours.face().map_or(Ok(()), |face| entry::copy_directory_attributes(face, made))
    }

    fn take_away(&mut self, target: &OwnedFd, name: &CStr) -> io::Result<()> {
        self.changed = true;
        entry::remove(target, name)
    }
}

fn directory(found: Option<Found>) -> View {
    match found {
        Some(Found::Directory(view)) => view,
        Some(Found::Leaf { .. }) | None => View::nothing(),
    }
}

/// Returns true if a file of a snapshot is as it was when the snapshot was made.
fn is_untouched(ours: &Stat, before: &Stat) -> bool {
    let facts = |stat: &Stat| {
        let times = (stat.st_ctime, stat.st_ctime_nsec, stat.st_mtime, stat.st_mtime_nsec);
        (stat.st_ino, stat.st_mode, stat.st_size, times)
    };
    facts(ours) == facts(before)
}
