//! Copying from one tree into another (protocol page `llb.md` §6, rows "copy").
//!
//! Both trees are hostile: every path is resolved beneath its root, and below the resolved point
//! everything goes by descriptor and plain name, so that nothing that changes or points elsewhere
//! leads outside.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use mount::{GuestPath, RootDir};
use patterns::PatternList;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::FileError;
use super::entry::{self, Owner};
use super::mode::ModeChange;
use super::place::{Place, There};
use super::resolve::resolve;
use super::target::{Beside, Target};
use super::transfer::copy_content;

/// How deep a tree may be: as deep as the stack of a thread allows with room to spare. Deeper ones
/// exist only to do harm.
pub(super) const MAX_DEPTH: usize = 200;

/// What is copied where, and what changes on the way.
#[derive(Debug, Clone, Default)]
pub(crate) struct CopyOptions {
    /// Gives everything copied, and every directory made for it, this owner.
    pub(crate) owner: Option<Owner>,
    /// Changes the permission bits of everything copied but links.
    pub(crate) mode: Option<ModeChange>,
    /// Gives everything copied this time, in nanoseconds since 1970.
    pub(crate) timestamp: Option<i64>,
    /// Copies what the source's last component points to, if that is a link.
    pub(crate) follow_links: bool,
    /// A directory's content goes into the target, not the directory itself.
    pub(crate) contents_only: bool,
    /// Makes the directories that the target is in.
    pub(crate) create_parents: bool,
    /// Removes what is in the way, whatever it is.
    pub(crate) replace: bool,
    /// Only what matches, if there is any pattern.
    pub(crate) include: PatternList,
    /// Not what matches.
    pub(crate) exclude: PatternList,
    /// How a file that stays exactly as it is comes to be in the target.
    pub(crate) means: Means,
}

/// How a file comes to be in another tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Means {
    /// It is copied.
    #[default]
    Copy,
    /// It gets a further name there if it has only one, for neither tree's files are ever written again.
    Link,
}

/// Copies `from` of the tree `source` to `to` of the tree `target`. A `to` that ends in `/` is a
/// directory to copy into. Returns true if files were linked. Blocks.
pub(crate) fn copy(
    source: &RootDir,
    from: &GuestPath,
    target: &mut Target<'_>,
    to: &str,
    options: &CopyOptions,
) -> Result<bool, FileError> {
    // What is made in a directory is called as the source was asked for, not as what a link leads to.
    let name = from.file_name();
    let from = if options.follow_links { resolve(source, from)? } else { from.clone() };
    let stat = source.symlink_stat(&from).map_err(FileError::io("lstat", &from))?;
    let is_directory = entry::kind(&stat) == FileType::Directory;
    let means = options.means;
    let mut copier = Copier { options, links: HashMap::new(), top: None, means, linked: false };
    let to_path = GuestPath::new(to)?;
    let tree = target.root()?;
    copier.make_parents(tree, to, &to_path)?;

    // A link in the place is kept: what it points to is written.
    let to_path = resolve(tree, &to_path)?;
    let existing = tree.stat(&to_path).ok();
    let into = existing.is_some_and(|stat| entry::kind(&stat) == FileType::Directory);
    let to_path = match name {
        Some(name) if into && !(is_directory && options.contents_only) => to_path.join(name)?,
        _ => to_path,
    };
    if is_directory {
        copier.top_directory(source, &from, &stat, target, &to_path)?;
    } else {
        copier.top_file(source, &from, &stat, target.root()?, &to_path)?;
    }
    Ok(copier.linked)
}

struct Copier<'a> {
    options: &'a CopyOptions,
    /// Where the first copy of a file with several links is below `top`, by its inode in the source. A path and
    /// no descriptor: a client's files have several links once they were lent, all of them.
    links: HashMap<(u64, u64), String>,
    /// The directory that a directory is copied to.
    top: Option<OwnedFd>,
    /// As in the options, until the kernel says that the trees are not on one file system.
    means: Means,
    linked: bool,
}

