//! The order in which a tree travels, and the check that a peer keeps to it.
//!
//! Paths are compared by their components: `/` sorts before every other byte, so `a`, `a/b`, `a-b`.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::packet::{Kind, Stat};
use crate::TransferError;

/// How deep a tree may be: each level costs whoever walks it an open directory.
const MAX_DEPTH: usize = 512;

/// Compares two paths in the order of a transfer.
pub(crate) fn compare(left: &[u8], right: &[u8]) -> Ordering {
    let rank = |byte: &u8| if *byte == b'/' { 0 } else { u16::from(*byte) + 1 };
    left.iter().map(rank).cmp(right.iter().map(rank))
}

/// Returns a path's directory (empty at the top) and its last component.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

/// Returns true if `path` is below `directory`.
pub(crate) fn is_below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// Checks that entries come in order, each strictly beneath the tree and after its directory, and
/// each hard link after its file.
#[derive(Debug, Default)]
pub(crate) struct Order {
    last: Vec<u8>,
    /// Directories that may still get entries, outermost first.
    open: Vec<Vec<u8>>,
    /// Files that a hard link may name, and whether each is new or changed in this transfer.
    files: HashMap<Box<[u8]>, bool>,
}

impl Order {
    /// Takes the next entry.
    ///
    /// # Errors
    /// Returns [`TransferError::Protocol`] if it cannot come here.
    pub(crate) fn check(&mut self, stat: &Stat) -> Result<(), TransferError> {
        let path = &stat.path[..];
        check_path(path)?;
        if stat.file_mode().kind().is_none() {
            return Err(protocol(format!(
                "unsupported file mode {:#o} of {}",
                stat.mode,
                quoted(path)
            )));
        }
        let (parent, _) = split(path);
        while self.open.last().is_some_and(|open| open != parent) {
            self.open.pop();
        }
        let parent_is_open = parent.is_empty() || !self.open.is_empty();
        let advances = self.last.is_empty() || compare(&self.last, path) == Ordering::Less;
        if !parent_is_open || !advances {
            let (path, last) = (quoted(path), quoted(&self.last));
            return Err(protocol(format!("changes out of order: {path} {last}")));
        }
        self.last.clear();
        self.last.extend_from_slice(path);
        if stat.is_dir() {
            self.open.push(path.to_vec());
        }
        if stat.is_hard_link() && !self.files.contains_key(&stat.link[..]) {
            let path = String::from_utf8_lossy(path);
            return Err(protocol(format!(
                "invalid link {path} to unknown path: {}",
                quoted(&stat.link)
            )));
        }
        Ok(())
    }

    /// Remembers that a checked entry is a file that hard links may name.
    pub(crate) fn file(&mut self, stat: &Stat, changed: bool) {
        let linkable =
            !matches!(stat.file_mode().kind(), Some(Kind::Directory | Kind::Symlink) | None);
        if linkable && stat.link.is_empty() {
            self.files.insert(Box::from(&stat.path[..]), changed);
        }
    }

    /// Returns true if `path` is a file that is new or changed in this transfer.
    pub(crate) fn has_changed(&self, path: &[u8]) -> bool {
        self.files.get(path).copied().unwrap_or(false)
    }
}

fn check_path(path: &[u8]) -> Result<(), TransferError> {
    if path.iter().filter(|byte| **byte == b'/').count() >= MAX_DEPTH {
        return Err(protocol(format!("path {} is too deep", quoted(path))));
    }
    let clean = |part: &[u8]| !matches!(part, b"" | b"." | b"..") && !part.contains(&0);
    if path.split(|byte| *byte == b'/').all(clean) {
        Ok(())
    } else {
        Err(protocol(format!("path {} is not clean and beneath the tree", quoted(path))))
    }
}

pub(crate) fn protocol(reason: String) -> TransferError {
    TransferError::Protocol(reason)
}

fn quoted(path: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(path))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIRECTORY: u32 = 1 << 31 | 0o755;

    fn entry(path: &str, mode: u32, link: &str) -> Stat {
        Stat { path: path.to_owned().into(), mode, link: link.to_owned().into(), ..Stat::default() }
    }

    fn check_all(entries: &[(&str, u32, &str)]) -> Result<(), TransferError> {
        let mut order = Order::default();
        for (path, mode, link) in entries {
            let stat = entry(path, *mode, link);
            order.check(&stat)?;
            order.file(&stat, true);
        }
        Ok(())
    }

    #[test]
    fn a_directory_comes_before_its_entries_and_those_before_its_longer_siblings() {
        check_all(&[
            ("a", DIRECTORY, ""),
            ("a/b", DIRECTORY, ""),
            ("a/b/c", 0o644, ""),
            ("a/d", 0o644, ""),
            ("a-b", DIRECTORY, ""),
            ("a-b/x", 0o644, "a/d"),
        ])
        .unwrap();
    }

    #[test]
    fn wrong_orders_are_refused() {
        for entries in [
            &[("b", 0o644, ""), ("a", 0o644, "")][..],
            &[("a", 0o644, ""), ("a", 0o644, "")],
            &[("a/b", 0o644, "")],
            &[("a", 0o644, ""), ("a/b", 0o644, "")],
            &[("a", DIRECTORY, ""), ("b", 0o644, ""), ("a/b", 0o644, "")],
            &[("a", 1 << 27 | 0o777, "/etc"), ("a/passwd", 0o644, "")],
        ] {
            let error = check_all(entries).unwrap_err().to_string();
            assert!(error.contains("changes out of order"), "{error}");
        }
    }

    #[test]
    fn paths_stay_beneath_the_tree() {
        for path in ["", "/", "/etc", "..", "../a", "a/..", "a//b", "./a", "a/", ".", "a\0"] {
            let error = check_all(&[("a", DIRECTORY, ""), (path, 0o644, "")]).unwrap_err();
            assert!(error.to_string().contains("is not clean"), "{path:?}: {error}");
        }
    }

    #[test]
    fn a_hard_link_needs_its_file_first() {
        let error = check_all(&[("a", 0o644, "b"), ("b", 0o644, "")]).unwrap_err();
        assert_eq!(error.to_string(), "invalid transfer: invalid link a to unknown path: \"b\"");
        assert!(check_all(&[("a", DIRECTORY, ""), ("b", 0o644, "a")]).is_err());
        assert!(check_all(&[("a", 1 << 27 | 0o777, "x"), ("b", 0o644, "a")]).is_err());
        check_all(&[("a", 0o644, ""), ("b", 0o644, "a")]).unwrap();
    }

    #[test]
    fn a_mode_of_no_type_is_refused() {
        assert!(check_all(&[("a", 1 << 19, "")]).is_err());
        assert!(check_all(&[("a", 1 << 31 | 1 << 27, "")]).is_err());
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_components(left in "[ab/.-]{0,8}", right in "[ab/.-]{0,8}") {
            let by_components = left.split('/').cmp(right.split('/'));
            let by_bytes = compare(left.as_bytes(), right.as_bytes());
            // An empty path has one empty component, like "" before a leading slash.
            prop_assert_eq!(by_bytes, by_components);
        }
    }
}
