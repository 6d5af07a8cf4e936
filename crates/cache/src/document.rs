//! What is remembered of a layer, as it is written to the metadata store.

use std::time::SystemTime;

use digests::{ChainId, DiffId};
use oci::Descriptor;
use serde::{Deserialize, Serialize};
use snapshot::LayerKey;

use crate::RecordKind;

/// Everything known of a layer beside its files.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LayerDocument {
    /// The layer that this one was made over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<LayerKey>,
    /// What it is.
    pub(crate) kind: RecordKind,
    /// What it is, for people.
    pub(crate) description: String,
    /// Bytes on disk.
    pub(crate) size: u64,
    /// When it was made.
    pub(crate) created: SystemTime,
    /// When a build last used it.
    pub(crate) last_used: SystemTime,
    /// How many builds used it.
    pub(crate) use_count: u64,
    /// The digest of its uncompressed archive, once somebody has made or read one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) diff_id: Option<DiffId>,
    /// For a layer of an image: the stack it is the top of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) chain: Option<ChainId>,
    /// Archives of it in the content store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) blobs: Vec<Descriptor>,
    /// The clients' directories whose files it has under further names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) lenders: Vec<LayerKey>,
    /// For a client's directory: which one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tree: Option<String>,
}

/// What a new layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerInfo {
    /// For people: `[stage-1 2/5] RUN make`, `pulled from docker.io/library/alpine`.
    pub description: String,
    /// For filters.
    pub kind: RecordKind,
}

impl LayerInfo {
    /// Returns the information of a step's result.
    pub fn regular(description: impl Into<String>) -> Self {
        Self { description: description.into(), kind: RecordKind::Regular }
    }
}

impl LayerDocument {
    pub(crate) fn new(info: LayerInfo, parent: Option<LayerKey>, size: u64) -> Self {
        let now = SystemTime::now();
        Self {
            parent,
            kind: info.kind,
            description: info.description,
            size,
            created: now,
            last_used: now,
            use_count: 1,
            diff_id: None,
            chain: None,
            blobs: Vec::new(),
            lenders: Vec::new(),
            tree: None,
        }
    }
}
