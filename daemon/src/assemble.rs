//! The daemon put together: one function a part, and one that calls them.
//!
//! ```text
//! <root>/
//!   lock                     one daemon per root
//!   meta…                    the metadata store
//!   content/                 whole blobs
//!   snapshots/               layers
//!   volumes/                 cache volumes
//!   executor/                nothing that must survive
//!   state/                   indexes of clients' directories, sockets of steps
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ::bridge::{Frontend, WorkerInfo};
use ::gateway::ContainerFrontend;
use anyhow::{Context as _, Result, bail};
use builder::{Builder, Explanation, Parts, Retention};
use cache::{CacheIndex, Collector, LocalTrees, MetaStore, Refs, Table};
use content::{ContentStore, DiskStore};
use dockerfile::DockerfileFrontend;
use executor::{Executor, ExecutorConfig, LinuxExecutor};
use exporter::Exporters;
use mount::HostPath;
use ops::{LlbOps, Mechanisms, OperationError};
use rand::Rng as _;
use registry::{HttpRegistry, Registry, RegistryConfig};
use session::Sessions;
use snapshot::{CopySnapshotter, Driver, OverlaySnapshotter, Snapshotter};
use solver::{OpError, Solver, SolverOptions};
use volumes::VolumeManager;

use crate::config::{Config, FrontendConfig, GcRule, SnapshotterChoice, WorkerConfig};
use crate::drain::Gate;
use crate::service::Services;
use crate::wire::{WireCodec, Workers};
use crate::{lock, platforms};

/// The namespace of cache volumes: the daemon's choice, never the client's.
const NAMESPACE: &str = "default";

/// The daemon's parts, as far as they are asked directly.
#[derive(Debug)]
pub(crate) struct Daemon {
    /// What the services stand on.
    pub services: Services,
    meta: MetaStore,
    trees: LocalTrees,
}

/// What is kept on disk, opened.
struct Stores {
    meta: MetaStore,
    content: Arc<dyn ContentStore>,
    refs: Refs,
    trees: LocalTrees,
    index: CacheIndex,
    volumes: Arc<VolumeManager>,
    /// The reference's name for how layers are kept.
    snapshotter: &'static str,
}

/// Puts the daemon together on its root, which is ours already.
pub(crate) async fn assemble(config: &Config) -> Result<Daemon> {
    let root = &config.root;
    for name in ["content", "snapshots", "volumes", "executor", "state"] {
        lock::create(&root.join(name))?;
    }
    // The kernel takes its time with both: the trial of an overlay, and the first process.
    let (stores, executor) = tokio::try_join!(open_stores(config), start_executor(config))?;
    let sessions = Sessions::new();
    let registry = http_registry(config.registry.clone());
    let workers = workers(&config.worker, &stores)?;
    let ops = LlbOps::new(Mechanisms {
        refs: stores.refs.clone(),
        trees: stores.trees.clone(),
        sessions: sessions.clone(),
        registry: registry.clone(),
        executor,
        volumes: stores.volumes.clone(),
        namespace: NAMESPACE.to_owned(),
        platforms: workers[0].platforms.clone(),
        state: root.join("state"),
    });
    let rules = config.worker.gc.rules(disk_size(root));
    let workers = Arc::new(Workers { workers, rules });
    let exporters = Exporters::new(stores.refs.clone(), sessions.clone(), registry)
        .with_insecure(insecure_registries(config.registry.clone()));
    let builder = build_engine(config, &stores, ops, exporters, &workers)?;
    let services = Services {
        builder,
        sessions,
        content: stores.content,
        volumes: stores.volumes,
        workers,
        gate: Gate::new(),
    };
    Ok(Daemon { services, meta: stores.meta, trees: stores.trees })
}

impl Daemon {
    /// Makes sure that everything is on disk. The daemon must not be used after this.
    pub(crate) async fn close(self) {
        self.trees.close().await;
        if let Err(error) = self.meta.flush().await {
            tracing::error!(%error, "the metadata was not written");
        }
        self.meta.close();
    }
}

