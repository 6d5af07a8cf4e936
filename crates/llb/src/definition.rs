//! The graph as it was received.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use digests::VertexDigest;
use proto::pb;

use crate::{DefinitionError, Edge, Graph, OpMetadata, Range, SourceLocation, caps, wire};

/// The graph as it was received, checked; cheap to clone.
///
/// The digests of its vertices are those of the received bytes, and those very bytes are passed on.
/// An empty definition stands for the empty tree ("scratch").
#[derive(Clone)]
pub struct Definition(Arc<Inner>);

struct Inner {
    wire: pb::Definition,
    /// None for the empty definition.
    graph: Option<Graph>,
}

impl Definition {
    /// Returns the definition of the empty tree.
    pub fn empty() -> Self {
        Self(Arc::new(Inner { wire: pb::Definition::default(), graph: None }))
    }

    /// Returns the checked form of a definition from the wire.
    pub fn from_wire(wire: pb::Definition) -> Result<Self, DefinitionError> {
        let known = wire.def.iter().map(|raw| wire::Known::of(raw, &wire.metadata)).collect();
        Self::with_known(wire, known)
    }

    /// Returns the checked form of a definition, with what is known of its operations in order.
    pub(crate) fn with_known(
        wire: pb::Definition,
        known: Vec<wire::Known>,
    ) -> Result<Self, DefinitionError> {
        let graph = if wire.def.is_empty() { None } else { Some(wire::graph(&wire.def, known)?) };
        Ok(Self(Arc::new(Inner { wire, graph })))
    }

    /// Returns the definition as it was received.
    pub fn to_wire(&self) -> pb::Definition {
        self.0.wire.clone()
    }

    /// Returns the checked form of a serialized definition, as it is kept in a file.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, DefinitionError> {
        let wire = prost::Message::decode(bytes)
            .map_err(|error: prost::DecodeError| DefinitionError::Malformed(Box::new(error)))?;
        Self::from_wire(wire)
    }

    /// Returns the definition serialized, as it is kept in a file. The bytes are not canonical.
    pub fn to_bytes(&self) -> Bytes {
        prost::Message::encode_to_vec(&self.0.wire).into()
    }

    /// Returns whether this is the empty tree.
    pub fn is_empty(&self) -> bool {
        self.0.graph.is_none()
    }

    /// Returns the result: an output of the last vertex. None for the empty tree.
    pub fn root(&self) -> Option<Edge> {
        self.0.graph.as_ref().map(|graph| graph.root)
    }

    /// Returns the graph, for building.
    ///
    /// Fails for the empty tree, and when a vertex uses a feature that is not in [`caps::LLB`].
    pub fn load(&self) -> Result<Graph, DefinitionError> {
        let graph = self.0.graph.as_ref().ok_or(DefinitionError::Empty)?;
        let caps = graph.vertices.iter().flat_map(|vertex| &vertex.metadata.caps);
        match caps.into_iter().find(|cap| !caps::is_known(cap)) {
            Some(unknown) => Err(DefinitionError::UnknownCapability(unknown.clone())),
            None => Ok(graph.clone()),
        }
    }

    pub(crate) fn graph(&self) -> Option<&Graph> {
        self.0.graph.as_ref()
    }

    /// Returns the serialized operations, the terminal one last.
    pub fn ops(&self) -> &[Bytes] {
        &self.0.wire.def
    }

    /// Returns what is said of a vertex beside its operation.
    pub fn metadata(&self, vertex: &VertexDigest) -> OpMetadata {
        self.0.wire.metadata.get(&vertex.to_string()).map(wire::metadata).unwrap_or_default()
    }

    /// Returns the places in the user's files that made a vertex.
    pub fn source_of(&self, vertex: &VertexDigest) -> Vec<SourceLocation> {
        let Some(source) = &self.0.wire.source else { return Vec::new() };
        let Some(locations) = source.locations.get(&vertex.to_string()) else { return Vec::new() };
        let located = locations.locations.iter().filter_map(|location| {
            let info = source.infos.get(usize::try_from(location.source_index).ok()?)?;
            Some(SourceLocation {
                filename: info.filename.clone(),
                language: info.language.clone(),
                data: info.data.clone(),
                ranges: location.ranges.iter().map(Range::from).collect(),
            })
        });
        located.collect()
    }
}

impl Default for Definition {
    fn default() -> Self {
        Self::empty()
    }
}

impl PartialEq for Definition {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.wire == other.0.wire
    }
}

impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.graph {
            None => f.write_str("Definition(empty)"),
            Some(graph) => f
                .debug_struct("Definition")
                .field("root", &graph.root)
                .field("vertices", &graph.vertices.len())
                .finish_non_exhaustive(),
        }
    }
}
