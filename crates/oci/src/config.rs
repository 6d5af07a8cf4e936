//! The image config: what an image runs, and what it is made of.
//!
//! The members stand in the order in which Docker's and the OCI's own types write them; the OCI image
//! specification says "Image Configuration", Docker's additions are `Healthcheck`, `OnBuild` and
//! `Shell`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use digests::{ChainId, DiffId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json::{name_set, nanoseconds, nullable};
use crate::{Document, DocumentError, Platform, Time};

/// The config document of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Time>,
    /// Who made the image.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// The processor architecture.
    #[serde(default, deserialize_with = "nullable")]
    pub architecture: String,
    /// The operating system.
    #[serde(default, deserialize_with = "nullable")]
    pub os: String,
    /// The version of the operating system (Windows).
    #[serde(
        default,
        rename = "os.version",
        deserialize_with = "nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub os_version: String,
    /// Features that the operating system must have.
    #[serde(
        default,
        rename = "os.features",
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// The variant of the architecture.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// The layers, uncompressed.
    #[serde(default, deserialize_with = "nullable")]
    pub rootfs: RootFs,
    /// How the layers came to be.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// What a container of the image runs, and how.
    #[serde(default, deserialize_with = "nullable")]
    pub config: RunConfig,
    /// Members that we do not know.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, Value>,
}

impl ImageConfig {
    /// Returns the config of an image without layers for `platform`.
    pub fn for_platform(platform: &Platform) -> Self {
        Self {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            os_version: platform.os_version.clone(),
            os_features: platform.os_features.clone(),
            variant: platform.variant.clone(),
            ..Self::default()
        }
    }

    /// Returns the platform that the image is for, as the config has it.
    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
            variant: self.variant.clone(),
        }
    }

    /// Returns the identity of all layers together; none for an image without layers.
    pub fn chain_id(&self) -> Option<ChainId> {
        ChainId::of(self.rootfs.diff_ids.iter().copied())
    }

    /// Drops the members that we do not know: an image made from this one does not inherit them.
    pub fn forget_unknown(&mut self) {
        self.unknown.clear();
        self.config.unknown.clear();
        if let Some(healthcheck) = &mut self.config.healthcheck {
            healthcheck.unknown.clear();
        }
    }
}

impl Document for ImageConfig {
    const NAME: &'static str = "config";

    fn check(&self) -> Result<(), DocumentError> {
        Ok(())
    }
}

/// What a container of the image runs, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    /// Who runs the process: `user`, `uid`, `user:group` and so on.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Ports as `80/tcp`.
    #[serde(with = "name_set", skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed_ports: BTreeSet<String>,
    /// The environment, as `NAME=value`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The program and its first arguments.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// The arguments that a user may replace.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Directories whose content is kept apart from the container.
    #[serde(with = "name_set", skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<String>,
    /// The directory that the process starts in.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels of the image.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The signal that stops the process.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Whether `cmd` is one command line, escaped already (Windows).
    #[serde(deserialize_with = "nullable", skip_serializing_if = "std::ops::Not::not")]
    pub args_escaped: bool,
    /// How to learn whether the process is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Dockerfile instructions that run in a build from this image.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// The shell of the shell forms.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
    /// Members that we do not know.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, Value>,
}

/// How to learn whether a container is well. A zero means "as inherited".
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// Empty to inherit, `NONE` to disable, else `CMD` and arguments or `CMD-SHELL` and a command.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// The time between checks.
    #[serde(with = "nanoseconds", skip_serializing_if = "Duration::is_zero")]
    pub interval: Duration,
    /// How long a check may take.
    #[serde(with = "nanoseconds", skip_serializing_if = "Duration::is_zero")]
    pub timeout: Duration,
    /// How long the container may take to start before failures count.
    #[serde(with = "nanoseconds", skip_serializing_if = "Duration::is_zero")]
    pub start_period: Duration,
    /// The time between checks during the start.
    #[serde(with = "nanoseconds", skip_serializing_if = "Duration::is_zero")]
    pub start_interval: Duration,
    /// How many failures in a row mean that the container is unwell.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_zero")]
    pub retries: i64,
    /// Members that we do not know.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, Value>,
}

/// The layers of an image, uncompressed, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default, deserialize_with = "nullable")]
    pub kind: String,
    /// The digests of the layers' archives.
    #[serde(default, deserialize_with = "nullable")]
    pub diff_ids: Vec<DiffId>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

/// One step of how an image was made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct History {
    /// When the step was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Time>,
    /// The instruction.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// Who did it.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// A remark.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Whether the step made no layer.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

const fn is_zero(number: &i64) -> bool {
    *number == 0
}
