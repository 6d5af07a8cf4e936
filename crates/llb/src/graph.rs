//! A definition understood: vertices in topological order.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use digests::VertexDigest;

use crate::{Op, OpMetadata, Platform};

/// One output of one vertex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edge {
    /// The vertex.
    pub vertex: VertexDigest,
    /// Which of its outputs.
    pub output: u32,
}

/// One operation of a graph, with all that is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vertex {
    /// The digest of the bytes that were received.
    pub digest: VertexDigest,
    /// What it does.
    pub op: Op,
    /// What it starts from.
    pub inputs: Vec<Edge>,
    /// The platform it is for, in canonical names; none is the daemon's default.
    pub platform: Option<Platform>,
    /// Filters for the worker that may do it.
    pub constraints: Vec<String>,
    /// What is said beside the operation.
    pub metadata: OpMetadata,
    /// The name to show: the custom one, or one made from the operation.
    pub name: String,
    /// The bytes that were received.
    pub raw: Bytes,
}

/// The vertices that a result needs, each after its inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// The vertices; every input comes before its users.
    pub vertices: Vec<Arc<Vertex>>,
    /// The result.
    pub root: Edge,
    index: BTreeMap<VertexDigest, usize>,
}

impl Graph {
    pub(crate) fn new(vertices: Vec<Arc<Vertex>>, root: Edge) -> Self {
        let index = vertices.iter().enumerate().map(|(at, vertex)| (vertex.digest, at)).collect();
        Self { vertices, root, index }
    }

    /// Returns a vertex by its digest.
    pub fn vertex(&self, digest: &VertexDigest) -> Option<&Arc<Vertex>> {
        self.index.get(digest).and_then(|at| self.vertices.get(*at))
    }
}
