//! One request, from arrival to export (protocol page `control.md` §3.3).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bridge::{
    BuildError, ContainerMaker, Frontend, FrontendRequest, FrontendResult, Kind, Results,
    SourceResolver, WorkerInfo,
};
use cache::{CacheIndex, Collector, ImmutableRef, PruneRequest, Refs, UsageRecord};
use exporter::{ExportContext, Exporter, Exporters};
use futures::future::try_join_all;
use gateway::{BridgeService, Verdict};
use llb::Definition;
use mount::{HostPath, RootDir};
use progress::{Feed, FeedReader, ProgressSink as _};
use sbom::{Reader, ScanRequest};
use session::{SessionGroup, SessionId};
use solver::{JobId, OpError, Solver};
use volumes::VolumeManager;

use crate::attestations;
use crate::begun::{Begun, Done};
use crate::builds::{Builds, Running};
use crate::failure::Explain;
use crate::graph::Entitlements;
use crate::history::{History, HistoryRecord, Retention};
use crate::job::{Environment, JobBridge, Shared};
use crate::line::Line;
use crate::provenance::ProvenanceOptions;
use crate::result;
use crate::scan;
use crate::space::Space;
use crate::{BuildRequest, LogCodec};

/// How often layers are made to survive a power loss; it writes out all that the disk has pending.
const SETTLE_EVERY: Duration = Duration::from_secs(60);

/// The parts that a builder is made of.
pub struct Parts {
    /// Finds results.
    pub solver: Solver<ImmutableRef>,
    /// The table of layers.
    pub refs: Refs,
    /// Results by their keys, those that the solver finds.
    pub results: CacheIndex,
    /// What is kept, for `du` and `prune`.
    pub collector: Collector,
    /// Cache volumes.
    pub volumes: Arc<VolumeManager>,
    /// Forms of delivery.
    pub exporters: Exporters,
    /// Finds out what sources are.
    pub sources: Arc<dyn SourceResolver>,
    /// Makes containers beside the steps of a build.
    pub containers: Arc<dyn ContainerMaker<ImmutableRef, RootDir>>,
    /// Frontends by name.
    pub frontends: BTreeMap<String, Arc<dyn Frontend>>,
    /// What can be built here, the default first.
    pub workers: Vec<WorkerInfo>,
    /// What clients may ask for beyond the usual.
    pub entitlements: BTreeSet<String>,
    /// Tells what an operation's error means.
    pub explain: Explain,
    /// Turns what a build said into a blob and back, and an error into one.
    pub codec: Arc<dyn LogCodec>,
    /// How long builds are remembered.
    pub retention: Retention,
    /// When space is made, and how much.
    pub garbage: Vec<PruneRequest>,
    /// The daemon's directory; its disk is the one that fills up.
    pub root: HostPath,
}

/// Builds what clients ask for. Clones are the same builder.
#[derive(Debug, Clone)]
pub struct Builder(Arc<Inner>);

struct Inner {
    solver: Solver<ImmutableRef>,
    environment: Arc<Environment>,
    exporters: Exporters,
    entitlements: BTreeSet<String>,
    codec: Arc<dyn LogCodec>,
    builds: Builds,
    /// Held while a build begins, never over an await.
    beginning: parking_lot::Mutex<()>,
    history: History,
    space: Arc<Space>,
    garbage: Vec<PruneRequest>,
    /// When layers were last made to survive a power loss. Held for a look only.
    settled: parking_lot::Mutex<Option<Instant>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("running", &self.builds.count()).finish_non_exhaustive()
    }
}

