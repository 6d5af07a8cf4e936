//! Where everything is on disk.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use mount::HostPath;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::VolumeKey;
use crate::document::FORMAT;

/// The identity of a layer within its volume; made by chance, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LayerId(u128);

impl LayerId {
    /// Returns an identity that no layer has had.
    pub(crate) fn invent() -> Self {
        Self(rand::random())
    }

    #[cfg(test)]
    pub(crate) const fn from_number(number: u128) -> Self {
        Self(number)
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for LayerId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain =
            text.len() == 32 && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        match u128::from_str_radix(text, 16) {
            Ok(number) if plain => Ok(Self(number)),
            _ => Err(format!("`{}` is not a layer", text.chars().take(40).collect::<String>())),
        }
    }
}

impl Serialize for LayerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LayerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The directories that all volumes share.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    format: HostPath,
}

impl Layout {
    pub(crate) fn new(root: &HostPath) -> Self {
        Self { format: root.join(format!("v{FORMAT}")) }
    }

    /// The directory of this format.
    pub(crate) fn format(&self) -> &HostPath {
        &self.format
    }

    /// A directory that is always empty.
    pub(crate) fn empty(&self) -> HostPath {
        self.format.join("empty")
    }

    /// Holds what is being made, under invented names.
    pub(crate) fn limbo(&self) -> HostPath {
        self.format.join("limbo")
    }

    /// The lock that is held, in shared mode, while something is in limbo.
    pub(crate) fn making(&self) -> HostPath {
        self.format.join("making")
    }

    /// Holds what is to be deleted, under invented names.
    pub(crate) fn trash(&self) -> HostPath {
        self.format.join("trash")
    }

    /// Locks for volumes that are being seeded.
    pub(crate) fn seeding(&self) -> HostPath {
        self.format.join("seeding")
    }

    /// Holds a directory for each volume.
    pub(crate) fn volumes(&self) -> HostPath {
        self.format.join("volumes")
    }

    /// The directory of one volume.
    pub(crate) fn volume(&self, key: VolumeKey) -> VolumePaths {
        VolumePaths { directory: self.volumes().join(key.to_string()) }
    }
}

/// The files and directories of one volume.
#[derive(Debug, Clone)]
pub(crate) struct VolumePaths {
    directory: HostPath,
}

impl VolumePaths {
    /// Takes a directory that has, or will have, the shape of a volume.
    pub(crate) const fn at(directory: HostPath) -> Self {
        Self { directory }
    }

    pub(crate) fn directory(&self) -> &HostPath {
        &self.directory
    }

    /// The volume's name; written once.
    pub(crate) fn name(&self) -> HostPath {
        self.directory.join("volume.json")
    }

    /// Head and versions; replacing it is what publishes.
    pub(crate) fn state(&self) -> HostPath {
        self.directory.join("state.json")
    }

    /// When and how often it was used; not synced.
    pub(crate) fn usage(&self) -> HostPath {
        self.directory.join("usage.json")
    }

    /// How much disk it takes; there only while that does not change.
    pub(crate) fn measured(&self) -> HostPath {
        self.directory.join("measured.json")
    }

    /// The lock under which documents are read and written and turns are decided.
    pub(crate) fn gate(&self) -> HostPath {
        self.directory.join("gate")
    }

    /// The lock under which the head moves.
    pub(crate) fn publisher(&self) -> HostPath {
        self.directory.join("publisher")
    }

    pub(crate) fn turns(&self) -> HostPath {
        self.directory.join("turns")
    }

    pub(crate) fn layers(&self) -> HostPath {
        self.directory.join("layers")
    }

    /// The directory of a layer and of all that belongs to it.
    pub(crate) fn layer(&self, layer: LayerId) -> HostPath {
        self.layers().join(layer.to_string())
    }

    /// What is in a layer.
    pub(crate) fn tree(&self, layer: LayerId) -> HostPath {
        self.layer(layer).join("fs")
    }

    /// The kernel's scratch space while a layer is written.
    pub(crate) fn work(&self, layer: LayerId) -> HostPath {
        self.layer(layer).join("work")
    }

    /// Where a layer that several see at once is mounted above its base.
    pub(crate) fn live(&self, layer: LayerId) -> HostPath {
        self.layer(layer).join("live")
    }

    /// Says by being there that what is in the layer must not be published.
    pub(crate) fn spoiled(&self, layer: LayerId) -> HostPath {
        self.layer(layer).join("spoiled")
    }

    /// An empty directory that lends its owner and mode to the root of a read-only view.
    pub(crate) fn face(&self, name: &str) -> HostPath {
        self.directory.join("faces").join(name)
    }
}

/// Returns the format number in a directory's name; none for other names.
pub(crate) fn format_of(name: &Path) -> Option<u64> {
    name.to_str()?.strip_prefix('v')?.parse().ok()
}
