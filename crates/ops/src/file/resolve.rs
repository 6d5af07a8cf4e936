//! Where a path of a tree really leads, when links are followed to its end.

use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::path::{Component, Path};

use mount::{GuestPath, RootDir};
use rustix::fs::FileType;

use super::{FileError, entry};

/// How many links may be followed: more than any tree has that is meant well.
const MAX_LINKS: usize = 255;

/// Returns the path without links that `path` means in the tree, also where its end is not there yet: a link
/// to nothing leads to the place that it names.
pub(crate) fn resolve(tree: &RootDir, path: &GuestPath) -> Result<GuestPath, FileError> {
    let mut real = GuestPath::root();
    let mut ahead = Vec::new();
    push(&mut ahead, path.relative());
    let mut links = 0;
    while let Some(name) = ahead.pop() {
        // What is above a link's place, and not above the path that led there.
        if name == ".." {
            real = real.parent().unwrap_or_else(GuestPath::root);
            continue;
        }
        let next = real.join(&name)?;
        match link_at(tree, &next)? {
            None => real = next,
            Some(_) if links == MAX_LINKS => {
                return Err(FileError::Invalid(format!("{path}: too many symbolic links")));
            }
            Some(link) => {
                links += 1;
                if Path::new(&link).is_absolute() {
                    real = GuestPath::root();
                }
                push(&mut ahead, Path::new(&link));
            }
        }
    }
    Ok(real)
}

/// Puts the components of a path on the stack, the first on top.
fn push(ahead: &mut Vec<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => ahead.push(name.to_owned()),
            Component::ParentDir => ahead.push(OsString::from("..")),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
}

/// Returns where the link at `path` points to; none if there is no link.
fn link_at(tree: &RootDir, path: &GuestPath) -> Result<Option<OsString>, FileError> {
    let stat = match tree.symlink_stat(path) {
        Ok(stat) => stat,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::io("lstat", path)(error)),
    };
    if entry::kind(&stat) != FileType::Symlink {
        return Ok(None);
    }
    let parent = tree.parent_of(path).map_err(FileError::io("open", path))?;
    let Some((directory, name)) = parent else { return Ok(None) };
    let link = entry::read_link(directory.as_fd(), name);
    link.map(Some).map_err(FileError::io("readlink", path))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use mount::HostPath;

    use super::*;

    #[test]
    fn links_are_followed_to_the_end_and_never_outside() {
        let host = tempfile::tempdir().unwrap();
        let tree = RootDir::open(&HostPath::new(host.path()).unwrap()).unwrap();
        fs::create_dir_all(host.path().join("far/deep")).unwrap();
        for (place, target) in [
            ("near", "far/deep"),
            ("far/deep/up", "../file"),
            ("nothing", "/not/there"),
            ("out", "../../../../etc"),
            ("chain", "near"),
            ("loop", "loop"),
        ] {
            symlink(target, host.path().join(place)).unwrap();
        }
        for (path, real) in [
            ("/", "/"),
            ("/near", "/far/deep"),
            ("/chain/x", "/far/deep/x"),
            // `..` is above where the link is, not above the way to it.
            ("/near/up", "/far/file"),
            ("/nothing", "/not/there"),
            ("/nothing/more", "/not/there/more"),
            ("/out/passwd", "/etc/passwd"),
            ("/absent/x", "/absent/x"),
        ] {
            let found = resolve(&tree, &GuestPath::new(path).unwrap()).unwrap();
            assert_eq!(found.to_string(), real, "{path}");
        }
        let error = resolve(&tree, &GuestPath::new("/loop").unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "/loop: too many symbolic links");
    }
}
