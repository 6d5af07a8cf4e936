//! Making mounts as descriptors, and attaching them.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use mount::detached::SELF_CONTAINED;
use mount::{OverlayUpper, Syncing};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    move_mount, open_tree,
};

use mount::HostPath;

/// Why something was not mounted: a failed call, with what the kernel said besides.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {errno}{log}")]
pub(super) struct AttachError {
    call: &'static str,
    errno: Errno,
    log: String,
}

impl AttachError {
    fn of(call: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| Self { call, errno, log: String::new() }
    }

    /// Adds what the kernel wrote to a file system context.
    fn with_log(call: &'static str, context: &OwnedFd, errno: Errno) -> Self {
        let mut log = String::new();
        let mut buffer = [0; 1024];
        while let Ok(length @ 1..) = rustix::io::read(context, &mut buffer) {
            let line = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
            log.push_str(": ");
            log.push_str(line.trim_end());
        }
        Self { call, errno, log }
    }

    /// Returns the kernel's error number.
    pub(super) const fn errno(&self) -> Errno {
        self.errno
    }
}

/// Attributes of mounts that hold no programs and no devices.
pub(super) const INERT: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC)
    .union(MountAttrFlags::MOUNT_ATTR_NODEV);

/// Creates a file system of `kind` and returns a mount of it.
pub(super) fn filesystem(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, AttachError> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(AttachError::of("fsopen"))?;
    // What `/proc/mounts` shows; without it some tools are confused.
    let _ = fsconfig_set_string(&context, "source", kind);
    for (key, value) in options {
        let set = if value.is_empty() {
            // An option that an older kernel does not know is one to do without.
            let _ = fsconfig_set_flag(&context, *key);
            Ok(())
        } else {
            fsconfig_set_string(&context, *key, *value)
        };
        set.map_err(|errno| AttachError::with_log("fsconfig", &context, errno))?;
    }
    finish(&context, attributes)
}

/// Returns a mount of an overlay.
pub(super) fn overlay(
    lower: &[HostPath],
    upper: Option<&OverlayUpper>,
    attributes: MountAttrFlags,
    bench: &Path,
) -> Result<OwnedFd, AttachError> {
    let context =
        fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(AttachError::of("fsopen"))?;
    let _ = fsconfig_set_string(&context, "source", "overlay");
    let set = |key: &str, path: &HostPath| fsconfig_set_string(&context, key, path.as_path());
    for (index, path) in lower.iter().enumerate() {
        match set("lowerdir+", path) {
            Err(Errno::INVAL) if index == 0 => return old_overlay(lower, upper, attributes, bench),
            done => done.map_err(|errno| AttachError::with_log("lowerdir", &context, errno))?,
        }
    }
    if let Some(upper) = upper {
        set("upperdir", &upper.upper)
            .and_then(|()| set("workdir", &upper.work))
            .map_err(|errno| AttachError::with_log("upperdir", &context, errno))?;
        if upper.syncing == Syncing::Owner {
            upper
                .admit_again()
                .and_then(|()| fsconfig_set_flag(&context, "volatile"))
                .map_err(|errno| AttachError::with_log("volatile", &context, errno))?;
        }
        // A kernel built without an option refuses its name: then it is off.
        for (key, off) in SELF_CONTAINED {
            let _ = fsconfig_set_string(&context, key, off);
        }
    }
    finish(&context, attributes)
}

/// As [`overlay`], for kernels before 6.7: in one page of options, by way of a mount on `bench`.
fn old_overlay(
    lower: &[HostPath],
    upper: Option<&OverlayUpper>,
    attributes: MountAttrFlags,
    bench: &Path,
) -> Result<OwnedFd, AttachError> {
    let escaped = |path: &HostPath| path.to_string().replace('\\', "\\\\").replace(':', "\\:");
    let lower: Vec<String> = lower.iter().map(escaped).collect();
    let mut options = format!("lowerdir={}", lower.join(":"));
    if let Some(upper) = upper {
        options += &format!(",upperdir={},workdir={}", upper.upper, upper.work);
        options.extend(SELF_CONTAINED.map(|(key, off)| format!(",{key}={off}")));
        if upper.syncing == Syncing::Owner {
            upper.admit_again().map_err(AttachError::of("rmdir"))?;
            options += ",volatile";
        }
    }
    let options =
        std::ffi::CString::new(options).map_err(|_| AttachError::of("mount")(Errno::INVAL))?;
    rustix::mount::mount("overlay", bench, "overlay", MountFlags::empty(), options.as_c_str())
        .map_err(AttachError::of("mount"))?;
    let tree = clone_tree(CWD, bench, Depth::One);
    let _ = rustix::mount::unmount(bench, UnmountFlags::DETACH);
    let tree = tree?;
    restrict(&tree, attributes, super::super::sys::Reach::Top)?;
    Ok(tree)
}

fn finish(context: &OwnedFd, attributes: MountAttrFlags) -> Result<OwnedFd, AttachError> {
    fsconfig_create(context).map_err(|errno| AttachError::with_log("fsconfig", context, errno))?;
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(|errno| AttachError::with_log("fsmount", context, errno))
}

/// How much of a tree of mounts is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// The mount itself.
    One,
    /// The mount and those on it.
    All,
}

/// Returns a copy of the mount, or of the part of one, that is at `path`.
pub(super) fn clone_tree(
    directory: impl AsFd,
    path: &Path,
    depth: Depth,
) -> Result<OwnedFd, AttachError> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if depth == Depth::All {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(directory, path, flags).map_err(AttachError::of("open_tree"))
}

/// Adds attributes to a mount.
pub(super) fn restrict(
    tree: impl AsFd,
    attributes: MountAttrFlags,
    reach: super::super::sys::Reach,
) -> Result<(), AttachError> {
    if attributes.is_empty() {
        return Ok(());
    }
    super::super::sys::mount_setattr(tree.as_fd(), u64::from(attributes.bits()), reach).map_err(
        |error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::INVAL);
            AttachError::of("mount_setattr")(errno)
        },
    )
}

/// Attaches a mount onto an open file or directory.
pub(super) fn attach(tree: impl AsFd, point: impl AsFd) -> Result<(), AttachError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", point, "", flags).map_err(AttachError::of("move_mount"))
}
