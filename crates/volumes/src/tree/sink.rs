//! A layer put into the one below it, in place.
//!
//! At every instant of the work, and however often it is begun again, the stack of the two amounts to
//! the same tree: what is put into the lower layer is what the upper one shows there anyway, and what
//! is taken out of it is what the upper one hides. So it can be stopped anywhere, and a crash in the
//! middle changes nothing.

use std::collections::HashSet;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, RenameFlags, Stat};

use super::Pace;
use super::entry::{self, Kind};
use super::transfer::{copy_leaf, link};

/// Attributes by which other overlay features keep part of a layer elsewhere: such layers are left
/// as they are.
const ELSEWHERE: [&str; 4] = [
    "trusted.overlay.redirect",
    "trusted.overlay.metacopy",
    "user.overlay.redirect",
    "user.overlay.metacopy",
];

/// What is below the lower layer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Below<'a> {
    /// Nothing: what hides something there need not be kept.
    Nothing,
    /// Further layers; with an empty directory beside the lower layer's tree to build things in.
    Layers(&'a Path),
}

/// Puts the layer at `upper` into the layer at `lower`.
pub(crate) fn sink(
    upper: &Path,
    lower: &Path,
    below: Below<'_>,
    pace: &mut Pace<'_>,
) -> io::Result<()> {
    let (upper, lower) = (entry::open_root(upper)?, entry::open_root(lower)?);
    let scratch = match below {
        Below::Nothing => None,
        Below::Layers(path) => Some(entry::open_root(path)?),
    };
    sink_directory(&upper, &lower, false, scratch.as_ref(), pace)
}

/// `hides` says that the upper directory shows nothing of the lower one, whatever is in it.
fn sink_directory(
    upper: &OwnedFd,
    lower: &OwnedFd,
    hides: bool,
    scratch: Option<&OwnedFd>,
    pace: &mut Pace<'_>,
) -> io::Result<()> {
    let names = entry::names(upper)?;
    if hides {
        let kept: HashSet<_> = names.iter().collect();
        for hidden in entry::names(lower)? {
            if !kept.contains(&hidden) {
                entry::remove(lower, &hidden)?;
            }
        }
    }
    for name in names {
        pace()?;
        let Some(stat) = entry::look(upper, &name)? else { continue };
        let below = entry::look(lower, &name)?;
        match entry::kind(&stat) {
            Kind::Whiteout => sink_whiteout(lower, &name, below.as_ref(), scratch.is_none())?,
            Kind::Leaf => sink_leaf(upper, lower, &name, &stat, below.as_ref())?,
            Kind::Directory => {
                let inner = entry::open_directory(upper, &name)?;
                let target = make_directory(&inner, lower, &name, below.as_ref(), scratch)?;
                // A directory below an opaque one is not marked, and hides no less.
                let hides = hides || entry::is_opaque(&inner)?;
                sink_directory(&inner, &target, hides, scratch, pace)?;
            }
        }
    }
    entry::copy_directory_attributes(upper, lower)
}

fn sink_whiteout(
    lower: &OwnedFd,
    name: &CStr,
    below: Option<&Stat>,
    bottom: bool,
) -> io::Result<()> {
    if below.is_some_and(|below| !bottom && entry::kind(below) == Kind::Whiteout) {
        return Ok(());
    }
    entry::remove(lower, name)?;
    if bottom { Ok(()) } else { entry::whiteout(lower, name) }
}

fn sink_leaf(
    upper: &OwnedFd,
    lower: &OwnedFd,
    name: &CStr,
    stat: &Stat,
    below: Option<&Stat>,
) -> io::Result<()> {
    refuse_elsewhere(&entry::through(upper).join(entry::os(name)))?;
    if below.is_some_and(|below| (below.st_dev, below.st_ino) == (stat.st_dev, stat.st_ino)) {
        return Ok(());
    }
    if below.is_some() {
        entry::remove(lower, name)?;
    }
    if link(upper.as_fd(), name, lower.as_fd(), name)? {
        return Ok(());
    }
    copy_leaf(upper.as_fd(), name, stat, lower.as_fd())
}

/// Makes sure that `lower` has a directory at `name` that hides below itself what `inner` hides.
fn make_directory(
    inner: &OwnedFd,
    lower: &OwnedFd,
    name: &CStr,
    below: Option<&Stat>,
    scratch: Option<&OwnedFd>,
) -> io::Result<OwnedFd> {
    refuse_elsewhere(&entry::through(inner))?;
    let opaque = entry::is_opaque(inner)?;
    match (below.map(entry::kind), scratch) {
        (Some(Kind::Directory), _) => {}
        // A file or a whiteout hides what is further below, and so must the directory in its place,
        // from the first instant.
        (Some(Kind::Leaf | Kind::Whiteout), Some(scratch)) => {
            entry::remove(scratch, c"opaque")?;
            rustix::fs::mkdirat(scratch, c"opaque", Mode::RWXU)?;
            entry::set_opaque(entry::open_directory(scratch, c"opaque")?)?;
            let flags = RenameFlags::EXCHANGE;
            rustix::fs::renameat_with(scratch, c"opaque", lower, name, flags)?;
            entry::remove(scratch, c"opaque")?;
        }
        (Some(Kind::Leaf | Kind::Whiteout), None) => {
            entry::remove(lower, name)?;
            rustix::fs::mkdirat(lower, name, Mode::RWXU)?;
        }
        (None, _) => rustix::fs::mkdirat(lower, name, Mode::RWXU)?,
    }
    let directory = entry::open_directory(lower, name)?;
    if opaque && scratch.is_some() {
        entry::set_opaque(&directory)?;
    }
    Ok(directory)
}

fn refuse_elsewhere(path: &Path) -> io::Result<()> {
    for name in ELSEWHERE {
        let mut value = [0; 0];
        if rustix::fs::lgetxattr(path, name, &mut value[..]).is_ok_and(|size| size > 0) {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("a layer has the attribute `{name}`"),
            ));
        }
    }
    Ok(())
}
