//! Exchanging the sources of a definition, as a source policy does.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use digests::{Digest, VertexDigest};
use prost::Message as _;
use proto::pb;

use crate::{Definition, DefinitionError, Edge, Op, Platform, SourceOp, encode};

impl Definition {
    /// Returns the definition with other sources in the place of some vertices.
    ///
    /// A changed operation, and every one that depends on it, is written anew and so has another
    /// digest; all others keep their bytes. What is said of a vertex moves along.
    pub fn replace_sources(
        &self,
        replacements: &BTreeMap<VertexDigest, SourceOp>,
    ) -> Result<Self, DefinitionError> {
        let (Some(graph), Some(root)) = (self.graph(), self.root()) else {
            return Ok(self.clone());
        };
        let mut moved: HashMap<VertexDigest, VertexDigest> = HashMap::new();
        let mut ops = Vec::with_capacity(graph.vertices.len() + 1);
        for vertex in &graph.vertices {
            let other = replacements.get(&vertex.digest).cloned().map(Op::Source);
            let inputs = follow(&vertex.inputs, &moved);
            if other.is_none() && inputs == vertex.inputs {
                ops.push(vertex.raw.clone());
                continue;
            }
            // The platform as it was written: in the vertex it has its canonical names.
            let platform = pb::Op::decode(vertex.raw.clone()).ok().and_then(|op| op.platform);
            let platform = platform.map(Platform::from);
            let op = other.as_ref().unwrap_or(&vertex.op);
            let raw = encode::operation(op, &inputs, platform.as_ref(), &vertex.constraints);
            moved.insert(vertex.digest, VertexDigest::new(Digest::of(&raw)));
            ops.push(raw);
        }
        if moved.is_empty() {
            return Ok(self.clone());
        }
        Self::from_wire(self.renamed(ops, root, &moved))
    }

    /// Returns the definition of `ops`, with what is known of the old digests said of the new ones.
    fn renamed(
        &self,
        mut ops: Vec<Bytes>,
        root: Edge,
        moved: &HashMap<VertexDigest, VertexDigest>,
    ) -> pb::Definition {
        let mut wire = self.to_wire();
        let old_terminal = wire.def.last().map(|raw| Digest::of(raw).to_string());
        let terminal = encode::terminal(&follow(&[root], moved)[0]);
        let new_terminal = Digest::of(&terminal).to_string();
        ops.push(terminal);
        wire.def = ops;
        let mut names: HashMap<String, String> =
            moved.iter().map(|(old, new)| (old.to_string(), new.to_string())).collect();
        names.extend(old_terminal.map(|old| (old, new_terminal)));
        let name = |old: String| names.get(&old).cloned().unwrap_or(old);
        wire.metadata =
            wire.metadata.into_iter().map(|(digest, metadata)| (name(digest), metadata)).collect();
        if let Some(source) = &mut wire.source {
            let locations = std::mem::take(&mut source.locations);
            source.locations =
                locations.into_iter().map(|(digest, places)| (name(digest), places)).collect();
        }
        wire
    }
}

fn follow(edges: &[Edge], moved: &HashMap<VertexDigest, VertexDigest>) -> Vec<Edge> {
    let follow = |edge: &Edge| Edge {
        vertex: moved.get(&edge.vertex).copied().unwrap_or(edge.vertex),
        output: edge.output,
    };
    edges.iter().map(follow).collect()
}
