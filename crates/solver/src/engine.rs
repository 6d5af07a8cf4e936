//! The shell around the graph: starts the work that the graph orders, and tells it how that went.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use digests::Digest;
use futures::FutureExt as _;
use parking_lot::Mutex;
use progress::ProgressSink;
use tokio::sync::{Semaphore, oneshot};

use crate::audience::Audience;
use crate::graph::Graph;
use crate::loader::Loader;
use crate::order::{BuildId, EdgeId, NodeId, Order, Outcome, Task, WorkId};
use crate::{
    CacheStore, Edge, InterestedJob, JobId, Op, OpError, OpResolver, Record, SolveError, Vertex,
};

pub(crate) struct Engine<R> {
    pub(crate) resolver: Arc<dyn OpResolver<R>>,
    pub(crate) store: Arc<dyn CacheStore<R>>,
    /// Permits to run operations.
    pub(crate) permits: Option<Semaphore>,
    // A plain mutex: the graph never blocks, and the lock is never held over an await.
    pub(crate) state: Mutex<State<R>>,
}

pub(crate) struct State<R> {
    graph: Graph<R>,
    seats: HashMap<NodeId, Arc<Seat<R>>>,
    identities: HashMap<Digest, NodeId>,
    works: HashMap<WorkId, Going>,
    answers: HashMap<BuildId, oneshot::Sender<Result<R, SolveError>>>,
    builds: u64,
}

/// What the shell keeps of a vertex of the graph.
pub(crate) struct Seat<R> {
    pub(crate) node: NodeId,
    identity: Digest,
    pub(crate) audience: Arc<Audience>,
    pub(crate) op: Result<Arc<dyn Op<R>>, OpError>,
    /// True once everything below was told as cached, unless something else was told of it.
    swept: AtomicBool,
}

/// Work that is going on.
struct Going {
    _task: tasks::Task<()>,
    /// Who sees it as an interval.
    audience: Option<Arc<Audience>>,
}

impl<R> Default for State<R> {
    fn default() -> Self {
        Self {
            graph: Graph::default(),
            seats: HashMap::new(),
            identities: HashMap::new(),
            works: HashMap::new(),
            answers: HashMap::new(),
            builds: 0,
        }
    }
}

/// A build that waits; dropping it stops the waiting.
pub(crate) struct Waiting<R: Clone + Send + Sync + 'static> {
    engine: Arc<Engine<R>>,
    build: BuildId,
    node: NodeId,
    answer: oneshot::Receiver<Result<R, SolveError>>,
}

