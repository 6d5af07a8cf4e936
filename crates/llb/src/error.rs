//! Why a definition is refused. Which vertex, and what is wrong with its operation, are two types.

use std::error::Error;

use digests::VertexDigest;

/// Why a definition is refused.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// There is nothing to build.
    #[error("invalid empty definition")]
    Empty,
    /// The terminal operation, or what it refers to, is missing.
    #[error("invalid LLB with {0} vertexes")]
    TooShort(usize),
    /// The terminal operation names no result.
    #[error("invalid LLB with no inputs on last vertex")]
    NoResult,
    /// The bytes are no definition.
    #[error("failed to parse definition")]
    Malformed(#[source] Box<dyn Error + Send + Sync>),
    /// The bytes of an operation are no operation.
    #[error("failed to parse llb proto op {index}")]
    MalformedOp {
        /// Its place in the definition, from 0.
        index: usize,
        /// What the decoder says.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// An input is not part of the definition.
    #[error("invalid missing input digest {0}")]
    MissingInput(String),
    /// Vertices that need each other.
    #[error("invalid operation `{0}` that depends on itself")]
    Loop(VertexDigest),
    /// An operation is wrong in itself.
    #[error("invalid operation `{digest}`")]
    Op {
        /// The digest of its vertex.
        digest: VertexDigest,
        /// What is wrong.
        #[source]
        source: OpError,
    },
    /// The client used a feature that this daemon does not know.
    #[error("unknown API capability {0}")]
    UnknownCapability(String),
}

/// What is wrong with an operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpError {
    /// None of the operations that this daemon knows.
    #[error("unknown kind of operation")]
    UnknownOperation,
    /// Something that must be there is not.
    #[error("invalid {kind} op with no {missing}")]
    Missing {
        /// The kind of operation.
        kind: &'static str,
        /// What is missing.
        missing: &'static str,
    },
    /// An index is outside of what it counts.
    #[error("invalid {what} index {index} (there are {count})")]
    Index {
        /// What the index counts.
        what: &'static str,
        /// The index.
        index: i64,
        /// How many there are.
        count: usize,
    },
    /// The outputs of a file operation are not numbered 0, 1, 2, …
    #[error("invalid file op outputs: they must be numbered from 0, each once")]
    Outputs,
    /// Steps of a file operation need each other's results.
    #[error("invalid file op with a loop of actions")]
    ActionLoop,
    /// A number stands for nothing.
    #[error("unknown {what} `{value}`")]
    UnknownValue {
        /// What the number should stand for.
        what: &'static str,
        /// The number.
        value: i64,
    },
    /// The process' root is not a bind mount, or there are two.
    #[error("invalid mount for `/`: {0}")]
    Root(&'static str),
}
