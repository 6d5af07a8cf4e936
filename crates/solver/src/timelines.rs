//! Random graphs, random order of events, random departures: the pure graph against plain evaluation.
//!
//! A timeline is a list of numbers, so a failing one shrinks and replays.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use digests::{Digest, StableHasher, VertexDigest};
use proptest::prelude::*;

use crate::graph::Graph;
use crate::order::{BuildId, EdgeId, NodeId, Order, Outcome, Task, WorkId};
use crate::{
    CacheMap, ContentKey, InputKey, JobId, KeyId, LinkKey, NewRecord, OpError, SolveError, Vertex,
};

/// A vertex of the pool from which jobs take their graphs.
#[derive(Debug, Clone)]
struct Sketch {
    /// The operation: few of them, so that different vertices often are the same work.
    op: u8,
    /// Which earlier vertices it uses, and whether by content.
    inputs: Vec<(usize, u32, bool)>,
    ignore_cache: bool,
    volatile: bool,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Build { job: u8, vertex: usize, output: u32 },
    GiveUp(usize),
    Complete(usize),
    CompleteAll,
    Fail(usize),
    Forget(usize),
    CloseJob(u8),
}

fn sketches(quiet: bool) -> impl Strategy<Value = Vec<Sketch>> {
    let input = (any::<prop::sample::Index>(), 0u32..2, prop::bool::weighted(0.3));
    let rare = move |percent| prop::bool::weighted(if quiet { 0.0 } else { percent });
    let sketch = (0u8..3, prop::collection::vec(input, 0..4), rare(0.1), rare(0.1));
    prop::collection::vec(sketch, 1..16).prop_map(|sketches| {
        let place =
            |(number, (op, inputs, ignore_cache, volatile)): (usize, (u8, Vec<_>, _, _))| {
                let inputs = match number {
                    0 => Vec::new(),
                    _ => inputs
                        .into_iter()
                        .map(|(at, output, by_content): (prop::sample::Index, _, _)| {
                            (at.index(number), output, by_content)
                        })
                        .collect(),
                };
                Sketch { op, inputs, ignore_cache, volatile }
            };
        sketches.into_iter().enumerate().map(place).collect()
    })
}

fn steps(quiet: bool) -> impl Strategy<Value = Vec<Step>> {
    let build = (0u8..3, any::<usize>(), 0u32..2).prop_map(|(job, vertex, output)| Step::Build {
        job,
        vertex,
        output,
    });
    let complete = any::<usize>().prop_map(Step::Complete);
    if quiet {
        return prop::collection::vec(prop_oneof![1 => build, 5 => complete], 0..80).boxed();
    }
    let step = prop_oneof![
        4 => build,
        2 => any::<usize>().prop_map(Step::GiveUp),
        20 => complete,
        1 => Just(Step::CompleteAll),
        1 => any::<usize>().prop_map(Step::Fail),
        2 => any::<usize>().prop_map(Step::Forget),
        1 => (0u8..3).prop_map(Step::CloseJob),
    ];
    prop::collection::vec(step, 0..120).boxed()
}

struct World {
    sketches: Vec<Sketch>,
    graph: Graph<u64>,
    nodes: HashMap<usize, NodeId>,
    vertices: HashMap<NodeId, usize>,
    pending: BTreeMap<WorkId, (usize, Task<u64>)>,
    builds: BTreeMap<BuildId, (u8, usize, u32)>,
    last_build: u64,
    links: HashMap<LinkKey, Vec<KeyId>>,
    results: BTreeMap<KeyId, u64>,
    failures: usize,
    /// How often each class was run to its end.
    runs: HashMap<Digest, usize>,
}

impl World {
    fn new(sketches: Vec<Sketch>) -> Self {
        Self {
            sketches,
            graph: Graph::default(),
            nodes: HashMap::new(),
            vertices: HashMap::new(),
            pending: BTreeMap::new(),
            builds: BTreeMap::new(),
            last_build: 0,
            links: HashMap::new(),
            results: BTreeMap::new(),
            failures: 0,
            runs: HashMap::new(),
        }
    }

    fn map(&self, vertex: usize) -> CacheMap {
        let sketch = &self.sketches[vertex];
        let key = |(_, _, by_content): &(usize, u32, bool)| InputKey {
            selector: None,
            content: if *by_content { ContentKey::ByContent } else { ContentKey::ByDefinition },
        };
        let mut hasher = StableHasher::new("op");
        // Whether an input counts by content or not is part of the operation.
        let flags: Vec<bool> = sketch.inputs.iter().map(|input| input.2).collect();
        let digest = hasher.feed(&sketch.op).feed(&flags).feed(&sketch.volatile).finish();
        CacheMap {
            digest,
            inputs: sketch.inputs.iter().map(key).collect(),
            volatile: sketch.volatile,
            pin: None,
        }
    }

