//! The operation that builds a definition found in a file of an input.

use std::sync::Arc;

use async_trait::async_trait;
use cache::ImmutableRef;
use digests::{Digest, StableHasher};
use futures::future::BoxFuture;
use llb::{BuildOp, Definition};
use mount::GuestPath;
use solver::{CacheMap, InterestedJob, Op, OpContext, OpError};

use crate::{OperationError, Services, failure};

/// The longest definition that is read from a file, bytes.
const LONGEST: u64 = 16 << 20;

/// Builds a definition for those who wait for an operation. Given by whoever owns the solver.
pub type NestedBuild = Arc<
    dyn Fn(Vec<InterestedJob>, Definition) -> BoxFuture<'static, Result<ImmutableRef, OpError>>
        + Send
        + Sync,
>;

/// The operation that builds a definition found in a file of an input.
#[derive(Debug)]
pub(crate) struct BuildOperation {
    pub(crate) services: Arc<Services>,
    pub(crate) op: BuildOp,
    pub(crate) inputs: usize,
}

#[async_trait]
impl Op<ImmutableRef> for BuildOperation {
    async fn cache_map(&self, _context: &OpContext) -> Result<CacheMap, OpError> {
        let mut hasher = StableHasher::new("build.v1");
        hasher.feed(&self.op.filename).feed(&(self.op.definition_input as u64));
        hasher.feed(&self.op.attributes);
        let inputs = vec![solver::InputKey::default(); self.inputs];
        Ok(CacheMap { digest: hasher.finish(), inputs, volatile: false, pin: None })
    }

    async fn content_key(
        &self,
        _context: &OpContext,
        _slot: usize,
        _input: &ImmutableRef,
    ) -> Result<Option<Digest>, OpError> {
        Ok(None)
    }

    async fn exec(
        &self,
        context: &OpContext,
        inputs: Vec<ImmutableRef>,
    ) -> Result<Vec<ImmutableRef>, OpError> {
        let input = inputs.get(self.op.definition_input).cloned().unwrap_or_default();
        let view = self.services.refs.view(&input).await.map_err(failure)?;
        let path = GuestPath::new(&self.op.filename).map_err(failure)?;
        let read = move || -> Result<Vec<u8>, OpError> {
            use std::io::Read as _;
            let root = view.root().map_err(failure)?;
            let file = root.open_file(&path).map_err(failure)?;
            let mut bytes = Vec::new();
            file.take(LONGEST).read_to_end(&mut bytes).map_err(failure)?;
            Ok(bytes)
        };
        let bytes = tasks::blocking("read definition", read).await.map_err(failure)??;
        let definition = Definition::from_bytes(bytes.into()).map_err(failure)?;
        let Some(build) = self.services.nested.get() else {
            let text = "nested builds are not available".to_owned();
            return Err(failure(OperationError::Unsupported(text)));
        };
        Ok(vec![build(context.jobs(), definition).await?])
    }

    fn is_counted(&self) -> bool {
        false
    }
}