async fn open_stores(config: &Config) -> Result<Stores> {
    let root = config.root.clone();
    let open_meta = async {
        let opened = tasks::blocking("open metadata", move || MetaStore::open(root.as_path()));
        opened.await?.context("cannot open the metadata")
    };
    let open_content = async {
        let opened = DiskStore::open(config.root.join("content")).await;
        opened.context("cannot open the content store")
    };
    let open_volumes = async {
        let volumes = VolumeManager::open(config.root.join("volumes"), config.volumes.clone());
        let volumes = volumes.await.context("cannot open the cache volumes")?;
        keep_volume_settings(config).await?;
        Ok(Arc::new(volumes))
    };
    let (meta, content, volumes, (snapshots, snapshotter)) =
        tokio::try_join!(open_meta, open_content, open_volumes, open_snapshotter(config))?;
    let content: Arc<dyn ContentStore> = Arc::new(content);
    let refs = Refs::open(meta.clone(), snapshots, content.clone()).await?;
    let trees = LocalTrees::open(&refs).await?;
    let index = CacheIndex::open(&refs).await?;
    Ok(Stores { meta, content, refs, trees, index, volumes, snapshotter })
}

/// Lets programs that open the volumes beside us know what was decided for them.
async fn keep_volume_settings(config: &Config) -> Result<()> {
    let (root, settings) = (config.root.join("volumes"), config.volumes.clone());
    let kept = tasks::blocking("keep settings", move || settings.save(&root)).await?;
    kept.context("cannot keep the settings of cache volumes")
}

/// Opens the layers in the way asked for, or the best that works.
async fn open_snapshotter(config: &Config) -> Result<(Arc<dyn Snapshotter>, &'static str)> {
    let root = config.root.join("snapshots");
    let choice = config.worker.snapshotter;
    let probed = root.clone();
    let driver = tasks::blocking("probe snapshots", move || match choice {
        SnapshotterChoice::Copy => Driver::Copy { reason: String::new() },
        SnapshotterChoice::Auto | SnapshotterChoice::Overlay => snapshot::probe(&probed),
    })
    .await?;
    match driver {
        Driver::Overlay => Ok((Arc::new(OverlaySnapshotter::open(root).await?), "overlayfs")),
        Driver::Copy { reason } if choice == SnapshotterChoice::Overlay => {
            bail!("layers cannot be kept by `overlayfs` in `{root}`: {reason}")
        }
        Driver::Copy { reason } => {
            if !reason.is_empty() {
                tracing::info!(reason, "layers are copied: overlayfs does not work here");
            }
            Ok((Arc::new(CopySnapshotter::open(root).await?), "native"))
        }
    }
}

fn http_registry(config: RegistryConfig) -> Arc<dyn Registry> {
    Arc::new(HttpRegistry::new(config))
}

/// Returns the one worker that there is.
fn workers(config: &WorkerConfig, stores: &Stores) -> Result<Vec<WorkerInfo>> {
    let platforms =
        if config.platforms.is_empty() { platforms::detect() } else { config.platforms.clone() };
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let known = [
        ("executor", "oci"),
        ("hostname", &hostname),
        ("network", "host"),
        ("oci.process-mode", "sandbox"),
        ("selinux.enabled", "false"),
        ("snapshotter", stores.snapshotter),
    ];
    let known = known
        .map(|(key, value)| (format!("org.mobyproject.buildkit.worker.{key}"), value.to_owned()));
    let mut labels = BTreeMap::from(known);
    labels.extend(config.labels.clone());
    let id = worker_id(&stores.meta)?;
    Ok(vec![WorkerInfo { id, labels, platforms }])
}

