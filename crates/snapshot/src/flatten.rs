//! A stack made into one plain tree.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use mount::HostPath;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, mkdirat, statat};
use rustix::io::Errno;

use crate::attributes::{self, Attributes};
use crate::node;
use crate::walk::{Entry, Event, TreeError, Walk, file_type};

/// Puts a layer on the plain tree in `tree`, as an overlay would show the two; blocking. On the empty
/// tree this is a copy.
///
/// # Errors
/// Returns an error that names the file which could not be read or copied.
pub fn put_layer(layer: &HostPath, tree: &HostPath) -> Result<(), TreeError> {
    let open = |path: &HostPath| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path.as_path(), flags, Mode::empty())
            .map_err(TreeError::at("open directory", path.as_path()))
    };
    let (layer, root) = (open(layer)?, open(tree)?);
    let here = OsStr::new(".");
    if attributes::is_opaque(layer.as_fd(), here)
        .map_err(TreeError::at("read attributes of", "."))?
    {
        node::clear(&root)?;
    }
    let stat = statat(&layer, ".", AtFlags::empty()).map_err(TreeError::at("stat", "."))?;
    let attributes =
        Attributes::of(&stat, Entry::new(".".as_ref(), layer.as_fd(), here, &stat).xattrs()?);
    attributes.give(root.as_fd(), here).map_err(TreeError::at("set attributes of", "."))?;
    let top = root.try_clone().map_err(TreeError::at("open directory", "."))?;
    let mut flattening = Flattening { root, way: vec![(top, attributes)], copied: HashMap::new() };
    let mut walk = Walk::new(&layer)?;
    while let Some(event) = walk.next()? {
        match event {
            Event::Enter(entry) => flattening.enter(&entry)?,
            Event::Leave(entry) => flattening.leave(&entry)?,
        }
    }
    match flattening.way.pop() {
        Some((root, attributes)) => attributes
            .give_times(root.as_fd(), here)
            .map_err(TreeError::at("set the times of", ".")),
        None => Ok(()),
    }
}

struct Flattening {
    root: OwnedFd,
    /// The directories of the tree from its root to where we are, and what the layer says of them.
    way: Vec<(OwnedFd, Attributes)>,
    /// Files of the layer with several names, and their first name.
    copied: HashMap<(u64, u64), PathBuf>,
}

impl Flattening {
    fn enter(&mut self, entry: &Entry<'_>) -> Result<(), TreeError> {
        let Some((directory, _)) = self.way.last() else { return Ok(()) };
        if entry.file_type() == FileType::Directory {
            return self.enter_directory(entry);
        }
        node::remove(directory.as_fd(), entry.name(), entry.path())?;
        if entry.is_whiteout() {
            return Ok(());
        }
        let identity = (entry.stat().st_dev, entry.stat().st_ino);
        if let Some(first) = self.copied.get(&identity) {
            let from = (self.root.as_fd(), first.as_os_str());
            return node::link(from, directory.as_fd(), entry.name())
                .map_err(TreeError::at("link", entry.path()));
        }
        let copied = node::copy_node(entry, directory.as_fd(), entry.name())?;
        if entry.stat().st_nlink > 1 && copied.is_some() {
            self.copied.insert(identity, entry.path().to_path_buf());
        }
        Ok(())
    }

    fn enter_directory(&mut self, entry: &Entry<'_>) -> Result<(), TreeError> {
        let Some((parent, _)) = self.way.last() else { return Ok(()) };
        let failed = || TreeError::at("create directory", entry.path());
        let there = match statat(parent, entry.name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => file_type(&stat) == FileType::Directory,
            Err(Errno::NOENT) => false,
            Err(error) => return Err(TreeError::at("stat", entry.path())(error)),
        };
        let keeps = there && !entry.is_opaque()?;
        if !keeps {
            node::remove(parent.as_fd(), entry.name(), entry.path())?;
            mkdirat(parent, entry.name(), Mode::RWXU).map_err(failed())?;
        }
        let attributes = Attributes::of(entry.stat(), entry.xattrs()?);
        if keeps {
            node::remove_xattrs(parent.as_fd(), entry.name()).map_err(failed())?;
        }
        attributes.give(parent.as_fd(), entry.name()).map_err(failed())?;
        let opened = node::open_directory(parent.as_fd(), entry.name()).map_err(failed())?;
        self.way.push((opened, attributes));
        Ok(())
    }

    fn leave(&mut self, entry: &Entry<'_>) -> Result<(), TreeError> {
        let Some((directory, attributes)) = self.way.pop() else { return Ok(()) };
        attributes
            .give_times(directory.as_fd(), OsStr::new("."))
            .map_err(TreeError::at("set the times of", entry.path()))
    }
}
