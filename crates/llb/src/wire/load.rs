//! From the operations of a definition to a graph: parsing, sorting, naming.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use digests::{Digest, VertexDigest};
use prost::Message as _;
use proto::pb;

use super::{exec, file};
use crate::error::OpError;
use crate::names::default_name;
use crate::{
    BuildOp, DefinitionError, Edge, Graph, Op, OpMetadata, PassthroughOp, Platform, Vertex,
};

/// What is known of an operation without having looked at its bytes.
pub(crate) struct Known {
    pub(crate) digest: VertexDigest,
    pub(crate) metadata: OpMetadata,
}

impl Known {
    /// Returns what is known of the operation `raw` of a definition with this `metadata`.
    pub(crate) fn of(raw: &Bytes, metadata: &BTreeMap<String, pb::OpMetadata>) -> Self {
        let digest = VertexDigest::new(Digest::of(raw));
        let metadata = metadata.get(&digest.to_string()).map(self::metadata).unwrap_or_default();
        Self { digest, metadata }
    }
}

/// An operation of which only the envelope has been looked at.
struct Parsed {
    known: Known,
    op: pb::Op,
    inputs: Vec<Edge>,
    raw: Bytes,
}

/// Operations, each once.
struct Ops {
    /// None for those that were taken.
    parsed: Vec<Option<Parsed>>,
    /// Where each of them is.
    places: HashMap<VertexDigest, usize>,
}

/// Returns the graph of a definition that is not empty; `known` is what is known of its operations.
pub(crate) fn graph(def: &[Bytes], known: Vec<Known>) -> Result<Graph, DefinitionError> {
    let last = known.last().map(|known| known.digest);
    let mut ops = parse(def, known)?;
    let place = last.and_then(|digest| ops.places.remove(&digest));
    let terminal = place.and_then(|place| ops.parsed[place].take());
    let Some(terminal) = terminal.filter(|_| !ops.places.is_empty()) else {
        return Err(DefinitionError::TooShort(def.len()));
    };
    let root = terminal.inputs.first().copied().ok_or(DefinitionError::NoResult)?;

    let mut vertices: Vec<Arc<Vertex>> = Vec::with_capacity(ops.parsed.len());
    // Which vertex an operation became.
    let mut became = vec![usize::MAX; ops.parsed.len()];
    for place in sorted(&ops, root.vertex)? {
        // Each place comes once.
        let Some(parsed) = ops.parsed[place].take() else { continue };
        let name_of = |edge: &Edge| {
            let vertex = vertices.get(became[*ops.places.get(&edge.vertex)?])?;
            Some(vertex.name.as_str())
        };
        let vertex = vertex(parsed, name_of)?;
        became[place] = vertices.len();
        vertices.push(Arc::new(vertex));
    }
    Ok(Graph::new(vertices, root))
}

fn parse(def: &[Bytes], known: Vec<Known>) -> Result<Ops, DefinitionError> {
    let mut ops =
        Ops { parsed: Vec::with_capacity(def.len()), places: HashMap::with_capacity(def.len()) };
    for (index, (raw, known)) in def.iter().zip(known).enumerate() {
        let op = pb::Op::decode(raw.clone())
            .map_err(|error| DefinitionError::MalformedOp { index, source: Box::new(error) })?;
        let inputs = edges(&op).map_err(|source| match source {
            EdgeError::Digest(text) => DefinitionError::MissingInput(text),
            EdgeError::Output(source) => DefinitionError::Op { digest: known.digest, source },
        })?;
        if let Entry::Vacant(entry) = ops.places.entry(known.digest) {
            entry.insert(ops.parsed.len());
            ops.parsed.push(Some(Parsed { known, op, inputs, raw: raw.clone() }));
        }
    }
    Ok(ops)
}

/// Returns where the operations are that `root` needs, each after its inputs.
fn sorted(ops: &Ops, root: VertexDigest) -> Result<Vec<usize>, DefinitionError> {
    enum Step {
        Enter(VertexDigest),
        Leave(usize),
    }
    #[derive(Clone, Copy)]
    enum Mark {
        New,
        Entered,
        Left,
    }
    let mut marks = vec![Mark::New; ops.parsed.len()];
    let mut order = Vec::with_capacity(ops.parsed.len());
    let mut steps = vec![Step::Enter(root)];
    while let Some(step) = steps.pop() {
        match step {
            Step::Leave(place) => {
                marks[place] = Mark::Left;
                order.push(place);
            }
            Step::Enter(digest) => {
                let missing = || DefinitionError::MissingInput(digest.to_string());
                let place = *ops.places.get(&digest).ok_or_else(missing)?;
                match marks[place] {
                    Mark::Left => continue,
                    Mark::Entered => return Err(DefinitionError::Loop(digest)),
                    Mark::New => marks[place] = Mark::Entered,
                }
                steps.push(Step::Leave(place));
                let inputs = ops.parsed[place].iter().flat_map(|parsed| parsed.inputs.iter().rev());
                steps.extend(inputs.map(|edge| Step::Enter(edge.vertex)));
            }
        }
    }
    Ok(order)
}

enum EdgeError {
    Digest(String),
    Output(OpError),
}

