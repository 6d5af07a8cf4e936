//! The shared graph: the edges' machines, who wants whom, and the work that is going on.
//!
//! Pure as the machines are: events in, [`Order`]s out. Machines talk to each other through a queue,
//! so that neither a deep graph nor a wide one costs any stack.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::key::{BaseKey, RunKey};
use crate::machine::EdgeMachine;
use crate::node::{Asker, EdgeState, Node, Purpose, Run, RunState};
use crate::order::{BuildId, EdgeId, NodeId, Order, Outcome, Task, WorkId};
use crate::signal::{Effect, Event, Goal, Report};
use crate::{JobId, OpError, SolveError, Vertex};

/// All vertices that jobs use, and their edges.
#[derive(Debug)]
pub(crate) struct Graph<R> {
    nodes: HashMap<NodeId, Node<R>>,
    jobs: HashMap<JobId, HashSet<NodeId>>,
    builds: HashMap<BuildId, EdgeId>,
    works: HashMap<WorkId, Purpose>,
    runs: HashMap<RunKey, Run<R>>,
    queue: VecDeque<(EdgeId, Event<R>)>,
    orders: Vec<Order<R>>,
    last_id: u64,
}

impl<R> Default for Graph<R> {
    fn default() -> Self {
        Self {
            nodes: HashMap::new(),
            jobs: HashMap::new(),
            builds: HashMap::new(),
            works: HashMap::new(),
            runs: HashMap::new(),
            queue: VecDeque::new(),
            orders: Vec::new(),
            last_id: 0,
        }
    }
}

/// What was let go when a job left. To be dropped where results may be dropped.
#[must_use]
#[derive(Debug)]
pub(crate) struct Released<R> {
    /// The vertices that the job used.
    pub(crate) left: Vec<NodeId>,
    /// Those of them that nobody else uses.
    pub(crate) gone: Vec<NodeId>,
    _nodes: Vec<Node<R>>,
    _runs: Vec<Run<R>>,
}

impl<R: Clone> Graph<R> {
    /// Adds a vertex; its inputs are in the graph already.
    pub(crate) fn add(&mut self, vertex: Arc<Vertex>, inputs: Vec<EdgeId>) -> NodeId {
        let id = NodeId(self.next_id());
        self.nodes.insert(id, Node::new(vertex, inputs));
        id
    }

    /// Says that `job` wants to use `node`. Returns true if it did not before; what had failed for
    /// others is then tried again.
    pub(crate) fn join(&mut self, job: &JobId, node: NodeId) -> bool {
        if !self.jobs.entry(job.clone()).or_default().insert(node) {
            return false;
        }
        let Some(state) = self.nodes.get_mut(&node) else { return false };
        state.jobs += 1;
        state.edges.values_mut().for_each(|edge| edge.machine.forgive());
        true
    }

    /// Lets go what only `job` used. Its builds have left before.
    pub(crate) fn leave(&mut self, job: &JobId) -> Released<R> {
        let left: Vec<NodeId> = self.jobs.remove(job).unwrap_or_default().into_iter().collect();
        let (gone, nodes, runs) = (Vec::new(), Vec::new(), Vec::new());
        let mut released = Released { left, gone, _nodes: nodes, _runs: runs };
        for id in released.left.clone() {
            if let Entry::Occupied(mut node) = self.nodes.entry(id) {
                node.get_mut().jobs -= 1;
                if node.get().jobs == 0 {
                    let node = node.remove();
                    released._runs.extend(self.forget_run(id, node.run));
                    released.gone.push(id);
                    released._nodes.push(node);
                }
            }
        }
        released
    }

    fn forget_run(&mut self, node: NodeId, run: Option<RunKey>) -> Option<Run<R>> {
        let key = run?;
        let run = self.runs.get_mut(&key)?;
        run.nodes.remove(&node);
        if run.nodes.is_empty() { self.runs.remove(&key) } else { None }
    }

    /// Starts to want the result of `edge`.
    pub(crate) fn want(&mut self, build: BuildId, edge: EdgeId) -> Vec<Order<R>> {
        self.builds.insert(build, edge);
        self.ask(edge, Asker::Build(build), Goal::Result);
        self.pump()
    }

