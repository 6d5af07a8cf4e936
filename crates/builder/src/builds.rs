//! The builds that run now, and those that ended a moment ago, by id.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bridge::{BuildError, Kind};
use gateway::BridgeService;
use parking_lot::Mutex;
use progress::Feed;
use tokio::sync::watch;

/// How long a question about a build waits for it to begin: clients open their calls all at once.
const BRIDGE_WAIT: Duration = Duration::from_secs(3);
const FOLLOW_WAIT: Duration = Duration::from_secs(6);

/// How long the progress of an ended build can still be read.
const LINGER: Duration = Duration::from_secs(10);

/// A build, as others find it.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) feed: Feed,
    /// The conversation with a client that is the frontend of its own build.
    pub(crate) client: Option<BridgeService>,
}

/// The table of builds. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Builds(Arc<Table>);

#[derive(Debug)]
struct Table {
    // Held for a look or a change only.
    live: Mutex<HashMap<String, Running>>,
    ended: Mutex<HashMap<String, Feed>>,
    /// Counts changes, so that who waits for a build looks again.
    changes: watch::Sender<u64>,
}

/// Keeps a build in the table. Dropped, the build is over: its progress ends and stays readable for
/// a moment.
#[must_use = "a build leaves the table when this is dropped"]
#[derive(Debug)]
pub(crate) struct Entry {
    builds: Builds,
    reference: String,
    feed: Feed,
}

impl Builds {
    pub(crate) fn new() -> Self {
        let (live, ended) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Table { live, ended, changes: watch::Sender::new(0) }))
    }

    /// Enters a build.
    ///
    /// # Errors
    /// Returns an error if a build of this id runs already.
    pub(crate) fn enter(&self, reference: &str, running: Running) -> Result<Entry, BuildError> {
        let feed = running.feed.clone();
        {
            let mut live = self.0.live.lock();
            if live.contains_key(reference) {
                return Err(exists(reference));
            }
            live.insert(reference.to_owned(), running);
        }
        self.0.changes.send_modify(|count| *count += 1);
        Ok(Entry { builds: self.clone(), reference: reference.to_owned(), feed })
    }

    /// Checks that no build of this id runs; [`Builds::enter`] checks again.
    pub(crate) fn refuse_known(&self, reference: &str) -> Result<(), BuildError> {
        if self.0.live.lock().contains_key(reference) { Err(exists(reference)) } else { Ok(()) }
    }

    pub(crate) fn count(&self) -> usize {
        self.0.live.lock().len()
    }

    /// Returns the conversation with a build's client, waiting a moment for the build to begin.
    pub(crate) async fn client(&self, reference: &str) -> Result<BridgeService, BuildError> {
        let found = || self.0.live.lock().get(reference).cloned();
        let running = self.wait(BRIDGE_WAIT, found).await.ok_or_else(|| unknown(reference))?;
        running.client.ok_or_else(|| unknown(reference))
    }

    /// Returns the progress of a build, waiting a moment for it to begin.
    pub(crate) async fn feed(&self, reference: &str) -> Option<Feed> {
        self.wait(FOLLOW_WAIT, || self.known_feed(reference)).await
    }

    /// Returns the progress of a build that runs or has just ended.
    pub(crate) fn known_feed(&self, reference: &str) -> Option<Feed> {
        let live = self.0.live.lock().get(reference).map(|running| running.feed.clone());
        live.or_else(|| self.0.ended.lock().get(reference).cloned())
    }

    async fn wait<T>(&self, limit: Duration, look: impl Fn() -> Option<T>) -> Option<T> {
        let mut changes = self.0.changes.subscribe();
        let search = async {
            loop {
                changes.borrow_and_update();
                if let Some(found) = look() {
                    return Some(found);
                }
                // Fails only if the table is gone, and we hold it.
                changes.changed().await.ok()?;
            }
        };
        tokio::time::timeout(limit, search).await.ok().flatten()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.feed.close();
        let table = self.builds.0.clone();
        let reference = std::mem::take(&mut self.reference);
        table.ended.lock().insert(reference.clone(), self.feed.clone());
        table.live.lock().remove(&reference);
        table.changes.send_modify(|count| *count += 1);
        let forget = async move {
            tokio::time::sleep(LINGER).await;
            table.ended.lock().remove(&reference);
        };
        tasks::spawn("forget build", forget).detach();
    }
}

fn exists(reference: &str) -> BuildError {
    BuildError::new(Kind::AlreadyExists, format!("job ID {reference} exists"))
}

fn unknown(reference: &str) -> BuildError {
    BuildError::new(Kind::NotFound, format!("no such job {reference}"))
}
