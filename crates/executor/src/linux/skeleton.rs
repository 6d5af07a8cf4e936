//! The places that every container mounts something on, as a tree of its own.
//!
//! An image may lack them. To create them in a container's layer, and to remove them again, costs more than a
//! short step, above all the copy that an overlay makes of `/etc` for it. So the tree lies below the image's
//! layers: what is missing in these shows through, and the layer stays as the process leaves it.

use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use mount::detached::OVERLAY_MAX_LOWER;
use mount::{HostPath, Mount, MountSource};

const DIRECTORIES: [&str; 4] = ["dev", "etc", "proc", "sys"];
const FILES: [&str; 2] = ["etc/hosts", "etc/resolv.conf"];

/// Makes the tree, as far as it is not there.
pub(super) fn make(root: &HostPath) -> io::Result<()> {
    let directories = DIRECTORIES.map(|name| root.join(name));
    for directory in std::iter::once(root).chain(&directories) {
        fs::create_dir_all(directory)?;
        // Whatever the daemon's own mask is.
        fs::set_permissions(directory, Permissions::from_mode(0o755))?;
    }
    for file in FILES {
        let file = OpenOptions::new().append(true).create(true).open(root.join(file))?;
        file.set_permissions(Permissions::from_mode(0o644))?;
    }
    Ok(())
}

/// Returns `root` with the tree below its layers, if it is a layer written over others on the same file
/// system: layers of several show numbers of devices that programs may stumble over.
pub(super) fn below(root: &Mount, skeleton: &HostPath) -> Mount {
    let device = |path: &HostPath| fs::metadata(path).ok().map(|metadata| metadata.dev());
    let mut root = root.clone();
    if let MountSource::Overlay { lower, upper: Some(_) } = &mut root.source
        && lower.len() < OVERLAY_MAX_LOWER
        && lower.last().and_then(device).is_some_and(|at| device(skeleton) == Some(at))
    {
        lower.push(skeleton.clone());
    }
    root
}
