//! What an operation is to the solver.

use std::sync::Arc;

use async_trait::async_trait;
use digests::Digest;

use crate::{OpContext, OpError, Vertex};

/// An operation: what identifies its results, and how to make them.
///
/// All futures may be dropped at any await: that is how work is cancelled when nobody wants it any
/// more. Guards held by the future clean up.
#[async_trait]
pub trait Op<R>: Send + Sync {
    /// Returns what identifies this operation's results, given its inputs. May do work, such as
    /// asking a registry or syncing a client's files. Asked once per vertex, however many wait.
    async fn cache_map(&self, context: &OpContext) -> Result<CacheMap, OpError>;

    /// Returns the digest of the part of `input`, which is in `slot`, that this operation uses, or
    /// none if it has no such digest. Asked only for slots with [`ContentKey::ByContent`].
    async fn content_key(
        &self,
        context: &OpContext,
        slot: usize,
        input: &R,
    ) -> Result<Option<Digest>, OpError>;

    /// Runs the operation and returns one result per output.
    async fn exec(&self, context: &OpContext, inputs: Vec<R>) -> Result<Vec<R>, OpError>;

    /// Returns whether running it counts among the operations that run at the same time. One that
    /// waits for other operations must not: they could wait for its place.
    fn is_counted(&self) -> bool {
        true
    }
}

/// What identifies the results of an operation, given its inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMap {
    /// Identifies the operation without its inputs. For an operation without inputs this must name
    /// the very content: a manifest's digest, a commit.
    pub digest: Digest,
    /// How each input counts; exactly one per input of the vertex.
    pub inputs: Vec<InputKey>,
    /// If true, results are neither looked up nor kept.
    pub volatile: bool,
    /// What the operation found that it names: a commit, a digest. It is for people and is part of no key.
    pub pin: Option<String>,
}

/// How an input counts for the key of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InputKey {
    /// Which part of the input is used, such as a path in it.
    pub selector: Option<Digest>,
    /// Whether the input may be recognised by its content.
    pub content: ContentKey,
}

/// How an input is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ContentKey {
    /// By how it was made.
    #[default]
    ByDefinition,
    /// By how it was made or, where that is not known, by what it contains.
    ByContent,
}

/// Makes the operation of a vertex from its payload.
pub trait OpResolver<R>: Send + Sync {
    /// Returns the operation. Must not block.
    fn resolve(&self, vertex: &Vertex) -> Result<Arc<dyn Op<R>>, OpError>;
}
