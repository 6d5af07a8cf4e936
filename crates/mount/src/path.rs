//! Paths that say whose they are.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Why a text is not a usable path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A NUL byte cannot be part of a path.
    #[error("path {0:?} contains a NUL byte")]
    Nul(String),
    /// A path on the host must be absolute.
    #[error("path {0:?} is not absolute")]
    Relative(PathBuf),
}

/// An absolute path as this process sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostPath(PathBuf);

impl HostPath {
    /// Takes an absolute path.
    ///
    /// # Errors
    /// Returns an error if `path` is relative or contains a NUL byte.
    pub fn new(path: impl Into<PathBuf>) -> Result<Self, PathError> {
        let path = path.into();
        if path.as_os_str().as_bytes().contains(&0) {
            return Err(PathError::Nul(path.display().to_string()));
        }
        if !path.is_absolute() {
            return Err(PathError::Relative(path));
        }
        Ok(Self(path))
    }

    /// Returns the path one or more plain names below this one.
    ///
    /// `name` is one of our own file names; a name from outside goes through a [`crate::RootDir`].
    pub fn join(&self, name: impl AsRef<Path>) -> Self {
        Self(self.0.join(name))
    }

    /// Returns the path for the standard library.
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for HostPath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for HostPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// A path inside a tree: always absolute, always clean (no `.`, `..`, `//` or trailing `/`).
///
/// Cleaning is lexical, as in `path.Clean("/" + p)`: `..` at the root stays at the root. Symbolic
/// links are not looked at here; that is the work of [`crate::RootDir`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GuestPath(PathBuf);

impl GuestPath {
    /// Takes a path of any form and cleans it, relative to the tree's root.
    ///
    /// # Errors
    /// Returns an error if `path` contains a NUL byte.
    pub fn new(path: impl AsRef<OsStr>) -> Result<Self, PathError> {
        Self::root().join(path)
    }

    /// Returns the root of the tree, `/`.
    pub fn root() -> Self {
        Self(PathBuf::from("/"))
    }

    /// Returns the path that `path` names as seen from this one: an absolute path replaces it.
    ///
    /// # Errors
    /// Returns an error if `path` contains a NUL byte.
    pub fn join(&self, path: impl AsRef<OsStr>) -> Result<Self, PathError> {
        let path = path.as_ref();
        if path.as_bytes().contains(&0) {
            return Err(PathError::Nul(path.to_string_lossy().into_owned()));
        }
        let mut clean = self.0.clone();
        for component in Path::new(path).components() {
            match component {
                Component::RootDir => clean = PathBuf::from("/"),
                Component::ParentDir => {
                    clean.pop();
                }
                Component::Normal(name) => clean.push(name),
                Component::CurDir | Component::Prefix(_) => {}
            }
        }
        Ok(Self(clean))
    }

    /// Returns the path with its leading `/`.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// Returns the path without its leading `/`; empty for the root.
    pub fn relative(&self) -> &Path {
        self.0.strip_prefix("/").unwrap_or(Path::new(""))
    }

    /// Returns true for `/`.
    pub fn is_root(&self) -> bool {
        self.relative().as_os_str().is_empty()
    }

    /// Returns the directory this path is in; none for the root.
    pub fn parent(&self) -> Option<Self> {
        self.0.parent().map(|parent| Self(parent.to_path_buf()))
    }

    /// Returns the last component; none for the root.
    pub fn file_name(&self) -> Option<&OsStr> {
        self.0.file_name()
    }

    /// Returns true if this path is `other` or below it.
    pub fn starts_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }
}

impl fmt::Display for GuestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn guest_paths_are_cleaned() {
        for (given, clean) in [
            ("", "/"),
            ("a", "/a"),
            ("/a//b/./c/", "/a/b/c"),
            ("../../etc", "/etc"),
            ("/a/../../b", "/b"),
        ] {
            assert_eq!(GuestPath::new(given).unwrap().to_string(), clean, "{given}");
        }
        let work = GuestPath::new("/work").unwrap();
        assert_eq!(work.join("x/../y").unwrap().to_string(), "/work/y");
        assert_eq!(work.join("/etc").unwrap().to_string(), "/etc");
        assert!(GuestPath::new("a\0b").is_err());
    }

    #[test]
    fn host_paths_are_absolute() {
        assert!(HostPath::new("relative").is_err());
        assert!(HostPath::new("/a\0").is_err());
        assert_eq!(HostPath::new("/a").unwrap().join("b").to_string(), "/a/b");
    }

    proptest! {
        #[test]
        fn cleaning_is_idempotent_and_never_climbs(text in "[a./\\x20]{0,24}") {
            let once = GuestPath::new(&text).unwrap();
            prop_assert_eq!(&GuestPath::new(once.as_path()).unwrap(), &once);
            prop_assert!(once.as_path().is_absolute());
            prop_assert!(once.as_path().components().all(|c| c != Component::ParentDir));
        }
    }
}