/// Returns the worker's id, which is as old as the root.
fn worker_id(meta: &MetaStore) -> Result<String> {
    const KEY: &[u8] = b"worker-id";
    const LETTERS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let settings = meta.scan(Table::Settings).context("cannot read the settings")?;
    let known = settings.into_iter().find(|(key, _)| key == KEY);
    if let Some(id) = known.and_then(|(_, value)| String::from_utf8(value).ok()) {
        return Ok(id);
    }
    let mut random = rand::rng();
    let letter = |_| char::from(LETTERS[random.random_range(0..LETTERS.len())]);
    let id: String = (0..25).map(letter).collect();
    meta.put(Table::Settings, KEY, id.as_str());
    Ok(id)
}

async fn start_executor(config: &Config) -> Result<Arc<dyn Executor>> {
    let mut executor = ExecutorConfig::new(config.root.join("executor"));
    executor.dns = config.worker.dns.clone();
    executor.cgroup_parent.clone_from(&config.worker.cgroup_parent);
    let executor = LinuxExecutor::open(executor).await.context("cannot start the executor")?;
    Ok(Arc::new(executor))
}

fn build_engine(
    config: &Config,
    stores: &Stores,
    ops: LlbOps,
    exporters: Exporters,
    workers: &Workers,
) -> Result<Builder> {
    let options = SolverOptions { max_parallelism: config.worker.parallelism };
    let resolver = Arc::new(ops.clone());
    let solver = Solver::new(resolver, Arc::new(stores.index.clone()), options);
    let collector = Collector::new(stores.refs.clone(), stores.trees.clone(), stores.index.clone());
    let garbage = workers.rules.iter().map(GcRule::request).collect::<Result<_, _>>()?;
    let builder = Builder::new(Parts {
        solver,
        refs: stores.refs.clone(),
        results: stores.index.clone(),
        collector,
        volumes: stores.volumes.clone(),
        exporters,
        sources: Arc::new(ops.clone()),
        containers: Arc::new(ops.clone()),
        frontends: frontends(&config.frontends),
        workers: workers.workers.clone(),
        entitlements: config.entitlements.iter().cloned().collect(),
        explain,
        codec: Arc::new(WireCodec),
        retention: Retention { max_age: config.history.age, max_entries: config.history.most },
        garbage,
        root: config.root.clone(),
    })?;
    let nested = builder.clone();
    ops.nest(Arc::new(move |jobs, definition| {
        let builder = nested.clone();
        Box::pin(async move { builder.nested(jobs, definition).await })
    }));
    Ok(builder)
}

/// Returns registries that take a host as the client says it may be taken: without TLS.
fn insecure_registries(config: RegistryConfig) -> exporter::InsecureRegistries {
    Arc::new(move |host| {
        let mut config = config.clone();
        let settings = config.hosts.entry(host.to_owned()).or_default();
        settings.insecure = true;
        settings.http.get_or_insert(true);
        http_registry(config)
    })
}

fn frontends(config: &FrontendConfig) -> BTreeMap<String, Arc<dyn Frontend>> {
    let mut frontends: BTreeMap<String, Arc<dyn Frontend>> = BTreeMap::new();
    if config.dockerfile {
        frontends.insert("dockerfile.v0".to_owned(), Arc::new(DockerfileFrontend::new()));
    }
    if config.gateway {
        let gateway = ContainerFrontend::new(config.repositories.clone());
        frontends.insert("gateway.v0".to_owned(), Arc::new(gateway));
    }
    frontends
}

/// Tells the builder what an operation's error means.
fn explain(error: &OpError) -> Explanation {
    match error.downcast_ref::<OperationError>() {
        Some(OperationError::Exit { code, .. } | OperationError::OutOfMemory { code, .. }) => {
            Explanation { exit: Some(*code), exhausted: false }
        }
        Some(OperationError::DiskFull { .. }) => Explanation { exit: None, exhausted: true },
        _ => Explanation::default(),
    }
}

/// Returns the size of the disk that the root is on; 0 if it cannot be known.
fn disk_size(root: &HostPath) -> u64 {
    let path: &Path = root.as_path();
    rustix::fs::statvfs(path).map_or(0, |disk| disk.f_blocks.saturating_mul(disk.f_frsize))
}