impl<R: Clone + Send + Sync + 'static> Engine<R> {
    /// Puts the graph below `edge` in for the job and starts to want its result.
    pub(crate) fn begin(
        self: &Arc<Self>,
        job: &InterestedJob,
        feed: &Arc<dyn ProgressSink>,
        edge: &Edge,
    ) -> Waiting<R> {
        let (sender, answer) = oneshot::channel();
        let mut state = self.state.lock();
        let edge = self.load(&mut state, job, feed, edge);
        state.builds += 1;
        let build = BuildId(state.builds);
        state.answers.insert(build, sender);
        let orders = state.graph.want(build, edge);
        self.carry_out(&mut state, orders);
        Waiting { engine: self.clone(), build, node: edge.node, answer }
    }

    /// Lets go what only this job used, and ends what it was told.
    pub(crate) fn leave(&self, job: &JobId) {
        let mut state = self.state.lock();
        let released = state.graph.leave(job);
        for node in &released.left {
            if let Some(seat) = state.seats.get(node) {
                seat.audience.leave(job);
            }
        }
        let mut seats = Vec::with_capacity(released.gone.len());
        for node in &released.gone {
            if let Some(seat) = state.seats.remove(node) {
                state.identities.remove(&seat.identity);
                seats.push(seat);
            }
        }
        // Results may take their time to drop.
        drop(state);
        drop((released, seats));
    }

    /// Returns what is known of `edge` and everything below it, inputs first.
    pub(crate) fn records(&self, edge: &Edge) -> Vec<Record<R>> {
        let state = self.state.lock();
        let mut loader = Loader::default();
        let mut records = Vec::new();
        let mut places = HashMap::new();
        let mut pending = vec![(edge.clone(), false)];
        while let Some((edge, inputs_done)) = pending.pop() {
            let name = (Arc::as_ptr(&edge.vertex), edge.output);
            if places.contains_key(&name) {
                continue;
            }
            if !inputs_done {
                let inputs = edge.vertex.inputs.clone();
                pending.push((edge, true));
                pending.extend(inputs.into_iter().map(|input| (input, false)));
                continue;
            }
            let place =
                |edge: &Edge| places.get(&(Arc::as_ptr(&edge.vertex), edge.output)).copied();
            let inputs: Option<Vec<usize>> = edge.vertex.inputs.iter().map(place).collect();
            let node = state.identities.get(&loader.identity(&edge.vertex)).copied();
            let machine =
                node.and_then(|node| state.graph.machine(EdgeId { node, output: edge.output }));
            let (Some(inputs), Some(machine)) = (inputs, machine) else { return Vec::new() };
            let Some(key) = machine.key() else { return Vec::new() };
            let Some(map) = machine.map().cloned() else { return Vec::new() };
            places.insert(name, records.len());
            records.push(Record {
                edge,
                map,
                key,
                links: machine.links(),
                contents: machine.contents(),
                inputs,
                result: machine.result().cloned(),
            });
        }
        records
    }

    /// Puts the vertices of a graph in, inputs first, without recursion: graphs can be deep.
    fn load(
        &self,
        state: &mut State<R>,
        job: &InterestedJob,
        feed: &Arc<dyn ProgressSink>,
        edge: &Edge,
    ) -> EdgeId {
        let mut loader = Loader::default();
        let root = loader.identity(&edge.vertex);
        for (vertex, identity) in std::mem::take(&mut loader.order) {
            let node = match state.identities.get(&identity).copied() {
                Some(node) => node,
                None => self.seat(state, &loader, vertex, identity),
            };
            if state.graph.join(&job.id, node)
                && let Some(seat) = state.seats.get(&node)
            {
                seat.audience.join(job.clone(), feed.clone());
            }
        }
        let node = state.identities.get(&root).copied();
        // The root is the last that was put in; a missing one would answer as a graph without nodes.
        EdgeId { node: node.unwrap_or_default(), output: edge.output }
    }

    /// Puts one new vertex in.
    fn seat(
        &self,
        state: &mut State<R>,
        loader: &Loader,
        vertex: Arc<Vertex>,
        identity: Digest,
    ) -> NodeId {
        let mut inputs = Vec::with_capacity(vertex.inputs.len());
        let mut shown = Vec::with_capacity(vertex.inputs.len());
        for input in &vertex.inputs {
            let known = loader.known(&input.vertex).and_then(|id| state.identities.get(&id));
            if let Some(seat) = known.and_then(|node| state.seats.get(node)) {
                inputs.push(EdgeId { node: seat.node, output: input.output });
                if !shown.contains(&seat.audience.digest()) {
                    shown.push(seat.audience.digest());
                }
            }
        }
        let digest = vertex.digest.digest();
        let has_twin = identity != digest && state.identities.contains_key(&digest);
        let shown_as = if has_twin { Digest::of(format!("{digest}-ignorecache")) } else { digest };
        let op = self.resolver.resolve(&vertex);
        let node = state.graph.add(vertex.clone(), inputs);
        let audience = Arc::new(Audience::new(vertex, shown_as, shown));
        let seat = Seat { node, identity, audience, op, swept: AtomicBool::new(false) };
        state.seats.insert(node, Arc::new(seat));
        state.identities.insert(identity, node);
        node
    }

    fn carry_out(self: &Arc<Self>, state: &mut State<R>, orders: Vec<Order<R>>) {
        for order in orders {
            match order {
                Order::Start { work, node, task } => {
                    if let Some(seat) = state.seats.get(&node).cloned() {
                        let going = self.start(work, seat, task);
                        state.works.insert(work, going);
                    }
                }
                Order::Stop(work) => {
                    if let Some(audience) = state.works.remove(&work).and_then(|w| w.audience) {
                        audience.interrupt();
                    }
                }
                Order::Follow { leader, follower } => {
                    if let (Some(leader), Some(follower)) =
                        (state.seats.get(&leader), state.seats.get(&follower))
                    {
                        leader.audience.follow(follower.audience.clone());
                    }
                }
                Order::Answer { build, outcome } => {
                    if let Some(sender) = state.answers.remove(&build) {
                        // The receiver may have gone this very moment.
                        let _ = sender.send(outcome);
                    }
                }
            }
        }
    }

    fn start(self: &Arc<Self>, work: WorkId, seat: Arc<Seat<R>>, task: Task<R>) -> Going {
        let shown = matches!(task, Task::Map | Task::Exec { .. });
        let audience = shown.then(|| seat.audience.clone());
        let engine = self.clone();
        let task = tasks::spawn("solver", async move {
            let performance = AssertUnwindSafe(engine.perform(&seat, task));
            let outcome = performance.catch_unwind().await.unwrap_or_else(|_| {
                // The message is in the log, where the panic hook wrote it.
                Outcome::Failed(OpError::new("the operation panicked"))
            });
            engine.finish(work, outcome);
        });
        Going { _task: task, audience }
    }

    fn finish(self: &Arc<Self>, work: WorkId, outcome: Outcome<R>) {
        let mut state = self.state.lock();
        let going = state.works.remove(&work);
        let orders = state.graph.done(work, outcome);
        self.carry_out(&mut state, orders);
        drop(state);
        drop(going);
    }

    /// Says that the result of `node` came from the cache, and so nothing below it was needed.
    pub(crate) fn show_cached(&self, node: NodeId) {
        let state = self.state.lock();
        state.sweep(node);
        if let Some(seat) = state.seats.get(&node) {
            seat.audience.cached();
        }
    }

    /// Says the same of `node` and all below of which nothing was said: its work was another's.
    fn show_built(&self, node: NodeId) {
        let state = self.state.lock();
        state.sweep(node);
        if let Some(seat) = state.seats.get(&node) {
            seat.audience.cached_unless_told();
        }
    }

    /// Says that what was not done below `node` was not needed: its own work begins.
    pub(crate) fn show_inputs_cached(&self, node: NodeId) {
        self.state.lock().sweep(node);
    }
}

