//! A directory with a Dockerfile and what it builds from.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tempfile::TempDir;

/// A directory with a Dockerfile and what it builds from, gone with the value.
#[derive(Debug)]
pub struct Project {
    directory: TempDir,
}

impl Project {
    /// Returns a project of this Dockerfile alone.
    ///
    /// # Errors
    /// Fails if the directory cannot be written.
    pub fn new(dockerfile: &str) -> anyhow::Result<Self> {
        let project = Self::empty()?;
        project.write("Dockerfile", dockerfile)?;
        Ok(project)
    }

    /// Returns an empty directory.
    ///
    /// # Errors
    /// Fails if it cannot be made.
    pub fn empty() -> anyhow::Result<Self> {
        let directory = TempDir::with_prefix("larder-project-").context("cannot make a project")?;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        Ok(Self { directory })
    }

    /// Adds a file.
    ///
    /// # Errors
    /// Fails if it cannot be written.
    pub fn with(self, path: &str, contents: impl AsRef<[u8]>) -> anyhow::Result<Self> {
        self.write(path, contents)?;
        Ok(self)
    }

    /// Writes a file, in directories that are made as needed, with mode 0644.
    ///
    /// # Errors
    /// Fails if it cannot be written.
    pub fn write(&self, path: &str, contents: impl AsRef<[u8]>) -> anyhow::Result<()> {
        let path = self.path(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("{}", parent.display()))?;
        }
        fs::write(&path, contents).with_context(|| format!("{}", path.display()))?;
        self.chmod_path(&path, 0o644)
    }

    /// Sets the mode of a file.
    ///
    /// # Errors
    /// Fails if it is not there.
    pub fn chmod(&self, path: &str, mode: u32) -> anyhow::Result<()> {
        self.chmod_path(&self.path(path), mode)
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// Fails if something is there.
    pub fn link(&self, path: &str, target: &str) -> anyhow::Result<()> {
        symlink(target, self.path(path)).with_context(|| path.to_owned())
    }

    /// Returns the path of something in it.
    pub fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    /// Returns its directory.
    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    fn chmod_path(&self, path: &Path, mode: u32) -> anyhow::Result<()> {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(path, permissions).with_context(|| format!("{}", path.display()))
    }
}
