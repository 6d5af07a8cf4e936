//! Directories of the client (protocol page `session.md` §5).
//!
//! The client is asked every time, and only what changed travels. The result is the directory itself,
//! not a copy: who copies from it is recognised by the content it takes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use cache::{Checksums, ImmutableRef, KnownFile};
use digests::{Digest, StableHasher};
use llb::SourceOp;
use mount::GuestPath;
use progress::Status;
use session::{
    Differ, KeptTree, ReceivedFile, Session, SessionId, SyncRequest, Synced, TransferError,
};
use solver::{CacheMap, JobId, Op, OpContext, OpError};

use crate::clients::{Clients, blame};
use crate::{OperationError, Services, failure};

/// The operation that brings in a directory of the client.
#[derive(Debug)]
pub(crate) struct LocalSource {
    services: Arc<Services>,
    name: String,
    /// The client that has it; the others of the build are asked if it does not.
    session: Option<SessionId>,
    shared_key_hint: String,
    request: SyncRequest,
}

impl LocalSource {
    pub(crate) fn new(services: Arc<Services>, source: &SourceOp) -> Result<Self, OpError> {
        let wrong = |reason: String| {
            failure(OperationError::Source { identifier: source.identifier.clone(), reason })
        };
        let list = |key: &str| -> Result<Vec<String>, OpError> {
            let Some(text) = source.attribute(key).filter(|text| !text.is_empty()) else {
                return Ok(Vec::new());
            };
            serde_json::from_str(text).map_err(|error| wrong(format!("attribute `{key}`: {error}")))
        };
        let mut name = source.split().1.to_owned();
        let session = match source.attribute("local.session").filter(|id| !id.is_empty()) {
            None => None,
            Some(text) => {
                // `<prefix>:<id>` is the directory `<prefix>-<name>` of that client.
                let id = match text.split_once(':') {
                    Some((prefix, id)) => {
                        name = format!("{prefix}-{name}");
                        id
                    }
                    None => text,
                };
                Some(SessionId::new(id).map_err(|error| wrong(error.to_string()))?)
            }
        };
        let differ = match source.attribute("local.differ") {
            Some("none") => Differ::None,
            _ => Differ::Metadata,
        };
        let request = SyncRequest {
            name: name.clone(),
            include: list("local.includepattern")?,
            exclude: list("local.excludepatterns")?,
            follow_paths: list("local.followpaths")?,
            differ,
            metadata_only: None,
            digest_content: true,
        };
        let shared_key_hint = source.attribute("local.sharedkeyhint").unwrap_or(&name).to_owned();
        Ok(Self { services, name, session, shared_key_hint, request })
    }

    /// Returns the clients to ask, in order.
    fn candidates(&self, context: &OpContext) -> Vec<(JobId, SessionId)> {
        let all = Clients::of(&self.services.sessions, context).ids().to_vec();
        let Some(named) = &self.session else { return all };
        let job =
            all.iter().find(|(_, id)| id == named).or(all.first()).map(|(job, _)| job.clone());
        let first = job.map(|job| (job, named.clone()));
        first.into_iter().chain(all.into_iter().filter(|(_, id)| id != named)).collect()
    }

    async fn sync(&self, context: &OpContext, session: &Session) -> Result<ImmutableRef, Failure> {
        let tree = format!("{}:{}:{}", self.name, self.shared_key_hint, session.shared_key());
        let description = format!("local source for {}", self.name);
        let kept = self.services.trees.take(&tree, &description).await;
        let kept = kept.map_err(|error| Failure::Ours(failure(error)))?;
        let directory = kept.directory().map_err(|error| Failure::Ours(failure(error)))?.clone();
        let index = Some(self.services.tree_index(kept.key()));
        let place = KeptTree { tree: directory, index };
        let transfer = Transfer::start(context, &self.name);
        let doubt = Doubt { checksums: kept.checksums().clone(), settled: false };
        let synced = session
            .sync_directory(self.request.clone(), &place, &mut |bytes| transfer.progress(bytes))
            .await;
        let synced = synced.map_err(Failure::Client)?;
        transfer.done(synced.bytes);
        doubt.settle(&synced).map_err(Failure::Ours)?;
        Ok(kept.share(!synced.changes.is_empty()))
    }
}

enum Failure {
    Client(TransferError),
    Ours(OpError),
}

