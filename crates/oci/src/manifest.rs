//! Manifests and indexes: what an image is made of, and what a multi-platform image is made of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Descriptor, Document, DocumentError, json, media};

/// The manifest of one image: its config and its layers, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// What the document says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What kind of artefact this is, if it is not an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Where the config is.
    pub config: Descriptor,
    /// Where the layers are, lowest first.
    #[serde(default, deserialize_with = "json::nullable")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// What its maker has to say about the image.
    #[serde(
        default,
        deserialize_with = "json::nullable",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Members that we do not know.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, Value>,
}

impl Manifest {
    /// Returns a manifest of an image.
    pub fn new(media_type: &str, config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type.to_owned()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
            unknown: BTreeMap::new(),
        }
    }
}

impl Document for Manifest {
    const NAME: &'static str = "manifest";

    fn check(&self) -> Result<(), DocumentError> {
        check_schema(Self::NAME, self.schema_version)?;
        // A document that can be read in two ways has one digest for two images.
        if self.unknown.contains_key("manifests") {
            return Err(DocumentError::Ambiguous { document: Self::NAME, member: "manifests" });
        }
        check_media_type(
            Self::NAME,
            self.media_type.as_deref(),
            !is_index(self.media_type.as_deref()),
        )
    }
}

/// An index: images for several platforms, or other manifests that belong together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// What the document says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What kind of artefact this is, if it is not an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Where the manifests are.
    #[serde(default, deserialize_with = "json::nullable")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this index is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// What its maker has to say about the index.
    #[serde(
        default,
        deserialize_with = "json::nullable",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Members that we do not know.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, Value>,
}

impl Index {
    /// Returns an index of manifests.
    pub fn new(media_type: &str, manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type.to_owned()),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
            unknown: BTreeMap::new(),
        }
    }
}

impl Document for Index {
    const NAME: &'static str = "index";

    fn check(&self) -> Result<(), DocumentError> {
        check_schema(Self::NAME, self.schema_version)?;
        for member in ["config", "layers"] {
            if self.unknown.contains_key(member) {
                return Err(DocumentError::Ambiguous { document: Self::NAME, member });
            }
        }
        let manifest = self.media_type.as_deref().is_some_and(media::is_manifest);
        check_media_type(Self::NAME, self.media_type.as_deref(), !manifest)
    }
}

fn is_index(media_type: Option<&str>) -> bool {
    media_type.is_some_and(media::is_index)
}

fn check_schema(document: &'static str, version: u32) -> Result<(), DocumentError> {
    if version == 2 { Ok(()) } else { Err(DocumentError::Schema { document, version }) }
}

fn check_media_type(
    document: &'static str,
    stated: Option<&str>,
    fits: bool,
) -> Result<(), DocumentError> {
    if fits {
        return Ok(());
    }
    Err(DocumentError::MediaType { document, stated: stated.unwrap_or_default().to_owned() })
}
