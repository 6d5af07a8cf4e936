//! One place in the two trees of a copy.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, Stat};
use rustix::io::Errno;

use super::entry;
use super::target::stat_below;

/// What may be at a place in the target.
#[derive(Debug, Clone, Copy)]
pub(super) enum There<'a> {
    /// Nothing: its directory was just made.
    Nothing,
    /// It has to be looked at.
    Perhaps,
    /// As `Perhaps`, and what lies below the layer is in this directory.
    Beside(BorrowedFd<'a>),
}

/// A place in both trees.
pub(super) struct Place<'a> {
    pub(super) from: BorrowedFd<'a>,
    pub(super) from_name: &'a OsStr,
    pub(super) to: BorrowedFd<'a>,
    pub(super) to_name: &'a OsStr,
    /// Relative to what is copied; for patterns and messages.
    pub(super) path: &'a str,
    pub(super) there: There<'a>,
}

impl Place<'_> {
    /// Returns what is there.
    pub(super) fn look(&self) -> std::io::Result<Option<Stat>> {
        match self.there {
            There::Nothing => Ok(None),
            There::Perhaps => entry::stat_if_any(self.to, self.to_name),
            There::Beside(below) => match entry::stat_if_any(self.to, self.to_name)? {
                None => stat_below(below, self.to_name),
                found => Ok(found),
            },
        }
    }

    /// Makes sure that the layer has a directory which the tree has; returns the one below the layer.
    pub(super) fn descend(&self) -> std::io::Result<Option<OwnedFd>> {
        let There::Beside(below) = self.there else { return Ok(None) };
        let is_directory = |stat: &Stat| entry::kind(stat) == FileType::Directory;
        if !stat_below(below, self.to_name)?.is_some_and(|stat| is_directory(&stat)) {
            return Ok(None);
        }
        let below = entry::open_dir(below, self.to_name)?;
        match rustix::fs::mkdirat(self.to, self.to_name, Mode::from_raw_mode(0o700)) {
            // All else that it has is given to it after what is in it.
            Ok(()) => {
                let made = entry::open_dir(self.to, self.to_name)?;
                entry::copy_xattrs(below.as_fd(), made.as_fd())?;
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Some(below))
    }
}
