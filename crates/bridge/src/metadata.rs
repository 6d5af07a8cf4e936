//! The keys of a result's metadata (protocol page `gateway.md` §8) and the values that are ours.

use oci::Platform;
use serde::{Deserialize, Serialize};

/// Names of metadata entries.
pub mod keys {
    /// The image configuration, as JSON; with `/<platform id>` appended in a multi-platform result.
    pub const IMAGE_CONFIG: &str = "containerimage.config";
    /// The configuration of the base image, as JSON; suffixed likewise.
    pub const BASE_CONFIG: &str = "containerimage.base.config";
    /// Which platforms a result has: [`super::ResultPlatforms`] as JSON.
    pub const PLATFORMS: &str = "refs.platforms";
    /// Seconds since 1970 for timestamps in the image, decimal; suffixed likewise.
    pub const SOURCE_DATE_EPOCH: &str = "source.date.epoch";
    /// Overrides an exporter's name `*`.
    pub const IMAGE_NAME: &str = "image.name";
}

/// The value of [`keys::PLATFORMS`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ResultPlatforms {
    /// One entry a platform; the ids are the keys of the result's references.
    #[serde(rename = "Platforms")]
    pub platforms: Vec<PlatformEntry>,
}

/// One platform of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformEntry {
    /// `linux/amd64`
    #[serde(rename = "ID")]
    pub id: String,
    /// The same, taken apart.
    #[serde(rename = "Platform")]
    pub platform: Platform,
}
