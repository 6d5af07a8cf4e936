//! From states to a definition: each operation written once, its inputs before it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use bytes::Bytes;
use digests::{Digest, VertexDigest};
use proto::pb;

use super::{Body, Node, Output};
use crate::wire::Known;
use crate::{
    Action, ActionInput, Definition, Edge, FileOp, Op, OpMetadata, Platform, SourceLocation,
    UserRef, encode,
};

/// Returns the definition whose result is `root`, and what is known of its operations in order.
pub(super) fn marshal(root: &Output, platform: &Platform) -> (pb::Definition, Vec<Known>) {
    let mut marshaller = Marshaller {
        platform,
        done: HashMap::new(),
        written: HashMap::new(),
        ops: Vec::new(),
        known: Vec::new(),
        locations: Vec::new(),
        source: pb::Source::default(),
    };
    // The walk is a loop over a stack of its own: graphs can be deeper than a thread's stack.
    let mut steps = vec![(root.node.clone(), false)];
    while let Some((node, inputs_done)) = steps.pop() {
        if marshaller.done.contains_key(&Arc::as_ptr(&node)) {
            continue;
        }
        if inputs_done {
            marshaller.node(&node);
        } else {
            steps.push((node.clone(), true));
            steps.extend(node.inputs.iter().rev().map(|input| (input.node.clone(), false)));
        }
    }
    let root = marshaller.edge(root);
    marshaller.finish(root)
}

struct Marshaller<'a> {
    platform: &'a Platform,
    /// What became of each node. The nodes live as long as the root does.
    done: HashMap<*const Node, VertexDigest>,
    /// Where an operation is in `ops`.
    written: HashMap<VertexDigest, usize>,
    ops: Vec<Bytes>,
    /// What is known of each of `ops`.
    known: Vec<Known>,
    /// Where each of `ops` comes from.
    locations: Vec<Vec<pb::Location>>,
    /// The files that they come from.
    source: pb::Source,
}

impl Marshaller<'_> {
    fn node(&mut self, node: &Arc<Node>) {
        let digest = match &node.body {
            Body::Op(op) => self.op(node, op),
            Body::Definition(definition) => self.definition(definition),
        };
        self.done.insert(Arc::as_ptr(node), digest);
    }

    fn op(&mut self, node: &Node, op: &Op) -> VertexDigest {
        let given: Vec<Edge> = node.inputs.iter().map(|input| self.edge(input)).collect();
        let (op, inputs) = share_inputs(op, given);
        let platform = node.options.platform.as_ref().unwrap_or(self.platform);
        let platform = op.carries_platform().then_some(platform);
        let raw = encode::operation(&op, &inputs, platform, &node.options.constraints);
        let digest = VertexDigest::new(Digest::of(&raw));
        let at = self.add(digest, raw, node.options.metadata(&node.caps));
        for location in &node.options.sources {
            self.locate(at, location);
        }
        digest
    }

    /// Takes over all that a foreign definition needs; its terminal operation stays behind.
    fn definition(&mut self, definition: &Definition) -> VertexDigest {
        let (ops, root) = match (definition.ops().split_last(), definition.root()) {
            (Some((_, ops)), Some(root)) => (ops, root),
            // States of empty definitions are the empty tree.
            _ => (&[][..], Edge { vertex: VertexDigest::new(Digest::of([])), output: 0 }),
        };
        for raw in ops {
            let digest = VertexDigest::new(Digest::of(raw));
            let at = self.add(digest, raw.clone(), definition.metadata(&digest));
            for location in definition.source_of(&digest) {
                self.locate(at, &location);
            }
        }
        root.vertex
    }

    fn edge(&self, output: &Output) -> Edge {
        // Inputs are walked before their users.
        let vertex = self.done[&Arc::as_ptr(&output.node)];
        Edge { vertex, output: output.index }
    }

    /// Returns where the operation is in `ops`.
    fn add(&mut self, digest: VertexDigest, raw: Bytes, metadata: OpMetadata) -> usize {
        match self.written.entry(digest) {
            Entry::Occupied(at) => {
                let at = *at.get();
                unite(&mut self.known[at].metadata, metadata);
                at
            }
            Entry::Vacant(entry) => {
                let at = *entry.insert(self.ops.len());
                self.ops.push(raw);
                self.known.push(Known { digest, metadata });
                self.locations.push(Vec::new());
                at
            }
        }
    }

    fn locate(&mut self, op: usize, location: &SourceLocation) {
        let known = self.source.infos.iter().position(|info| {
            info.filename == location.filename
                && info.language == location.language
                && is_same(&info.data, &location.data)
        });
        let at = known.unwrap_or_else(|| {
            self.source.infos.push(pb::SourceInfo {
                filename: location.filename.clone(),
                language: location.language.clone(),
                data: location.data.clone(),
                definition: None,
            });
            self.source.infos.len() - 1
        });
        let located = pb::Location {
            source_index: i32::try_from(at).unwrap_or(i32::MAX),
            ranges: location.ranges.iter().copied().map(Into::into).collect(),
        };
        let locations = &mut self.locations[op];
        if !locations.contains(&located) {
            locations.push(located);
        }
    }

    fn finish(mut self, root: Edge) -> (pb::Definition, Vec<Known>) {
        let mut caps = vec!["constraints".to_owned(), "platform".to_owned()];
        let mut used = |used: fn(&OpMetadata) -> bool, cap: &str| {
            if self.known.iter().any(|known| used(&known.metadata)) {
                caps.push(cap.to_owned());
            }
        };
        used(|metadata| !metadata.description.is_empty(), "meta.description");
        used(|metadata| metadata.export_cache.is_some(), "meta.exportcache");
        used(|metadata| metadata.ignore_cache, "meta.ignorecache");
        let raw = encode::terminal(&root);
        let digest = VertexDigest::new(Digest::of(&raw));
        self.ops.push(raw);
        self.known.push(Known { digest, metadata: OpMetadata { caps, ..OpMetadata::default() } });
        self.locations.push(Vec::new());
        // In the order of their names, of which maps are made at once.
        let mut order: Vec<usize> = (0..self.known.len()).collect();
        order.sort_unstable_by_key(|at| self.known[*at].digest);
        let mut metadata = Vec::with_capacity(order.len());
        for at in order {
            let Known { digest, metadata: said } = &self.known[at];
            let name = digest.to_string();
            let locations = std::mem::take(&mut self.locations[at]);
            if !locations.is_empty() {
                self.source.locations.insert(name.clone(), pb::Locations { locations });
            }
            metadata.push((name, said.clone().into()));
        }
        let metadata = metadata.into_iter().collect();
        let wire = pb::Definition { def: self.ops, metadata, source: Some(self.source) };
        (wire, self.known)
    }
}

