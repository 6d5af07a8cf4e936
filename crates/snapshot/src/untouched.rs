//! Directories that a layer has only because the kernel needed them there for a moment.
//!
//! To make and remove a file in a directory of a lower layer, an overlay copies the directory up, and
//! there it stays: empty, exactly as it is below. It says nothing, but it would be part of the layer
//! and of every archive of it. Before a layer is committed such directories are removed.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use mount::HostPath;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use crate::attributes;
use crate::walk::TreeError;

/// Directories deeper than this are left alone.
const MAX_DEPTH: usize = 64;

/// Removes from the layer in `directory` what is as in the layers below (topmost first); blocking.
pub(crate) fn remove_untouched(directory: &HostPath, below: &[HostPath]) -> Result<(), TreeError> {
    if below.is_empty() {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(directory.as_path(), flags, Mode::empty())
        .map_err(TreeError::at("open directory", "."))?;
    let mut path = PathBuf::new();
    children(root.as_fd(), &mut path, below, 0).map_err(TreeError::at("tidy", &path)).map(|_| ())
}

/// Tidies what is in a directory; returns true if nothing is left in it.
fn children(
    directory: BorrowedFd<'_>,
    path: &mut PathBuf,
    below: &[HostPath],
    depth: usize,
) -> Result<bool, Errno> {
    let before = rustix::fs::fstat(directory)?;
    let (mut is_empty, mut removed) = (true, false);
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        is_empty = false;
        let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory || depth >= MAX_DEPTH {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inner = rustix::fs::openat(directory, name, flags, Mode::empty())?;
        path.push(OsStr::new(name.to_str().unwrap_or_default()));
        let told = name.to_str().is_ok();
        let goes = told
            && children(inner.as_fd(), path, below, depth + 1)?
            && !attributes::is_opaque(inner.as_fd(), OsStr::new("."))?
            && is_as_below(&stat, path, below)?;
        path.pop();
        if goes {
            rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)?;
            removed = true;
        }
    }
    if removed {
        let time = Timespec { tv_sec: before.st_mtime as _, tv_nsec: before.st_mtime_nsec as _ };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::futimens(directory, &times)?;
        is_empty = Dir::read_from(directory)?.all(|entry| {
            entry.is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b".."))
        });
    }
    Ok(is_empty)
}

/// Returns true if the layers below show the same directory at `path`.
fn is_as_below(stat: &Stat, path: &Path, below: &[HostPath]) -> Result<bool, Errno> {
    for (place, layer) in below.iter().enumerate() {
        match rustix::fs::lstat(layer.as_path().join(path)) {
            Ok(found) => {
                let same = |stat: &Stat| {
                    (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_mtime, stat.st_mtime_nsec)
                };
                if same(&found) != same(stat) {
                    return Ok(false);
                }
                // Most directories are new, so that which layers hide others is asked last.
                for above in &below[..place] {
                    if hides(above, path)? {
                        return Ok(false);
                    }
                }
                return Ok(true);
            }
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// Returns true if something on the way to `path` in this layer hides what lies below.
fn hides(layer: &HostPath, path: &Path) -> Result<bool, Errno> {
    // A layer's root hides nothing: the kernel merges the roots of all layers.
    let ancestors = path.ancestors().skip(1).filter(|ancestor| !ancestor.as_os_str().is_empty());
    for ancestor in ancestors {
        let place = layer.as_path().join(ancestor);
        match rustix::fs::lstat(&place) {
            Ok(found) if FileType::from_raw_mode(found.st_mode) != FileType::Directory => {
                return Ok(true);
            }
            Ok(_) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let directory = rustix::fs::open(&place, flags, Mode::empty())?;
                if attributes::is_opaque(directory.as_fd(), OsStr::new("."))? {
                    return Ok(true);
                }
            }
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    fn host(directory: &tempfile::TempDir) -> HostPath {
        HostPath::new(directory.path()).unwrap()
    }

    fn copy_attributes(from: &Path, to: &Path) {
        let stat = fs::metadata(from).unwrap();
        fs::set_permissions(to, fs::Permissions::from_mode(stat.mode())).unwrap();
        let time = Timespec { tv_sec: stat.mtime() as _, tv_nsec: stat.mtime_nsec() as _ };
        let times = Timestamps { last_access: time, last_modification: time };
        let flags = AtFlags::empty();
        rustix::fs::utimensat(rustix::fs::CWD, to, &times, flags).unwrap();
    }

    #[test]
    fn only_empty_directories_that_are_as_below_go() {
        let (below, layer) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for path in ["etc", "var/lib/app", "changed", "full"] {
            fs::create_dir_all(below.path().join(path)).unwrap();
            fs::create_dir_all(layer.path().join(path)).unwrap();
        }
        fs::create_dir(layer.path().join("new")).unwrap();
        fs::write(layer.path().join("full/file"), "").unwrap();
        for path in ["etc", "var/lib/app", "var/lib", "var", "full"] {
            copy_attributes(&below.path().join(path), &layer.path().join(path));
        }
        fs::set_permissions(layer.path().join("changed"), fs::Permissions::from_mode(0o700))
            .unwrap();
        remove_untouched(&host(&layer), &[host(&below)]).unwrap();
        let mut left: Vec<_> = fs::read_dir(layer.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["changed", "full", "new"]);
    }

    #[test]
    fn what_a_layer_between_hides_does_not_count() {
        let (bottom, middle, layer) = (
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
        );
        fs::create_dir_all(bottom.path().join("a/b")).unwrap();
        fs::create_dir_all(layer.path().join("a/b")).unwrap();
        for path in ["a/b", "a"] {
            copy_attributes(&bottom.path().join(path), &layer.path().join(path));
        }
        // A whiteout of `a` in the layer between.
        let mode = Mode::from_raw_mode(0);
        let device = rustix::fs::makedev(0, 0);
        let path = middle.path().join("a");
        rustix::fs::mknodat(rustix::fs::CWD, path, FileType::CharacterDevice, mode, device)
            .unwrap();
        remove_untouched(&host(&layer), &[host(&middle), host(&bottom)]).unwrap();
        assert!(layer.path().join("a/b").is_dir());
    }
}
