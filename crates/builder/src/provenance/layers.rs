//! What each step made, as the archives of its layers.

use std::collections::BTreeMap;

use cache::{ImmutableRef, Refs};
use digests::VertexDigest;
use llb::GraphDocument;
use serde_json::{Map, Value, json};

/// The results of operations, by vertex and output.
pub(crate) type MadeBy = BTreeMap<(VertexDigest, u32), ImmutableRef>;

/// The results of operations, and where their layers are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Made<'a> {
    pub(crate) refs: &'a Refs,
    pub(crate) results: &'a MadeBy,
}

/// What the steps of a graph made. It keeps their layers.
#[derive(Debug)]
pub(super) struct StepLayers {
    refs: Refs,
    /// By `step<number>:<output>`.
    steps: Vec<(String, ImmutableRef)>,
}

impl Made<'_> {
    /// Returns the results that have layers, by the names that the steps have in a document.
    pub(super) fn by(&self, document: &GraphDocument) -> StepLayers {
        let named = self.results.iter().filter_map(|((vertex, output), made)| {
            let has_layers = !made.is_empty() && !made.is_local();
            let step = document.names.get(&vertex.to_string()).filter(|_| has_layers)?;
            Some((format!("{step}:{output}"), made.clone()))
        });
        StepLayers { refs: self.refs.clone(), steps: named.collect() }
    }
}

impl StepLayers {
    /// Returns the archives that there are by now: for each step a list of whole stacks.
    pub(super) async fn read(&self) -> Map<String, Value> {
        let trees: Vec<_> = self.steps.iter().map(|(_, made)| made.clone()).collect();
        let stacks = match self.refs.known_archives(&trees).await {
            Ok(stacks) => stacks,
            Err(error) => {
                tracing::warn!(%error, "the layers of the steps are not told");
                return Map::new();
            }
        };
        let told = self.steps.iter().zip(stacks).filter(|(_, stacks)| !stacks.is_empty());
        told.map(|((step, _), stacks)| (step.clone(), json!(stacks))).collect()
    }
}
