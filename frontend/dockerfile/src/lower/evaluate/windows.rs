//! Paths of images for Windows: backslashes separate, and a drive may stand before them.
//!
//! The graph knows slashes alone, and no drives; a working directory is written with backslashes again.

use super::super::PathError;
use crate::path::{Mark, clean};

const WINDOWS: &str = "windows";

/// Returns a path of an image for `system` as the graph has it. `mark` says whether a slash at the end is kept.
pub(super) fn plain(system: &str, path: &str, mark: Mark) -> Result<String, PathError> {
    if system != WINDOWS || path.is_empty() {
        return Ok(path.to_owned());
    }
    if path.len() == 2 && path.ends_with(':') {
        return Err(PathError::DriveAlone(path.to_owned()));
    }
    let path = path.replace('\\', "/");
    if path.starts_with("//") {
        return Err(PathError::Network(path));
    }
    let rest = match path.split_once(':') {
        None => &path,
        Some((drive, rest)) if drive.eq_ignore_ascii_case("c") => rest,
        Some(_) => return Err(PathError::OtherDrive(path)),
    };
    let mut cleaned = clean(rest);
    if mark == Mark::Kept && cleaned != "/" && rest.ends_with('/') {
        cleaned.push('/');
    }
    Ok(cleaned)
}

/// Returns a path of the graph as the image's configuration has it.
pub(super) fn native(system: &str, path: &str) -> String {
    if system == WINDOWS { path.replace('/', "\\") } else { path.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drives_and_backslashes_are_of_windows_alone() {
        let windows = |path| plain("windows", path, Mark::Kept);
        for (path, expected) in [
            ("C:\\a\\b", "/a/b"),
            ("c:/a/./b/", "/a/b/"),
            ("a\\b", "a/b"),
            ("C:a", "a"),
            ("C:\\", "/"),
            ("", ""),
        ] {
            assert_eq!(windows(path).as_deref(), Ok(expected), "{path}");
        }
        assert_eq!(windows("C:"), Err(PathError::DriveAlone("C:".into())));
        assert_eq!(windows("D:\\a"), Err(PathError::OtherDrive("D:/a".into())));
        assert_eq!(windows("\\\\host\\a"), Err(PathError::Network("//host/a".into())));
        assert_eq!(plain("linux", "C:\\a", Mark::Kept).as_deref(), Ok("C:\\a"));
        assert_eq!(native("windows", "/a/b"), "\\a\\b");
        assert_eq!(native("linux", "/a/b"), "/a/b");
    }
}
