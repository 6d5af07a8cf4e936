//! A workbench in memory on which a container is put together.
//!
//! ```text
//! root/    the container's tree is mounted here
//! stock/   the trees that every container has, until they are mounted in it
//! other/   other trees, to reach a part of them
//! empty/   an empty directory
//! files/   the content of single files
//! nodes/   device nodes
//! null     a null device, to hide files with
//! ```
//!
//! It is left behind when the root is entered: only the parts that were mounted into the container
//! live on.

use std::fs;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::mount::MountAttrFlags;

use super::attach::{AttachError, Depth, INERT, attach, clone_tree, filesystem, restrict};
use crate::linux::sys::Reach;

/// The workbench, mounted on the executor's scratch directory in this mount namespace.
#[derive(Debug)]
pub(super) struct Bench(PathBuf);

impl Bench {
    /// Mounts one on `scratch`.
    pub(super) fn set_up(scratch: &Path) -> io::Result<Self> {
        let options = [("mode", "0700"), ("noswap", "")];
        let tree = filesystem("tmpfs", &options, MountAttrFlags::MOUNT_ATTR_NOSUID)
            .map_err(io::Error::other)?;
        attach(&tree, open_directory(scratch)?).map_err(io::Error::other)?;
        let bench = Self(scratch.to_path_buf());
        for name in ["root", "stock", "other", "empty", "files", "nodes"] {
            fs::create_dir(bench.0.join(name))?;
        }
        make_node(&bench.0.join("null"), FileType::CharacterDevice, (1, 3))?;
        Ok(bench)
    }

    /// Returns where the container's tree is mounted.
    pub(super) fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    /// Returns where the trees that every container has are kept.
    pub(super) fn stock(&self) -> PathBuf {
        self.0.join("stock")
    }

    /// Returns where another tree can be mounted.
    pub(super) fn other(&self) -> PathBuf {
        self.0.join("other")
    }

    /// Returns a read-only mount of an empty directory.
    pub(super) fn empty(&self) -> Result<OwnedFd, AttachError> {
        let tree = clone_tree(CWD, &self.0.join("empty"), Depth::One)?;
        restrict(&tree, INERT | MountAttrFlags::MOUNT_ATTR_RDONLY, Reach::Top)?;
        Ok(tree)
    }

    /// Returns a mount of a null device. Not of the host's: who changes its mode would change that.
    pub(super) fn null(&self) -> Result<OwnedFd, AttachError> {
        clone_tree(CWD, &self.0.join("null"), Depth::One)
    }

    /// Makes a file and returns a mount of it.
    pub(super) fn file(&self, file: &PrivateFile<'_>) -> io::Result<OwnedFd> {
        let path = self.0.join("files").join(file.name);
        let mut open =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        open.write_all(file.content)?;
        let (uid, gid) = file.owner;
        std::os::unix::fs::fchown(&open, Some(uid), Some(gid))?;
        open.set_permissions(fs::Permissions::from_mode(file.mode & 0o7777))?;
        drop(open);
        clone_tree(CWD, &path, Depth::One).map_err(io::Error::other)
    }

    /// Makes a device node that everybody may use and returns a mount of it.
    pub(super) fn node(
        &self,
        name: &str,
        kind: FileType,
        number: (u32, u32),
    ) -> io::Result<OwnedFd> {
        let path = self.0.join("nodes").join(name.replace('/', "-"));
        make_node(&path, kind, number)?;
        clone_tree(CWD, &path, Depth::One).map_err(io::Error::other)
    }
}

/// Opens a directory to mount on it, or what is mounted there.
pub(super) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn make_node(path: &Path, kind: FileType, number: (u32, u32)) -> io::Result<()> {
    let device = rustix::fs::makedev(number.0, number.1);
    // The umask is empty here.
    Ok(rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o666), device)?)
}

/// A file that exists in memory only.
#[derive(Debug)]
pub(super) struct PrivateFile<'a> {
    /// A name of our own choice.
    pub name: &'a str,
    /// What is in it.
    pub content: &'a [u8],
    /// Permission bits.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
}