impl<R: Clone> State<R> {
    /// Says of everything below `top` that nothing was said of yet that it was cached: a client
    /// would wait for it. Each vertex is visited once in its life, not once per vertex above.
    fn sweep(&self, top: NodeId) {
        let mut pending = vec![(top, false)];
        while let Some((node, inputs_done)) = pending.pop() {
            let Some(seat) = self.seats.get(&node) else { continue };
            if inputs_done {
                if node != top {
                    seat.audience.cached_unless_told();
                }
            } else if !seat.swept.swap(true, Ordering::Relaxed) {
                pending.push((node, true));
                pending.extend(self.graph.inputs(node).iter().map(|input| (input.node, false)));
            }
        }
    }
}

impl<R: Clone + Send + Sync + 'static> Waiting<R> {
    pub(crate) async fn answer(mut self, vertex: &Vertex) -> Result<R, SolveError> {
        let outcome = (&mut self.answer).await.unwrap_or_else(|_| {
            let (vertex, name) = (vertex.digest, vertex.name.clone());
            Err(SolveError { vertex, name, source: OpError::cancelled() })
        });
        if outcome.is_ok() {
            self.engine.show_built(self.node);
        }
        outcome
    }
}

impl<R: Clone + Send + Sync + 'static> Drop for Waiting<R> {
    fn drop(&mut self) {
        let mut state = self.engine.state.lock();
        state.answers.remove(&self.build);
        let orders = state.graph.unwant(self.build);
        self.engine.carry_out(&mut state, orders);
    }
}