    /// What the operation gives; some give the same for many inputs.
    fn apply(&self, vertex: usize, inputs: &[u64], output: u32) -> u64 {
        let sketch = &self.sketches[vertex];
        let mut hasher = StableHasher::new("value");
        hasher.feed(&self.map(vertex).digest).feed(inputs).feed(&output);
        let bytes = *hasher.finish().as_bytes();
        let value = u64::from_be_bytes(bytes[..8].try_into().unwrap());
        if sketch.op.is_multiple_of(2) { value % 3 } else { value }
    }

    /// Plain evaluation.
    fn value(&self, vertex: usize, output: u32) -> u64 {
        let inputs = &self.sketches[vertex].inputs;
        let inputs: Vec<u64> = inputs.iter().map(|(at, out, _)| self.value(*at, *out)).collect();
        self.apply(vertex, &inputs, output)
    }

    fn definition(&self, vertex: usize, output: u32) -> KeyId {
        let inputs = &self.sketches[vertex].inputs;
        let keys: Vec<_> = inputs.iter().map(|(at, out, _)| self.definition(*at, *out)).collect();
        KeyId::of_definition(&self.map(vertex), output, &keys)
    }

    /// Returns what the edge is, whichever way it came to its inputs: the key by definition, with the
    /// value in the place of each input that counts by content.
    fn class(&self, vertex: usize, output: u32) -> Digest {
        let mut hasher = StableHasher::new("class");
        hasher.feed(&self.map(vertex).digest).feed(&output);
        for (at, out, by_content) in &self.sketches[vertex].inputs {
            match by_content {
                true => hasher.variant(0).feed(&self.value(*at, *out)),
                false => hasher.variant(1).feed(&self.class(*at, *out)),
            };
        }
        hasher.finish()
    }

    fn is_fresh(&self, vertex: usize) -> bool {
        let sketch = &self.sketches[vertex];
        sketch.ignore_cache || sketch.inputs.iter().any(|(at, _, _)| self.is_fresh(*at))
    }

    fn load(&mut self, job: &JobId, vertex: usize) -> NodeId {
        let inputs = self.sketches[vertex].inputs.clone();
        let inputs: Vec<EdgeId> = inputs
            .into_iter()
            .map(|(at, output, _)| EdgeId { node: self.load(job, at), output })
            .collect();
        let node = match self.nodes.get(&vertex) {
            Some(node) => *node,
            None => {
                let node = self.graph.add(self.vertex(vertex), inputs);
                self.nodes.insert(vertex, node);
                self.vertices.insert(node, vertex);
                node
            }
        };
        self.graph.join(job, node);
        node
    }

    fn vertex(&self, vertex: usize) -> Arc<Vertex> {
        Arc::new(Vertex {
            digest: VertexDigest::new(Digest::of(vertex.to_string())),
            name: vertex.to_string(),
            inputs: Vec::new(),
            payload: Arc::new(()),
            ignore_cache: self.sketches[vertex].ignore_cache,
            group: None,
            description: BTreeMap::new(),
        })
    }

    fn carry_out(&mut self, orders: Vec<Order<u64>>) {
        for order in orders {
            match order {
                Order::Start { work, node, task } => {
                    let vertex = self.vertices[&node];
                    self.check_start(vertex, &task);
                    self.pending.insert(work, (vertex, task));
                }
                Order::Stop(work) => {
                    assert!(self.pending.remove(&work).is_some(), "stopped what was not going on");
                }
                Order::Follow { leader, follower } => assert_ne!(leader, follower),
                Order::Answer { build, outcome } => self.answered(build, outcome),
            }
        }
    }

    /// The same work is never going on twice, except beside one that ignores the cache.
    fn check_start(&self, vertex: usize, task: &Task<u64>) {
        if let Task::Exec { .. } = task {
            let key = (self.definition(vertex, 0), self.is_fresh(vertex));
            for (other, task) in self.pending.values() {
                let other = (self.definition(*other, 0), self.is_fresh(*other));
                assert!(!matches!(task, Task::Exec { .. }) || other != key, "runs twice");
            }
        }
    }

    fn answered(&mut self, build: BuildId, outcome: Result<u64, SolveError>) {
        let (_, vertex, output) = self.builds.remove(&build).expect("answered once, if wanted");
        match outcome {
            Ok(value) => assert_eq!(value, self.value(vertex, output)),
            Err(error) => assert!(self.failures > 0, "{error:?}"),
        }
    }

    fn add(&mut self, record: &NewRecord) {
        for link in &record.links {
            let found = self.links.entry(*link).or_default();
            found.retain(|key| *key != record.key);
            found.insert(0, record.key);
        }
    }