impl Builder {
    /// Puts a builder together. Blocks, briefly.
    ///
    /// # Errors
    /// Returns an error if the history cannot be read.
    pub fn new(parts: Parts) -> Result<Self, BuildError> {
        let content = parts.refs.content().clone();
        let history = History::open(parts.refs.meta().clone(), content, parts.retention)?;
        let environment = Arc::new(Environment {
            refs: parts.refs,
            results: parts.results,
            sources: parts.sources,
            containers: parts.containers,
            frontends: parts.frontends,
            workers: parts.workers,
            explain: parts.explain,
        });
        Ok(Self(Arc::new(Inner {
            solver: parts.solver,
            environment,
            exporters: parts.exporters,
            entitlements: parts.entitlements,
            codec: parts.codec,
            builds: Builds::new(),
            beginning: parking_lot::Mutex::default(),
            history,
            space: Space::shared(parts.collector, parts.volumes, parts.root),
            garbage: parts.garbage,
            settled: parking_lot::Mutex::new(None),
        })))
    }

    /// Builds; returns what the exporters tell the client. Dropping the future cancels the build.
    ///
    /// # Errors
    /// Returns why there is no result, with the place in the user's file where there is one.
    pub async fn build(
        &self,
        request: BuildRequest,
    ) -> Result<BTreeMap<String, String>, BuildError> {
        if request.definition.is_some() && !request.frontend.is_empty() {
            let text = "invalid request: both Definition and Frontend specified";
            return Err(BuildError::new(Kind::InvalidRequest, text));
        }
        let granted = Entitlements::grant(&request.entitlements, &self.0.entitlements)?;
        let wanted = Wanted {
            provenance: ProvenanceOptions::of(&request.options)?,
            scan: ScanRequest::of(&request.options, Reader::Daemon)?,
        };
        let exporters = self.resolve_exporters(&request)?;
        let begun = self.begin(&request, granted)?;
        let outcome = self.run(&request, &begun, &exporters, &wanted).await;
        begun.end(outcome).await
    }

    fn resolve_exporters(
        &self,
        request: &BuildRequest,
    ) -> Result<Vec<Arc<dyn Exporter>>, BuildError> {
        let exporters = request.exporters.iter().enumerate();
        let resolved = exporters.map(|(index, asked)| self.0.exporters.resolve(index, asked));
        resolved.collect::<Result<_, _>>().map_err(export_error)
    }

    /// Opens the job and makes the build visible to others.
    fn begin(&self, request: &BuildRequest, granted: Entitlements) -> Result<Begun, BuildError> {
        // Until it is entered: two of one id would share a job, and the second end the first's.
        let _turn = self.0.beginning.lock();
        self.0.builds.refuse_known(&request.reference)?;
        let feed = Feed::new();
        let invalid = |error| BuildError::from_error(Kind::InvalidRequest, error);
        let session = match request.session.as_str() {
            "" => None,
            id => Some(SessionId::new(id).map_err(invalid)?),
        };
        let tag = Arc::new(SessionGroup::new(session.clone()));
        let job =
            self.0.solver.job(JobId::new(request.reference.as_str()), Arc::new(feed.clone()), tag);
        let bridge = Arc::new(JobBridge::new(
            self.0.environment.clone(),
            job,
            feed.clone(),
            request.session.clone(),
            granted,
        ));
        let driven = request.definition.is_none() && request.frontend.is_empty();
        let (client, verdict) = if driven {
            let asked = Arc::new(Shared(bridge.clone()));
            let (client, verdict) = BridgeService::new(asked, request.inputs.clone());
            (Some(client), Some(verdict))
        } else {
            (None, None)
        };
        let entry =
            self.0.builds.enter(&request.reference, Running { feed: feed.clone(), client })?;
        let exporters = request.exporters.iter();
        let exporters = exporters.map(|one| (one.kind.clone(), one.attributes.clone())).collect();
        let record = HistoryRecord::begin(
            request.reference.clone(),
            request.frontend.clone(),
            request.options.clone(),
            exporters,
        );
        if !request.internal {
            self.0.history.started(record.clone());
        }
        tracing::info!(job.id = request.reference, internal = request.internal, "build begins");
        let (builder, internal) = (self.clone(), request.internal);
        let verdict = verdict.map(tokio::sync::Mutex::new);
        let sessions = session.into_iter().collect();
        Ok(Begun {
            builder,
            bridge: Some(bridge),
            verdict,
            entry: Some(entry),
            feed,
            record,
            internal,
            sessions,
            ended: false,
        })
    }

