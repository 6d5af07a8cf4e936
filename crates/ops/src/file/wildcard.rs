//! Which paths of a tree a wildcard names.

use std::ffi::OsStr;
use std::os::fd::AsFd as _;

use mount::{GuestPath, RootDir};
use patterns::Glob;
use rustix::fs::{FileType, Stat};

use super::{FileError, entry};

/// Returns the paths that `pattern` matches, sorted. Each component is matched for itself, as by Go's
/// `filepath.Match`; what is below a match is not looked at. Links are followed inside the tree up to the first
/// component with a wildcard in it, and not from there on.
pub(crate) fn expand(tree: &RootDir, pattern: &str) -> Result<Vec<GuestPath>, FileError> {
    let invalid = |error: patterns::PatternError| FileError::Invalid(error.to_string());
    let mut found = vec![GuestPath::root()];
    let mut searched = false;
    for component in pattern.split('/').filter(|part| !part.is_empty() && *part != ".") {
        let glob = Glob::new(component).map_err(invalid)?;
        let mut next = Vec::new();
        for base in found {
            if component == ".." {
                next.extend(base.parent());
                continue;
            }
            if searched && !is_directory(tree.symlink_stat(&base)) {
                continue;
            }
            if is_pattern(component) {
                children(tree, &base, &glob, &mut next)?;
            } else {
                let path = base.join(component)?;
                if tree.symlink_stat(&path).is_ok() {
                    next.push(path);
                }
            }
        }
        searched |= is_pattern(component);
        found = next;
    }
    Ok(found)
}

fn is_directory(found: std::io::Result<Stat>) -> bool {
    found.is_ok_and(|stat| entry::kind(&stat) == FileType::Directory)
}

fn children(
    tree: &RootDir,
    base: &GuestPath,
    glob: &Glob,
    found: &mut Vec<GuestPath>,
) -> Result<(), FileError> {
    if !is_directory(tree.stat(base)) {
        return Ok(());
    }
    let directory = tree.open_dir(base).map_err(FileError::io("open", base))?;
    for name in entry::names(directory.as_fd()).map_err(FileError::io("read", base))? {
        if glob.matches(&name.to_string_lossy()) {
            let name: &OsStr = &name;
            found.push(base.join(name)?);
        }
    }
    Ok(())
}

/// Returns true if `path` has a character that means something in a wildcard.
pub(crate) fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '[', '\\'])
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use mount::HostPath;

    use super::*;

    #[test]
    fn components_match_for_themselves() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        fs::create_dir_all(at("src/one")).unwrap();
        fs::create_dir_all(at("src/two")).unwrap();
        for file in ["src/one/a.go", "src/two/b.go", "src/two/c.rs", "go.mod", "go.sum", "[x]"] {
            fs::write(at(file), "").unwrap();
        }
        symlink("/src/two", at("link")).unwrap();
        symlink("two", at("src/three")).unwrap();
        symlink("nowhere", at("src/four")).unwrap();
        let tree = RootDir::open(&HostPath::new(directory.path()).unwrap()).unwrap();
        for (pattern, expected) in [
            ("go.*", &["/go.mod", "/go.sum"][..]),
            ("/src/*/*.go", &["/src/one/a.go", "/src/two/b.go"]),
            ("link/*.rs", &["/link/c.rs"]),
            ("src/*/c.rs", &["/src/two/c.rs"]),
            ("src/t*/*.rs", &["/src/two/c.rs"]),
            ("src/four/*", &[]),
            ("nothing*", &[]),
            ("go.mod", &["/go.mod"]),
            ("\\[x\\]", &["/[x]"]),
            ("go.mod/*", &[]),
        ] {
            let found: Vec<_> =
                expand(&tree, pattern).unwrap().iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{pattern}");
        }
        assert!(expand(&tree, "a[").is_err());
    }
}