impl Copier<'_> {
    fn make_parents(&self, target: &RootDir, to: &str, path: &GuestPath) -> Result<(), FileError> {
        let as_directory = to.ends_with('/') || to.ends_with("/.");
        let needed = if as_directory { Some(path.clone()) } else { path.parent() };
        let Some(needed) = needed else { return Ok(()) };
        if !self.options.create_parents {
            let parent = path.parent().unwrap_or_else(GuestPath::root);
            target.stat(&parent).map_err(FileError::io("lstat", &parent))?;
            if !as_directory {
                return Ok(());
            }
        }
        self.make_directories(target, &needed)
    }

    /// Makes a directory and those it is in, with the owner, the mode and the time asked for.
    fn make_directories(&self, target: &RootDir, path: &GuestPath) -> Result<(), FileError> {
        let mode = match &self.options.mode {
            // The other bits are for what is copied.
            Some(ModeChange::Absolute(mode)) => *mode & 0o777,
            Some(ModeChange::Symbolic(_)) | None => 0o755,
        };
        let mut made = Vec::new();
        target
            .create_dir_all(path, Mode::from_raw_mode(mode), |directory| {
                made.push(directory.try_clone_to_owned()?);
                Ok(())
            })
            .map_err(FileError::io("mkdir", path))?;
        // Times last: making a child changes its parent's.
        for directory in made.iter().rev() {
            self.attributes_of_made(directory.as_fd()).map_err(FileError::io("mkdir", path))?;
        }
        Ok(())
    }

    fn attributes_of_made(&self, directory: BorrowedFd<'_>) -> std::io::Result<()> {
        let here = OsStr::new(".");
        if let Some(owner) = self.options.owner {
            entry::set_owner(directory, here, owner)?;
        }
        if let Some(time) = self.options.timestamp {
            entry::set_times(directory, here, entry::timespec(time))?;
        }
        Ok(())
    }

    /// Copies a directory's content into `to`, which is made first if it is not there.
    fn top_directory(
        &mut self,
        source: &RootDir,
        from: &GuestPath,
        stat: &Stat,
        target: &mut Target<'_>,
        to: &GuestPath,
    ) -> Result<(), FileError> {
        let tree = target.root()?;
        let existing = tree.stat(to).ok().map(|stat| entry::kind(&stat));
        match existing {
            Some(FileType::Directory) => {}
            Some(_) if self.options.replace => self.clear(tree, to)?,
            Some(_) => {
                let (from, path) = (from.to_string(), to.to_string());
                return Err(FileError::InTheWay { from, path, expected: "a file" });
            }
            None => {}
        }
        let is_new = existing != Some(FileType::Directory);
        self.make_directories(tree, to)?;
        let reader = source.open_dir(from).map_err(FileError::io("open", from))?;
        let (writer, below) = self.writable(target, to)?;
        let there = match &below {
            _ if is_new => There::Nothing,
            Some(below) => There::Beside(below.as_fd()),
            None => There::Perhaps,
        };
        self.top = Some(writer.try_clone().map_err(FileError::io("open", to))?);
        self.children(reader.as_fd(), writer.as_fd(), there, "", 0)?;
        // A directory copied as such keeps its attributes; of one whose content is merged into another only
        // the time is taken, as in BuildKit.
        let attributes = if is_new && !self.options.contents_only {
            self.directory_attributes(reader.as_fd(), writer.as_fd(), stat)
        } else {
            entry::set_times(writer.as_fd(), OsStr::new("."), self.time(stat))
        };
        attributes.map_err(FileError::io("copy", from))
    }

    /// Returns the directory to write into: of the layer alone, with what lies below it, if files may
    /// be linked there, else of the whole tree.
    fn writable(
        &self,
        target: &mut Target<'_>,
        to: &GuestPath,
    ) -> Result<(OwnedFd, Option<OwnedFd>), FileError> {
        // What is in the way of something below a layer is not removed in the layer alone.
        if self.means == Means::Link
            && !self.options.replace
            && let Some(Beside { layer, below }) = target.beside(to)?
        {
            return Ok((layer, below));
        }
        Ok((target.root()?.open_dir(to).map_err(FileError::io("open", to))?, None))
    }

    fn top_file(
        &mut self,
        source: &RootDir,
        from: &GuestPath,
        stat: &Stat,
        target: &RootDir,
        to: &GuestPath,
    ) -> Result<(), FileError> {
        // Patterns are of what is in a directory, not of what was named itself.
        let name = from.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let reader = source.parent_of(from).map_err(FileError::io("open", from))?;
        let writer = target.parent_of(to).map_err(FileError::io("open", to))?;
        let (Some((reader, from_name)), Some((writer, to_name))) = (reader, writer) else {
            return Err(FileError::Invalid(format!(
                "cannot copy {from} to {to}: not a file's place"
            )));
        };
        let (from, to) = (reader.as_fd(), writer.as_fd());
        let there = There::Perhaps;
        self.other(&Place { from, from_name, to, to_name, path: &name, there }, stat)
    }

    fn clear(&self, target: &RootDir, path: &GuestPath) -> Result<(), FileError> {
        let parent = target.parent_of(path).map_err(FileError::io("open", path))?;
        if let Some((directory, name)) = parent {
            entry::remove_all(directory.as_fd(), name).map_err(FileError::io("remove", path))?;
        }
        Ok(())
    }

    fn children(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        there: There<'_>,
        path: &str,
        depth: usize,
    ) -> Result<(), FileError> {
        if depth > MAX_DEPTH {
            return Err(FileError::Invalid(format!(
                "{path}: more than {MAX_DEPTH} directories deep"
            )));
        }
        for name in entry::names(from).map_err(FileError::io("read", path))? {
            let path = join(path, &name);
            let stat = entry::stat(from, &name).map_err(FileError::io("lstat", &path))?;
            let place = Place { from, from_name: &name, to, to_name: &name, path: &path, there };
            if entry::kind(&stat) == FileType::Directory {
                self.directory(&place, &stat, depth + 1)?;
            } else if self.wanted(&path) {
                self.other(&place, &stat)?;
            }
        }
        Ok(())
    }

    fn directory(&mut self, place: &Place<'_>, stat: &Stat, depth: usize) -> Result<(), FileError> {
        let options = self.options;
        if options.exclude.matches(place.path) && !options.exclude.takes_back() {
            return Ok(());
        }
        let error = |action| FileError::io(action, place.path);
        let reader = entry::open_dir(place.from, place.from_name).map_err(error("open"))?;
        if !self.wanted(place.path)
            && !self.any_included(reader.as_fd(), place.path, depth).map_err(error("read"))?
        {
            return Ok(());
        }
        let (mut below, mut is_new) = (None, false);
        match place.look().map_err(error("lstat"))? {
            Some(there) if entry::kind(&there) == FileType::Directory => {
                below = place.descend().map_err(error("mkdir"))?;
            }
            Some(_) if !options.replace => {
                let (from, path) = (place.path.to_owned(), place.path.to_owned());
                return Err(FileError::InTheWay { from, path, expected: "a file" });
            }
            there => {
                if there.is_some() {
                    entry::remove_all(place.to, place.to_name).map_err(error("remove"))?;
                }
                let mode = Mode::from_raw_mode(0o700);
                rustix::fs::mkdirat(place.to, place.to_name, mode)
                    .map_err(|errno| error("mkdir")(errno.into()))?;
                is_new = true;
            }
        }
        let writer = entry::open_dir(place.to, place.to_name).map_err(error("open"))?;
        let inside = match &below {
            _ if is_new => There::Nothing,
            Some(below) => There::Beside(below.as_fd()),
            None => There::Perhaps,
        };
        self.children(reader.as_fd(), writer.as_fd(), inside, place.path, depth)?;
        self.directory_attributes(reader.as_fd(), writer.as_fd(), stat).map_err(error("copy"))
    }

    fn directory_attributes(
        &self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        stat: &Stat,
    ) -> std::io::Result<()> {
        let here = OsStr::new(".");
        entry::set_owner(to, here, self.owner(stat))?;
        entry::copy_xattrs(from, to)?;
        entry::set_mode(to, here, self.mode(stat))?;
        entry::set_times(to, here, self.time(stat))
    }

    /// Copies anything that is not a directory.
    fn other(&mut self, place: &Place<'_>, stat: &Stat) -> Result<(), FileError> {
        let error = |action| FileError::io(action, place.path);
        if let Some(there) = place.look().map_err(error("lstat"))? {
            if entry::kind(&there) == FileType::Directory && !self.options.replace {
                let (from, path) = (place.path.to_owned(), place.path.to_owned());
                return Err(FileError::InTheWay { from, path, expected: "a directory" });
            }
            entry::remove_all(place.to, place.to_name).map_err(error("remove"))?;
        }
        let kind = entry::kind(stat);
        if kind != FileType::Symlink
            && stat.st_nlink > 1
            && self.link(place, stat).map_err(error("link"))?
        {
            return Ok(());
        }
        match kind {
            FileType::RegularFile => self.regular(place, stat).map_err(error("copy"))?,
            FileType::Symlink => self.symlink(place, stat).map_err(error("symlink"))?,
            FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => {
                self.special(place, stat, kind).map_err(error("mknod"))?;
            }
            // A socket means nothing without the process behind it.
            _ => return Ok(()),
        }
        Ok(())
    }

    /// Links to the copy already made of the same inode, if there is one.
    fn link(&mut self, place: &Place<'_>, stat: &Stat) -> std::io::Result<bool> {
        // What is copied alone has nothing to be linked to.
        let Some(top) = &self.top else { return Ok(false) };
        let first = match self.links.entry((stat.st_dev, stat.st_ino)) {
            Entry::Occupied(first) => first.into_mut(),
            Entry::Vacant(vacant) => {
                vacant.insert(place.path.to_owned());
                return Ok(false);
            }
        };
        match link_below(top.try_clone()?, first, place) {
            Ok(()) => Ok(true),
            // A name that is no text is not found by it: such a file is copied.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn regular(&mut self, place: &Place<'_>, stat: &Stat) -> std::io::Result<()> {
        if self.stays(stat) && self.lend(place)? {
            return Ok(());
        }
        let reader = entry::open_file(place.from, place.from_name)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let writer = rustix::fs::openat(place.to, place.to_name, flags, mode)?;
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        copy_content(reader.as_fd(), writer.as_fd(), size, blocks)?;
        let owner = self.owner(stat);
        let (uid, gid) =
            (rustix::fs::Uid::from_raw(owner.uid), rustix::fs::Gid::from_raw(owner.gid));
        // Owner before attributes and mode: changing it drops capabilities and set-id bits.
        rustix::fs::fchown(&writer, Some(uid), Some(gid))?;
        entry::copy_xattrs(reader.as_fd(), writer.as_fd())?;
        rustix::fs::fchmod(&writer, Mode::from_raw_mode(self.mode(stat)))?;
        let time = self.time(stat);
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        Ok(rustix::fs::futimens(&writer, &times)?)
    }

    /// Returns true if a file may be linked: it has one name, and is to be as it is.
    fn stays(&self, stat: &Stat) -> bool {
        self.means == Means::Link
            && stat.st_nlink == 1
            && self.owner(stat) == Owner { uid: stat.st_uid, gid: stat.st_gid }
            && self.mode(stat) == stat.st_mode & 0o7777
            && self.time(stat) == entry::modified(stat)
    }

    /// Gives a file of the source its name in the target; returns false if it has to be copied.
    fn lend(&mut self, place: &Place<'_>) -> std::io::Result<bool> {
        let flags = AtFlags::empty();
        match rustix::fs::linkat(place.from, place.from_name, place.to, place.to_name, flags) {
            Ok(()) => {
                self.linked = true;
                Ok(true)
            }
            Err(Errno::XDEV | Errno::PERM | Errno::OPNOTSUPP) => {
                self.means = Means::Copy;
                Ok(false)
            }
            Err(Errno::MLINK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn symlink(&self, place: &Place<'_>, stat: &Stat) -> std::io::Result<()> {
        let target = entry::read_link(place.from, place.from_name)?;
        rustix::fs::symlinkat(target.as_os_str(), place.to, place.to_name)?;
        entry::set_owner(place.to, place.to_name, self.owner(stat))?;
        entry::set_times(place.to, place.to_name, self.time(stat))
    }

    fn special(&self, place: &Place<'_>, stat: &Stat, kind: FileType) -> std::io::Result<()> {
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(place.to, place.to_name, kind, mode, stat.st_rdev)?;
        entry::set_owner(place.to, place.to_name, self.owner(stat))?;
        entry::set_mode(place.to, place.to_name, self.mode(stat))?;
        entry::set_times(place.to, place.to_name, self.time(stat))
    }

    /// Returns true if the patterns want the file or directory at `path` itself.
    fn wanted(&self, path: &str) -> bool {
        let options = self.options;
        (options.include.is_empty() || options.include.matches(path))
            && !options.exclude.matches(path)
    }

    /// Returns true if the patterns want anything below a directory.
    fn any_included(
        &self,
        from: BorrowedFd<'_>,
        path: &str,
        depth: usize,
    ) -> std::io::Result<bool> {
        if depth > MAX_DEPTH {
            return Ok(false);
        }
        for name in entry::names(from)? {
            let path = join(path, &name);
            if self.wanted(&path) {
                return Ok(true);
            }
            if entry::kind(&entry::stat(from, &name)?) == FileType::Directory {
                let inner = entry::open_dir(from, &name)?;
                if self.any_included(inner.as_fd(), &path, depth + 1)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn owner(&self, stat: &Stat) -> Owner {
        self.options.owner.unwrap_or(Owner { uid: stat.st_uid, gid: stat.st_gid })
    }

    fn mode(&self, stat: &Stat) -> u32 {
        let mode = stat.st_mode & 0o7777;
        let is_directory = entry::kind(stat) == FileType::Directory;
        self.options.mode.as_ref().map_or(mode, |change| change.apply(mode, is_directory))
    }

    fn time(&self, stat: &Stat) -> rustix::fs::Timespec {
        self.options.timestamp.map_or_else(|| entry::modified(stat), entry::timespec)
    }
}

/// Gives what is at `first` below a directory another name.
fn link_below(mut directory: OwnedFd, first: &str, place: &Place<'_>) -> std::io::Result<()> {
    let (parents, name) = first.rsplit_once('/').unwrap_or(("", first));
    for parent in parents.split('/').filter(|parent| !parent.is_empty()) {
        directory = entry::open_dir(directory.as_fd(), OsStr::new(parent))?;
    }
    let flags = AtFlags::empty();
    Ok(rustix::fs::linkat(&directory, name, place.to, place.to_name, flags)?)
}

fn join(path: &str, name: &OsStr) -> String {
    let name = String::from_utf8_lossy(name.as_bytes());
    if path.is_empty() { name.into_owned() } else { format!("{path}/{name}") }
}
