//! Overlays that this crate mounts itself: where several mounts must show one live tree, which the
//! kernel cannot do with two overlays over one writable layer.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use mount::HostPath;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};

/// Mounts `upper` over `lower` (topmost first) at the directory `target`.
pub(crate) fn mount_overlay(
    lower: &[HostPath],
    upper: &HostPath,
    work: &HostPath,
    target: &HostPath,
) -> io::Result<()> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let set = |key: &str, value: &Path| {
        fsconfig_set_string(&context, key, value).map_err(|error| refusal(&context, error))
    };
    for path in lower {
        set("lowerdir+", path.as_path())?;
    }
    set("upperdir", upper.as_path())?;
    set("workdir", work.as_path())?;
    // With these a layer would not be readable by itself.
    for feature in ["redirect_dir", "metacopy", "index"] {
        set(feature, Path::new("off"))?;
    }
    fsconfig_create(&context).map_err(|error| refusal(&context, error))?;
    let mounted = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(&mounted, "", CWD, target.as_path(), flags)?)
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

/// Returns the kernel's own words for a refusal, which it leaves in the context.
fn refusal(context: &OwnedFd, error: Errno) -> io::Error {
    let mut words = [0; 1024];
    let length = rustix::io::read(context, &mut words).unwrap_or(0);
    let words = String::from_utf8_lossy(&words[..length]).trim().to_owned();
    let error = io::Error::from(error);
    if words.is_empty() { error } else { io::Error::new(error.kind(), format!("{error}: {words}")) }
}
