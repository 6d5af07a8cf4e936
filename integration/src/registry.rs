//! A real registry on a loopback port, with the base images in it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;

use crate::{Lines, Program, Running, Settings, images};

const PATIENCE: Duration = Duration::from_secs(60);

/// A real registry on a loopback port; it ends when this is dropped.
#[derive(Debug)]
pub struct Registry {
    host: String,
    log: Lines,
    _running: Running,
    _directory: TempDir,
}

impl Registry {
    /// Starts a registry that has the base images, which are made first if this is the first time.
    ///
    /// # Errors
    /// Fails if the images cannot be made or the registry does not come up.
    pub fn start(settings: &Settings) -> anyhow::Result<Self> {
        let seed = images::seed(settings)?;
        let directory = TempDir::with_prefix("larder-registry-")?;
        plant(&seed, &directory.path().join("storage")).context("cannot copy the base images")?;
        Self::serve(directory, "")
    }

    /// Starts an empty registry that asks for this user and password.
    ///
    /// # Errors
    /// Fails if the registry does not come up.
    pub fn guarded(user: &str, password: &str) -> anyhow::Result<Self> {
        let directory = TempDir::with_prefix("larder-registry-")?;
        let hash = Program::new("htpasswd")
            .args(["-nbB", user, password])
            .succeed()
            .context("`htpasswd` is in the package `apache2-utils`")?;
        let passwords = directory.path().join("passwords");
        fs::write(&passwords, hash)?;
        let auth = format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", passwords.display());
        Self::serve(directory, &auth)
    }

    /// Starts an empty registry on storage of `directory`, where it writes.
    pub(crate) fn empty(directory: TempDir) -> anyhow::Result<Self> {
        Self::serve(directory, "")
    }

    fn serve(directory: TempDir, extra: &str) -> anyhow::Result<Self> {
        let config = directory.path().join("config.yml");
        let storage = directory.path().join("storage");
        let text = format!(
            "version: 0.1\nlog: {{level: info, formatter: text}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http: {{addr: '127.0.0.1:0'}}\n{extra}",
            storage.display()
        );
        fs::write(&config, text)?;
        let log = Lines::default();
        let running =
            Program::new("docker-registry").arg("serve").arg(&config).logged_to(&log).spawn()?;
        let line = log.wait_for(PATIENCE, |line| line.contains("listening on "));
        let line = line.with_context(|| format!("the registry does not come up:\n{log:?}"))?;
        let host = line.split_once("listening on ").map(|(_, rest)| rest).unwrap_or_default();
        let host = host.split(['"', ' ', ',']).next().unwrap_or_default().to_owned();
        Ok(Self { host, log, _running: running, _directory: directory })
    }

    /// Returns its host with the port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the name of an image in it.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.host)
    }

    /// Makes the image `name` known as `alias` too, which has a tag.
    ///
    /// # Errors
    /// Fails if it is not there, or the storage cannot be written.
    pub fn alias(&self, name: &str, alias: &str) -> anyhow::Result<()> {
        let repositories = self.storage().join("docker/registry/v2/repositories");
        let (repository, tag) = alias.rsplit_once(':').context("an alias has a tag")?;
        let (source, target) = (repositories.join(name), repositories.join(repository));
        if source != target {
            plant(&source, &target).with_context(|| format!("cannot call `{name}` {alias}"))?;
        }
        let tags = target.join("_manifests/tags");
        if tag != "latest" {
            plant(&tags.join("latest"), &tags.join(tag))
                .with_context(|| format!("cannot call `{name}` {alias}"))?;
        }
        Ok(())
    }

    /// Returns what it logged so far, requests among it.
    pub fn log(&self) -> &Lines {
        &self.log
    }

    /// Returns its directory of storage.
    pub(crate) fn storage(&self) -> std::path::PathBuf {
        self._directory.path().join("storage")
    }
}

/// Copies a registry's storage. Blobs are shared, because they are never written again; links to them are
/// small and may be replaced, so they are copied.
fn plant(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            plant(&entry.path(), &target)?;
        } else if entry.file_name() != "data" || fs::hard_link(entry.path(), &target).is_err() {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