    /// Stops to want it. Nothing happens if the build has its answer already.
    pub(crate) fn unwant(&mut self, build: BuildId) -> Vec<Order<R>> {
        if let Some(edge) = self.builds.remove(&build) {
            self.ask(edge, Asker::Build(build), Goal::Nothing);
        }
        self.pump()
    }

    /// Takes in how a piece of work went. What was stopped meanwhile is of no interest.
    pub(crate) fn done(&mut self, work: WorkId, outcome: Outcome<R>) -> Vec<Order<R>> {
        match self.works.remove(&work) {
            None | Some(Purpose::Nothing) => {}
            Some(Purpose::Map(node)) => self.mapped(node, outcome),
            Some(Purpose::Run(run)) => self.ran(run, outcome),
            Some(Purpose::Edge(edge)) => self.done_for(work, edge, None, outcome),
            Some(Purpose::Content(edge, slot)) => self.done_for(work, edge, Some(slot), outcome),
        }
        self.pump()
    }

    pub(crate) fn inputs(&self, node: NodeId) -> &[EdgeId] {
        self.nodes.get(&node).map_or(&[], |node| node.inputs.as_slice())
    }

    pub(crate) fn machine(&self, edge: EdgeId) -> Option<&EdgeMachine<R>> {
        Some(&self.nodes.get(&edge.node)?.edges.get(&edge.output)?.machine)
    }

    /// Returns the identities of the work that is going on; nothing is left over when nobody waits.
    #[cfg(test)]
    pub(crate) fn busy(&self) -> usize {
        self.works.len()
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn edge(&mut self, id: EdgeId) -> Option<&mut EdgeState<R>> {
        Some(self.nodes.get_mut(&id.node)?.edge(id.output))
    }

    /// Lets the machines talk until all wait.
    fn pump(&mut self) -> Vec<Order<R>> {
        while let Some((id, event)) = self.queue.pop_front() {
            let Some(edge) = self.edge(id) else { continue };
            for effect in edge.machine.handle(event) {
                self.perform(id, effect);
            }
            self.publish(id);
        }
        std::mem::take(&mut self.orders)
    }

    fn perform(&mut self, id: EdgeId, effect: Effect<R>) {
        match effect {
            Effect::Map => self.map(id),
            Effect::Ask { slot, goal } => {
                let input = self.nodes.get(&id.node).and_then(|n| n.inputs.get(slot).copied());
                if let Some(input) = input {
                    self.ask(input, Asker::Slot { edge: id, slot }, goal);
                }
            }
            Effect::Query(links) => self.start(id, Purpose::Edge(id), Task::Query(links)),
            Effect::Load(key) => self.start(id, Purpose::Edge(id), Task::Load(key)),
            Effect::Content { slot, input } => {
                self.start(id, Purpose::Content(id, slot), Task::Content { slot, input });
            }
            Effect::Exec { run, base, inputs } => self.exec(id, run, base, inputs),
            // Not among the edge's works: what was made is kept even if nobody waits any more.
            Effect::Save { record, result } => {
                self.launch(id.node, Purpose::Edge(id), Task::Save { record, result });
            }
            Effect::Link(record) => {
                self.launch(id.node, Purpose::Nothing, Task::Link(record));
            }
            Effect::Stop => self.stop(id),
        }
    }

    fn launch(&mut self, node: NodeId, purpose: Purpose, task: Task<R>) -> WorkId {
        let work = WorkId(self.next_id());
        self.works.insert(work, purpose);
        self.orders.push(Order::Start { work, node, task });
        work
    }

    fn start(&mut self, id: EdgeId, purpose: Purpose, task: Task<R>) {
        let work = self.launch(id.node, purpose, task);
        if let Some(edge) = self.edge(id) {
            edge.works.push(work);
        }
    }

    fn abandon(&mut self, work: WorkId) {
        if self.works.remove(&work).is_some() {
            self.orders.push(Order::Stop(work));
        }
    }

    /// Stops the works of an edge; those that it shares, only if nobody else waits.
    fn stop(&mut self, id: EdgeId) {
        let works = self.edge(id).map(|edge| std::mem::take(&mut edge.works)).unwrap_or_default();
        for work in works {
            self.abandon(work);
        }
        let Some(node) = self.nodes.get_mut(&id.node) else { return };
        let run = node.run;
        if !node.edges.values().any(|edge| edge.machine.is_mapping())
            && let Some(work) = node.mapping.take()
        {
            self.abandon(work);
        }
        if let Some(key) = run {
            self.leave_run(id, key);
        }
    }

    /// Asks the operation for its cache map, once for all outputs.
    fn map(&mut self, id: EdgeId) {
        let Some(node) = self.nodes.get(&id.node) else { return };
        if let Some(map) = node.map.clone() {
            self.queue.push_back((id, Event::Mapped(map)));
        } else if node.mapping.is_none() {
            let work = self.launch(id.node, Purpose::Map(id.node), Task::Map);
            if let Some(node) = self.nodes.get_mut(&id.node) {
                node.mapping = Some(work);
            }
        }
    }

    fn mapped(&mut self, id: NodeId, outcome: Outcome<R>) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.mapping = None;
        let map = match outcome {
            Outcome::Mapped(map) if map.inputs.len() == node.inputs.len() => Ok(Arc::new(map)),
            Outcome::Mapped(map) => Err(OpError::new(format!(
                "cache map has {} inputs, but the vertex has {}",
                map.inputs.len(),
                node.inputs.len()
            ))),
            other => Err(other.into_error()),
        };
        node.map = map.as_ref().ok().cloned();
        for (output, edge) in &node.edges {
            if edge.machine.is_mapping() {
                let event = match &map {
                    Ok(map) => Event::Mapped(map.clone()),
                    Err(error) => Event::Failed(node.blame(error.clone())),
                };
                self.queue.push_back((EdgeId { node: id, output: *output }, event));
            }
        }
    }

