//! The graph as the solver sees it: vertices with inputs, and a payload it never reads.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use digests::VertexDigest;

/// One operation of a build graph.
pub struct Vertex {
    /// Its identity, including that of everything below it: equal digests are the same work.
    pub digest: VertexDigest,
    /// What the client shows.
    pub name: String,
    /// The edges whose results the operation uses, in its own order.
    pub inputs: Vec<Edge>,
    /// What the [`OpResolver`](crate::OpResolver) makes the operation from.
    pub payload: Arc<dyn Any + Send + Sync>,
    /// If true the result is computed anew, and kept for those who come later.
    pub ignore_cache: bool,
    /// The group whose line stands for this vertex in the client's display.
    pub group: Option<progress::Group>,
    /// Free notes from the client; not part of the identity.
    pub description: BTreeMap<String, String>,
}

/// One output of a vertex.
#[derive(Clone)]
pub struct Edge {
    /// The vertex.
    pub vertex: Arc<Vertex>,
    /// Which of its outputs, from 0.
    pub output: u32,
}

impl Edge {
    /// Returns output number `output` of `vertex`.
    pub const fn new(vertex: Arc<Vertex>, output: u32) -> Self {
        Self { vertex, output }
    }
}

impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Edge({} `{}` #{})", self.vertex.digest, self.vertex.name, self.output)
    }
}

impl fmt::Debug for Vertex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the inputs: printing a graph as a tree can take exponential time.
        f.debug_struct("Vertex")
            .field("digest", &self.digest)
            .field("name", &self.name)
            .field("inputs", &self.inputs.len())
            .finish_non_exhaustive()
    }
}

impl Drop for Vertex {
    fn drop(&mut self) {
        // A chain dropped by recursion would need as much stack as it is deep.
        let mut pending = std::mem::take(&mut self.inputs);
        while let Some(edge) = pending.pop() {
            if let Some(mut vertex) = Arc::into_inner(edge.vertex) {
                pending.append(&mut vertex.inputs);
            }
        }
    }
}