#[async_trait]
impl Op<ImmutableRef> for LocalSource {
    async fn cache_map(&self, context: &OpContext) -> Result<CacheMap, OpError> {
        // What a client has is known only by asking it: the key is as unique as the client.
        let mut hasher = StableHasher::new("local.v1");
        hasher.feed(&context.vertex().digest);
        for (_, id) in self.candidates(context) {
            hasher.feed(&id.to_string());
        }
        Ok(CacheMap { digest: hasher.finish(), inputs: Vec::new(), volatile: true, pin: None })
    }

    async fn content_key(
        &self,
        _context: &OpContext,
        _slot: usize,
        _input: &ImmutableRef,
    ) -> Result<Option<Digest>, OpError> {
        Ok(None)
    }

    async fn exec(
        &self,
        context: &OpContext,
        _inputs: Vec<ImmutableRef>,
    ) -> Result<Vec<ImmutableRef>, OpError> {
        let clients = Clients::of(&self.services.sessions, context);
        let mut last = None;
        for (job, id) in self.candidates(context) {
            let session = match clients.connect(&job, &id).await {
                Ok(session) => session,
                Err(error) => {
                    last = last.or(Some(error));
                    continue;
                }
            };
            match self.sync(context, &session).await {
                Ok(tree) => return Ok(vec![tree]),
                Err(Failure::Ours(error)) => return Err(error),
                Err(Failure::Client(TransferError::Session(error))) => {
                    last = Some(blame(&job, &session, error));
                }
                Err(Failure::Client(error)) => {
                    let lost = session.is_closed();
                    last = Some(if lost { OpError::lost(job, error) } else { failure(error) });
                }
            }
        }
        Err(last.unwrap_or_else(|| {
            let text = format!("no client to take `{}` from", self.name);
            failure(OperationError::Unsupported(text))
        }))
    }
}

/// The counter of a transfer, as clients show it.
struct Transfer<'a> {
    context: &'a OpContext,
    id: String,
    started: SystemTime,
    last: parking_lot::Mutex<SystemTime>,
}

impl<'a> Transfer<'a> {
    fn start(context: &'a OpContext, name: &str) -> Self {
        let (id, now) = (format!("transferring {name}:"), SystemTime::now());
        let transfer = Self { context, id, started: now, last: parking_lot::Mutex::new(now) };
        transfer.report(0, false);
        transfer
    }

    fn progress(&self, bytes: u64) {
        let mut last = self.last.lock();
        // A line every 150 ms is enough for people.
        if last.elapsed().is_ok_and(|since| since.as_millis() >= 150) {
            *last = SystemTime::now();
            self.report(bytes, false);
        }
    }

    fn done(&self, bytes: u64) {
        self.report(bytes, true);
    }

    fn report(&self, bytes: u64, done: bool) {
        let now = SystemTime::now();
        self.context.status(Status {
            vertex: Digest::of(b""),
            id: self.id.clone(),
            name: "transferring".to_owned(),
            current: i64::try_from(bytes).unwrap_or(i64::MAX),
            total: 0,
            timestamp: now,
            started: Some(self.started),
            completed: done.then_some(now),
        });
    }
}

/// Until a sync has ended well, nobody knows what of the tree changed.
struct Doubt {
    checksums: Arc<Checksums>,
    settled: bool,
}

impl Doubt {
    /// Forgets exactly what changed, and takes what was learned of it on the way.
    fn settle(mut self, synced: &Synced) -> Result<(), OpError> {
        let mut learned = Vec::new();
        for change in &synced.changes {
            let path = GuestPath::new(OsStr::from_bytes(&change.path)).map_err(failure)?;
            self.checksums.forget(&path);
            learned.extend(change.file.and_then(known).map(|file| (path, file)));
        }
        self.checksums.learn(learned);
        self.settled = true;
        Ok(())
    }
}

/// Returns what is known of a file that just arrived; none if it has to be looked at.
fn known(file: ReceivedFile) -> Option<KnownFile> {
    let ReceivedFile { content, mode, uid, gid, has_attributes } = file;
    (!has_attributes).then_some(KnownFile { content, mode, uid, gid })
}

impl Drop for Doubt {
    fn drop(&mut self) {
        if !self.settled {
            self.checksums.clear();
        }
    }
}
