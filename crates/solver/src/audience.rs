//! Those who watch a vertex: the jobs that want it, and what each was told.
//!
//! Everything said about a vertex goes to all its jobs; a job that comes later is told what was said
//! before. The rules of a vertex's life (announced, intervals of work, cached, closed) are kept here,
//! so that the rest of the solver only says what happens.

use std::collections::HashMap;
use std::sync::Arc;

use digests::Digest;
use parking_lot::Mutex;
use progress::{Event, ProgressSink, Timestamp};

use crate::{InterestedJob, JobId, OpError, Vertex};

pub(crate) struct Audience {
    vertex: Arc<Vertex>,
    digest: Digest,
    inputs: Vec<Digest>,
    // A plain mutex: held to push to feeds, never over an await.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    listeners: Vec<Listener>,
    /// Jobs that asked no more to be used, as their client is gone.
    lost: Vec<JobId>,
    history: Vec<Event>,
    /// Where in the history the newest state of each counter is.
    counters: HashMap<String, usize>,
    /// When the interval began that was not told to have ended.
    started: Option<Timestamp>,
    /// Whether work is really going on in it: it may have been stopped.
    working: bool,
    /// True if the work turned out not to be needed while it was going on.
    needless: bool,
    /// True once some work was begun or a cached result was told.
    told: bool,
    /// Vertices that came to the same key and wait for this one's work.
    followers: Vec<Arc<Audience>>,
}

struct Listener {
    job: InterestedJob,
    sink: Arc<dyn ProgressSink>,
}

impl std::fmt::Debug for Audience {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Audience({} `{}`)", self.digest, self.vertex.name)
    }
}

impl Audience {
    pub(crate) fn new(vertex: Arc<Vertex>, digest: Digest, inputs: Vec<Digest>) -> Self {
        Self { vertex, digest, inputs, state: Mutex::default() }
    }

    pub(crate) fn vertex(&self) -> &Arc<Vertex> {
        &self.vertex
    }

    pub(crate) const fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the jobs whose clients can be asked, first come first; those of followers after.
    pub(crate) fn jobs(&self) -> Vec<InterestedJob> {
        let (mut jobs, lost, followers) = {
            let state = self.state.lock();
            let jobs: Vec<_> = state.listeners.iter().map(|l| l.job.clone()).collect();
            (jobs, state.lost.clone(), state.followers.clone())
        };
        for follower in followers {
            for job in follower.jobs() {
                if !jobs.iter().any(|known| known.id == job.id) {
                    jobs.push(job);
                }
            }
        }
        jobs.retain(|job| !lost.contains(&job.id));
        jobs
    }

    /// Adds a job, which is told all that was said so far. Returns false if it was there already.
    pub(crate) fn join(&self, job: InterestedJob, sink: Arc<dyn ProgressSink>) -> bool {
        let mut state = self.state.lock();
        if state.listeners.iter().any(|listener| listener.job.id == job.id) {
            return false;
        }
        sink.emit(Event::Vertex(self.event(None, None, false, None)));
        state.history.iter().for_each(|event| sink.emit(event.clone()));
        state.listeners.push(Listener { job, sink });
        true
    }

    /// Removes a job; if work is going on, the job is told that for it the work was cancelled.
    pub(crate) fn leave(&self, job: &JobId) {
        let mut state = self.state.lock();
        let Some(place) = state.listeners.iter().position(|l| l.job.id == *job) else {
            return;
        };
        let listener = state.listeners.remove(place);
        if let Some(started) = state.started {
            let text = OpError::cancelled().full_text();
            let end = self.event(Some(started), Some(Timestamp::now()), false, Some(text));
            listener.sink.emit(Event::Vertex(end));
        }
    }

    /// Returns true if an operation failed because the job it served is gone, and there is another.
    /// `before` are the jobs that there were when it began; it serves the first.
    pub(crate) fn has_lost(&self, before: &[InterestedJob], error: &OpError) -> bool {
        let was_there = |id: &JobId| before.iter().any(|job| job.id == *id);
        let lost = error.lost_job().filter(|id| was_there(id));
        if let Some(id) = lost {
            self.state.lock().lost.push(id.clone());
        }
        let now = self.jobs();
        let has_left = |job: &InterestedJob| now.iter().all(|other| other.id != job.id);
        !now.is_empty() && (lost.is_some() || before.first().is_some_and(has_left))
    }

