//! Questions that cross the halves of the build: those who know what a source is answer those who
//! only know that somebody asks.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::{BuildError, SourceMeta, SourceMetaRequest};

/// Finds out what sources are now, in the name of a client.
#[async_trait]
pub trait SourceResolver: Send + Sync + Debug {
    /// Answers the question, asking registries in the name of the clients with these session ids.
    async fn resolve(
        &self,
        sessions: &[String],
        request: &SourceMetaRequest,
    ) -> Result<SourceMeta, BuildError>;
}
