//! Directories to sync, and what is in them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use mount::HostPath;
use proptest::prelude::*;
use session::KeptTree;
use tempfile::TempDir;

/// Returns a place for a kept tree.
pub(crate) fn kept(place: &TempDir) -> KeptTree {
    let path = HostPath::new(place.path()).unwrap();
    fs::create_dir_all(path.join("tree")).unwrap();
    KeptTree { tree: path.join("tree"), index: Some(path.join("index")) }
}

/// What a test compares of one entry: everything but who owns it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    mode: u32,
    modified: (i64, i64),
    content: Vec<u8>,
    device: u64,
    /// The first path of the same file.
    same_as: String,
}

/// Returns all entries below `root`.
pub(crate) fn look(root: &Path) -> BTreeMap<String, Entry> {
    let mut entries = BTreeMap::new();
    let mut first = BTreeMap::new();
    visit(root, "", &mut entries, &mut first);
    entries
}

fn visit(
    root: &Path,
    relative: &str,
    entries: &mut BTreeMap<String, Entry>,
    first: &mut BTreeMap<u64, String>,
) {
    let mut names: Vec<_> = fs::read_dir(root.join(relative))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for name in names {
        let path = if relative.is_empty() { name } else { format!("{relative}/{name}") };
        let at = root.join(&path);
        let metadata = at.symlink_metadata().unwrap();
        let content = if metadata.is_file() {
            fs::read(&at).unwrap()
        } else if metadata.is_symlink() {
            fs::read_link(&at).unwrap().into_os_string().into_encoded_bytes()
        } else {
            Vec::new()
        };
        let same_as = if metadata.is_file() {
            first.entry(metadata.ino()).or_insert_with(|| path.clone()).clone()
        } else {
            path.clone()
        };
        let entry = Entry {
            mode: metadata.mode(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            content,
            device: metadata.rdev(),
            same_as,
        };
        let is_dir = metadata.is_dir();
        entries.insert(path.clone(), entry);
        if is_dir {
            visit(root, &path, entries, first);
        }
    }
}

/// One thing that somebody does to a directory.
#[derive(Debug, Clone)]
pub(crate) enum Edit {
    File(String, Vec<u8>),
    Directory(String),
    Symlink(String, String),
    HardLink(String, String),
    Fifo(String),
    Mode(String, u32),
    Rename(String, String),
    Remove(String),
}

impl Edit {
    /// Does it, if it can be done.
    pub(crate) fn apply(&self, root: &Path) {
        let at = |path: &String| root.join(path);
        let _ = match self {
            Self::File(path, content) => {
                // A new inode, as editors make one.
                let _ = fs::remove_file(at(path));
                fs::write(at(path), content)
            }
            Self::Directory(path) => fs::create_dir(at(path)),
            Self::Symlink(path, target) => symlink(target, at(path)),
            Self::HardLink(path, target) => fs::hard_link(at(target), at(path)),
            Self::Fifo(path) => rustix::fs::mknodat(
                rustix::fs::CWD,
                at(path),
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::from_raw_mode(0o640),
                0,
            )
            .map_err(Into::into),
            Self::Mode(path, mode) => {
                let is_link = at(path).is_symlink();
                let permissions = std::os::unix::fs::PermissionsExt::from_mode(*mode);
                if is_link { Ok(()) } else { fs::set_permissions(at(path), permissions) }
            }
            Self::Rename(from, to) => fs::rename(at(from), at(to)),
            Self::Remove(path) => {
                fs::remove_file(at(path)).or_else(|_| fs::remove_dir_all(at(path)))
            }
        };
    }
}

/// Returns random edits of a small tree, so that they often meet.
pub(crate) fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let path = "[ab-]{1,2}(/[ab]){0,2}";
    let content = prop_oneof![
        3 => proptest::collection::vec(any::<u8>(), 0..20),
        1 => (any::<u8>(), 30_000usize..100_000).prop_map(|(byte, length)| vec![byte; length]),
    ];
    let edit = prop_oneof![
        4 => (path, content).prop_map(|(path, content)| Edit::File(path, content)),
        4 => path.prop_map(Edit::Directory),
        1 => (path, path).prop_map(|(path, target)| Edit::Symlink(path, target)),
        2 => (path, path).prop_map(|(path, target)| Edit::HardLink(path, target)),
        1 => path.prop_map(Edit::Fifo),
        1 => (path, 0u32..0o10000).prop_map(|(path, mode)| Edit::Mode(path, mode | 0o500)),
        1 => (path, path).prop_map(|(from, to)| Edit::Rename(from, to)),
        2 => path.prop_map(Edit::Remove),
    ];
    proptest::collection::vec(edit, 0..24)
}
