//! Slash-separated paths of images and contexts: pure text, nothing is looked up.

/// Returns the shortest path that means the same: no `.`, no `..` but leading ones, no doubled slash.
pub(crate) fn clean(path: &str) -> String {
    if is_clean(path) {
        return path.to_owned();
    }
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            name => parts.push(name),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => ["/", &parts.join("/")].concat(),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// Returns true for most paths as they are written: nothing is to be cleaned.
fn is_clean(path: &str) -> bool {
    let below = path.strip_prefix('/').unwrap_or(path);
    path == "/" || below.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Returns `path` as seen from `parent`, cleaned.
pub(crate) fn join(parent: &str, path: &str) -> String {
    match (parent, path) {
        ("", path) => clean(path),
        (parent, "") => clean(parent),
        (parent, path) => {
            let (above, below) = (parent.trim_end_matches('/'), path.trim_start_matches('/'));
            let joined = [above, "/", below].concat();
            if is_clean(&joined) { joined } else { clean(&joined) }
        }
    }
}

/// Returns the last part.
pub(crate) fn base(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit_once('/') {
        _ if path.is_empty() => ".",
        _ if trimmed.is_empty() => "/",
        Some((_, last)) => last,
        None => trimmed,
    }
}

/// Returns all but the last part, cleaned.
pub(crate) fn directory(path: &str) -> String {
    match path.rsplit_once('/') {
        Some((directory, _)) => clean(if directory.is_empty() { "/" } else { directory }),
        None => ".".to_owned(),
    }
}

/// Whether the mark of a directory at the end of a path, `/` or `/.`, is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It is.
    Kept,
    /// It is not.
    Dropped,
}

/// Returns an absolute path: a relative one is below `parent`; an absolute one stays as it is written.
pub(crate) fn absolute(parent: &str, path: &str, mark: Mark) -> String {
    let parent = if parent.is_empty() { "/" } else { parent };
    let mut result = match path {
        "" => parent.to_owned(),
        path if path.starts_with('/') => path.to_owned(),
        path if parent.starts_with('/') && is_clean(parent) => join(parent, path),
        path => join(&join("/", parent), path),
    };
    if mark == Mark::Kept {
        if path.ends_with('/') && !result.ends_with('/') {
            result.push('/');
        } else if path.ends_with("/.") && !path.starts_with('/') {
            if result != "/" {
                result.push('/');
            }
            result.push('.');
        }
    }
    result
}

/// Returns true if a path is a pattern.
pub(crate) fn has_wildcards(path: &str) -> bool {
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' | '?' | '[' => return true,
            '\\' => drop(chars.next()),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_short() {
        for (path, expected) in [
            ("", "."),
            ("/", "/"),
            ("a//b/./c/..", "a/b"),
            ("../a/../..", "../.."),
            ("/../a", "/a"),
            ("/a/b/", "/a/b"),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
        assert_eq!((base("/a/b/"), base("/"), base(""), base("x")), ("b", "/", ".", "x"));
        assert_eq!((directory("/a/b").as_str(), directory("b").as_str()), ("/a", "."));
    }

    #[test]
    fn relative_paths_are_below_the_parent_and_keep_their_mark() {
        let kept = |path| absolute("/w", path, Mark::Kept);
        assert_eq!((kept("a").as_str(), kept("a/").as_str()), ("/w/a", "/w/a/"));
        assert_eq!((kept("./").as_str(), kept("a/.").as_str()), ("/w/", "/w/a/."));
        assert_eq!((kept("/a/").as_str(), kept("/a//b").as_str()), ("/a/", "/a//b"));
        assert_eq!(absolute("", "a/", Mark::Dropped), "/a");
        assert_eq!(absolute("/w", "", Mark::Dropped), "/w");
    }

    #[test]
    fn wildcards_are_seen_unless_escaped() {
        assert!(has_wildcards("a*") && has_wildcards("a[b]") && has_wildcards("?"));
        assert!(!has_wildcards("a\\*") && !has_wildcards("abc"));
    }
}
