//! How much disk a tree takes: what `du` says.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::Stat;
use rustix::io::Errno;

use super::entry::{self, Kind};
use crate::Space;

/// Returns what the tree at `path` takes, its root included. A file with several names counts once.
///
/// The tree may be in use; what goes away meanwhile is not counted.
pub(crate) fn measure(path: &Path) -> io::Result<Space> {
    measure_all(&[path])
}

/// Returns what some trees take together; see [`measure`].
pub(crate) fn measure_all<P: AsRef<Path>>(paths: &[P]) -> io::Result<Space> {
    let mut meter = Meter::default();
    for path in paths {
        let root = entry::open_root(path.as_ref())?;
        meter.count(&rustix::fs::fstat(&root)?);
        meter.descend(root)?;
    }
    Ok(meter.space)
}

#[derive(Default)]
struct Meter {
    space: Space,
    linked: HashSet<(u64, u64)>,
}

impl Meter {
    fn descend(&mut self, directory: OwnedFd) -> io::Result<()> {
        for name in entry::names(&directory)? {
            let Some(stat) = entry::look(directory.as_fd(), &name)? else { continue };
            self.count(&stat);
            if entry::kind(&stat) != Kind::Directory {
                continue;
            }
            match entry::open_directory(&directory, &name) {
                Ok(inner) => self.descend(inner)?,
                Err(error) if gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn count(&mut self, stat: &Stat) {
        let several = stat.st_nlink > 1 && entry::kind(stat) != Kind::Directory;
        if several && !self.linked.insert((stat.st_dev, stat.st_ino)) {
            return;
        }
        let bytes = u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        self.space = self.space + Space { bytes, inodes: 1 };
    }
}

/// A directory that was removed or replaced between the listing and the opening.
fn gone(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].iter().any(|e| number == Some(e.raw_os_error()))
}