    fn done_for(&mut self, work: WorkId, id: EdgeId, slot: Option<usize>, outcome: Outcome<R>) {
        let Some(edge) = self.edge(id) else { return };
        edge.works.retain(|other| *other != work);
        let event = match (outcome, slot) {
            (Outcome::Found(found), _) => Event::Found(found),
            (Outcome::Loaded(result), _) => Event::Loaded(result),
            (Outcome::Content(key), Some(slot)) => Event::Content { slot, key },
            (Outcome::Kept, _) => Event::Saved,
            (other, _) => self.failed(id.node, other.into_error()),
        };
        self.queue.push_back((id, event));
    }

    fn failed(&self, node: NodeId, error: OpError) -> Event<R> {
        match self.nodes.get(&node) {
            Some(node) => Event::Failed(node.blame(error)),
            // A node that is gone has no machine that could hear it.
            None => Event::Wanted(Goal::Nothing),
        }
    }

    /// Runs the operation, or joins a run of the same work.
    fn exec(&mut self, id: EdgeId, run: RunKey, base: BaseKey, inputs: Vec<R>) {
        let Some(node) = self.nodes.get_mut(&id.node) else { return };
        let key = *node.run.get_or_insert(run);
        if let Some(run) = self.runs.get_mut(&key) {
            run.nodes.insert(id.node);
            match &mut run.state {
                RunState::Running { waiters, .. } => {
                    waiters.push(id);
                    if run.leader != id.node {
                        let leader = run.leader;
                        self.orders.push(Order::Follow { leader, follower: id.node });
                    }
                }
                RunState::Done(results) => {
                    let result = results.get(id.output as usize).cloned();
                    let base = run.base;
                    self.deliver(id, base, result);
                }
            }
            return;
        }
        let work = self.launch(id.node, Purpose::Run(key), Task::Exec { inputs });
        let state = RunState::Running { work, waiters: vec![id] };
        let nodes = HashSet::from([id.node]);
        self.runs.insert(key, Run { leader: id.node, base, nodes, state });
    }

