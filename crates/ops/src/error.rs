//! Why an operation failed, in the words that clients know.

use cache::ImmutableRef;
use digests::Digest;
use executor::ExecutorError;

use crate::file::FileError;

/// How long the name of an input is in a message: as long as clients are used to.
const REF_LENGTH: usize = 25;

/// Why an operation failed. Reaches the build's end inside a [`solver::OpError`].
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// A process ended with a status that does not count as success.
    #[error("process {command:?} did not complete successfully: exit code: {code}")]
    Exit {
        /// The command and its arguments.
        command: String,
        /// The exit status; 128 and the signal's number for a signal.
        code: u32,
    },
    /// A process was killed because its container had used up its memory.
    #[error(
        "process {command:?} did not complete successfully: cannot allocate memory: exit code: {code}"
    )]
    OutOfMemory {
        /// The command and its arguments.
        command: String,
        /// The exit status.
        code: u32,
    },
    /// A process did not come to run.
    #[error("process {command:?} did not complete successfully")]
    NotStarted {
        /// The command and its arguments.
        command: String,
        /// Why.
        #[source]
        source: ExecutorError,
    },
    /// The part of an input that the operation uses cannot be read.
    #[error("failed to calculate checksum of ref {tree}")]
    Checksum {
        /// A short name of the input, equal for equal ones.
        tree: String,
        /// What happened.
        #[source]
        source: FileError,
    },
    /// A source's identifier or an attribute cannot be used.
    #[error("invalid source `{identifier}`: {reason}")]
    Source {
        /// The identifier.
        identifier: String,
        /// What is wrong.
        reason: String,
    },
    /// A secret that a step needs is not there.
    #[error("secret {0}: not found")]
    Secret(String),
    /// An image does not fit what the operation says.
    #[error("image `{name}` is `{actual}`, but `{expected}` was asked for")]
    ImageChecksum {
        /// The image.
        name: String,
        /// What was asked for.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// An image has nothing for the platform.
    #[error("no match for platform in manifest {digest}: not found; it has {available}")]
    Platform {
        /// The index.
        digest: Digest,
        /// The platforms that it has, joined by commas.
        available: String,
    },
    /// A document of an image is damaged.
    #[error("image `{name}`: {what}")]
    Image {
        /// The image.
        name: String,
        /// Which document and what is wrong.
        what: String,
    },
    /// The disk is full.
    #[error(
        "{what}: no space left on device; free some with `docker buildx prune`, or lower `maxUsedSpace` of the garbage collection"
    )]
    DiskFull {
        /// What was attempted.
        what: String,
    },
    /// An operation is of a kind, or asks for something, that this daemon lacks.
    #[error("{0}")]
    Unsupported(String),
}

impl OperationError {
    /// Returns the error of an input that cannot be read.
    pub(crate) fn checksum(input: &ImmutableRef, source: FileError) -> Self {
        let mut tree = Digest::of(input.identity().as_bytes()).hex();
        tree.truncate(REF_LENGTH);
        Self::Checksum { tree, source }
    }
}