    async fn run(
        &self,
        request: &BuildRequest,
        begun: &Begun,
        exporters: &[Arc<dyn Exporter>],
        wanted: &Wanted,
    ) -> Result<Done, BuildError> {
        let bridge = begun.bridge()?;
        let mut frontend = self.frontend_result(request, begun, bridge).await?;
        let built = result::evaluate(bridge, &frontend.results).await?;
        let platforms = result::platforms(&frontend)?;
        if let Some(scan) = &wanted.scan {
            scan::scan(bridge, scan, &platforms, &mut frontend).await?;
        }
        let shared = Shared(bridge.clone());
        let said = attestations::read(&shared, &frontend, wanted.scan.as_ref()).await?;
        let provenance = wanted.provenance.as_ref();
        let facts = result::Facts {
            request,
            frontend: &frontend,
            platforms: &platforms,
            bridge,
            found: &result::found(bridge, provenance).await,
            started: begun.record.created,
        };
        let (export, statements) = result::assemble(&facts, built, provenance, said)?;
        let mut response = BTreeMap::new();
        for (key, value) in &frontend.metadata {
            if key.starts_with("frontend.") {
                response.insert(key.clone(), String::from_utf8_lossy(value).into_owned());
            }
        }
        let deliveries = exporters.iter().enumerate().map(|(index, exporter)| {
            let sink = Arc::new(begun.feed.clone());
            let identity = format!("{}-export-{index}", request.session);
            let line = Line::begin(sink.clone(), &identity, exporter.title());
            let context = ExportContext {
                sessions: begun.sessions.clone(),
                progress: sink,
                vertex: line.digest(),
            };
            let export = &export;
            async move { line.end(exporter.export(export, &context).await) }
        });
        let delivered = try_join_all(deliveries).await;
        let delivered = delivered.map_err(export_error)?;
        delivered.into_iter().for_each(|one| response.extend(one));
        // Now, that all layers have their archives.
        let statements = result::read(&statements).await;
        Ok(Done { response, metadata: frontend.metadata, export, statements })
    }

    async fn frontend_result(
        &self,
        request: &BuildRequest,
        begun: &Begun,
        bridge: &Arc<JobBridge>,
    ) -> Result<FrontendResult, BuildError> {
        if let Some(definition) = &request.definition {
            let results = Results::Single(bridge.refer(definition)?);
            return Ok(FrontendResult { results, ..FrontendResult::default() });
        }
        if let Some(verdict) = &begun.verdict {
            let mut verdict = verdict.lock().await;
            let gone = |_| BuildError::cancelled();
            let said: Verdict = (&mut *verdict).await.map_err(gone)?;
            return said;
        }
        let (options, inputs) = (request.options.clone(), request.inputs.clone());
        bridge.run_frontend(&request.frontend, FrontendRequest { options, inputs }).await
    }

    /// Returns the conversation with the client that drives a build, waiting a moment for the build to
    /// begin.
    ///
    /// # Errors
    /// Returns an error if no such build is driven by its client.
    pub async fn bridge(&self, reference: &str) -> Result<BridgeService, BuildError> {
        self.0.builds.client(reference).await
    }

    /// Returns what a build says, from its start; of a build that ended long ago, what it said.
    ///
    /// # Errors
    /// Returns an error if there is no such build.
    pub async fn follow(&self, reference: &str) -> Result<FeedReader, BuildError> {
        if let Some(feed) = self.0.builds.known_feed(reference) {
            return Ok(feed.reader());
        }
        if let Some(logs) = self.0.history.find(reference).and_then(|record| record.logs) {
            let internal = |error| BuildError::from_error(Kind::Internal, error);
            let bytes = self.0.history.read(&logs).await.map_err(internal)?;
            let feed = Feed::new();
            self.0.codec.decode(&bytes)?.into_iter().for_each(|event| feed.emit(event));
            feed.close();
            return Ok(feed.reader());
        }
        let feed =
            self.0.builds.feed(reference).await.ok_or_else(|| {
                BuildError::new(Kind::NotFound, format!("no such job {reference}"))
            })?;
        Ok(feed.reader())
    }

