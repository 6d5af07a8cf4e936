//! Digests of files and directories by what they contain, computed once.
//!
//! A digest covers type, permissions, owner, extended attributes and content of a file, and of a
//! directory its own attributes and the names and digests of all in it: never times, which differ
//! between two checkouts of the same commit. The root of a tree counts by its content alone.
//!
//! A [`Checksums`] belongs to one tree and remembers every digest it computed. When files of the tree
//! change, they are [forgotten](Checksums::forget) by path with the directories above them, so that a
//! tree in which nothing changed costs nothing, however large.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _};
use std::ops::Bound;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use digests::{Digest, FileContent, FileHasher, StableHasher};
use mount::{GuestPath, RootDir};
use parking_lot::Mutex;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// How deep a tree may be. Deeper ones exist only to do harm.
const MAX_DEPTH: usize = 1024;

/// How many links are followed on the way to a file, as by the kernel.
const MAX_LINKS: usize = 40;

/// A regular file without extended attributes, as somebody knows it who wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownFile {
    /// What it contains.
    pub content: FileContent,
    /// Type and permission bits, as `stat(2)` tells them.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The owner's group.
    pub gid: u32,
}

/// The digests known of one tree.
#[derive(Debug, Default)]
pub struct Checksums {
    // Held for a look or an insertion only; two threads may compute the same digest at once.
    known: Mutex<BTreeMap<PathBuf, Digest>>,
}

impl Checksums {
    /// Returns the digest of what is at `path` of `tree`; a link at the end is not followed. Blocks.
    ///
    /// # Errors
    /// Returns the error of the system call that failed; `ENOENT` if nothing is at `path`.
    pub fn digest(&self, tree: &RootDir, path: &GuestPath) -> io::Result<Digest> {
        if let Some(digest) = self.get(path.as_path()) {
            return Ok(digest);
        }
        // By its real place: a change is told by that, whatever links lead there.
        let path = without_links(tree, path)?;
        let mut place = path.as_path().to_path_buf();
        let looked = match tree.parent_of(&path)? {
            Some((directory, name)) => self.look(directory.as_fd(), name, &place)?,
            None => Looked::Directory(Level::open(tree.open_dir(&path)?, None)?),
        };
        match looked {
            Looked::Known(digest) => Ok(digest),
            Looked::Directory(level) => self.walk(level, &mut place),
        }
    }

    /// Forgets what is known of `path`, of all below it, and of the directories it is in.
    pub fn forget(&self, path: &GuestPath) {
        let mut known = self.known.lock();
        for ancestor in path.as_path().ancestors() {
            known.remove(ancestor);
        }
        let below: Vec<PathBuf> = known
            .range::<PathBuf, _>((Bound::Excluded(path.as_path().to_path_buf()), Bound::Unbounded))
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(path.as_path()))
            .cloned()
            .collect();
        for path in below {
            known.remove(&path);
        }
    }

    /// Takes what was found out of files while they were written, by their real paths, so that they
    /// need not be read. What was known of them and of the directories they are in is to be forgotten
    /// before.
    pub fn learn(&self, files: impl IntoIterator<Item = (GuestPath, KnownFile)>) {
        let mut known = self.known.lock();
        for (path, file) in files {
            let mut hasher = start(file.mode, file.uid, file.gid);
            feed_no_xattrs(&mut hasher);
            known.insert(path.as_path().to_path_buf(), hasher.feed(&file.content).finish());
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.known.lock().clear();
    }

    fn get(&self, path: &Path) -> Option<Digest> {
        self.known.lock().get(path).copied()
    }

    /// Returns the digest of an entry, or the entry opened if it is a directory.
    fn look(&self, directory: BorrowedFd<'_>, name: &OsStr, path: &Path) -> io::Result<Looked> {
        if let Some(digest) = self.get(path) {
            return Ok(Looked::Known(digest));
        }
        let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mut hasher = start(stat.st_mode, stat.st_uid, stat.st_gid);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let inner = open(directory, name, OFlags::DIRECTORY)?;
                feed_xattrs(&mut hasher, inner.as_fd())?;
                return Ok(Looked::Directory(Level::open(inner, Some((name, hasher)))?));
            }
            FileType::RegularFile => {
                let file = open(directory, name, OFlags::NONBLOCK)?;
                feed_xattrs(&mut hasher, file.as_fd())?;
                hasher.feed(&content(file, &stat)?);
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(directory, name, Vec::new())?;
                hasher.feed(target.as_bytes());
            }
            _ => {
                hasher.feed(&(stat.st_rdev as u64));
            }
        }
        let digest = hasher.finish();
        self.known.lock().insert(path.to_path_buf(), digest);
        Ok(Looked::Known(digest))
    }

    /// Returns the digest of a directory with all below it. Not by recursion: how deep a tree is
    /// decides who made it.
    fn walk(&self, top: Level, path: &mut PathBuf) -> io::Result<Digest> {
        let mut outer: Vec<Level> = Vec::new();
        let mut level = top;
        loop {
            if let Some(name) = level.names.next() {
                path.push(&name);
                match self.look(level.directory.as_fd(), &name, path)? {
                    Looked::Known(digest) => {
                        path.pop();
                        level.children.feed(name.as_bytes()).feed(&digest);
                    }
                    Looked::Directory(_) if outer.len() >= MAX_DEPTH => {
                        let text = format!("more than {MAX_DEPTH} directories deep");
                        return Err(io::Error::other(text));
                    }
                    Looked::Directory(inner) => outer.push(std::mem::replace(&mut level, inner)),
                }
                continue;
            }
            let (name, digest) = level.finish();
            self.known.lock().insert(path.clone(), digest);
            let Some(above) = outer.pop() else { return Ok(digest) };
            level = above;
            path.pop();
            level.children.feed(name.as_bytes()).feed(&digest);
        }
    }
}

