//! A build from when it is visible to others until its record is kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use bridge::{BuildError, Kind};
use bytes::Bytes;
use gateway::Verdict;
use progress::{Event, Feed};
use session::SessionId;

use crate::builds::Entry;
use crate::history::{History, HistoryRecord};
use crate::job::JobBridge;
use crate::{Builder, LogCodec, result};

/// What a build leaves when it succeeded.
pub(crate) struct Done {
    pub(crate) response: BTreeMap<String, String>,
    pub(crate) metadata: BTreeMap<String, Bytes>,
    pub(crate) export: exporter::ExportResult,
    pub(crate) statements: result::Said,
}

/// A build that has begun. Dropped without an end, it was cancelled.
pub(crate) struct Begun {
    pub(crate) builder: Builder,
    /// Taken out first at the end: with it the job ends, and says so to the feed.
    pub(crate) bridge: Option<Arc<JobBridge>>,
    pub(crate) verdict: Option<tokio::sync::Mutex<tokio::sync::oneshot::Receiver<Verdict>>>,
    pub(crate) entry: Option<Entry>,
    pub(crate) feed: Feed,
    pub(crate) record: HistoryRecord,
    pub(crate) internal: bool,
    pub(crate) sessions: Vec<SessionId>,
    pub(crate) ended: bool,
}

impl Begun {
    /// Returns the build as frontends see it.
    pub(crate) fn bridge(&self) -> Result<&Arc<JobBridge>, BuildError> {
        self.bridge.as_ref().ok_or_else(BuildError::cancelled)
    }

    /// Ends the build: its job, its progress, its record.
    pub(crate) async fn end(
        mut self,
        outcome: Result<Done, BuildError>,
    ) -> Result<BTreeMap<String, String>, BuildError> {
        self.ended = true;
        let (answer, kept) = tokio::sync::oneshot::channel();
        let ending = self.ending();
        // A task of its own: a client that hangs up now still leaves a whole record.
        let end = async move {
            // Who hung up wants no answer.
            let _ = answer.send(ending.end(outcome).await);
        };
        tasks::spawn("record build", end).detach();
        kept.await.unwrap_or_else(|_| Err(BuildError::cancelled()))
    }

    /// Takes what is left to be done at the end.
    fn ending(&mut self) -> Ending {
        Ending {
            builder: self.builder.clone(),
            bridge: self.bridge.take(),
            entry: self.entry.take(),
            feed: self.feed.clone(),
            record: self.record.clone(),
            internal: self.internal,
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let ending = self.ending();
        let end = async move {
            // That it was cancelled is in the record.
            let _ = ending.end(Err(BuildError::cancelled())).await;
        };
        tasks::spawn("record build", end).detach();
    }
}

/// The end of a build: its job, its progress, its record.
struct Ending {
    builder: Builder,
    bridge: Option<Arc<JobBridge>>,
    entry: Option<Entry>,
    feed: Feed,
    record: HistoryRecord,
    internal: bool,
}

impl Ending {
    async fn end(
        self,
        outcome: Result<Done, BuildError>,
    ) -> Result<BTreeMap<String, String>, BuildError> {
        let Self { builder, bridge, entry, feed, mut record, internal } = self;
        // The job first: it tells the feed what will not be completed.
        if let Some(bridge) = bridge {
            bridge.close().await;
        }
        drop(entry);
        record.completed = Some(SystemTime::now());
        match &outcome {
            Ok(done) => result::describe(&mut record, done.export_parts()),
            Err(error) => {
                record.error = Some((error.kind() == Kind::Cancelled, error.message().to_owned()));
            }
        }
        tracing::info!(job.id = record.reference, status = record.status(), "build ends");
        if !internal {
            let (history, codec) = (builder.history(), builder.codec());
            let events = feed.snapshot();
            result::count(&mut record, &events);
            keep(history, codec, &mut record, &events, outcome.as_ref().err()).await;
            history.completed(record).await;
            let tidy = async move { builder.collect_garbage().await };
            tasks::spawn("collect garbage", tidy).detach();
        }
        outcome.map(|done| done.response)
    }
}

impl Done {
    fn export_parts(&self) -> result::Delivered<'_> {
        result::Delivered {
            response: &self.response,
            metadata: &self.metadata,
            export: &self.export,
            statements: &self.statements,
        }
    }
}

/// Keeps what a build said, its statements, and its error, as blobs of its record.
async fn keep(
    history: &History,
    codec: &dyn LogCodec,
    record: &mut HistoryRecord,
    events: &[Event],
    error: Option<&BuildError>,
) {
    match history.keep(crate::LOG_MEDIA_TYPE, codec.encode(events)).await {
        Ok(blob) => record.logs = Some(blob),
        Err(error) => tracing::warn!(%error, job.id = record.reference, "the log was not kept"),
    }
    if let Some(error) = error {
        match history.keep(crate::ERROR_MEDIA_TYPE, codec.encode_error(error)).await {
            Ok(blob) => record.external_error = Some(blob),
            Err(error) => {
                tracing::warn!(%error, job.id = record.reference, "the error was not kept")
            }
        }
    }
    for statements in std::mem::take(&mut record.pending) {
        let (platform, kind, bytes) = statements;
        match history.keep("application/vnd.in-toto+json", bytes.into()).await {
            Ok(mut blob) => {
                blob.annotations.insert("in-toto.io/predicate-type".to_owned(), kind);
                record.results.entry(platform).or_default().attestations.push(blob);
            }
            Err(error) => tracing::warn!(%error, "a statement was not kept"),
        }
    }
}