    /// Returns finished builds and those that run.
    pub fn history(&self) -> &History {
        &self.0.history
    }

    /// Returns the form that logs and errors are kept in.
    pub(crate) fn codec(&self) -> &dyn LogCodec {
        self.0.codec.as_ref()
    }

    /// Returns how many builds run.
    pub fn running(&self) -> usize {
        self.0.builds.count()
    }

    /// Returns what can be built here.
    pub fn workers(&self) -> &[WorkerInfo] {
        &self.0.environment.workers
    }

    /// Returns when space is made, and how much.
    pub fn garbage_policy(&self) -> &[PruneRequest] {
        &self.0.garbage
    }

    /// Returns everything that takes space.
    ///
    /// # Errors
    /// Returns an error if the volumes cannot be listed.
    pub async fn usage(&self) -> Result<Vec<UsageRecord>, BuildError> {
        self.0.space.usage().await
    }

    /// Removes what `request` says; returns what is gone.
    ///
    /// # Errors
    /// Returns an error if the file system refuses.
    pub async fn prune(&self, request: PruneRequest) -> Result<Vec<UsageRecord>, BuildError> {
        self.0.space.prune(request).await
    }

    /// Makes space as the policy says.
    pub async fn collect_garbage(&self) {
        let keep = self.0.history.blobs().into_iter().collect();
        let collected = async {
            self.0.space.apply_volume_policies().await?;
            self.0.space.prune_by(&self.0.garbage).await?;
            self.0.space.sweep_blobs(&keep).await
        };
        match collected.await {
            Err(error) if error.kind() == Kind::Cancelled => {
                tracing::debug!(%error, "garbage is collected another time");
            }
            Err(error) => tracing::warn!(%error, "garbage was not collected"),
            Ok(()) => {}
        }
        self.settle().await;
    }

    /// Makes what was built survive a power loss, in a quiet moment and not too often.
    async fn settle(&self) {
        let due = {
            let mut last = self.0.settled.lock();
            let due = last.is_none_or(|last| last.elapsed() > SETTLE_EVERY);
            if due && self.running() == 0 {
                *last = Some(Instant::now());
            }
            due && self.running() == 0
        };
        if due && let Err(error) = self.0.environment.refs.snapshotter().sync().await {
            tracing::warn!(%error, "layers were not synced");
        }
    }

    /// Builds a definition that was found while building, as a part of the job that waits for it.
    ///
    /// # Errors
    /// Returns an error if the definition is malformed or cannot be built.
    pub async fn nested(
        &self,
        jobs: Vec<solver::InterestedJob>,
        definition: Definition,
    ) -> Result<ImmutableRef, OpError> {
        let edge = crate::graph::load(&definition, &Entitlements::default());
        let Some(edge) = edge.map_err(OpError::new)? else { return Ok(ImmutableRef::default()) };
        let Some(first) = jobs.into_iter().next() else { return Err(OpError::cancelled()) };
        let feed: Arc<dyn progress::ProgressSink> =
            match self.0.builds.known_feed(first.id.as_str()) {
                Some(feed) => Arc::new(feed),
                None => Arc::new(progress::NullSink),
            };
        let id = JobId::new(format!("{}-nested-{}", first.id, crate::job::random_id()));
        let job = self.0.solver.job(id, feed, first.tag);
        job.build(edge).await.map_err(|error| error.source)
    }
}

/// What is to be said of a result.
struct Wanted {
    provenance: Option<ProvenanceOptions>,
    scan: Option<ScanRequest>,
}

/// Returns a failed delivery as the build's error.
fn export_error(error: exporter::ExportError) -> BuildError {
    // What cannot be pushed or written is told as it is; clients show the kind of the others.
    BuildError::from_error(Kind::User, error)
}
