//! A fork and a head that has moved, put together: what both sides changed, the head keeps.
//!
//! The fork's layer is changed so that it can stand above the head's layers: whatever in it is in
//! conflict with the head is taken out. A path is in conflict if the head has something else there
//! than the version that the fork began with. What is in a directory is compared by itself, so two
//! sides that add files to one directory both get them.

use std::collections::HashSet;
use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Mode};

use super::Pace;
use super::entry::{self, Kind};
use super::view::{Found, View};

/// Makes the layer at `fork`, written over `base`, fit to stand over `head`. `alone` says that the
/// layer is a whole tree by itself, which stood over nothing.
pub(crate) fn unite(
    fork: &Path,
    base: &View,
    head: &View,
    alone: bool,
    pace: &mut Pace<'_>,
) -> io::Result<()> {
    let root = entry::open_root(fork)?;
    Union { pace }.directory(&root, base, head, alone)
}

struct Union<'a, 'p> {
    pace: &'a mut Pace<'p>,
}

impl Union<'_, '_> {
    /// Goes through a directory of the fork. `hides` says that it hid what was below it.
    fn directory(
        &mut self,
        fork: &OwnedFd,
        base: &View,
        head: &View,
        hides: bool,
    ) -> io::Result<()> {
        let names = entry::names(fork)?;
        if hides {
            self.spell_out_deletions(fork, &names.iter().cloned().collect(), base, head)?;
            entry::clear_opaque(fork)?;
        }
        for name in names {
            (self.pace)()?;
            let Some(stat) = entry::look(fork, &name)? else { continue };
            let (before, now) = (base.child(&name)?, head.child(&name)?);
            match entry::kind(&stat) {
                Kind::Whiteout => self.whiteout(fork, &name, base, before, head, now)?,
                Kind::Leaf => self.leaf(fork, &name, base, before, head, now)?,
                Kind::Directory => self.inner(fork, &name, base, before, head, now, hides)?,
            }
        }
        if let (Some(face), false) = (head.face(), base.has_face_of(head)?) {
            entry::copy_directory_attributes(face, fork)?;
        }
        Ok(())
    }

    /// Where the fork's directory hid everything below it, says so name by name, for those names that
    /// the head has not changed.
    fn spell_out_deletions(
        &mut self,
        fork: &OwnedFd,
        kept: &HashSet<std::ffi::CString>,
        base: &View,
        head: &View,
    ) -> io::Result<()> {
        for name in head.names()? {
            if kept.contains(&name) {
                continue;
            }
            (self.pace)()?;
            let (before, now) = (base.child(&name)?, head.child(&name)?);
            self.delete_unchanged(fork, &name, base, before, head, now)?;
        }
        Ok(())
    }

    /// Hides `name` in the fork's directory as far as the head has not changed it.
    fn delete_unchanged(
        &mut self,
        fork: &OwnedFd,
        name: &CStr,
        base: &View,
        before: Option<Found>,
        head: &View,
        now: Option<Found>,
    ) -> io::Result<()> {
        if !base.is_same_at(name, before.as_ref(), head, now.as_ref())? {
            return Ok(());
        }
        let (Some(Found::Directory(before)), Some(Found::Directory(now))) = (&before, &now) else {
            return if now.is_some() { entry::whiteout(fork, name) } else { Ok(()) };
        };
        if before.is_deeply(now)? {
            return entry::whiteout(fork, name);
        }
        rustix::fs::mkdirat(fork, name, Mode::RWXU)?;
        let directory = entry::open_directory(fork, name)?;
        self.spell_out_deletions(&directory, &HashSet::new(), before, now)?;
        now.face().map_or(Ok(()), |face| entry::copy_directory_attributes(face, &directory))
    }

    fn whiteout(
        &mut self,
        fork: &OwnedFd,
        name: &CStr,
        base: &View,
        before: Option<Found>,
        head: &View,
        now: Option<Found>,
    ) -> io::Result<()> {
        entry::remove(fork, name)?;
        self.delete_unchanged(fork, name, base, before, head, now)
    }

    fn leaf(
        &mut self,
        fork: &OwnedFd,
        name: &CStr,
        base: &View,
        before: Option<Found>,
        head: &View,
        now: Option<Found>,
    ) -> io::Result<()> {
        let unchanged = match (&before, &now) {
            // The fork put a file where a directory was: in conflict if anything in that changed.
            (Some(Found::Directory(before)), Some(Found::Directory(now))) => {
                before.is_deeply(now)?
            }
            _ => base.is_same_at(name, before.as_ref(), head, now.as_ref())?,
        };
        if unchanged { Ok(()) } else { entry::remove(fork, name) }
    }

    #[expect(clippy::too_many_arguments, reason = "one name seen from three trees")]
    fn inner(
        &mut self,
        fork: &OwnedFd,
        name: &CStr,
        base: &View,
        before: Option<Found>,
        head: &View,
        now: Option<Found>,
        hidden: bool,
    ) -> io::Result<()> {
        let directory = entry::open_directory(fork, name)?;
        let hides = hidden || entry::is_opaque(&directory)?;
        match (before, now) {
            (before, Some(Found::Directory(now))) => {
                let before = match before {
                    Some(Found::Directory(before)) => before,
                    Some(Found::Leaf { .. }) | None => View::nothing(),
                };
                self.directory(&directory, &before, &now, hides)
            }
            // The head removed the directory: what the fork added in it comes back, the rest stays away.
            (Some(Found::Directory(before)), None) => {
                self.directory(&directory, &before, &View::nothing(), hides)?;
                match rustix::fs::unlinkat(fork, name, AtFlags::REMOVEDIR) {
                    Ok(()) | Err(rustix::io::Errno::NOTEMPTY | rustix::io::Errno::EXIST) => Ok(()),
                    Err(error) => Err(error.into()),
                }
            }
            (None, None) => Ok(()),
            (before, now) => {
                if base.is_same_at(name, before.as_ref(), head, now.as_ref())? {
                    // The fork replaced a file that the head still has: nothing below may show.
                    entry::set_opaque(&directory)
                } else {
                    entry::remove(fork, name)
                }
            }
        }
    }
}
