//! Overlays that this crate mounts itself: where several mounts must show one live tree, which the
//! kernel cannot do with two overlays over one writable layer.

use std::io;
use std::path::Path;

use mount::{HostPath, Mount, MountSource, OverlayUpper, detached};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

/// Mounts `upper` over `lower` (topmost first) at the directory `target`.
pub(crate) fn mount_overlay(
    lower: Vec<HostPath>,
    upper: OverlayUpper,
    target: &HostPath,
) -> io::Result<()> {
    let source = MountSource::Overlay { lower, upper: Some(upper) };
    let mounted = detached::open(&Mount { source, readonly: false });
    mounted.and_then(|mounted| mounted.attach(target)).map_err(io::Error::other)
}

/// Takes away what is mounted at `target`, if anything is.
pub(crate) fn unmount_overlay(target: &HostPath) -> io::Result<()> {
    match unmount(target.as_path(), UnmountFlags::DETACH) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Returns true if something is mounted at `target` as this process sees it.
pub(crate) fn is_mounted(target: &HostPath) -> bool {
    let Some(parent) = target.as_path().parent() else { return false };
    let device = |path: &Path| rustix::fs::stat(path).map(|stat| stat.st_dev);
    matches!((device(target.as_path()), device(parent)), (Ok(a), Ok(b)) if a != b)
}