    /// Adds a vertex that waits for this one's work: its jobs are told under its own digest.
    pub(crate) fn follow(&self, follower: Arc<Self>) {
        let mut state = self.state.lock();
        if state.started.is_some() {
            follower.start();
        }
        state.followers.push(follower);
    }

    /// Says that work on the vertex begins.
    pub(crate) fn start(&self) {
        let mut state = self.state.lock();
        let now = Timestamp::now();
        state.started = Some(now);
        state.working = true;
        self.tell(&mut state, self.event(Some(now), None, false, None));
        state.followers.iter().for_each(|follower| follower.start());
    }

    /// Says that the work ended.
    pub(crate) fn complete(&self, error: Option<&OpError>) {
        let mut state = self.state.lock();
        let text = error.map(OpError::full_text);
        self.close(&mut state, false, text);
        for follower in std::mem::take(&mut state.followers) {
            follower.complete(error);
        }
    }

    /// Notes that the work was stopped. Nobody is told: whether it was cancelled or not needed any
    /// more is seen by what comes next.
    pub(crate) fn interrupt(&self) {
        let mut state = self.state.lock();
        state.working = false;
        for follower in std::mem::take(&mut state.followers) {
            follower.interrupt();
        }
        if state.needless && state.started.is_some() {
            self.close(&mut state, true, None);
        }
    }

    /// Says that the result came from the cache.
    pub(crate) fn cached(&self) {
        self.close(&mut self.state.lock(), true, None);
    }

    /// Says that the result would have come from the cache, were it needed: unless work was or is
    /// being done.
    pub(crate) fn cached_unless_told(&self) {
        let mut state = self.state.lock();
        let is_closed = state.told && state.started.is_none();
        if state.working {
            state.needless = true;
        } else if !is_closed {
            self.close(&mut state, true, None);
        }
    }

    fn close(&self, state: &mut State, cached: bool, error: Option<String>) {
        let now = Timestamp::now();
        let started = state.started.take().unwrap_or(now);
        state.working = false;
        state.needless = false;
        self.tell(state, self.event(Some(started), Some(now), cached, error));
    }

    fn tell(&self, state: &mut State, vertex: progress::Vertex) {
        state.told = true;
        state.say(Event::Vertex(vertex));
    }

    fn event(
        &self,
        started: Option<Timestamp>,
        completed: Option<Timestamp>,
        cached: bool,
        error: Option<String>,
    ) -> progress::Vertex {
        progress::Vertex {
            digest: self.digest,
            inputs: self.inputs.clone(),
            name: self.vertex.name.clone(),
            cached,
            started,
            completed,
            error,
            group: self.vertex.group.clone(),
        }
    }
}

impl State {
    fn say(&mut self, event: Event) {
        self.listeners.iter().for_each(|listener| listener.sink.emit(event.clone()));
        // Of a counter only the newest state is worth telling to a latecomer.
        if let Event::Status(status) = &event {
            if let Some(place) = self.counters.get(&status.id) {
                self.history[*place] = event;
                return;
            }
            self.counters.insert(status.id.clone(), self.history.len());
        }
        self.history.push(event);
    }
}

impl ProgressSink for Audience {
    fn emit(&self, event: Event) {
        let mut state = self.state.lock();
        state.say(event.clone());
        for follower in &state.followers {
            follower.emit(renamed(event.clone(), follower.digest));
        }
    }
}

/// Returns the event as one of another vertex, under which the follower's jobs know it.
fn renamed(event: Event, digest: Digest) -> Event {
    match event {
        Event::Vertex(vertex) => Event::Vertex(vertex),
        Event::Status(status) => Event::Status(progress::Status { vertex: digest, ..status }),
        Event::Log(log) => Event::Log(progress::Log { vertex: digest, ..log }),
        Event::Warning(warning) => Event::Warning(progress::Warning { vertex: digest, ..warning }),
    }
}