/// Returns the inputs of an operation.
fn edges(op: &pb::Op) -> Result<Vec<Edge>, EdgeError> {
    let edge = |input: &pb::Input| {
        let vertex = input.digest.parse().map_err(|_| EdgeError::Digest(input.digest.clone()))?;
        let output = u32::try_from(input.index).map_err(|_| {
            let count = op.inputs.len();
            EdgeError::Output(OpError::Index { what: "input output", index: input.index, count })
        })?;
        Ok(Edge { vertex, output })
    };
    op.inputs.iter().map(edge).collect()
}

fn vertex<'a>(
    parsed: Parsed,
    name_of: impl Fn(&Edge) -> Option<&'a str>,
) -> Result<Vertex, DefinitionError> {
    let Parsed { known: Known { digest, metadata }, mut op, inputs, raw } = parsed;
    let platform = op.platform.take().map(|platform| Platform::from(platform).normalized());
    let constraints = op.constraints.take().map(|filters| filters.filter).unwrap_or_default();
    let op = operation(op).map_err(|source| DefinitionError::Op { digest, source })?;
    let name = metadata.description.get(OpMetadata::CUSTOM_NAME).cloned().unwrap_or_else(|| {
        let names: Vec<&str> = inputs.iter().map(|edge| name_of(edge).unwrap_or("")).collect();
        default_name(&op, &names)
    });
    Ok(Vertex { digest, op, inputs, platform, constraints, metadata, name, raw })
}

/// Returns a checked operation.
pub fn operation(op: pb::Op) -> Result<Op, OpError> {
    let count = op.inputs.len();
    match op.op.ok_or(OpError::UnknownOperation)? {
        pb::op::Op::Source(source) => Ok(Op::Source(source.into())),
        pb::op::Op::Exec(exec) => Ok(Op::Exec(Box::new(exec::exec(exec, count)?))),
        pb::op::Op::File(file) => Ok(Op::File(file::file(file, count)?)),
        pb::op::Op::Merge(_) => Ok(Op::Merge),
        pb::op::Op::Diff(diff) => self::diff(&diff, count),
        pb::op::Op::Build(build) => self::build(build, count),
        pb::op::Op::Passthrough(passthrough) => self::passthrough(passthrough, count),
    }
}

/// Returns `index` as an index into `count` things.
pub(super) fn index(what: &'static str, index: i64, count: usize) -> Result<usize, OpError> {
    let fits = usize::try_from(index).ok().filter(|index| *index < count);
    fits.ok_or(OpError::Index { what, index, count })
}

/// The sides that are there take the inputs in order; their own indexes only have to be valid.
fn diff(diff: &pb::DiffOp, count: usize) -> Result<Op, OpError> {
    let missing = |missing| OpError::Missing { kind: "diff", missing };
    let lower = diff.lower.as_ref().ok_or(missing("lower input"))?.input;
    let upper = diff.upper.as_ref().ok_or(missing("upper input"))?.input;
    let mut next = 0;
    let mut side = |given: i64| {
        if given == -1 {
            return Ok(None);
        }
        index("diff input", given, count)?;
        let taken = index("diff input", next, count)?;
        next += 1;
        Ok(Some(taken))
    };
    Ok(Op::Diff { lower: side(lower)?, upper: side(upper)? })
}

fn build(build: pb::BuildOp, count: usize) -> Result<Op, OpError> {
    if build.builder != -1 {
        return Err(OpError::UnknownValue { what: "builder", value: build.builder });
    }
    let input = |(name, input): (String, pb::BuildInput)| {
        Ok((name, index("build input", input.input, count)?))
    };
    let inputs = build.inputs.into_iter().map(input).collect::<Result<BTreeMap<_, _>, _>>()?;
    let definition_input = *inputs
        .get(BuildOp::DEFINITION)
        .ok_or(OpError::Missing { kind: "build", missing: "input with a definition" })?;
    let filename = build.attrs.get(BuildOp::FILENAME).filter(|name| !name.is_empty());
    let filename = filename.map_or(BuildOp::DEFINITION, String::as_str).to_owned();
    Ok(Op::Build(BuildOp { definition_input, filename, inputs, attributes: build.attrs }))
}

fn passthrough(passthrough: pb::PassthroughOp, count: usize) -> Result<Op, OpError> {
    let missing = |missing| OpError::Missing { kind: "passthrough", missing };
    if passthrough.id.is_empty() {
        return Err(missing("id"));
    }
    if passthrough.outputs.is_empty() {
        return Err(missing("outputs"));
    }
    let output = |given: &i64| index("passthrough output input", *given, count);
    let outputs = passthrough.outputs.iter().map(output).collect::<Result<_, _>>()?;
    Ok(Op::Passthrough(PassthroughOp { id: passthrough.id, outputs }))
}

/// Returns what is said of a vertex beside its operation.
pub fn metadata(wire: &pb::OpMetadata) -> OpMetadata {
    OpMetadata {
        ignore_cache: wire.ignore_cache,
        description: wire.description.clone(),
        export_cache: wire.export_cache.as_ref().map(|export| export.value),
        caps: wire.caps.keys().cloned().collect(),
        progress_group: wire.progress_group.clone().map(Into::into),
        linux_resources: wire.linux_resources.clone().map(Into::into),
    }
}
