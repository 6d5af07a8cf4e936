//! Directories as a client sees them, read and written with the standard library only.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::Stat;

/// The bits of a mode that are zero for a regular file.
pub(super) const TYPE_BITS: u32 = 0x8f28_0000;

/// Which entries of a directory are wanted.
#[derive(Debug, Default)]
pub(super) struct Filter {
    pub(super) include: Vec<String>,
    pub(super) exclude: Vec<String>,
    pub(super) follow: Vec<String>,
}

impl Filter {
    /// Returns the entries of `root` that are wanted, in the order of a transfer.
    pub(super) fn list(mut self, root: &Path) -> io::Result<Vec<Stat>> {
        for path in std::mem::take(&mut self.follow) {
            self.follow(root, &path);
        }
        let mut stats = Vec::new();
        visit(root, Path::new(""), &mut HashMap::new(), &mut stats)?;
        let wanted: Vec<bool> = stats.iter().map(|stat| self.wants(&stat.path)).collect();
        let mut kept = Vec::new();
        for (number, stat) in stats.iter().enumerate() {
            let inside = format!("{}/", stat.path);
            let holds_wanted = stats
                .iter()
                .zip(&wanted)
                .skip(number)
                .take_while(|(other, _)| other.path == stat.path || other.path.starts_with(&inside))
                .any(|(_, wanted)| *wanted);
            if wanted[number] || holds_wanted {
                kept.push(stat.clone());
            }
        }
        Ok(kept)
    }

    fn follow(&mut self, root: &Path, path: &str) {
        self.include.push(path.to_owned());
        if let Ok(target) = fs::read_link(root.join(path)) {
            let next = Path::new(path).parent().unwrap_or(Path::new("")).join(target);
            let next = next.to_string_lossy().into_owned();
            if !self.include.contains(&next) {
                self.follow(root, &next);
            }
        }
    }

    fn wants(&self, path: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, path));
        (self.include.is_empty() || any(&self.include)) && !any(&self.exclude)
    }
}

/// Returns true if `path`, or a directory it is in, is `pattern`; one `*` stands for anything.
fn matches(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        Some((start, end)) => {
            path.len() >= start.len() + end.len() && path.starts_with(start) && path.ends_with(end)
        }
        None => path == pattern || path.starts_with(&format!("{pattern}/")),
    }
}

fn visit(
    root: &Path,
    relative: &Path,
    seen: &mut HashMap<u64, String>,
    stats: &mut Vec<Stat>,
) -> io::Result<()> {
    let mut names: Vec<_> = fs::read_dir(root.join(relative))?
        .map(|e| Ok(e?.file_name()))
        .collect::<io::Result<_>>()?;
    names.sort();
    for name in names {
        let relative = relative.join(name);
        let metadata = root.join(&relative).symlink_metadata()?;
        let is_dir = metadata.is_dir();
        stats.push(stat(root, &relative, &metadata, seen)?);
        if is_dir {
            visit(root, &relative, seen, stats)?;
        }
    }
    Ok(())
}

fn stat(
    root: &Path,
    relative: &Path,
    metadata: &fs::Metadata,
    seen: &mut HashMap<u64, String>,
) -> io::Result<Stat> {
    let path = relative.to_string_lossy().into_owned();
    let mut stat = Stat {
        mode: go_mode(metadata),
        size: if metadata.is_dir() { 0 } else { metadata.len() as i64 },
        mod_time: metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec(),
        ..Stat::default()
    };
    let kind = metadata.file_type();
    if kind.is_symlink() {
        stat.linkname = fs::read_link(root.join(relative))?.to_string_lossy().into_owned();
    } else if kind.is_block_device() || kind.is_char_device() {
        stat.devmajor = rustix::fs::major(metadata.rdev()).into();
        stat.devminor = rustix::fs::minor(metadata.rdev()).into();
    } else if metadata.is_file() && metadata.nlink() > 1 {
        match seen.get(&metadata.ino()) {
            Some(first) => {
                stat.linkname.clone_from(first);
                stat.size = 0;
            }
            None => {
                seen.insert(metadata.ino(), path.clone());
            }
        }
    }
    stat.path = path;
    Ok(stat)
}

fn go_mode(metadata: &fs::Metadata) -> u32 {
    let mode = metadata.permissions().mode();
    let kind = metadata.file_type();
    let bits = [
        (kind.is_dir(), 1 << 31),
        (kind.is_symlink(), 1 << 27),
        (kind.is_block_device() || kind.is_char_device(), 1 << 26),
        (kind.is_fifo(), 1 << 25),
        (mode & 0o4000 != 0, 1 << 23),
        (mode & 0o2000 != 0, 1 << 22),
        (kind.is_char_device(), 1 << 21),
        (mode & 0o1000 != 0, 1 << 20),
    ];
    bits.into_iter().filter(|(set, _)| *set).fold(mode & 0o777, |mode, (_, bit)| mode | bit)
}

/// The order of a transfer, as a key.
pub(super) fn key(path: &str) -> Vec<&str> {
    path.split('/').collect()
}

/// Writes a tree whose entries were checked; `contents` are those of its regular files.
pub(super) fn write(
    root: &Path,
    stats: &BTreeMap<Vec<String>, Stat>,
    contents: &BTreeMap<String, Vec<u8>>,
) -> io::Result<()> {
    for stat in stats.values() {
        let path = root.join(&stat.path);
        if path.symlink_metadata().is_ok_and(|found| !found.is_dir() || stat.mode >> 31 == 0) {
            remove(&path)?;
        }
        if stat.mode >> 31 == 1 {
            fs::create_dir_all(&path)?;
        } else if stat.mode & 1 << 27 != 0 {
            std::os::unix::fs::symlink(&stat.linkname, &path)?;
        } else if !stat.linkname.is_empty() {
            fs::hard_link(root.join(&stat.linkname), &path)?;
        } else if let Some(content) = contents.get(&stat.path) {
            fs::write(&path, content)?;
        }
        if stat.mode & 1 << 27 == 0 {
            fs::set_permissions(&path, fs::Permissions::from_mode(stat.mode & 0o777))?;
        }
    }
    // What is written into a directory moves its time, so these come last.
    for stat in stats.values().rev().filter(|stat| stat.mode & (1 << 27) == 0) {
        if let Ok(nanoseconds) = u64::try_from(stat.mod_time) {
            let time = UNIX_EPOCH + Duration::from_nanos(nanoseconds);
            fs::File::open(root.join(&stat.path))?.set_modified(time)?;
        }
    }
    Ok(())
}

/// Removes what is below `root` and not among `stats`.
pub(super) fn mirror(root: &Path, stats: &BTreeMap<Vec<String>, Stat>) -> io::Result<()> {
    let mut found = Vec::new();
    visit(root, Path::new(""), &mut HashMap::new(), &mut found)?;
    for stat in found.iter().rev() {
        let key: Vec<String> = key(&stat.path).into_iter().map(str::to_owned).collect();
        if !stats.contains_key(&key) {
            remove(&root.join(&stat.path))?;
        }
    }
    Ok(())
}

fn remove(path: &PathBuf) -> io::Result<()> {
    if path.symlink_metadata()?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}
