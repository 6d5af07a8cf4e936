//! How much disk trees take: what `du` says.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::Stat;
use rustix::io::Errno;

use super::entry::{self, Kind};
use crate::Space;

/// How what several trees have alike is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Twins {
    /// Each by itself.
    Apart,
    /// Once: of two snapshots, what is in both and was changed in neither has the same number and the
    /// same times, and takes its space once. `du` does not know that and counts it twice.
    Shared,
}

/// Returns what some trees take together, their roots included. A file with several names counts once.
///
/// They may be in use; what goes away meanwhile is not counted.
pub(crate) fn measure<P: AsRef<Path>>(paths: &[P], twins: Twins) -> io::Result<Space> {
    let mut meter = Meter { twins, space: Space::default(), counted: HashSet::new() };
    for path in paths {
        let root = entry::open_root(path.as_ref())?;
        meter.count(&rustix::fs::fstat(&root)?);
        meter.descend(root)?;
    }
    Ok(meter.space)
}

struct Meter {
    twins: Twins,
    space: Space,
    counted: HashSet<Identity>,
}

/// What tells that it is the same file that is met again.
#[derive(PartialEq, Eq, Hash)]
enum Identity {
    Name { device: u64, number: u64 },
    Twin { number: u64, size: i64, changed: (i64, u64), modified: (i64, u64) },
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
        let identity = match self.twins {
            Twins::Shared => Some(Identity::Twin {
                number: stat.st_ino,
                size: stat.st_size,
                changed: (stat.st_ctime, stat.st_ctime_nsec),
                modified: (stat.st_mtime, stat.st_mtime_nsec),
            }),
            Twins::Apart if several => {
                Some(Identity::Name { device: stat.st_dev, number: stat.st_ino })
            }
            Twins::Apart => None,
        };
        if identity.is_some_and(|identity| !self.counted.insert(identity)) {
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