    fn ran(&mut self, key: RunKey, outcome: Outcome<R>) {
        let Some(run) = self.runs.get_mut(&key) else { return };
        let RunState::Running { waiters, .. } = &mut run.state else { return };
        let waiters = std::mem::take(waiters);
        match outcome {
            Outcome::Executed(results) => {
                let base = run.base;
                run.state = RunState::Done(results.clone());
                for id in waiters {
                    self.deliver(id, base, results.get(id.output as usize).cloned());
                }
            }
            other => {
                let error = other.into_error();
                self.drop_run(key);
                for id in waiters {
                    let event = self.failed(id.node, error.clone());
                    self.queue.push_back((id, event));
                }
            }
        }
    }

    fn deliver(&mut self, id: EdgeId, base: BaseKey, result: Option<R>) {
        let event = match result {
            Some(result) => Event::Executed { base, result },
            None => {
                let text = format!("the operation has no output {}", id.output);
                self.failed(id.node, OpError::new(text))
            }
        };
        self.queue.push_back((id, event));
    }

    fn leave_run(&mut self, id: EdgeId, key: RunKey) {
        let Some(run) = self.runs.get_mut(&key) else { return };
        let RunState::Running { work, waiters } = &mut run.state else { return };
        waiters.retain(|waiter| *waiter != id);
        if waiters.is_empty() {
            let work = *work;
            self.abandon(work);
            self.drop_run(key);
        }
    }

    fn drop_run(&mut self, key: RunKey) {
        for node in self.runs.remove(&key).map(|run| run.nodes).unwrap_or_default() {
            if let Some(node) = self.nodes.get_mut(&node) {
                node.run = None;
            }
        }
    }

    /// Notes that `asker` wants `id` as far as `goal`, and tells it what is known already.
    fn ask(&mut self, id: EdgeId, asker: Asker, goal: Goal) {
        let Some(edge) = self.edge(id) else { return };
        if goal == Goal::Nothing {
            edge.askers.remove(&asker);
        } else {
            edge.askers.insert(asker, goal);
        }
        let furthest = edge.askers.values().max().copied().unwrap_or_default();
        let changed = furthest != edge.wanted;
        edge.wanted = furthest;
        let news = (goal > Goal::Nothing).then(|| edge.news()).flatten();
        if changed {
            self.queue.push_back((id, Event::Wanted(furthest)));
        }
        if let Some(news) = news {
            self.tell(id, asker, news);
        }
    }

    /// Tells the askers of an edge if there is something new.
    fn publish(&mut self, id: EdgeId) {
        let Some(edge) = self.edge(id) else { return };
        let machine = &edge.machine;
        let now = (machine.level(), machine.match_count(), machine.failure().is_some());
        if edge.told == now {
            return;
        }
        edge.told = now;
        let Some(news) = edge.news() else { return };
        let mut askers: Vec<Asker> = edge.askers.keys().copied().collect();
        // The same order in every run: timelines replay.
        askers.sort_unstable();
        for asker in askers {
            self.tell(id, asker, news.clone());
        }
    }

    fn tell(&mut self, id: EdgeId, asker: Asker, news: Result<Report<R>, SolveError>) {
        match (asker, news) {
            (Asker::Slot { edge, slot }, Ok(report)) => {
                self.queue.push_back((edge, Event::Input { slot, report }));
            }
            (Asker::Slot { edge, slot }, Err(error)) => {
                self.queue.push_back((edge, Event::InputFailed { slot, error }));
            }
            (Asker::Build(build), Ok(Report { result: Some(result), .. })) => {
                self.answer(id, build, Ok(result));
            }
            (Asker::Build(_), Ok(_)) => {}
            (Asker::Build(build), Err(error)) => self.answer(id, build, Err(error)),
        }
    }

    fn answer(&mut self, id: EdgeId, build: BuildId, outcome: Result<R, SolveError>) {
        if self.builds.remove(&build).is_some() {
            self.orders.push(Order::Answer { build, outcome });
            self.ask(id, Asker::Build(build), Goal::Nothing);
        }
    }
}
