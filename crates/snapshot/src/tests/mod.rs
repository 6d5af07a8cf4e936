//! Tests on real file systems, through the public interface; they need root.

mod archives;
mod compressed;
mod differences;
mod drivers;
mod fakes;
mod walks;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use mount::{DetachedMount, HostPath, Mount};
use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat};

use crate::walk::{Event, HardLinks, Walk};
use crate::{LayerKey, SnapshotError, Snapshotter};

/// A directory that is removed at the end of the test.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> HostPath {
        HostPath::new(self.0.path().join(name)).unwrap()
    }

    fn directory(&self, name: &str) -> HostPath {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }
}

fn key(text: &str) -> LayerKey {
    LayerKey::new(text).unwrap()
}

fn keys(texts: &[&str]) -> Vec<LayerKey> {
    texts.iter().map(|text| key(text)).collect()
}

/// A mounted tree, with a path for the standard library.
struct Mounted(DetachedMount);

impl Mounted {
    fn new(mount: &Mount) -> Self {
        Self(mount::detached::open(mount).unwrap())
    }

    fn path(&self, below: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_fd().as_raw_fd())).join(below)
    }
}

/// Makes a layer whose changes `write` makes in the directory it is given.
async fn layer(
    snapshotter: &dyn Snapshotter,
    name: &str,
    stack: &[LayerKey],
    write: impl FnOnce(&Path),
) -> Result<Vec<LayerKey>, SnapshotError> {
    let active = snapshotter.prepare(key(name), stack).await?;
    write(&Mounted::new(active.mount()).path("."));
    active.commit().await?;
    Ok([stack, &[key(name)]].concat())
}

/// What a tree looks like, path by path.
type Picture = BTreeMap<PathBuf, String>;

/// Which times are part of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Times {
    /// To the nanosecond.
    Exact,
    /// Whole seconds, as an archive has them.
    Seconds,
    None,
}

fn picture(root: impl AsFd, times: Times) -> Picture {
    let mut picture = Picture::new();
    let mut links = HardLinks::default();
    let mut walk = Walk::new(root).unwrap();
    while let Some(event) = walk.next().unwrap() {
        let Event::Enter(entry) = event else { continue };
        if let Some(first) = links.first(&entry) {
            let text = format!("link to {}", first.display());
            picture.insert(entry.path().to_path_buf(), text);
            continue;
        }
        let stat = entry.stat();
        let content = match entry.file_type() {
            FileType::RegularFile => {
                let content = std::io::read_to_string(entry.open().unwrap()).unwrap();
                if content.len() < 100 { content } else { digests::Digest::of(content).to_string() }
            }
            FileType::Symlink => entry.read_link().unwrap().display().to_string(),
            FileType::Directory => if entry.is_opaque().unwrap() { "opaque" } else { "" }.into(),
            _ => stat.st_rdev.to_string(),
        };
        let time = match times {
            Times::Exact => format!("{}.{}", stat.st_mtime, stat.st_mtime_nsec),
            Times::Seconds => stat.st_mtime.to_string(),
            Times::None => String::new(),
        };
        let (mode, owner) = (stat.st_mode, (stat.st_uid, stat.st_gid));
        // A whiteout has no attributes of its own.
        let text = if entry.is_whiteout() {
            "whiteout".to_owned()
        } else {
            format!("{mode:o} {owner:?} {time} {:?} {content}", entry.xattrs().unwrap())
        };
        picture.insert(entry.path().to_path_buf(), text);
    }
    picture
}

fn picture_of(path: impl AsRef<Path>, times: Times) -> Picture {
    picture(fs::File::open(path).unwrap(), times)
}