/// All operations of a build share the bytes of one file, which need not be read to know that.
fn is_same(one: &Bytes, other: &Bytes) -> bool {
    (one.as_ptr() == other.as_ptr() && one.len() == other.len()) || one == other
}

/// Equal operations are one vertex, which has what was said of any of them.
fn unite(known: &mut OpMetadata, more: OpMetadata) {
    known.ignore_cache |= more.ignore_cache;
    known.description.extend(more.description);
    known.export_cache = more.export_cache.or(known.export_cache);
    known.progress_group = more.progress_group.or(known.progress_group.take());
    known.linux_resources = more.linux_resources.or(known.linux_resources.take());
    known.caps.extend(more.caps);
    known.caps.sort();
    known.caps.dedup();
}

/// Mounts and file actions of the same tree share one input; the sides of a merge or diff do not.
fn share_inputs(op: &Op, given: Vec<Edge>) -> (Cow<'_, Op>, Vec<Edge>) {
    if !matches!(op, Op::Exec(_) | Op::File(_)) {
        return (Cow::Borrowed(op), given);
    }
    let mut shared: Vec<Edge> = Vec::with_capacity(given.len());
    let places: Vec<usize> = given
        .iter()
        .map(|edge| {
            shared.iter().position(|known| known == edge).unwrap_or_else(|| {
                shared.push(*edge);
                shared.len() - 1
            })
        })
        .collect();
    if shared.len() == given.len() {
        return (Cow::Borrowed(op), shared);
    }
    let mut op = op.clone();
    match &mut op {
        Op::Exec(exec) => {
            for mount in &mut exec.mounts {
                mount.input = mount.input.map(|at| places[at]);
            }
        }
        Op::File(file) => renumber(file, &places),
        Op::Source(_) | Op::Merge | Op::Diff { .. } | Op::Build(_) | Op::Passthrough(_) => {}
    }
    (Cow::Owned(op), shared)
}

fn renumber(file: &mut FileOp, places: &[usize]) {
    let place = |input: &mut ActionInput| {
        if let ActionInput::Input(at) = input {
            *at = places[*at];
        }
    };
    for action in &mut file.actions {
        place(&mut action.input);
        place(&mut action.secondary_input);
        let owner = Action::owner_mut(&mut action.action);
        for user in
            owner.into_iter().flat_map(|owner| [&mut owner.user, &mut owner.group]).flatten()
        {
            if let UserRef::Name { input, .. } = user {
                place(input);
            }
        }
    }
}
