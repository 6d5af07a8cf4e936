//! Media types, and what they say about the content.

use std::fmt;

use serde::Deserialize;

/// An OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// An OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An OCI image config.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The empty JSON object, as the config of an artefact.
pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// An uncompressed OCI layer.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// A gzip-compressed OCI layer.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// A zstd-compressed OCI layer.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// An uncompressed OCI layer that may not be redistributed.
pub const OCI_LAYER_FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
/// A gzip-compressed OCI layer that may not be redistributed.
pub const OCI_LAYER_FOREIGN_GZIP: &str =
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
/// A zstd-compressed OCI layer that may not be redistributed.
pub const OCI_LAYER_FOREIGN_ZSTD: &str =
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd";
/// A Docker manifest list: Docker's index.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// A Docker image manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// A Docker image manifest of the first, abandoned schema.
pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
/// A Docker image config.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// An uncompressed Docker layer.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// A gzip-compressed Docker layer.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// A zstd-compressed Docker layer.
pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
/// An uncompressed Docker layer that may not be redistributed.
pub const DOCKER_LAYER_FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar";
/// A gzip-compressed Docker layer that may not be redistributed.
pub const DOCKER_LAYER_FOREIGN_GZIP: &str =
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
/// An in-toto statement, as a layer of an attestation manifest.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";
/// The config of a registry cache as BuildKit writes it.
pub const BUILDKIT_CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";
/// Plain bytes of no known kind.
pub const OCTET_STREAM: &str = "application/octet-stream";

/// What a client accepts where a manifest is expected, in order of preference.
pub const ACCEPTED_MANIFESTS: [&str; 4] = [DOCKER_MANIFEST, DOCKER_INDEX, OCI_MANIFEST, OCI_INDEX];

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// Not at all: a plain tar archive.
    None,
    /// With gzip.
    Gzip,
    /// With Zstandard.
    Zstd,
}

impl Compression {
    /// Returns the compression that the first bytes of a file show, whatever its media type says.
    pub fn detect(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, 0x08, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame may come first.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }

    /// Returns the name that exporters' options use: `uncompressed`, `gzip` or `zstd`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "uncompressed",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// Returns the OCI media type of a layer that is compressed so.
    pub const fn oci_layer(self) -> &'static str {
        match self {
            Self::None => OCI_LAYER,
            Self::Gzip => OCI_LAYER_GZIP,
            Self::Zstd => OCI_LAYER_ZSTD,
        }
    }

    /// Returns the Docker media type of a layer that is compressed so.
    pub const fn docker_layer(self) -> &'static str {
        match self {
            Self::None => DOCKER_LAYER,
            Self::Gzip => DOCKER_LAYER_GZIP,
            Self::Zstd => DOCKER_LAYER_ZSTD,
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Returns true for an index of either kind.
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_INDEX)
}

/// Returns true for a manifest of either kind.
pub fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
}

/// Returns true for an image config of either kind.
pub fn is_config(media_type: &str) -> bool {
    matches!(media_type, OCI_CONFIG | DOCKER_CONFIG)
}

/// Returns true for a layer of a file system, of any kind.
pub fn is_layer(media_type: &str) -> bool {
    layer_compression(media_type).is_some()
}

/// Returns true for a layer that may not be pushed to another registry.
pub fn is_nondistributable(media_type: &str) -> bool {
    matches!(
        media_type,
        OCI_LAYER_FOREIGN
            | OCI_LAYER_FOREIGN_GZIP
            | OCI_LAYER_FOREIGN_ZSTD
            | DOCKER_LAYER_FOREIGN
            | DOCKER_LAYER_FOREIGN_GZIP
    )
}

/// Returns how a layer of this type is compressed; none if the type is not a layer's.
pub fn layer_compression(media_type: &str) -> Option<Compression> {
    match media_type {
        OCI_LAYER | OCI_LAYER_FOREIGN | DOCKER_LAYER | DOCKER_LAYER_FOREIGN => {
            Some(Compression::None)
        }
        OCI_LAYER_GZIP | OCI_LAYER_FOREIGN_GZIP | DOCKER_LAYER_GZIP | DOCKER_LAYER_FOREIGN_GZIP => {
            Some(Compression::Gzip)
        }
        OCI_LAYER_ZSTD | OCI_LAYER_FOREIGN_ZSTD | DOCKER_LAYER_ZSTD => Some(Compression::Zstd),
        _ => None,
    }
}

/// Returns the OCI type for a type of Docker's that has one, and any other type as it is.
pub fn to_oci(media_type: &str) -> &str {
    match media_type {
        DOCKER_INDEX => OCI_INDEX,
        DOCKER_MANIFEST => OCI_MANIFEST,
        DOCKER_CONFIG => OCI_CONFIG,
        DOCKER_LAYER => OCI_LAYER,
        DOCKER_LAYER_GZIP => OCI_LAYER_GZIP,
        DOCKER_LAYER_ZSTD => OCI_LAYER_ZSTD,
        DOCKER_LAYER_FOREIGN => OCI_LAYER_FOREIGN,
        DOCKER_LAYER_FOREIGN_GZIP => OCI_LAYER_FOREIGN_GZIP,
        other => other,
    }
}

/// Returns the Docker type for a type of OCI's that has one, and any other type as it is.
pub fn to_docker(media_type: &str) -> &str {
    match media_type {
        OCI_INDEX => DOCKER_INDEX,
        OCI_MANIFEST => DOCKER_MANIFEST,
        OCI_CONFIG => DOCKER_CONFIG,
        OCI_LAYER => DOCKER_LAYER,
        OCI_LAYER_GZIP => DOCKER_LAYER_GZIP,
        OCI_LAYER_ZSTD => DOCKER_LAYER_ZSTD,
        OCI_LAYER_FOREIGN => DOCKER_LAYER_FOREIGN,
        OCI_LAYER_FOREIGN_GZIP => DOCKER_LAYER_FOREIGN_GZIP,
        other => other,
    }
}

/// Returns the media type of a manifest or index from its content, for registries that do not say:
/// what the document itself states, else what its members show. None if it is neither.
pub fn detect(document: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape<'a> {
        media_type: Option<String>,
        #[serde(borrow)]
        manifests: Option<&'a serde_json::value::RawValue>,
        #[serde(borrow)]
        config: Option<&'a serde_json::value::RawValue>,
        #[serde(borrow)]
        layers: Option<&'a serde_json::value::RawValue>,
    }
    let shape: Shape<'_> = serde_json::from_slice(document).ok()?;
    match (shape.media_type, shape.manifests, shape.config.or(shape.layers)) {
        (Some(stated), ..) if !stated.is_empty() => Some(stated),
        (_, Some(_), None) => Some(OCI_INDEX.to_owned()),
        (_, None, Some(_)) => Some(OCI_MANIFEST.to_owned()),
        _ => None,
    }
}
