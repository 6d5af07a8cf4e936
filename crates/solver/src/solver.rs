//! The engine's door: a solver holds the graph that all jobs share; a job is one client's part in it.

use std::any::Any;
use std::sync::Arc;

use parking_lot::Mutex;
use progress::ProgressSink;
use tokio::sync::Semaphore;

use crate::engine::Engine;
use crate::{
    CacheMap, CacheStore, Edge, InterestedJob, JobId, KeyId, LinkKey, OpResolver, SolveError,
};

/// Settings of a solver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SolverOptions {
    /// How many operations may run at the same time; none for no limit. Looking up and loading
    /// cached results is not counted, nor are operations that only wait for others.
    pub max_parallelism: Option<usize>,
}

/// Finds results of edges for any number of jobs, which share equal work. Clones are the same solver.
pub struct Solver<R> {
    engine: Arc<Engine<R>>,
}

/// One client's part in the graph. Results stay valid until the job drops. Dropping it ends its
/// progress (what was begun and not completed is told as cancelled), so close its feed after that.
#[must_use = "results are released when the job is dropped"]
pub struct Job<R: Clone + Send + Sync + 'static> {
    engine: Arc<Engine<R>>,
    who: InterestedJob,
    feed: Arc<dyn ProgressSink>,
}

/// How an edge's result can be found again: for the export of a cache.
#[derive(Debug, Clone)]
pub struct Record<R> {
    /// The edge.
    pub edge: Edge,
    /// What its operation said of its keys.
    pub map: Arc<CacheMap>,
    /// The key under which its result is kept.
    pub key: KeyId,
    /// The links that lead to the key, per slot.
    pub links: Vec<Vec<LinkKey>>,
    /// For each slot the key of the input's content, where that was needed.
    pub contents: Vec<Option<KeyId>>,
    /// For each slot the place of the input's record in the same list.
    pub inputs: Vec<usize>,
    /// The result, if this job has it in hand; otherwise the store may have it under `key`.
    pub result: Option<R>,
}

impl<R> Clone for Solver<R> {
    fn clone(&self) -> Self {
        Self { engine: self.engine.clone() }
    }
}

impl<R: Clone + Send + Sync + 'static> Solver<R> {
    /// Returns a solver with an empty graph.
    pub fn new(
        resolver: Arc<dyn OpResolver<R>>,
        store: Arc<dyn CacheStore<R>>,
        options: SolverOptions,
    ) -> Self {
        let permits = options.max_parallelism.map(Semaphore::new);
        let state = Mutex::default();
        Self { engine: Arc::new(Engine { resolver, store, permits, state }) }
    }

    /// Opens a job; no other open job may have the same id. `tag` is handed to the operations it wants, see [`InterestedJob`].
    pub fn job(
        &self,
        id: JobId,
        feed: Arc<dyn ProgressSink>,
        tag: Arc<dyn Any + Send + Sync>,
    ) -> Job<R> {
        Job { engine: self.engine.clone(), who: InterestedJob { id, tag }, feed }
    }
}

impl<R: Clone + Send + Sync + 'static> Job<R> {
    /// Returns the job's name.
    pub fn id(&self) -> &JobId {
        &self.who.id
    }

    /// Returns the result of `edge`, from the cache or by running what is needed. Dropping the future
    /// cancels what nobody else waits for.
    ///
    /// # Errors
    /// Returns the error of the first vertex that failed.
    pub async fn build(&self, edge: Edge) -> Result<R, SolveError> {
        let waiting = self.engine.begin(&self.who, &self.feed, &edge);
        waiting.answer(&edge.vertex).await
    }

    /// Returns the keys of `edge` and of everything below it that this job has solved, inputs before
    /// those who use them, `edge` last. Empty if `edge` was not built.
    pub fn records(&self, edge: &Edge) -> Vec<Record<R>> {
        self.engine.records(edge)
    }
}

impl<R: Clone + Send + Sync + 'static> Drop for Job<R> {
    fn drop(&mut self) {
        self.engine.leave(&self.who.id);
    }
}
