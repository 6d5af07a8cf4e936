//! Trees made of other trees: one above the other, what differs between two, many layers as one.

use std::sync::Arc;

use crate::refs::Layer;
use crate::{CacheError, ImmutableRef, LayerInfo, RecordKind, Refs};

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
    pub(crate) async fn lowered(&self, mut tree: ImmutableRef) -> Result<ImmutableRef, CacheError> {
        while tree.height() > HIGHEST_STACK {
            // From below, where a removal has nothing left to remove.
            let flat = self.flatten(&tree.truncated(HIGHEST_STACK)).await?;
            let layers = flat.layers().iter().chain(&tree.layers()[HIGHEST_STACK..]);
            tree = ImmutableRef::of_layers(layers.cloned().collect());
        }
        Ok(tree)
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

    /// Returns the same tree as one layer.
    async fn flatten(&self, tree: &ImmutableRef) -> Result<ImmutableRef, CacheError> {
        let info = LayerInfo { description: "flattened".to_owned(), kind: RecordKind::Regular };
        self.compared(&ImmutableRef::default(), tree, info).await
    }

    /// Returns `tree` as a stack of layers: a client's directory is copied, for it will change.
    ///
    /// # Errors
    /// Returns an error if the copy fails.
    pub async fn settled(&self, tree: &ImmutableRef) -> Result<ImmutableRef, CacheError> {
        if tree.is_local() { self.flatten(tree).await } else { Ok(tree.clone()) }
    }
}
