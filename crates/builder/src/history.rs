//! Finished builds: what was asked, how it went, where its log and its results are.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bridge::{BuildError, Kind};
use bytes::Bytes;
use cache::{MetaStore, Table};
use content::{ContentError, ContentStore};
use filter::Fields;
use oci::Descriptor;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// How many events a slow listener may be behind before it misses some.
const BACKLOG: usize = 256;

/// What of finished builds is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Builds older than this may go.
    pub max_age: Duration,
    /// So many builds stay, however old.
    pub max_entries: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self { max_age: Duration::from_secs(48 * 3600), max_entries: 50 }
    }
}

/// What is remembered of a build (protocol page `control.md` §7).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryRecord {
    /// The build's id.
    pub reference: String,
    /// The frontend that ran here; empty if the client drove the build.
    pub frontend: String,
    /// The options of the build.
    pub options: BTreeMap<String, String>,
    /// The forms of delivery, with their settings.
    pub exporters: Vec<(String, BTreeMap<String, String>)>,
    /// Why it failed, if it did: whether it was cancelled, and the text.
    pub error: Option<(bool, String)>,
    /// When it was asked for.
    pub created: SystemTime,
    /// When it ended; none while it runs.
    pub completed: Option<SystemTime>,
    /// What it said.
    pub logs: Option<Descriptor>,
    /// The whole error with its details, as clients decode it.
    pub external_error: Option<Descriptor>,
    /// What is known of its result, by key.
    pub metadata: BTreeMap<String, String>,
    /// What it delivered, by platform id; an empty id for a build of one platform.
    pub results: BTreeMap<String, HistoryResult>,
    /// How often this record was changed.
    pub generation: i32,
    /// True if it stays until somebody says otherwise.
    pub pinned: bool,
    /// Vertices that came from the cache.
    pub cached_steps: i32,
    /// Vertices in all.
    pub total_steps: i32,
    /// Vertices that ended.
    pub completed_steps: i32,
    /// Warnings.
    pub warnings: i32,
    /// Statements that are still to be kept: platform id, type and predicate.
    #[serde(skip)]
    pub(crate) pending: Vec<(String, String, Vec<u8>)>,
}

/// What a build delivered for a platform.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct HistoryResult {
    /// What each exporter made, by its place in the request.
    pub descriptors: BTreeMap<i64, Descriptor>,
    /// Statements about it.
    pub attestations: Vec<Descriptor>,
}

/// What happened to a record.
#[derive(Debug, Clone, PartialEq)]
pub enum HistoryEvent {
    /// A build began.
    Started(HistoryRecord),
    /// A build ended, or its record changed.
    Completed(HistoryRecord),
    /// A record is gone.
    Deleted(HistoryRecord),
}

impl Fields for HistoryRecord {
    fn field(&self, path: &[String]) -> Option<String> {
        let [name] = path else { return None };
        match name.as_str() {
            "ref" => Some(self.reference.clone()),
            "status" => Some(self.status().to_owned()),
            "repository" => {
                let keys = ["vcs:source", "context", "build-arg:BUILDKIT_CONTEXT"];
                keys.iter().find_map(|key| self.options.get(*key)).cloned()
            }
            _ => None,
        }
    }
}

impl HistoryRecord {
    /// Returns the record of a build that begins now.
    pub(crate) fn begin(
        reference: String,
        frontend: String,
        options: BTreeMap<String, String>,
        exporters: Vec<(String, BTreeMap<String, String>)>,
    ) -> Self {
        Self {
            reference,
            frontend,
            options,
            exporters,
            error: None,
            created: SystemTime::now(),
            completed: None,
            logs: None,
            external_error: None,
            metadata: BTreeMap::new(),
            results: BTreeMap::new(),
            generation: 0,
            pinned: false,
            cached_steps: 0,
            total_steps: 0,
            completed_steps: 0,
            warnings: 0,
            pending: Vec::new(),
        }
    }

    /// Returns `running`, `completed`, `error` or `canceled`.
    pub fn status(&self) -> &'static str {
        match (&self.completed, &self.error) {
            (None, _) => "running",
            (Some(_), None) => "completed",
            (Some(_), Some((true, _))) => "canceled",
            (Some(_), Some((false, _))) => "error",
        }
    }

    fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let results = self.results.values();
        let results = results
            .flat_map(|result| result.attestations.iter().chain(result.descriptors.values()));
        self.logs.iter().chain(self.external_error.iter()).chain(results)
    }
}

/// Finished builds and those that run. Clones share them.
#[derive(Debug, Clone)]
pub struct History(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    meta: MetaStore,
    content: Arc<dyn ContentStore>,
    retention: Retention,
    // Held for a look or a change in memory only.
    records: Mutex<HashMap<String, HistoryRecord>>,
    events: broadcast::Sender<HistoryEvent>,
}

