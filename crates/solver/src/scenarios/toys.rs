//! Toy operations on texts, and a bench to solve graphs of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use digests::{Digest, VertexDigest};
use parking_lot::Mutex;
use progress::Feed;
use tokio::sync::Semaphore;

use crate::testing::MemoryStore;
use crate::{
    CacheMap, ContentKey, Edge, InputKey, Job, JobId, Op, OpContext, OpError, OpResolver,
    SolveError, Solver, SolverOptions, Vertex,
};

/// An operation whose results are texts.
pub(super) struct Toy {
    name: String,
    key: String,
    inputs: Vec<Edge>,
    slots: Vec<InputKey>,
    outputs: Vec<String>,
    ignore_cache: bool,
    volatile: bool,
    /// The states of a counter that each run tells.
    counts: Vec<i64>,
    /// What each run waits for.
    gate: Option<Arc<Semaphore>>,
    /// What each run has built, as a job of its own.
    nested: Option<(Solver<String>, Edge)>,
    unreadable: Option<&'static str>,
    failures: Mutex<Vec<Failure>>,
    pub(super) maps: AtomicUsize,
    pub(super) contents: AtomicUsize,
    pub(super) execs: AtomicUsize,
    pub(super) ended: AtomicUsize,
    /// The jobs that the last run saw when it ended.
    pub(super) seen_jobs: Mutex<Vec<String>>,
}

/// How a run is to fail.
pub(super) enum Failure {
    Plain(&'static str),
    Lost(&'static str),
    Panic,
}

#[derive(Debug, thiserror::Error)]
#[error("toy failed: {0}")]
pub(super) struct ToyError(pub(super) &'static str);

/// Starts a toy: by default its key is its name, and its result `name(inputs)`.
pub(super) fn toy(name: &str, inputs: &[Edge]) -> Toy {
    Toy {
        name: name.to_owned(),
        key: name.to_owned(),
        inputs: inputs.to_vec(),
        slots: vec![InputKey::default(); inputs.len()],
        outputs: Vec::new(),
        ignore_cache: false,
        volatile: false,
        counts: Vec::new(),
        gate: None,
        nested: None,
        unreadable: None,
        failures: Mutex::default(),
        maps: AtomicUsize::new(0),
        contents: AtomicUsize::new(0),
        execs: AtomicUsize::new(0),
        ended: AtomicUsize::new(0),
        seen_jobs: Mutex::default(),
    }
}

impl Toy {
    pub(super) fn key(self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self }
    }

    pub(super) fn gives(self, outputs: &[&str]) -> Self {
        Self { outputs: outputs.iter().map(|text| (*text).to_owned()).collect(), ..self }
    }

    pub(super) fn by_content(mut self, slot: usize) -> Self {
        self.slots[slot].content = ContentKey::ByContent;
        self
    }

    pub(super) fn selects(mut self, slot: usize, selector: &str) -> Self {
        self.slots[slot].selector = Some(Digest::of(selector));
        self
    }

    pub(super) fn ignoring_cache(self) -> Self {
        Self { ignore_cache: true, ..self }
    }

    pub(super) fn volatile(self) -> Self {
        Self { volatile: true, ..self }
    }

    pub(super) fn counting(self, counts: &[i64]) -> Self {
        Self { counts: counts.to_vec(), ..self }
    }

    pub(super) fn gated(self, gate: &Arc<Semaphore>) -> Self {
        Self { gate: Some(gate.clone()), ..self }
    }

    /// Has `edge` built by each run, which gives what that gives.
    pub(super) fn building(self, bench: &Bench, edge: &Edge) -> Self {
        Self { nested: Some((bench.solver.clone(), edge.clone())), ..self }
    }

    /// Fails where the content of an input is asked for.
    pub(super) fn unreadable(self, text: &'static str) -> Self {
        Self { unreadable: Some(text), ..self }
    }

    pub(super) fn failing(self, failure: Failure) -> Self {
        self.failures.lock().push(failure);
        self
    }

    /// Ends the description; returns output 0, and the toy for its counters.
    pub(super) fn make(self) -> (Edge, Arc<Self>) {
        let mut text = format!("{}|{}|{}", self.name, self.key, self.outputs.join(","));
        for (input, slot) in self.inputs.iter().zip(&self.slots) {
            text.push_str(&format!("|{}#{}{slot:?}", input.vertex.digest, input.output));
        }
        let (name, inputs) = (self.name.clone(), self.inputs.clone());
        let (ignore_cache, toy) = (self.ignore_cache, Arc::new(self));
        let vertex = Vertex {
            digest: VertexDigest::new(Digest::of(text)),
            name,
            inputs,
            payload: toy.clone(),
            ignore_cache,
            group: None,
            description: BTreeMap::new(),
        };
        (Edge::new(Arc::new(vertex), 0), toy)
    }

    pub(super) fn edge(self) -> Edge {
        self.make().0
    }

    pub(super) fn ran(&self) -> usize {
        self.execs.load(Ordering::SeqCst)
    }
}

/// Counts that a run ended, in whatever way.
struct Ending<'a>(&'a AtomicUsize);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Op<String> for Toy {
    async fn cache_map(&self, _context: &OpContext) -> Result<CacheMap, OpError> {
        self.maps.fetch_add(1, Ordering::SeqCst);
        let (inputs, volatile) = (self.slots.clone(), self.volatile);
        let pin = Some(format!("pin of {}", self.key));
        Ok(CacheMap { digest: Digest::of(&self.key), inputs, volatile, pin })
    }

