//! How a frontend makes a definition: values that stand for file trees, and what is done to them.
//!
//! A [`State`] is one output of one operation, and shares all it is made from. Nothing has bytes or a
//! digest before [`State::marshal`], which knows the default platform. What is equal becomes one
//! vertex then.

mod exec;
mod file;
mod git;
mod marshal;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use self::exec::{ExecOptions, ExecState, RunMount, RunSecret, RunSsh};
pub use self::file::FileActions;
pub use self::git::GitOptions;
pub use self::source::{
    Differ, HttpOptions, ImageOptions, LocalOptions, OciLayoutOptions, RecordType, ResolveMode,
};
use crate::{
    Definition, DefinitionError, LinuxResources, Op, OpMetadata, Platform, ProgressGroup,
    SourceLocation,
};

/// A file tree that a build would make; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// None is the empty tree.
    output: Option<Output>,
    /// The platform that operations on this tree are for, unless they say otherwise.
    platform: Option<Arc<Platform>>,
}

/// What can be said of any operation.
#[derive(Debug, Clone, Default)]
pub struct OpOptions {
    /// The name to show instead of one made from the operation.
    pub name: Option<String>,
    /// More texts, by key.
    pub description: BTreeMap<String, String>,
    /// Run it even when its result is cached.
    pub ignore_cache: bool,
    /// Whether a cache export takes it; none leaves that to the export.
    pub export_cache: Option<bool>,
    /// The line of progress that it is shown in, when it shares one.
    pub progress_group: Option<ProgressGroup>,
    /// Limits for the process of [`State::run`].
    pub linux_resources: Option<LinuxResources>,
    /// The platform it is for; none is that of the state it starts from.
    pub platform: Option<Platform>,
    /// Filters for the worker that may do it.
    pub constraints: Vec<String>,
    /// The places in the user's files that it comes from.
    pub sources: Vec<SourceLocation>,
}

impl OpOptions {
    /// Returns options with nothing but a name to show.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }

    /// Returns the platform of what is made from `state`.
    fn platform_from(&self, state: &State) -> Option<Arc<Platform>> {
        self.platform.clone().map(Arc::new).or_else(|| state.platform.clone())
    }

    fn metadata(&self, caps: &BTreeSet<&'static str>) -> OpMetadata {
        let mut description = self.description.clone();
        if let Some(name) = &self.name {
            description.insert(OpMetadata::CUSTOM_NAME.to_owned(), name.clone());
        }
        OpMetadata {
            ignore_cache: self.ignore_cache,
            description,
            export_cache: self.export_cache,
            caps: caps.iter().map(|cap| (*cap).to_owned()).collect(),
            progress_group: self.progress_group.clone(),
            linux_resources: self.linux_resources.clone(),
        }
    }
}

/// One output of a node.
#[derive(Debug, Clone)]
struct Output {
    node: Arc<Node>,
    index: u32,
}

/// An operation whose inputs are other nodes' outputs.
#[derive(Debug)]
struct Node {
    /// What the indexes in the operation count.
    inputs: Vec<Output>,
    body: Body,
    options: OpOptions,
    caps: BTreeSet<&'static str>,
}

#[derive(Debug)]
enum Body {
    /// One of ours.
    Op(Op),
    /// A graph made elsewhere, whose bytes are kept; the node is its result.
    Definition(Definition),
}

impl Drop for Node {
    /// Takes the chain below apart in a loop: dropped by recursion, a long one exhausts the stack.
    fn drop(&mut self) {
        let mut pending = std::mem::take(&mut self.inputs);
        while let Some(output) = pending.pop() {
            if let Some(mut node) = Arc::into_inner(output.node) {
                pending.append(&mut node.inputs);
            }
        }
    }
}

impl State {
    /// Returns the empty tree.
    pub fn scratch() -> Self {
        Self::default()
    }

    /// Returns the result of a graph that was made elsewhere. Its bytes, and so its digests, are kept.
    pub fn definition(definition: &Definition) -> Self {
        let Some(root) = definition.root() else { return Self::scratch() };
        let body = Body::Definition(definition.clone());
        Self::output_of(Node::new(Vec::new(), body, OpOptions::default(), []), root.output, None)
    }

    /// Returns whether this is the empty tree.
    pub fn is_scratch(&self) -> bool {
        self.output.is_none()
    }

    /// Returns the platform that operations on this tree are for; none is the default.
    pub fn platform(&self) -> Option<&Platform> {
        self.platform.as_deref()
    }

    /// Returns this tree with another platform for the operations on it.
    #[must_use]
    pub fn with_platform(mut self, platform: Platform) -> Self {
        self.platform = Some(Arc::new(platform));
        self
    }

    /// Returns the trees stacked, the later above the earlier.
    ///
    /// Empty trees add nothing; with fewer than two others there is no operation.
    pub fn merge(states: impl IntoIterator<Item = Self>, options: OpOptions) -> Self {
        let mut states: Vec<Self> =
            states.into_iter().filter(|state| !state.is_scratch()).collect();
        if states.len() < 2 {
            return states.pop().unwrap_or_default();
        }
        let platform = options.platform_from(&states[0]);
        let inputs = states.into_iter().filter_map(|state| state.output).collect();
        Self::output_of(Node::new(inputs, Body::Op(Op::Merge), options, ["mergeop"]), 0, platform)
    }

    /// Returns the changes that lead from `lower` to `upper`, to be merged elsewhere.
    pub fn diff(lower: &Self, upper: &Self, options: OpOptions) -> Self {
        let Some(below) = &lower.output else { return upper.clone() };
        let mut inputs = vec![below.clone()];
        inputs.extend(upper.output.clone());
        let op = Op::Diff { lower: Some(0), upper: upper.output.as_ref().map(|_| 1) };
        let platform = options.platform_from(lower);
        Self::output_of(Node::new(inputs, Body::Op(op), options, ["diffop"]), 0, platform)
    }

    /// Returns the definition of this tree: everything it is made from, with digests that equal those
    /// of the reference client for equal operations.
    ///
    /// `platform` is for operations that have none. Fails when an operation could not be loaded again:
    /// a command without arguments, a user to look up in the empty tree.
    pub fn marshal(&self, platform: &Platform) -> Result<Definition, DefinitionError> {
        match &self.output {
            None => Ok(Definition::empty()),
            Some(output) => {
                let (wire, known) = marshal::marshal(output, platform);
                Definition::with_known(wire, known)
            }
        }
    }

    fn output_of(node: Node, index: u32, platform: Option<Arc<Platform>>) -> Self {
        Self { output: Some(Output { node: Arc::new(node), index }), platform }
    }
}

impl Node {
    fn new(
        inputs: Vec<Output>,
        body: Body,
        options: OpOptions,
        caps: impl IntoIterator<Item = &'static str>,
    ) -> Self {
        Self { inputs, body, options, caps: caps.into_iter().collect() }
    }
}
