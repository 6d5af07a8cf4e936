//! The operations of a build graph. Indexes into a vertex' inputs have been checked against them.

use std::collections::BTreeMap;

use crate::{ExecOp, FileOp};

/// What a vertex does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Brings in something from outside.
    Source(SourceOp),
    /// Runs a process.
    Exec(Box<ExecOp>),
    /// Changes files.
    File(FileOp),
    /// Stacks all inputs of the vertex, the later above the earlier.
    Merge,
    /// The changes between two inputs; an absent side is the empty tree.
    Diff {
        /// Which input is the older side.
        lower: Option<usize>,
        /// Which input is the newer side.
        upper: Option<usize>,
    },
    /// Builds a definition that is read from a file of an input.
    Build(BuildOp),
    /// Hands inputs on as outputs.
    Passthrough(PassthroughOp),
}

impl Op {
    /// Returns whether clients write a platform into the operation.
    pub(crate) fn carries_platform(&self) -> bool {
        match self {
            Self::Source(source) => source.is_platform_specific(),
            Self::Exec(_) | Self::Build(_) => true,
            Self::File(_) | Self::Merge | Self::Diff { .. } | Self::Passthrough(_) => false,
        }
    }
}

/// Brings in something from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct SourceOp {
    /// `<scheme>://<what>`: `docker-image://docker.io/library/busybox:latest`.
    pub identifier: String,
    /// How, by key (protocol page `llb.md` §4); unknown keys are ignored.
    pub attributes: BTreeMap<String, String>,
}

impl SourceOp {
    /// Returns the scheme and the rest of the identifier; the scheme is empty when there is none.
    pub fn split(&self) -> (&str, &str) {
        self.identifier.split_once("://").unwrap_or(("", &self.identifier))
    }

    /// Returns the value of an attribute.
    pub fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes.get(key).map(String::as_str)
    }

    /// Returns whether the result depends on the platform, so that the operation carries one.
    pub fn is_platform_specific(&self) -> bool {
        matches!(
            self.split().0,
            "docker-image" | "docker-image+blob" | "oci-layout" | "oci-layout+blob"
        )
    }
}

/// Builds a definition that is read from a file of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOp {
    /// Which input holds the definition.
    pub definition_input: usize,
    /// The file in that input.
    pub filename: String,
    /// The inputs by name; the one with the definition is among them.
    pub inputs: BTreeMap<String, usize>,
    /// Attributes by key.
    pub attributes: BTreeMap<String, String>,
}

impl BuildOp {
    /// The name of the input that holds the definition, and of the file when none is given.
    pub const DEFINITION: &'static str = "buildkit.llb.definition";
    /// The attribute that names another file.
    pub const FILENAME: &'static str = "llbbuild.filename";
}

/// Hands inputs on as outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassthroughOp {
    /// What tells it from others.
    pub id: String,
    /// Output `k` is input `outputs[k]`.
    pub outputs: Vec<usize>,
}
