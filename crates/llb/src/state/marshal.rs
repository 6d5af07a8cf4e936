//! From states to a definition: each operation written once, its inputs before it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use digests::{Digest, VertexDigest};
use proto::pb;

use super::{Body, Node, Output};
use crate::{
    Action, ActionInput, Definition, Edge, FileOp, Op, OpMetadata, Platform, SourceLocation,
    UserRef, encode,
};

/// Returns the definition whose result is `root`, and the digests of its operations in order.
pub(super) fn marshal(root: &Output, platform: &Platform) -> (pb::Definition, Vec<VertexDigest>) {
    let mut marshaller = Marshaller {
        platform,
        done: HashMap::new(),
        written: HashSet::new(),
        ops: Vec::new(),
        digests: Vec::new(),
        metadata: BTreeMap::new(),
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
    written: HashSet<VertexDigest>,
    ops: Vec<Bytes>,
    /// The digests of `ops`.
    digests: Vec<VertexDigest>,
    metadata: BTreeMap<VertexDigest, OpMetadata>,
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
        self.add(digest, raw.into(), node.options.metadata(&node.caps));
        for location in &node.options.sources {
            self.locate(digest, location);
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
            self.add(digest, raw.clone(), definition.metadata(&digest));
            for location in definition.source_of(&digest) {
                self.locate(digest, &location);
            }
        }
        root.vertex
    }

    fn edge(&self, output: &Output) -> Edge {
        // Inputs are walked before their users.
        let vertex = self.done[&Arc::as_ptr(&output.node)];
        Edge { vertex, output: output.index }
    }

    fn add(&mut self, digest: VertexDigest, raw: Bytes, metadata: OpMetadata) {
        if self.written.insert(digest) {
            self.ops.push(raw);
            self.digests.push(digest);
        }
        unite(self.metadata.entry(digest).or_default(), metadata);
    }

    fn locate(&mut self, digest: VertexDigest, location: &SourceLocation) {
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
        let locations = self.source.locations.entry(digest.to_string()).or_default();
        if !locations.locations.contains(&located) {
            locations.locations.push(located);
        }
    }

    fn finish(mut self, root: Edge) -> (pb::Definition, Vec<VertexDigest>) {
        let raw = Bytes::from(encode::terminal(&root));
        let mut caps = vec!["constraints".to_owned(), "platform".to_owned()];
        let mut used = |used: fn(&OpMetadata) -> bool, cap: &str| {
            if self.metadata.values().any(used) {
                caps.push(cap.to_owned());
            }
        };
        used(|metadata| !metadata.description.is_empty(), "meta.description");
        used(|metadata| metadata.export_cache.is_some(), "meta.exportcache");
        used(|metadata| metadata.ignore_cache, "meta.ignorecache");
        let digest = VertexDigest::new(Digest::of(&raw));
        self.metadata.insert(digest, OpMetadata { caps, ..OpMetadata::default() });
        self.ops.push(raw);
        self.digests.push(digest);
        let metadata = self
            .metadata
            .into_iter()
            .map(|(digest, metadata)| (digest.to_string(), metadata.into()))
            .collect();
        let wire = pb::Definition { def: self.ops, metadata, source: Some(self.source) };
        (wire, self.digests)
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
