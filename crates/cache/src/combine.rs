//! Trees made of other trees: one above the other, what differs between two, many layers as one.

use std::sync::Arc;

use crate::refs::Layer;
use crate::{CacheError, ImmutableRef, LayerInfo, Refs};

/// A stack higher than this is flattened before something is built on it: the kernel shows 500.
const HIGHEST_STACK: usize = 450;

impl Refs {
    /// Returns the stacks of `parts` one above the other, the first lowest.
    ///
    /// # Errors
    /// Returns an error if a client's directory among them cannot be copied.
    pub async fn merge(&self, parts: &[ImmutableRef]) -> Result<ImmutableRef, CacheError> {
        let mut merged: Vec<Arc<Layer>> = Vec::new();
        for part in parts {
            let settled = self.settled(part).await?;
            for layer in settled.layers() {
                // A layer that lies below already, with nothing else in between, adds nothing.
                if merged.last().is_none_or(|last| last.key != layer.key) {
                    merged.push(layer.clone());
                }
            }
        }
        self.lowered(ImmutableRef::of_layers(merged)).await
    }

    /// Returns the same tree as a stack that the kernel can show, with room for one more.
    pub(crate) async fn lowered(&self, tree: ImmutableRef) -> Result<ImmutableRef, CacheError> {
        let excess = tree.height().saturating_sub(HIGHEST_STACK);
        if excess == 0 {
            return Ok(tree);
        }
        // From below, where a removal has nothing left to remove; and in such steps that a stack which
        // grows by one layer at a time is not flattened for each.
        let lowest = excess.div_ceil(HIGHEST_STACK - 1) * (HIGHEST_STACK - 1) + 1;
        let flat = self.flatten(&tree.truncated(lowest)).await?;
        let layers = flat.layers().iter().chain(&tree.layers()[lowest..]);
        Ok(ImmutableRef::of_layers(layers.cloned().collect()))
    }

    /// Returns what turns `lower` into `upper`.
    ///
    /// # Errors
    /// Returns an error if the trees cannot be compared.
    pub async fn diff(
        &self,
        lower: &ImmutableRef,
        upper: &ImmutableRef,
        info: LayerInfo,
    ) -> Result<ImmutableRef, CacheError> {
        let (lower, upper) = (self.settled(lower).await?, self.settled(upper).await?);
        let (below, above) = (lower.keys(), upper.keys());
        if above.starts_with(&below) {
            let rest: Vec<_> = upper.layers()[below.len()..].to_vec();
            return Ok(ImmutableRef::of_layers(rest));
        }
        self.compared(&lower, &upper, info).await
    }

    async fn compared(
        &self,
        lower: &ImmutableRef,
        upper: &ImmutableRef,
        info: LayerInfo,
    ) -> Result<ImmutableRef, CacheError> {
        let ingest = self.new_ingest().await?;
        let (from, to) = (self.view(lower).await?, self.view(upper).await?);
        let directory = ingest.directory().clone();
        tasks::blocking("compare trees", move || {
            let (from, to) = (from.root()?, to.root()?);
            snapshot::diff_trees(&from, &to, &directory).map_err(CacheError::from_error)
        })
        .await??;
        self.commit_ingest(ingest, &ImmutableRef::default(), info).await
    }

    /// Returns the same stack as one layer.
    async fn flatten(&self, stack: &ImmutableRef) -> Result<ImmutableRef, CacheError> {
        let ingest = self.new_ingest().await?;
        let mut layers = Vec::with_capacity(stack.height());
        for key in stack.keys() {
            layers.push(self.snapshotter().layer(&key).await?);
        }
        let directory = ingest.directory().clone();
        // Layer by layer: an overlay of them looks for each name in every layer.
        tasks::blocking("flatten layers", move || {
            let mut layers = layers.iter();
            layers.try_for_each(|layer| snapshot::put_layer(layer.directory(), &directory))
        })
        .await?
        .map_err(CacheError::from_error)?;
        self.commit_ingest(ingest, &ImmutableRef::default(), LayerInfo::regular("flattened")).await
    }

    /// Returns `tree` as a stack of layers: a client's directory is copied, for it will change.
    ///
    /// # Errors
    /// Returns an error if the copy fails.
    pub async fn settled(&self, tree: &ImmutableRef) -> Result<ImmutableRef, CacheError> {
        if !tree.is_local() {
            return Ok(tree.clone());
        }
        self.compared(&ImmutableRef::default(), tree, LayerInfo::regular("copied")).await
    }
}