/// What there is at a place.
#[expect(clippy::large_enum_variant, reason = "one at a time, and never stored")]
enum Looked {
    Known(Digest),
    Directory(Level),
}

/// A directory whose entries are being looked at.
struct Level {
    directory: OwnedFd,
    names: std::vec::IntoIter<OsString>,
    children: StableHasher,
    /// Its name and its own attributes; none for the root, which counts by its content alone.
    own: Option<(OsString, StableHasher)>,
}

impl Level {
    fn open(directory: OwnedFd, own: Option<(&OsStr, StableHasher)>) -> io::Result<Self> {
        let names = names(directory.as_fd())?;
        let mut children = StableHasher::new("directory.v1");
        children.feed(&(names.len() as u64));
        let own = own.map(|(name, hasher)| (name.to_owned(), hasher));
        Ok(Self { directory, names: names.into_iter(), children, own })
    }

    fn finish(self) -> (OsString, Digest) {
        let children = self.children.finish();
        match self.own {
            None => (OsString::new(), children),
            Some((name, mut own)) => (name, own.feed(&children).finish()),
        }
    }
}

/// Returns `path` with the links on the way to its last component followed.
fn without_links(tree: &RootDir, path: &GuestPath) -> io::Result<GuestPath> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(path.clone());
    };
    let way = if parent.is_root() { ".".as_ref() } else { parent.relative() };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(tree.as_fd(), way, flags, Mode::empty(), resolve) {
        Ok(_) => return Ok(path.clone()),
        Err(Errno::LOOP) => {}
        Err(error) => return Err(error.into()),
    }
    let parts =
        |path: &Path| path.components().map(|part| part.as_os_str().to_owned()).rev().collect();
    let mut left: Vec<OsString> = parts(parent.as_path());
    let (mut real, mut links) = (GuestPath::root(), 0);
    while let Some(part) = left.pop() {
        let next = real.join(&part).map_err(io::Error::other)?;
        let stat = tree.symlink_stat(&next)?;
        let Some((directory, name)) = tree.parent_of(&next)? else {
            real = next;
            continue;
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            real = next;
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(Errno::LOOP.into());
        }
        let target = rustix::fs::readlinkat(&directory, name, Vec::new())?;
        left.extend(parts(Path::new(OsStr::from_bytes(target.as_bytes()))));
    }
    real.join(name).map_err(io::Error::other)
}

fn open(directory: BorrowedFd<'_>, name: &OsStr, more: OFlags) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
    Ok(rustix::fs::openat(directory, name, flags, Mode::empty())?)
}

fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Starts the digest of an entry.
fn start(mode: u32, uid: u32, gid: u32) -> StableHasher {
    let mut hasher = StableHasher::new("file.v2");
    hasher.feed(&mode).feed(&uid).feed(&gid);
    hasher
}

fn content(file: OwnedFd, stat: &Stat) -> io::Result<FileContent> {
    let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
    let mut file = std::fs::File::from(file);
    if size <= 256 << 10 {
        let mut bytes = Vec::with_capacity(size + 1);
        file.read_to_end(&mut bytes)?;
        return Ok(FileContent::of(bytes));
    }
    let mut hasher = FileHasher::default();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&buffer[..count]);
    }
}