impl History {
    /// Reads what is known of earlier builds. Blocks.
    ///
    /// # Errors
    /// Returns an error if the metadata cannot be read.
    pub fn open(
        meta: MetaStore,
        content: Arc<dyn ContentStore>,
        retention: Retention,
    ) -> Result<Self, BuildError> {
        let rows = meta.scan(Table::History);
        let rows = rows.map_err(|error| BuildError::from_error(Kind::Internal, error))?;
        let records = rows
            .into_iter()
            .filter_map(|(_, value)| serde_json::from_slice::<HistoryRecord>(&value).ok())
            .map(|record| (record.reference.clone(), record))
            .collect();
        let (events, _) = broadcast::channel(BACKLOG);
        let records = Mutex::new(records);
        Ok(Self(Arc::new(Inner { meta, content, retention, records, events })))
    }

    /// Returns the record of a build.
    pub fn find(&self, reference: &str) -> Option<HistoryRecord> {
        self.0.records.lock().get(reference).cloned()
    }

    /// Returns all records, the newest first.
    pub fn list(&self) -> Vec<HistoryRecord> {
        let mut records: Vec<_> = self.0.records.lock().values().cloned().collect();
        records.sort_by_key(|record| std::cmp::Reverse(record.created));
        records
    }

    /// Returns a listener to what happens from now on.
    pub fn listen(&self) -> broadcast::Receiver<HistoryEvent> {
        self.0.events.subscribe()
    }

    pub(crate) fn started(&self, record: HistoryRecord) {
        self.0.records.lock().insert(record.reference.clone(), record.clone());
        // Nobody may be listening.
        let _ = self.0.events.send(HistoryEvent::Started(record));
    }

    /// Keeps the record of a build that has ended, and lets old ones go.
    pub(crate) async fn completed(&self, record: HistoryRecord) {
        self.put(record);
        for old in self.surplus() {
            if let Err(error) = self.delete(&old).await {
                tracing::warn!(%error, job.id = old, "an old record was not removed");
            }
        }
    }

    fn put(&self, mut record: HistoryRecord) {
        record.generation += 1;
        match serde_json::to_vec(&record) {
            Ok(value) => self.0.meta.put(Table::History, record.reference.as_str(), value),
            Err(error) => tracing::error!(%error, job.id = record.reference, "not recorded"),
        }
        self.0.records.lock().insert(record.reference.clone(), record.clone());
        let _ = self.0.events.send(HistoryEvent::Completed(record));
    }

    /// Returns the builds that are over the limits.
    fn surplus(&self) -> Vec<String> {
        let Retention { max_age, max_entries } = self.0.retention;
        let old = |record: &HistoryRecord| {
            let age = record.completed.and_then(|when| when.elapsed().ok());
            !record.pinned && age.is_some_and(|age| age > max_age)
        };
        let records = self.list();
        let beyond = records.iter().skip(max_entries);
        beyond.filter(|record| old(record)).map(|record| record.reference.clone()).collect()
    }

    /// Removes a record with its log.
    ///
    /// # Errors
    /// Returns an error if there is no such record, or its build still runs.
    pub async fn delete(&self, reference: &str) -> Result<(), BuildError> {
        let record = {
            let mut records = self.0.records.lock();
            match records.get(reference) {
                None => return Err(unknown(reference)),
                Some(record) if record.completed.is_none() => {
                    let text = format!("build `{reference}` is still running");
                    return Err(BuildError::new(Kind::User, text));
                }
                Some(_) => {}
            }
            records.remove(reference)
        };
        let Some(record) = record else { return Ok(()) };
        self.0.meta.delete(Table::History, reference);
        for blob in record.blobs() {
            if !self.is_used(blob) {
                let removed = self.0.content.remove(&blob.digest).await;
                removed.map_err(|error| BuildError::from_error(Kind::Internal, error))?;
            }
        }
        let _ = self.0.events.send(HistoryEvent::Deleted(record));
        Ok(())
    }

    fn is_used(&self, blob: &Descriptor) -> bool {
        let records = self.0.records.lock();
        records.values().any(|record| record.blobs().any(|other| other.digest == blob.digest))
    }

    /// Pins a record, or lets it go with its age.
    ///
    /// # Errors
    /// Returns an error if there is no such record.
    pub fn pin(&self, reference: &str, pinned: bool) -> Result<(), BuildError> {
        let mut record = self.find(reference).ok_or_else(|| unknown(reference))?;
        record.pinned = pinned;
        self.put(record);
        Ok(())
    }

    /// Writes a blob that belongs to a record.
    pub(crate) async fn keep(
        &self,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Descriptor, ContentError> {
        let mut ingest = self.0.content.ingest(None, None).await?;
        ingest.write(bytes).await?;
        let (digest, size) = ingest.commit().await?;
        Ok(Descriptor::new(media_type, digest, size))
    }

    /// Reads a blob that belongs to a record.
    pub(crate) async fn read(&self, blob: &Descriptor) -> Result<Bytes, ContentError> {
        self.0.content.open(&blob.digest).await?.read_all().await
    }

    /// Returns the digests of all blobs that records have.
    pub fn blobs(&self) -> Vec<digests::Digest> {
        let records = self.0.records.lock();
        records.values().flat_map(HistoryRecord::blobs).map(|blob| blob.digest).collect()
    }
}

fn unknown(reference: &str) -> BuildError {
    BuildError::new(Kind::NotFound, format!("lease \"ref_{reference}\": not found"))
}
