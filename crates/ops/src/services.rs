//! What operations work with: one value, made once by the daemon.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use cache::{LocalTrees, Refs};
use credentials::ClientCredentials;
use digests::Digest;
use executor::Executor;
use mount::HostPath;
use oci::{Descriptor, Platform};
use parking_lot::Mutex;
use registry::{Access, Registry};
use session::Sessions;
use snapshot::LayerKey;
use solver::{JobId, OpContext, OpError};
use volumes::{VolumeKey, VolumeManager};

use crate::source::git::Mirrors;
use crate::source::http::Downloads;
use crate::source::image::client_ids;
use crate::{NestedBuild, OperationError, failure};

/// The mechanisms, as the daemon set them up.
pub struct Mechanisms {
    /// The table of layers.
    pub refs: Refs,
    /// Clients' directories.
    pub trees: LocalTrees,
    /// Connected clients.
    pub sessions: Sessions,
    /// Registries.
    pub registry: Arc<dyn Registry>,
    /// Starts processes.
    pub executor: Arc<dyn Executor>,
    /// Cache volumes.
    pub volumes: Arc<VolumeManager>,
    /// Whose volumes builds use.
    pub namespace: String,
    /// What can be built here, the default first.
    pub platforms: Vec<Platform>,
    /// A directory for what lives as long as the daemon runs, and for indexes of clients' directories.
    pub state: HostPath,
}

/// What operations work with.
pub(crate) struct Services {
    pub(crate) refs: Refs,
    pub(crate) trees: LocalTrees,
    pub(crate) sessions: Sessions,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) volumes: Arc<VolumeManager>,
    pub(crate) namespace: String,
    pub(crate) nested: OnceLock<NestedBuild>,
    pub(crate) downloads: Downloads,
    pub(crate) mirrors: Mirrors,
    pub(crate) freshened: Freshened,
    platforms: Vec<Platform>,
    state: HostPath,
    names: AtomicU64,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Services {
    pub(crate) fn new(mechanisms: Mechanisms) -> Self {
        let Mechanisms {
            refs,
            trees,
            sessions,
            registry,
            executor,
            volumes,
            namespace,
            platforms,
            state,
        } = mechanisms;
        let downloads = Downloads::new(refs.meta().clone());
        Self {
            refs,
            trees,
            sessions,
            registry,
            executor,
            volumes,
            namespace,
            nested: OnceLock::new(),
            downloads,
            mirrors: Mirrors::default(),
            freshened: Freshened::default(),
            platforms,
            state,
            names: AtomicU64::new(0),
        }
    }

    /// Returns a name that no container of this process has.
    pub(crate) fn new_container_name(&self) -> String {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        format!("larder-{}-{number}", std::process::id())
    }

    /// Returns a path where no socket is yet.
    pub(crate) fn new_socket_path(&self) -> HostPath {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        self.state.join(format!("agent-{}-{number}.sock", std::process::id()))
    }

    /// Returns a path where no file is yet.
    pub(crate) fn new_file_path(&self) -> HostPath {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        self.state.join(format!("file-{}-{number}", std::process::id()))
    }

    /// Returns the directory for what lives as long as the daemon runs.
    pub(crate) fn state(&self) -> &HostPath {
        &self.state
    }

    /// Returns where the index of a client's directory is kept.
    pub(crate) fn tree_index(&self, tree: &LayerKey) -> HostPath {
        self.state.join(format!("tree-{tree}.index"))
    }

    /// Returns access to registries in the name of the clients of an operation.
    pub(crate) fn access(&self, context: &OpContext) -> Access {
        ClientCredentials::access(&self.sessions, client_ids(self, context))
    }

    /// Returns the platform that an operation means: its own, or the default.
    pub(crate) fn platform(&self, asked: Option<&llb::Platform>) -> Platform {
        match asked {
            Some(asked) => platform_of(asked),
            None => {
                self.platforms.first().cloned().unwrap_or_else(|| Platform::new("linux", "amd64"))
            }
        }
    }

    /// Checks that programs for a platform can run here.
    pub(crate) fn require_platform(&self, asked: Option<&llb::Platform>) -> Result<(), OpError> {
        asked.map_or(Ok(()), |asked| self.require(&platform_of(asked)))
    }

    /// Checks that programs for a platform of images can run here.
    pub(crate) fn require(&self, asked: &Platform) -> Result<(), OpError> {
        if self.platforms.iter().any(|platform| platform.matches(asked)) {
            return Ok(());
        }
        let text = format!(
            "programs for `{}` cannot run on this machine: install an emulator (package qemu-user-static with binfmt support), then restart the daemon",
            asked.short()
        );
        Err(failure(OperationError::Unsupported(text)))
    }

    pub(crate) async fn has_blob(&self, digest: &Digest) -> Result<bool, OpError> {
        self.refs.content().contains(digest).await.map_err(failure)
    }

    pub(crate) async fn read_blob(&self, digest: &Digest) -> Result<Bytes, OpError> {
        let reader = self.refs.content().open(digest).await.map_err(failure)?;
        reader.read_all().await.map_err(failure)
    }

    pub(crate) async fn keep_blob(&self, blob: &Descriptor, bytes: Bytes) -> Result<(), OpError> {
        if self.has_blob(&blob.digest).await? {
            return Ok(());
        }
        let content = self.refs.content();
        let mut ingest =
            content.ingest(Some(blob.digest), Some(bytes.len() as u64)).await.map_err(failure)?;
        ingest.write(bytes).await.map_err(failure)?;
        ingest.commit().await.map_err(failure)?;
        Ok(())
    }
}

/// Which volumes builds without cache have emptied for themselves.
#[derive(Debug, Default)]
pub(crate) struct Freshened(Mutex<VecDeque<(JobId, VolumeKey)>>);

impl Freshened {
    /// How many pairs are remembered: far more than builds at one time have.
    const LIMIT: usize = 4096;

    /// Returns true the first time it is asked about this build and volume.
    pub(crate) fn is_first(&self, job: &JobId, volume: VolumeKey) -> bool {
        let mut known = self.0.lock();
        if known.iter().any(|(of, key)| of == job && *key == volume) {
            return false;
        }
        if known.len() == Self::LIMIT {
            known.pop_front();
        }
        known.push_back((job.clone(), volume));
        true
    }
}

/// Returns a platform of the graph as one of images.
pub(crate) fn platform_of(platform: &llb::Platform) -> Platform {
    let mut image = Platform::new(&platform.os, &platform.architecture);
    image.variant.clone_from(&platform.variant);
    image.os_version.clone_from(&platform.os_version);
    image.os_features.clone_from(&platform.os_features);
    image.normalized()
}
