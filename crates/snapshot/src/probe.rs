//! Which way of showing stacks works here.

use std::error::Error;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use mount::{HostPath, Mount, MountSource, OverlayUpper, Syncing};
use rustix::fs::{AtFlags, Mode, mkdirat, unlinkat};

/// A way of showing stacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Driver {
    /// [`OverlaySnapshotter`](crate::OverlaySnapshotter).
    Overlay,
    /// [`CopySnapshotter`](crate::CopySnapshotter), because an overlay does not work.
    Copy {
        /// Why not.
        reason: String,
    },
}

/// Tries to mount an overlay on the file system of `root`, an existing directory, and to delete
/// through it; blocking. Leaves nothing behind.
pub fn probe(root: &HostPath) -> Driver {
    match try_overlay(root) {
        Ok(()) => Driver::Overlay,
        Err(error) => {
            let mut reason = error.to_string();
            let mut cause = error.source();
            while let Some(next) = cause {
                reason = format!("{reason}: {next}");
                cause = next.source();
            }
            Driver::Copy { reason }
        }
    }
}

fn try_overlay(root: &HostPath) -> Result<(), Box<dyn Error>> {
    let place = tempfile::Builder::new().prefix(".probe-").tempdir_in(root)?;
    let directory = |name: &str| -> Result<HostPath, Box<dyn Error>> {
        let path = HostPath::new(place.path().join(name))?;
        fs::create_dir(&path)?;
        Ok(path)
    };
    let (lower, upper, work) = (directory("lower")?, directory("upper")?, directory("work")?);
    fs::write(lower.join("file"), "")?;
    fs::create_dir(lower.join("directory"))?;
    let source = MountSource::Overlay {
        lower: vec![lower],
        upper: Some(OverlayUpper { upper: upper.clone(), work, syncing: Syncing::Owner }),
    };
    let mount = mount::detached::open(&Mount { source, readonly: false })?;
    unlinkat(&mount, "file", AtFlags::empty())?;
    let whiteout = fs::symlink_metadata(upper.join("file"))?;
    if whiteout.rdev() != 0 {
        return Err(io::Error::other("a deleted file does not become a whiteout").into());
    }
    // Only an opaque directory can take a deleted one's place, and that takes an attribute.
    unlinkat(&mount, "directory", AtFlags::REMOVEDIR)?;
    mkdirat(&mount, "directory", Mode::RWXU)?;
    Ok(())
}
