//! The manifest that carries what is said about an image, beside the image in its index.

use std::sync::Arc;

use bytes::Bytes;
use content::ContentStore;
use digests::DiffId;
use oci::{Descriptor, Manifest, Platform, RootFs, annotations, json, media};
use serde::Serialize;

use super::assembly::{Image, base64, encode};
use super::file_layers;
use super::file_list::FileList;
use super::settings::ImageSettings;
use super::statement::{self, Subject};
use crate::counters::Counters;
use crate::{ExportError, Statement, blobs};

/// What kind of artefact the manifest is.
const ARTIFACT_TYPE: &str = "application/vnd.docker.attestation.manifest.v1+json";

/// The config of an artefact that has none.
const EMPTY: &[u8] = b"{}";

/// Statements about one image.
pub(super) struct AttestationManifest<'a> {
    pub(super) statements: &'a [Statement],
    pub(super) subjects: &'a [Subject],
    /// The manifest of the image.
    pub(super) target: &'a Descriptor,
    /// The layers of the image, lowest first.
    pub(super) layers: &'a [Descriptor],
    pub(super) settings: &'a ImageSettings,
}

/// The config of a manifest that is no artefact: it looks like that of an image.
#[derive(Serialize)]
struct Config {
    architecture: String,
    os: String,
    config: Empty,
    rootfs: RootFs,
}

#[derive(Serialize)]
struct Empty {}

impl AttestationManifest<'_> {
    /// Puts the statements and their manifest into the blob store, and returns the index's entry.
    pub(super) async fn keep(
        &self,
        content: &Arc<dyn ContentStore>,
        counters: &Counters,
        image: &mut Image,
    ) -> Result<Descriptor, ExportError> {
        let failed = |error| ExportError::during("keep an attestation")(error);
        let mut layers = Vec::with_capacity(self.statements.len());
        for statement in self.statements {
            let said = self.said(statement, content).await?;
            let document: Bytes = statement::document(statement, &said, self.subjects)?.into();
            blobs::keep(content.as_ref(), &document).await.map_err(failed)?;
            let layer = Descriptor::of(media::IN_TOTO, &document);
            let kind = &statement.predicate_type;
            layers.push(layer.with_annotation(annotations::IN_TOTO_PREDICATE_TYPE, kind));
        }
        let (config, config_bytes) = self.config(&layers)?;
        image.add_blobs(layers.iter().cloned());
        image.add_blobs([config.clone()]);
        let mut manifest = Manifest::new(media::OCI_MANIFEST, config, layers);
        if self.settings.oci_artifact {
            let Descriptor { media_type, digest, size, .. } = self.target.clone();
            manifest.artifact_type = Some(ARTIFACT_TYPE.to_owned());
            manifest.subject = Some(Descriptor::new(media_type, digest, size));
        }
        let (descriptor, bytes) = encode(manifest, media::OCI_MANIFEST)?;
        let id = format!("exporting attestation manifest {}", descriptor.digest);
        let _exporting = counters.start(id);
        for document in [&bytes, &config_bytes] {
            blobs::keep(content.as_ref(), document).await.map_err(failed)?;
        }
        image.documents.push((descriptor.clone(), bytes));
        let target = self.target.digest.to_string();
        Ok(descriptor
            .with_annotation(annotations::REFERENCE_TYPE, annotations::ATTESTATION_MANIFEST)
            .with_annotation(annotations::REFERENCE_DIGEST, target)
            .with_platform(nowhere()))
    }

    /// Returns what a statement says of this image.
    async fn said(
        &self,
        statement: &Statement,
        content: &Arc<dyn ContentStore>,
    ) -> Result<Bytes, ExportError> {
        let said = statement.predicate.read().await;
        // Of nothing there is nothing to add.
        if !statement.is_list || self.layers.is_empty() {
            return Ok(said);
        }
        let Some(list) = FileList::read(&said) else { return Ok(said) };
        let layers = file_layers::find(content, self.layers, list.uncommented()).await?;
        Ok(list.with_layers(&layers).into())
    }

    fn config(&self, layers: &[Descriptor]) -> Result<(Descriptor, Bytes), ExportError> {
        if self.settings.oci_artifact {
            let mut descriptor = Descriptor::of(media::OCI_EMPTY, EMPTY);
            descriptor.data = Some(base64(EMPTY));
            return Ok((descriptor, Bytes::from_static(EMPTY)));
        }
        let Platform { architecture, os, .. } = nowhere();
        let diff_ids = layers.iter().map(|layer| DiffId::new(layer.digest)).collect();
        let rootfs = RootFs { diff_ids, ..RootFs::default() };
        let config = Config { architecture, os, config: Empty {}, rootfs };
        let bytes = json::encode(&config).map_err(ExportError::during("write attestation"))?;
        Ok((Descriptor::of(media::OCI_CONFIG, &bytes), bytes.into()))
    }
}

/// The platform of what is no image.
fn nowhere() -> Platform {
    Platform::new("unknown", "unknown")
}
