//! The tree that a file operation changes: a new layer, seen over what it lies on.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cache::MutableRef;
use mount::{GuestPath, HostPath, Mount, MountSource, RootDir};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::{FileError, entry};

/// A tree being changed. It is mounted when it is looked at.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    layer: &'a MutableRef,
    mounted: Option<RootDir>,
}

/// A directory of a layer by itself, and the same directory of all that lies below the layer.
///
/// Files that are made in it by its descriptor are part of the tree as if they had been made in the
/// overlay, which is not mounted meanwhile; but they may be names of files outside, which an overlay does
/// not allow.
#[derive(Debug)]
pub(crate) struct Beside {
    /// The directory of the layer.
    pub(crate) layer: OwnedFd,
    /// What lies below it; none if nothing does.
    pub(crate) below: Option<OwnedFd>,
}

impl<'a> Target<'a> {
    pub(crate) const fn new(layer: &'a MutableRef) -> Self {
        Self { layer, mounted: None }
    }

    /// Returns the whole tree.
    pub(crate) fn root(&mut self) -> Result<&RootDir, FileError> {
        let root = match self.mounted.take() {
            Some(root) => root,
            None => self.layer.root().map_err(|error| FileError::Invalid(error.to_string()))?,
        };
        Ok(self.mounted.insert(root))
    }

    /// Makes something at `path` in the tree that `make` is given: the layer by itself if nothing is
    /// there, in it or below, and its directory is the root, which is in every layer; so that the tree
    /// need not be mounted. Else the whole tree.
    pub(crate) fn make<T>(
        &mut self,
        path: &GuestPath,
        make: impl FnOnce(&RootDir) -> Result<T, FileError>,
    ) -> Result<T, FileError> {
        match self.vacancy(path) {
            Some(layer) => make(&layer),
            None => make(self.root()?),
        }
    }

    /// Returns the layer by itself, if nothing is at `path` in the root of any layer.
    fn vacancy(&self, path: &GuestPath) -> Option<RootDir> {
        if self.mounted.is_some() || !path.parent()?.is_root() {
            return None;
        }
        let MountSource::Overlay { lower, upper: Some(upper) } = &self.layer.mount().source else {
            return None;
        };
        let name = path.file_name()?;
        let is_missing = |directory: &HostPath| {
            rustix::fs::lstat(directory.as_path().join(name)).is_err_and(|e| e == Errno::NOENT)
        };
        let everywhere = std::iter::once(&upper.upper).chain(lower).all(is_missing);
        everywhere.then(|| RootDir::open(&upper.upper).ok()).flatten()
    }

    /// Returns the directory at `path` of the layer by itself; none if the layer is the whole tree, or
    /// a link is on the way. The tree is not mounted any more after that, so no descriptor of it must
    /// be open.
    pub(crate) fn beside(&mut self, path: &GuestPath) -> Result<Option<Beside>, FileError> {
        let error = || FileError::io("open", path);
        let source = self.layer.mount().source.clone();
        let MountSource::Overlay { lower, upper: Some(upper) } = source else { return Ok(None) };
        let Some(directory) = open_plainly(self.root()?, path).map_err(error())? else {
            return Ok(None);
        };
        copy_up(directory.as_fd()).map_err(error())?;
        drop(directory);
        self.mounted = None;
        let open = |tree: RootDir| open_plainly(&tree, path);
        let layer = RootDir::open(&upper.upper).and_then(open).map_err(error())?;
        let Some(layer) = layer else { return Ok(None) };
        let below = match open_below(&lower)?.map(open).transpose() {
            Ok(below) => below.flatten(),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => None,
            Err(cause) => return Err(error()(cause)),
        };
        Ok(Some(Beside { layer, below }))
    }
}

/// Returns what is called `name` in a directory of the layers below, none if nothing is.
pub(crate) fn stat_below(below: BorrowedFd<'_>, name: &OsStr) -> std::io::Result<Option<Stat>> {
    let found = entry::stat_if_any(below, name)?;
    // A layer that is looked at as it is shows what it removes.
    let removal = |stat: &Stat| {
        entry::kind(stat) == rustix::fs::FileType::CharacterDevice && stat.st_rdev == 0
    };
    Ok(found.filter(|stat| !removal(stat)))
}

/// Opens a directory to which the path leads without links; none if links are on the way.
fn open_plainly(tree: &RootDir, path: &GuestPath) -> std::io::Result<Option<OwnedFd>> {
    let way = if path.is_root() { ".".as_ref() } else { path.relative() };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(tree.as_fd(), way, flags, Mode::empty(), resolve) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::LOOP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes a directory of an overlay be in its layer, as it is.
fn copy_up(directory: BorrowedFd<'_>) -> std::io::Result<()> {
    let stat = rustix::fs::fstat(directory)?;
    Ok(rustix::fs::utimensat(
        directory,
        ".",
        &rustix::fs::Timestamps {
            last_access: entry::modified(&stat),
            last_modification: entry::modified(&stat),
        },
        AtFlags::empty(),
    )?)
}

/// Opens what lies below a layer, topmost first; none if nothing does.
fn open_below(lower: &[HostPath]) -> Result<Option<RootDir>, FileError> {
    let mount = match lower {
        [] => return Ok(None),
        [only] => Mount::bind(only.clone()),
        several => {
            let source = MountSource::Overlay { lower: several.to_vec(), upper: None };
            Mount { source, readonly: true }
        }
    };
    let mounted = mount::detached::open(&mount);
    let root = mounted.map_err(|error| FileError::Invalid(error.to_string()))?.root();
    root.map(Some).map_err(FileError::io("open", "the layers below"))
}
