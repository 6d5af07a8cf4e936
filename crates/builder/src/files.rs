//! Looking into a result: files, directories, what they are (protocol page `gateway.md` §3).

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, SystemTime};

use bridge::{BuildError, FileRange, FileStat, Kind};
use bytes::Bytes;
use mount::{GuestPath, RootDir};
use patterns::PatternList;
use rustix::fs::{AtFlags, FileType, Stat};

/// The most that is read of a file at once: what fits into one message, bytes.
const LONGEST: u64 = 16 << 20;

fn failed(action: &str, path: &str, error: &io::Error) -> BuildError {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default().to_lowercase();
    BuildError::new(Kind::User, format!("{action} {path}: {text}"))
}

fn guest(path: &str) -> Result<GuestPath, BuildError> {
    GuestPath::new(path).map_err(|error| BuildError::from_error(Kind::InvalidRequest, error))
}

/// Reads a regular file, or a part of it. Blocks.
pub(crate) fn read_file(
    root: &RootDir,
    path: &str,
    range: Option<FileRange>,
) -> Result<Bytes, BuildError> {
    let fail = |error: io::Error| failed("open", path, &error);
    let mut file = root.open_file(&guest(path)?).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    if !metadata.is_file() {
        return Err(BuildError::new(Kind::User, format!("{path} is not a regular file")));
    }
    let range = range.unwrap_or(FileRange { offset: 0, length: metadata.len() });
    if range.length > LONGEST {
        let text = format!(
            "{path} has {} bytes, more than the {LONGEST} that can be read at once",
            range.length
        );
        return Err(BuildError::new(Kind::User, text));
    }
    file.seek(SeekFrom::Start(range.offset)).map_err(fail)?;
    let mut bytes = Vec::new();
    file.take(range.length).read_to_end(&mut bytes).map_err(fail)?;
    Ok(bytes.into())
}

/// Returns the children of a directory, sorted by name. Blocks.
pub(crate) fn read_dir(
    root: &RootDir,
    path: &str,
    include: Option<&str>,
) -> Result<Vec<FileStat>, BuildError> {
    let fail = |error: io::Error| failed("open", path, &error);
    let include = match include.filter(|pattern| !pattern.is_empty()) {
        None => None,
        Some(pattern) => Some(
            PatternList::new(&[pattern])
                .map_err(|error| BuildError::from_error(Kind::InvalidRequest, error))?,
        ),
    };
    let directory = root.open_dir(&guest(path)?).map_err(fail)?;
    let mut children = Vec::new();
    for entry in rustix::fs::Dir::read_from(&directory).map_err(|error| fail(error.into()))? {
        let entry = entry.map_err(|error| fail(error.into()))?;
        let name = entry.file_name();
        let shown = name.to_string_lossy().into_owned();
        let wanted = include.as_ref().is_none_or(|include| include.matches(&shown));
        if matches!(name.to_bytes(), b"." | b"..") || !wanted {
            continue;
        }
        let stat = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.map_err(|error| fail(error.into()))?;
        let target =
            link_target(&stat, || rustix::fs::readlinkat(directory.as_fd(), name, Vec::new()));
        children.push(file_stat(shown, &stat, target.map_err(|error| fail(error.into()))?));
    }
    children.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(children)
}

/// Returns what is at `path`, links followed. Blocks.
pub(crate) fn stat_file(root: &RootDir, path: &str) -> Result<FileStat, BuildError> {
    let place = guest(path)?;
    let stat =
        root.stat(&place).map_err(|error| failed("lstat", path.trim_start_matches('/'), &error))?;
    let name = place.file_name().map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned());
    Ok(file_stat(name.unwrap_or_else(|| "/".to_owned()), &stat, String::new()))
}

fn link_target(
    stat: &Stat,
    read: impl FnOnce() -> rustix::io::Result<std::ffi::CString>,
) -> rustix::io::Result<String> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        return Ok(String::new());
    }
    Ok(read()?.to_string_lossy().into_owned())
}

fn file_stat(name: String, stat: &Stat, link_target: String) -> FileStat {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    FileStat {
        name,
        mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified: SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds),
        link_target,
        device: (rustix::fs::major(stat.st_rdev).into(), rustix::fs::minor(stat.st_rdev).into()),
    }
}

#[cfg(test)]
mod tests {
    use mount::HostPath;

    use super::*;

    #[test]
    fn files_are_read_inside_the_tree_with_the_texts_that_frontends_know() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("f"), "0123456789").unwrap();
        std::os::unix::fs::symlink("/f", directory.path().join("l")).unwrap();
        let root = RootDir::open(&HostPath::new(directory.path()).unwrap()).unwrap();
        assert_eq!(read_file(&root, "/l", None).unwrap(), "0123456789");
        let range = FileRange { offset: 2, length: 3 };
        assert_eq!(read_file(&root, "f", Some(range)).unwrap(), "234");
        let error = read_file(&root, "/x", None).unwrap_err();
        assert_eq!(error.to_string(), "open /x: no such file or directory");
        let error = stat_file(&root, "x").unwrap_err();
        assert_eq!(error.to_string(), "lstat x: no such file or directory");
        assert_eq!(read_file(&root, "/", None).unwrap_err().to_string(), "/ is not a regular file");
        let stat = stat_file(&root, "l").unwrap();
        assert_eq!((stat.name.as_str(), stat.size), ("l", 10));
        let names = |include| -> Vec<String> {
            read_dir(&root, "/", include).unwrap().into_iter().map(|stat| stat.name).collect()
        };
        assert_eq!(names(None), ["f", "l"]);
        assert_eq!(names(Some("l*")), ["l"]);
        assert_eq!(read_dir(&root, "/", None).unwrap()[1].link_target, "/f");
    }
}