fn write(root: &Path, path: &str, content: &str) {
    fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
    fs::write(root.join(path), content).unwrap();
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Checks that a picture shows what [`write_zoo`] wrote; what is not seen is not compared.
fn assert_is_zoo(picture: &Picture) {
    for (path, expected) in [
        ("bin/su", "104755 (0, 5)"),
        ("bin/ping", "security.capability"),
        ("bin/ping", "user.note"),
        ("bin/ping6", "link to bin/ping"),
        ("home/big-owner", "(3000000, 4000000000)"),
        ("home/dangling", "/etc/nothing"),
        ("tmp", "41777"),
        ("dev/null", "259"),
        ("sparse", "sha256:"),
    ] {
        assert!(
            picture[Path::new(path)].contains(expected),
            "{path}: {}",
            picture[Path::new(path)]
        );
    }
}

/// One of every kind of file, with everything that can be said of it.
fn write_zoo(root: &Path) {
    write(root, "bin/su", "program");
    std::os::unix::fs::chown(root.join("bin/su"), Some(0), Some(5)).unwrap();
    set_mode(&root.join("bin/su"), 0o4755);
    write(root, "bin/ping", "program");
    // CAP_DAC_OVERRIDE and CAP_FOWNER: the mask is a line feed.
    let capability = [1, 0, 0, 2, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set_xattr(&root.join("bin/ping"), "security.capability", &capability);
    set_xattr(&root.join("bin/ping"), "user.note", b"a\nb=c\0d");
    fs::hard_link(root.join("bin/ping"), root.join("bin/ping6")).unwrap();
    write(root, "home/big-owner", "");
    std::os::unix::fs::chown(root.join("home/big-owner"), Some(3_000_000), Some(4_000_000_000))
        .unwrap();
    symlink("/etc/nothing", root.join("home/dangling")).unwrap();
    symlink(format!("t/{}", "x".repeat(200)), root.join("home/long-link")).unwrap();
    write(root, &format!("names/{}", "n".repeat(255)), "long");
    write(root, "names/ümläut and  spaces\n", "odd");
    fs::create_dir(root.join("tmp")).unwrap();
    set_mode(&root.join("tmp"), 0o1777);
    write(root, "closed/inside", "hidden");
    set_mode(&root.join("closed/inside"), 0);
    set_mode(&root.join("closed"), 0o555);
    for (name, kind, device) in [
        ("pipe", FileType::Fifo, 0),
        ("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
        ("disk", FileType::BlockDevice, rustix::fs::makedev(7, 300)),
    ] {
        fs::create_dir_all(root.join("dev")).unwrap();
        mknodat(CWD, root.join("dev").join(name), kind, Mode::RUSR, device).unwrap();
    }
    let deep: PathBuf = std::iter::repeat_n("deep", 200).collect();
    write(root, deep.join("bottom").to_str().unwrap(), "deep");
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"end", (3 << 20) - 3).unwrap();
    for (path, seconds, nanos) in [("bin/su", 1_000_000_000, 123_456_789), ("tmp", 5, 0)] {
        let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanos };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        let path = root.join(path);
        rustix::fs::utimensat(CWD, &path, &times, rustix::fs::AtFlags::empty()).unwrap();
    }
}

/// A change to a tree, as a program would make it.
#[derive(Debug, Clone)]
enum Change {
    Write(PathBuf, u8),
    Directory(PathBuf),
    Symlink(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    Mode(PathBuf, u32),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl Change {
    /// Makes the change, or not if it does not apply.
    fn make(&self, root: &Path) {
        let _ = match self {
            Self::Write(path, content) => fs::write(root.join(path), [*content; 3]),
            Self::Directory(path) => fs::create_dir(root.join(path)),
            Self::Symlink(path, target) => symlink(target, root.join(path)),
            Self::Link(path, target) => {
                let is_file = fs::symlink_metadata(root.join(target)).is_ok_and(|m| m.is_file());
                if is_file { fs::hard_link(root.join(target), root.join(path)) } else { Ok(()) }
            }
            Self::Mode(path, mode) => match fs::symlink_metadata(root.join(path)) {
                Ok(metadata) if !metadata.is_symlink() => {
                    fs::set_permissions(root.join(path), fs::Permissions::from_mode(*mode))
                }
                _ => Ok(()),
            },
            Self::Remove(path) => match fs::symlink_metadata(root.join(path)) {
                Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(root.join(path)),
                _ => fs::remove_file(root.join(path)),
            },
            Self::Rename(from, to) => fs::rename(root.join(from), root.join(to)),
        };
    }
}

fn paths() -> impl Strategy<Value = PathBuf> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..=3)
        .prop_map(|names| names.into_iter().collect())
}

fn changes(count: usize) -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        3 => (paths(), any::<u8>()).prop_map(|(path, content)| Change::Write(path, content % 128)),
        4 => paths().prop_map(Change::Directory),
        1 => (paths(), paths()).prop_map(|(path, target)| Change::Symlink(path, target)),
        1 => (paths(), paths()).prop_map(|(path, target)| Change::Link(path, target)),
        1 => (paths(), prop::sample::select(vec![0o700, 0o755, 0o644]))
            .prop_map(|(path, mode)| Change::Mode(path, mode)),
        2 => paths().prop_map(Change::Remove),
        1 => (paths(), paths()).prop_map(|(from, to)| Change::Rename(from, to)),
    ];
    prop::collection::vec(change, 0..count)
}
