//! What the graph keeps of each vertex, each edge and each execution.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::key::{BaseKey, RunKey};
use crate::machine::EdgeMachine;
use crate::order::{BuildId, EdgeId, NodeId, WorkId};
use crate::signal::{Goal, Report};
use crate::{CacheMap, OpError, SolveError, Vertex};

/// A vertex: its place in the graph and its edges.
#[derive(Debug)]
pub(crate) struct Node<R> {
    pub(crate) vertex: Arc<Vertex>,
    pub(crate) inputs: Vec<EdgeId>,
    pub(crate) edges: BTreeMap<u32, EdgeState<R>>,
    pub(crate) map: Option<Arc<CacheMap>>,
    pub(crate) mapping: Option<WorkId>,
    /// What this vertex runs, so that all its outputs come from one run.
    pub(crate) run: Option<RunKey>,
    pub(crate) jobs: usize,
}

/// An edge: its machine, and who asks it.
#[derive(Debug)]
pub(crate) struct EdgeState<R> {
    pub(crate) machine: EdgeMachine<R>,
    pub(crate) askers: HashMap<Asker, Goal>,
    /// The furthest goal of the askers; the machine hears of it in its turn.
    pub(crate) wanted: Goal,
    /// What the askers were told last.
    pub(crate) told: (Goal, usize, bool),
    pub(crate) works: Vec<WorkId>,
}

/// Someone who wants something of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Asker {
    Slot { edge: EdgeId, slot: usize },
    Build(BuildId),
}

/// What a piece of work is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    Map(NodeId),
    Edge(EdgeId),
    Content(EdgeId, usize),
    Run(RunKey),
    Nothing,
}

/// One execution, for all edges that came to the same inputs.
#[derive(Debug)]
pub(crate) struct Run<R> {
    pub(crate) leader: NodeId,
    pub(crate) base: BaseKey,
    /// Nodes that may ask for its results.
    pub(crate) nodes: HashSet<NodeId>,
    pub(crate) state: RunState<R>,
}

/// How far an execution is.
#[derive(Debug)]
pub(crate) enum RunState<R> {
    Running { work: WorkId, waiters: Vec<EdgeId> },
    Done(Vec<R>),
}

impl<R: Clone> Node<R> {
    pub(crate) fn new(vertex: Arc<Vertex>, inputs: Vec<EdgeId>) -> Self {
        let (edges, map, mapping, run) = (BTreeMap::new(), None, None, None);
        Self { vertex, inputs, edges, map, mapping, run, jobs: 0 }
    }

    pub(crate) fn edge(&mut self, output: u32) -> &mut EdgeState<R> {
        let (inputs, ignore) = (self.inputs.len(), self.vertex.ignore_cache);
        self.edges.entry(output).or_insert_with(|| EdgeState {
            machine: EdgeMachine::new(output, inputs, ignore),
            askers: HashMap::new(),
            wanted: Goal::Nothing,
            told: (Goal::Nothing, 0, false),
            works: Vec::new(),
        })
    }

    pub(crate) fn blame(&self, source: OpError) -> SolveError {
        SolveError { vertex: self.vertex.digest, name: self.vertex.name.clone(), source }
    }
}

impl<R: Clone> EdgeState<R> {
    /// Returns what there is to tell to an asker.
    pub(crate) fn news(&self) -> Option<Result<Report<R>, SolveError>> {
        match self.machine.failure() {
            Some(error) => Some(Err(error.clone())),
            None => self.machine.report().map(Ok),
        }
    }
}
