//! The operations that only combine their inputs: merge, diff, passthrough.

use async_trait::async_trait;
use cache::{ImmutableRef, LayerInfo, Refs};
use digests::{Digest, StableHasher};
use solver::{CacheMap, InputKey, Op, OpContext, OpError};

use crate::failure;

/// What is made of the inputs.
#[derive(Debug)]
pub(crate) enum Combination {
    /// All inputs, one above the other.
    Merge,
    /// What turns one input into another; none is the empty tree.
    Diff {
        /// The older.
        lower: Option<usize>,
        /// The newer.
        upper: Option<usize>,
    },
    /// Output `k` is input `outputs[k]`.
    Passthrough {
        /// What tells it from others.
        id: String,
        /// Which input each output is.
        outputs: Vec<usize>,
    },
}

/// An operation that only combines its inputs.
#[derive(Debug)]
pub(crate) struct Combine {
    pub(crate) refs: Refs,
    pub(crate) combination: Combination,
    pub(crate) inputs: usize,
}

#[async_trait]
impl Op<ImmutableRef> for Combine {
    async fn cache_map(&self, _context: &OpContext) -> Result<CacheMap, OpError> {
        let mut hasher = StableHasher::new("combine.v1");
        let index = |slot: &Option<usize>| slot.map(|slot| slot as u64);
        match &self.combination {
            Combination::Merge => hasher.variant(0),
            Combination::Diff { lower, upper } => {
                hasher.variant(1).feed(&index(lower)).feed(&index(upper))
            }
            Combination::Passthrough { id, outputs } => {
                let outputs: Vec<u64> = outputs.iter().map(|output| *output as u64).collect();
                hasher.variant(2).feed(id).feed(&outputs)
            }
        };
        let inputs = vec![InputKey::default(); self.inputs];
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
        let side = |slot: &Option<usize>| {
            slot.and_then(|slot| inputs.get(slot)).cloned().unwrap_or_default()
        };
        match &self.combination {
            Combination::Merge => Ok(vec![self.refs.merge(&inputs).await.map_err(failure)?]),
            Combination::Diff { lower, upper } => {
                let info = LayerInfo::regular(context.vertex().name.clone());
                let (lower, upper) = (side(lower), side(upper));
                Ok(vec![self.refs.diff(&lower, &upper, info).await.map_err(failure)?])
            }
            Combination::Passthrough { outputs, .. } => {
                Ok(outputs.iter().map(|slot| side(&Some(*slot))).collect())
            }
        }
    }
}
