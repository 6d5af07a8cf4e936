//! Those who watch a vertex: the jobs that want it, and what each was told.
//!
//! Everything said about a vertex goes to all its jobs; a job that comes later is told what was said
//! before. The rules of a vertex's life (announced, intervals of work, cached, closed) are kept here,
//! so that the rest of the solver only says what happens.

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
    started: Option<Timestamp>,
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

    /// Says that the client of `job` is gone, so that the operation does not ask it again.
    pub(crate) fn lose(&self, job: &JobId) {
        self.state.lock().lost.push(job.clone());
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
        self.tell(&mut state, self.event(Some(now), None, false, None));
        state.followers.iter().for_each(|follower| follower.start());
    }

    /// Says that the work ended.
    pub(crate) fn complete(&self, error: Option<&OpError>) {
        let mut state = self.state.lock();
        let now = Timestamp::now();
        let started = state.started.take().unwrap_or(now);
        let text = error.map(OpError::full_text);
        self.tell(&mut state, self.event(Some(started), Some(now), false, text));
        for follower in std::mem::take(&mut state.followers) {
            follower.complete(error);
        }
    }

    /// Says that the result came from the cache.
    pub(crate) fn cached(&self) {
        let mut state = self.state.lock();
        let now = Timestamp::now();
        let started = state.started.take().unwrap_or(now);
        self.tell(&mut state, self.event(Some(started), Some(now), true, None));
    }

    /// Returns true if anything was said of the vertex beyond its being there, and no work is open.
    pub(crate) fn is_closed(&self) -> bool {
        let state = self.state.lock();
        state.told && state.started.is_none()
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
        if let Event::Status(new) = &event {
            let same = |old: &&mut Event| matches!(old, Event::Status(s) if s.id == new.id);
            if let Some(old) = self.history.iter_mut().find(same) {
                *old = event;
                return;
            }
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