fn feed_no_xattrs(hasher: &mut StableHasher) {
    hasher.feed(&0_u64);
}

/// Feeds the attributes that belong to a file's meaning, sorted by name.
fn feed_xattrs(hasher: &mut StableHasher, file: BorrowedFd<'_>) -> io::Result<()> {
    let mut buffer = vec![0_u8; 512];
    let mut listed = rustix::fs::flistxattr(file, &mut buffer[..]);
    if listed == Err(Errno::RANGE) {
        buffer.resize(64 << 10, 0);
        listed = rustix::fs::flistxattr(file, &mut buffer[..]);
    }
    let count = match listed {
        Ok(0) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            feed_no_xattrs(hasher);
            return Ok(());
        }
        Ok(count) => count,
        Err(error) => return Err(error.into()),
    };
    let mut names: Vec<&[u8]> = buffer[..count]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty() && !name.starts_with(b"trusted.overlay."))
        .filter(|name| !name.starts_with(b"user.overlay.") && *name != b"security.selinux")
        .collect();
    names.sort_unstable();
    hasher.feed(&(names.len() as u64));
    let mut value = vec![0_u8; 64 << 10];
    for name in names {
        let count = rustix::fs::fgetxattr(file, name, &mut value[..])?;
        hasher.feed(name).feed(&value[..count]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use mount::HostPath;

    use super::*;

    fn tree() -> (tempfile::TempDir, RootDir) {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("d/e")).unwrap();
        fs::write(directory.path().join("d/e/f"), "one").unwrap();
        fs::write(directory.path().join("d/g"), "two").unwrap();
        symlink("e/f", directory.path().join("d/link")).unwrap();
        let root = RootDir::open(&HostPath::new(directory.path()).unwrap()).unwrap();
        (directory, root)
    }

    fn digest(root: &RootDir, path: &str) -> Digest {
        Checksums::default().digest(root, &GuestPath::new(path).unwrap()).unwrap()
    }

    #[test]
    fn equal_trees_are_equal_whenever_they_were_made() {
        let ((_a, a), (_b, b)) = (tree(), tree());
        for path in ["/", "/d", "/d/e/f", "/d/link"] {
            assert_eq!(digest(&a, path), digest(&b, path), "{path}");
        }
        assert_ne!(digest(&a, "/d/e/f"), digest(&a, "/d/link"));
    }

    #[test]
    fn every_kind_of_change_shows_up_to_the_root() {
        type Edit = fn(&std::path::Path);
        let edits: [Edit; 6] = [
            |root| fs::write(root.join("d/e/f"), "changed").unwrap(),
            |root| fs::rename(root.join("d/g"), root.join("d/h")).unwrap(),
            |root| fs::remove_file(root.join("d/g")).unwrap(),
            |root| fs::set_permissions(root.join("d/g"), PermissionsExt::from_mode(0o755)).unwrap(),
            |root| fs::create_dir(root.join("d/empty")).unwrap(),
            |root| {
                fs::remove_file(root.join("d/link")).unwrap();
                symlink("g", root.join("d/link")).unwrap();
            },
        ];
        for edit in edits {
            let (directory, root) = tree();
            let before = digest(&root, "/");
            edit(directory.path());
            assert_ne!(digest(&root, "/"), before);
        }
    }

    #[test]
    fn what_is_forgotten_is_computed_again_and_nothing_else() {
        let (directory, root) = tree();
        let sums = Checksums::default();
        let path = |path: &str| GuestPath::new(path).unwrap();
        let before = sums.digest(&root, &path("/")).unwrap();
        fs::write(directory.path().join("d/e/f"), "changed").unwrap();
        fs::write(directory.path().join("d/g"), "changed, but not told").unwrap();
        assert_eq!(sums.digest(&root, &path("/")).unwrap(), before);
        sums.forget(&path("/d/e/f"));
        let after = sums.digest(&root, &path("/")).unwrap();
        assert_ne!(after, before);
        fs::write(directory.path().join("d/g"), "two").unwrap();
        assert_eq!(digest(&root, "/"), after);
        fs::write(directory.path().join("d/e/f"), "again").unwrap();
        sums.forget(&path("/d"));
        assert_eq!(sums.digest(&root, &path("/")).unwrap(), digest(&root, "/"));
    }

    #[test]
    fn nothing_there_is_an_error() {
        let (_directory, root) = tree();
        let missing = GuestPath::new("/no/such").unwrap();
        let error = Checksums::default().digest(&root, &missing).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
