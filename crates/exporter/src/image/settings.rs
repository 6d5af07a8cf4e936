//! Settings that all forms of an image have in common.

use bytes::Bytes;
use oci::Reference;
use snapshot::Compression;

use super::annotations::AnnotationSet;
use crate::attributes::{Attributes, Epoch, Metadata};
use crate::{ExportError, ExportRequest};

/// How an image is to be put together.
#[derive(Debug, Clone)]
pub(crate) struct ImageSettings {
    /// Its names, separated by commas; `*` for the one that the result brings.
    name: String,
    pub(crate) compression: Compression,
    /// Whether layers that are there with another compression are to be compressed again.
    pub(crate) force_compression: bool,
    /// Whether the documents have the media types of OCI; Docker's otherwise.
    pub(crate) oci_types: bool,
    /// Whether attestations are stored as an artefact that refers to its image.
    pub(crate) oci_artifact: bool,
    /// Whether attestations that are for images only make an image an index.
    pub(crate) inline_attestations: bool,
    /// Whether layers that may not be redistributed stay so.
    pub(crate) prefer_nondistributable: bool,
    /// Whether times in the new layers are capped, too.
    pub(crate) rewrite_timestamp: bool,
    pub(crate) epoch: Epoch,
    pub(crate) annotations: AnnotationSet,
    /// Attributes that are none of ours stand in for what the result does not say.
    extra: Metadata,
}

impl ImageSettings {
    /// Reads the settings. `inline_attestations` is what the form does if nothing is said.
    pub(crate) fn parse(
        request: &ExportRequest,
        inline_attestations: bool,
    ) -> Result<Self, ExportError> {
        let attributes = Attributes(&request.attributes);
        let oci_types = attributes.boolean("oci-mediatypes")?.unwrap_or(true);
        let oci_artifact = attributes.boolean("oci-artifact")?.unwrap_or(oci_types);
        let compression = attributes.compression()?;
        let conflict = match compression {
            _ if oci_types => None,
            Compression::Zstd(_) => Some("compression=zstd"),
            _ => oci_artifact.then_some("oci-artifact=true"),
        };
        if let Some(one) = conflict {
            let one = one.to_owned();
            return Err(ExportError::Conflict { one, other: "oci-mediatypes=false" });
        }
        let mut annotations = AnnotationSet::default();
        let mut extra = Metadata::new();
        for (attribute, value) in &request.attributes {
            if !annotations.take(attribute, value)? {
                extra.insert(attribute.clone(), Bytes::copy_from_slice(value.as_bytes()));
            }
        }
        Ok(Self {
            name: attributes.text("name").unwrap_or_default().to_owned(),
            compression,
            force_compression: attributes.switch("force-compression", false)?,
            oci_types,
            oci_artifact,
            inline_attestations: attributes
                .boolean("attestation-inline")?
                .unwrap_or(inline_attestations),
            prefer_nondistributable: attributes.boolean("prefer-nondist-layers")?.unwrap_or(false),
            rewrite_timestamp: attributes.boolean("rewrite-timestamp")?.unwrap_or(false),
            epoch: attributes.epoch()?,
            annotations,
            extra,
        })
    }

    /// Returns what is known of a result when these settings are taken into account.
    pub(crate) fn complete(&self, metadata: &Metadata) -> Metadata {
        let mut metadata = metadata.clone();
        metadata.extend(self.extra.iter().map(|(key, value)| (key.clone(), value.clone())));
        metadata
    }

    /// Returns these settings with the annotations that the result brings.
    pub(crate) fn annotated(&self, metadata: &Metadata) -> Result<Self, ExportError> {
        let mut settings = self.clone();
        for (key, value) in metadata {
            settings.annotations.take(key, &String::from_utf8_lossy(value))?;
        }
        Ok(settings)
    }

    /// Returns the names as the client gave them, separated by commas; none if there are none.
    pub(crate) fn given_names(&self, metadata: &Metadata) -> Option<String> {
        let name = match metadata.get("image.name") {
            Some(name) if self.name == "*" => String::from_utf8_lossy(name).into_owned(),
            _ => self.name.clone(),
        };
        Some(name).filter(|name| !name.is_empty())
    }

    /// Returns the names, separated by commas, if there are any that do not come with the result.
    pub(crate) fn known_names(&self) -> Option<&str> {
        Some(self.name.as_str()).filter(|name| !matches!(*name, "" | "*"))
    }
}

/// Parses names that are separated by commas.
pub(crate) fn references(names: &str) -> Result<Vec<Reference>, ExportError> {
    let parse = |name: &str| {
        Reference::parse(name).map_err(|source| ExportError::Name { name: name.to_owned(), source })
    };
    names.split(',').map(parse).collect()
}