    async fn content_key(
        &self,
        _context: &OpContext,
        _slot: usize,
        input: &String,
    ) -> Result<Option<Digest>, OpError> {
        self.contents.fetch_add(1, Ordering::SeqCst);
        if let Some(text) = self.unreadable {
            return Err(OpError::new(ToyError(text)));
        }
        Ok(Some(Digest::of(input)))
    }

    async fn exec(&self, context: &OpContext, inputs: Vec<String>) -> Result<Vec<String>, OpError> {
        self.execs.fetch_add(1, Ordering::SeqCst);
        let _ending = Ending(&self.ended);
        context.log(progress::LogStream::Stdout, format!("{} runs", self.name));
        for current in &self.counts {
            context.status(progress::Status {
                vertex: context.digest(),
                id: "counter".to_owned(),
                name: "counting".to_owned(),
                current: *current,
                total: 0,
                timestamp: progress::Timestamp::now(),
                started: None,
                completed: None,
            });
        }
        if let Some(gate) = &self.gate {
            gate.acquire().await.expect("gates are not closed").forget();
        }
        if let Some((solver, edge)) = &self.nested {
            let id = JobId::new(format!("nested in {}", self.name));
            let job = solver.job(id, Arc::new(progress::NullSink), Arc::new(()));
            return Ok(vec![job.build(edge.clone()).await.map_err(|error| error.source)?]);
        }
        *self.seen_jobs.lock() =
            context.jobs().iter().map(|job| job.id.as_str().to_owned()).collect();
        let failure = self.failures.lock().pop();
        match failure {
            Some(Failure::Plain(text)) => return Err(OpError::new(ToyError(text))),
            Some(Failure::Lost(job)) => {
                return Err(OpError::lost(JobId::new(job), ToyError("client gone")));
            }
            Some(Failure::Panic) => panic!("toy panics"),
            None => {}
        }
        if self.outputs.is_empty() {
            Ok(vec![format!("{}({})", self.name, inputs.join(","))])
        } else {
            Ok(self.outputs.clone())
        }
    }

    fn is_counted(&self) -> bool {
        self.nested.is_none()
    }
}

struct Toys;

impl OpResolver<String> for Toys {
    fn resolve(&self, vertex: &Vertex) -> Result<Arc<dyn Op<String>>, OpError> {
        let toy = vertex.payload.clone().downcast::<Toy>();
        toy.map(|toy| toy as Arc<dyn Op<String>>).map_err(|_| OpError::new("not a toy"))
    }
}

/// A solver of toys, and the store that outlives it.
pub(super) struct Bench {
    pub(super) solver: Solver<String>,
    pub(super) store: Arc<MemoryStore<String>>,
    jobs: AtomicUsize,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(SolverOptions::default())
    }

    pub(super) fn with(options: SolverOptions) -> Self {
        let store = Arc::new(MemoryStore::new());
        let solver = Solver::new(Arc::new(Toys), store.clone(), options);
        Self { solver, store, jobs: AtomicUsize::new(0) }
    }

    pub(super) fn job(&self, id: &str) -> (Job<String>, Feed) {
        let feed = Feed::new();
        (self.solver.job(JobId::new(id), Arc::new(feed.clone()), Arc::new(())), feed)
    }

    /// Builds in a job of its own, which ends with it.
    pub(super) async fn build(&self, edge: &Edge) -> Result<String, SolveError> {
        let number = self.jobs.fetch_add(1, Ordering::SeqCst);
        let (job, _feed) = self.job(&format!("job-{number}"));
        job.build(edge.clone()).await
    }
}

/// Lets everything that can move move: the runtime of these tests has one thread.
pub(super) async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

pub(super) fn closed_gate() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(0))
}
