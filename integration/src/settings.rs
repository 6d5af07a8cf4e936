//! What the harness reads from its surroundings, in one place.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Where things are, and against what the suites run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the programs under test were built, such as `target/debug`.
    pub programs: PathBuf,
    /// What is made once and kept between runs: the client, the base images.
    pub cache: PathBuf,
    /// The address of a daemon that is not ours to start (`LARDER_TEST_ADDRESS`).
    pub address: Option<String>,
    /// Where a program of the machine looks for programs.
    path: Vec<PathBuf>,
}

impl Settings {
    /// Reads the surroundings.
    ///
    /// # Errors
    /// Fails if this program does not run from cargo's target directory.
    pub fn read() -> anyhow::Result<Self> {
        let here = std::env::current_exe().context("the running test has no path")?;
        // A test is `<target>/<profile>/deps/<name>`; an example or a program is one level higher.
        let folder = here.parent().context("the running test is in no folder")?;
        let programs = if folder.ends_with("deps") { folder.parent() } else { Some(folder) };
        let programs = programs.context("the target directory is not where it is expected")?;
        let target = programs.parent().context("the profile is in no target directory")?;
        Ok(Self {
            programs: programs.to_owned(),
            cache: target.join("integration-cache"),
            address: variable("LARDER_TEST_ADDRESS"),
            path: variable("PATH").iter().flat_map(|path| std::env::split_paths(path)).collect(),
        })
    }

    /// Returns the program `name` that was built from this workspace.
    ///
    /// # Errors
    /// Fails if it has not been built.
    pub fn built(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.programs.join(name);
        anyhow::ensure!(
            path.is_file(),
            "`{}` is missing: build it with `cargo build -p daemon -p cli -p image`",
            path.display()
        );
        Ok(path)
    }

    /// Returns the program of the frontend's image, which needs nothing beside it.
    ///
    /// # Errors
    /// Fails if it has not been built.
    pub fn frontend(&self) -> anyhow::Result<PathBuf> {
        let target = self.programs.parent().context("the profile is in no target directory")?;
        let machine = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let path = target.join(machine).join("frontend/larder-frontend");
        let missing = || format!("`{}` is missing: run `frontend/image/build`", path.display());
        anyhow::ensure!(path.is_file(), missing());
        Ok(path)
    }

    /// Returns the client.
    ///
    /// # Errors
    /// Fails if it is not installed.
    pub fn buildx(&self) -> anyhow::Result<PathBuf> {
        let places = [
            self.cache.join("docker-buildx"),
            PathBuf::from("/usr/libexec/docker/cli-plugins/docker-buildx"),
            PathBuf::from("/usr/lib/docker/cli-plugins/docker-buildx"),
        ];
        let found = places.into_iter().find(|place| place.is_file());
        found.context("`docker-buildx` is missing: run `integration/setup`")
    }

    /// Returns where programs are looked for, `folder` before all others.
    pub fn path_after(&self, folder: &Path) -> OsString {
        let folders = std::iter::once(folder.to_owned()).chain(self.path.iter().cloned());
        // What came apart at the separators can be put together again, unless the folder has one in it.
        std::env::join_paths(folders).unwrap_or_default()
    }

    /// Returns whether the machine has a program of that name.
    pub fn has(&self, name: &str) -> bool {
        let sbin = [Path::new("/usr/sbin"), Path::new("/sbin")];
        self.path.iter().map(PathBuf::as_path).chain(sbin).any(|dir| dir.join(name).is_file())
    }
}

#[expect(clippy::disallowed_methods, reason = "the harness reads its surroundings here only")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
