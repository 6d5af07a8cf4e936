//! A graph put in order, and the identities of its vertices among those of other jobs.

use std::collections::HashMap;
use std::sync::Arc;

use digests::{Digest, StableHasher};

use crate::Vertex;

/// Orders a graph and tells its vertices' identities in the shared graph: the digest, unless it or
/// something below ignores the cache. Such a vertex is another one than its twin that does not.
#[derive(Default)]
pub(crate) struct Loader {
    identities: HashMap<*const Vertex, Digest>,
    /// The vertices, inputs first.
    pub(crate) order: Vec<(Arc<Vertex>, Digest)>,
}

impl Loader {
    /// Returns the identity of a vertex that was seen before.
    pub(crate) fn known(&self, vertex: &Arc<Vertex>) -> Option<Digest> {
        self.identities.get(&Arc::as_ptr(vertex)).copied()
    }

    /// Returns the identity of `root`, and puts what is below it in order. Without recursion: graphs can
    /// be deep.
    pub(crate) fn identity(&mut self, root: &Arc<Vertex>) -> Digest {
        let mut pending = vec![(root.clone(), false)];
        while let Some((vertex, inputs_done)) = pending.pop() {
            if self.known(&vertex).is_some() {
                continue;
            }
            if !inputs_done {
                pending.push((vertex.clone(), true));
                pending.extend(vertex.inputs.iter().map(|input| (input.vertex.clone(), false)));
                continue;
            }
            let inputs: Vec<Option<Digest>> =
                vertex.inputs.iter().map(|input| self.known(&input.vertex)).collect();
            let own = vertex.digest.digest();
            let plain = vertex.inputs.iter().zip(&inputs);
            let mut plain = plain.map(|(input, id)| *id == Some(input.vertex.digest.digest()));
            let identity = if !vertex.ignore_cache && plain.all(|plain| plain) {
                own
            } else {
                let mut hasher = StableHasher::new("solver.fresh.v1");
                hasher.feed(&own).feed(&vertex.ignore_cache).feed(&inputs).finish()
            };
            self.identities.insert(Arc::as_ptr(&vertex), identity);
            self.order.push((vertex, identity));
        }
        self.known(root).unwrap_or_else(|| root.digest.digest())
    }
}