    fn complete(&mut self, work: WorkId) {
        let Some((vertex, task)) = self.pending.remove(&work) else { return };
        let outcome = match task {
            Task::Map => Outcome::Mapped(self.map(vertex)),
            Task::Query(links) => {
                let find = |link| self.links.get(link).cloned().unwrap_or_default();
                Outcome::Found(links.iter().map(find).collect())
            }
            Task::Load(key) => Outcome::Loaded(self.results.get(&key).copied()),
            Task::Content { slot, input } => {
                let (at, output, _) = self.sketches[vertex].inputs[slot];
                assert_eq!(input, self.value(at, output));
                Outcome::Content(Some(KeyId::of_content(Digest::of(input.to_be_bytes()))))
            }
            Task::Exec { inputs } => {
                *self.runs.entry(self.class(vertex, 0)).or_default() += 1;
                Outcome::Executed((0..2).map(|out| self.apply(vertex, &inputs, out)).collect())
            }
            Task::Save { record, result } => {
                self.add(&record);
                self.results.insert(record.key, result);
                Outcome::Kept
            }
            Task::Link(record) => {
                self.add(&record);
                Outcome::Kept
            }
        };
        let orders = self.graph.done(work, outcome);
        self.carry_out(orders);
    }

    fn nth_pending(&self, number: usize) -> Option<WorkId> {
        self.pending.keys().nth(number % self.pending.len().max(1)).copied()
    }

    fn complete_all(&mut self) {
        while let Some(work) = self.nth_pending(0) {
            self.complete(work);
        }
    }

    fn give_up(&mut self, build: BuildId) {
        self.builds.remove(&build);
        let orders = self.graph.unwant(build);
        self.carry_out(orders);
    }

    fn close(&mut self, job: u8) {
        let of_job = |(build, (owner, _, _)): (&BuildId, &(u8, usize, u32))| {
            (*owner == job).then_some(*build)
        };
        for build in self.builds.iter().filter_map(of_job).collect::<Vec<_>>() {
            self.give_up(build);
        }
        for node in self.graph.leave(&job_id(job)).gone {
            self.nodes.retain(|_, other| *other != node);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Build { job, vertex, output } => {
                let vertex = vertex % self.sketches.len();
                let node = self.load(&job_id(job), vertex);
                self.last_build += 1;
                let build = BuildId(self.last_build);
                self.builds.insert(build, (job, vertex, output));
                let orders = self.graph.want(build, EdgeId { node, output });
                self.carry_out(orders);
            }
            Step::GiveUp(number) => {
                let count = self.builds.len().max(1);
                if let Some(build) = self.builds.keys().nth(number % count).copied() {
                    self.give_up(build);
                }
            }
            Step::Complete(number) => {
                if let Some(work) = self.nth_pending(number) {
                    self.complete(work);
                }
            }
            Step::CompleteAll => self.complete_all(),
            Step::Fail(number) => {
                if let Some(work) = self.nth_pending(number)
                    && let Task::Map | Task::Exec { .. } | Task::Content { .. } =
                        self.pending[&work].1
                {
                    self.failures += 1;
                    self.pending.remove(&work);
                    let failed = Outcome::Failed(OpError::new("injected"));
                    let orders = self.graph.done(work, failed);
                    self.carry_out(orders);
                }
            }
            Step::Forget(number) => {
                let count = self.results.len().max(1);
                if let Some(key) = self.results.keys().nth(number % count).copied() {
                    self.results.remove(&key);
                }
            }
            Step::CloseJob(job) => self.close(job),
        }
    }

    /// Lets everything come to its end: whoever waits is answered, and nothing is left.
    fn finish(&mut self) {
        self.complete_all();
        assert!(self.builds.is_empty(), "nobody answers {:?}", self.builds);
        (0..3).for_each(|job| self.close(job));
        self.complete_all();
        assert_eq!(self.graph.busy(), 0);
        assert!(self.nodes.is_empty());
    }
}

fn job_id(job: u8) -> JobId {
    JobId::new(job.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_answer_is_right_and_nobody_waits_for_ever(
        sketches in sketches(false),
        steps in steps(false),
    ) {
        let mut world = World::new(sketches);
        steps.into_iter().for_each(|step| world.step(step));
        world.finish();
    }

    #[test]
    fn where_nobody_leaves_equal_work_is_run_at_most_once(
        sketches in sketches(true),
        steps in steps(true),
    ) {
        let mut world = World::new(sketches);
        steps.into_iter().for_each(|step| world.step(step));
        world.finish();
        prop_assert!(world.runs.values().all(|count| *count <= 1), "{:?}", world.runs);
    }
}
