//! Puts an image together: layers to archives, then config, manifest, attestations and index, all of
//! it into the blob store.

use std::collections::BTreeMap;

use bytes::Bytes;
use cache::{ArchiveOptions, ImmutableRef, LayerArchive, LayerInfo, Refs};
use digests::Digest;
use futures::future::try_join_all;
use oci::{
    Descriptor, Document, ImageConfig, Index, Manifest, Platform, Raw, Time, annotations, media,
};

use super::attestation::AttestationManifest;
use super::config::{self, Completion, LayerFacts};
use super::settings::{ImageSettings, references};
use super::statement::{Subject, package_url};
use crate::attributes::Metadata;
use crate::counters::Counters;
use crate::{ExportError, ExportRefs, ExportResult, Statement, blobs};

/// An image in the blob store.
#[derive(Debug)]
pub(crate) struct Image {
    /// What the client is told: the manifest or the index.
    pub(crate) root: Descriptor,
    /// The digest of its config, if it is not an index.
    pub(crate) config: Option<Digest>,
    /// Manifests, then the index if there is one: each after what it points to.
    pub(crate) documents: Vec<(Descriptor, Bytes)>,
    /// Layers, configs and statements, each once. Layers come with all that is known of them.
    pub(crate) blobs: Vec<Descriptor>,
    /// Its names as the client is told them.
    pub(crate) names: Option<String>,
    /// Later times in it became this one.
    pub(crate) epoch: Option<i64>,
}

/// Puts one result together.
pub(crate) struct Assembly<'a> {
    refs: &'a Refs,
    counters: &'a Counters,
    result: &'a ExportResult,
    settings: ImageSettings,
    metadata: Metadata,
    /// What goes into the image, by the platform it is about.
    statements: BTreeMap<String, &'a [Statement]>,
}

/// One platform's part of a result.
struct Part<'a> {
    /// The platform's id in metadata; the same as it displays.
    id: String,
    platform: &'a Platform,
    tree: ImmutableRef,
    epoch: Option<i64>,
    base: Option<ImageConfig>,
}

/// A part in the blob store.
struct Assembled {
    manifest: Descriptor,
    config: Digest,
    /// Lowest first.
    layers: Vec<Descriptor>,
}

impl<'a> Assembly<'a> {
    pub(crate) fn new(
        refs: &'a Refs,
        counters: &'a Counters,
        result: &'a ExportResult,
        settings: &ImageSettings,
    ) -> Result<Self, ExportError> {
        let metadata = settings.complete(&result.metadata);
        let settings = settings.annotated(&result.metadata)?;
        let statements = statements(result, settings.inline_attestations);
        Ok(Self { refs, counters, result, settings, metadata, statements })
    }

    /// Returns true if the image will be an index.
    pub(crate) fn is_index(&self) -> bool {
        matches!(self.result.refs, ExportRefs::ByPlatform(_)) || !self.statements.is_empty()
    }

    /// Puts the image together.
    pub(crate) async fn run(self) -> Result<Image, ExportError> {
        let mut image = Image {
            root: Descriptor::of("", b""),
            config: None,
            documents: Vec::new(),
            blobs: Vec::new(),
            names: self.settings.given_names(&self.metadata),
            epoch: None,
        };
        let parts = self.parts().await?;
        let is_index = self.is_index();
        self.check(&parts)?;
        image.epoch = parts.first().and_then(|part| part.epoch);
        let archives = self.layers(&parts).await?;
        let mut manifests = Vec::with_capacity(parts.len());
        let mut attestations = Vec::new();
        for (part, archives) in parts.iter().zip(archives) {
            let archives = self.rewritten(part, archives).await?;
            let assembled = self.part(part, archives, &mut image).await?;
            if let Some(statements) = self.statements.get(&part.id) {
                let about = self.attested(part, &assembled.manifest, &image)?;
                let manifest = AttestationManifest {
                    statements,
                    subjects: &about,
                    target: &assembled.manifest,
                    layers: &assembled.layers,
                    settings: &self.settings,
                };
                let made = manifest.keep(self.refs.content(), self.counters, &mut image).await?;
                attestations.push(made);
            }
            if !is_index {
                image.config = Some(assembled.config);
            }
            manifests.push(assembled.manifest.with_platform(part.platform.clone()));
        }
        if is_index {
            manifests.extend(attestations);
            image.root = self.index(manifests, &mut image).await?;
        } else if let Some(manifest) = manifests.pop() {
            image.root = manifest;
        }
        Ok(image)
    }

    /// Returns the parts of the result in the order in which the frontend made them.
    async fn parts(&self) -> Result<Vec<Part<'a>>, ExportError> {
        let mut parts = Vec::new();
        for (id, tree, platform) in in_order(self.result) {
            let settled = self.refs.settled(tree).await;
            let tree = settled.map_err(ExportError::during("copy the client's directory"))?;
            let epoch =
                self.settings.epoch.of(&self.metadata, &id, self.result.source_date_epoch)?;
            let base = self.lookup("containerimage.base.config", &id);
            let base = base.map(|base| Raw::<ImageConfig>::parse(base.clone())).transpose();
            let base = base.map_err(ExportError::during("read the config of the base image"))?;
            let base = base.map(Raw::into_value);
            parts.push(Part { id, platform, tree, epoch, base });
        }
        Ok(parts)
    }

    /// Returns what is known of a platform's part, or else of the whole.
    fn lookup(&self, key: &str, platform: &str) -> Option<&Bytes> {
        let found = self.metadata.get(&format!("{key}/{platform}"));
        found.or_else(|| self.metadata.get(key)).filter(|value| !value.is_empty())
    }

    /// Returns an error if what is asked for does not fit the result.
    fn check(&self, parts: &[Part<'_>]) -> Result<(), ExportError> {
        let wanted = &self.settings.annotations;
        let unknown = wanted.platforms().find(|id| !parts.iter().any(|part| part.id == *id));
        let reason = if let Some(unknown) = unknown {
            format!("invalid annotation: no platform {unknown} found in source")
        } else if !self.settings.oci_types && wanted.needs_oci() {
            "cannot export annotations with \"oci-mediatypes=false\"".to_owned()
        } else if !self.settings.oci_types && !self.statements.is_empty() {
            "cannot export attestations with \"oci-mediatypes=false\"".to_owned()
        } else if !self.is_index() && wanted.needs_index() {
            "index annotations not supported for single platform export".to_owned()
        } else {
            return Ok(());
        };
        Err(ExportError::Result(reason))
    }

    async fn layers(&self, parts: &[Part<'_>]) -> Result<Vec<Vec<LayerArchive>>, ExportError> {
        let _exporting = self.counters.start("exporting layers");
        let archives = parts.iter().map(|part| self.refs.archives(&part.tree, self.archived(None)));
        try_join_all(archives).await.map_err(ExportError::during("export layers"))
    }

    fn archived(&self, newest: Option<i64>) -> ArchiveOptions {
        let ImageSettings { compression, force_compression: force, .. } = self.settings;
        ArchiveOptions { compression, force, newest }
    }

    /// Returns the archives with the times in the new layers capped, if that is wanted. What stems
    /// from the base image stays as it is.
    async fn rewritten(
        &self,
        part: &Part<'_>,
        mut archives: Vec<LayerArchive>,
    ) -> Result<Vec<LayerArchive>, ExportError> {
        if !self.settings.rewrite_timestamp {
            return Ok(archives);
        }
        let Some(epoch) = part.epoch else {
            tracing::warn!("rewrite-timestamp is set, but there is no source-date-epoch");
            return Ok(archives);
        };
        let time = Time::from_unix(epoch).to_string().replace('T', " ").replace('Z', " +0000 UTC");
        let id = format!("rewriting layers with source-date-epoch {epoch} ({time})");
        let _rewriting = self.counters.start(id);
        let inherited = part.base.as_ref().map_or(&[][..], |base| &base.rootfs.diff_ids);
        let same = archives.iter().zip(inherited).take_while(|(one, base)| one.diff_id == **base);
        let same = same.count();
        let base = part.tree.truncated(same);
        let info = LayerInfo::regular("new layers of an image");
        let failed = |error| ExportError::during("rewrite the times in layers")(error);
        let new = self.refs.diff(&base, &part.tree, info).await.map_err(failed)?;
        archives.truncate(same);
        let options = self.archived(Some(epoch));
        archives.extend(self.refs.archives(&new, options).await.map_err(failed)?);
        Ok(archives)
    }

    /// Writes config and manifest of one part.
    async fn part(
        &self,
        part: &Part<'_>,
        archives: Vec<LayerArchive>,
        image: &mut Image,
    ) -> Result<Assembled, ExportError> {
        let config = self.config(part, &archives)?;
        let config_type = self.media_type(media::OCI_CONFIG);
        let config_descriptor = Descriptor::of(config_type, &config);
        let layers: Vec<_> = archives.into_iter().map(|one| self.layer_blob(one.blob)).collect();
        let shown = layers.iter().map(|layer| self.without_internals(layer)).collect();
        let manifest_type = self.media_type(media::OCI_MANIFEST);
        let mut manifest = Manifest::new(manifest_type, config_descriptor.clone(), shown);
        manifest.annotations = self.settings.annotations.manifest(&part.id);
        let (mut descriptor, bytes) = encode(manifest, manifest_type)?;
        {
            let _exporting =
                self.counters.start(format!("exporting manifest {}", descriptor.digest));
            keep(self.refs, &bytes).await?;
        }
        {
            let digest = config_descriptor.digest;
            let _exporting = self.counters.start(format!("exporting config {digest}"));
            keep(self.refs, &config).await?;
        }
        image.documents.push((descriptor.clone(), bytes));
        let config = config_descriptor.digest;
        image.add_blobs(layers.iter().cloned().chain([config_descriptor]));
        descriptor.annotations = self.settings.annotations.manifest_descriptor(&part.id);
        Ok(Assembled { manifest: descriptor, config, layers })
    }

    fn config(&self, part: &Part<'_>, archives: &[LayerArchive]) -> Result<Bytes, ExportError> {
        let config = match self.lookup("containerimage.config", &part.id) {
            Some(config) => config.clone(),
            None => config::default_config(part.platform)?,
        };
        let cache = self.lookup("containerimage.inlinecache", &part.id).map(|cache| base64(cache));
        let described = part.tree.descriptions().into_iter().zip(part.tree.created());
        let layers: Vec<LayerFacts> = archives
            .iter()
            .zip(described)
            .map(|(archive, (description, created))| LayerFacts {
                diff_id: archive.diff_id,
                description,
                created,
            })
            .collect();
        let with = Completion {
            layers: &layers,
            epoch: part.epoch,
            base: part.base.as_ref(),
            inline_cache: cache.as_deref(),
        };
        config::complete(&config, &with)
    }

    /// Returns a layer with the media type that the image's documents go with.
    fn layer_blob(&self, mut blob: Descriptor) -> Descriptor {
        let stays = self.settings.prefer_nondistributable;
        blob.media_type = match media::layer_compression(&blob.media_type) {
            Some(compression) if !(stays && media::is_nondistributable(&blob.media_type)) => {
                let types = [compression.docker_layer(), compression.oci_layer()];
                types[usize::from(self.settings.oci_types)].to_owned()
            }
            _ => self.media_type(&blob.media_type).to_owned(),
        };
        blob
    }

    fn without_internals(&self, layer: &Descriptor) -> Descriptor {
        let mut layer = layer.clone();
        layer.annotations.retain(|key, _| self.settings.oci_types && !is_internal(key));
        layer.platform = None;
        layer
    }

    /// Returns the type that is used in place of one of OCI's.
    fn media_type<'t>(&self, oci_type: &'t str) -> &'t str {
        if self.settings.oci_types { media::to_oci(oci_type) } else { media::to_docker(oci_type) }
    }

    /// Returns what the attestations of a part are about.
    fn attested(
        &self,
        part: &Part<'_>,
        manifest: &Descriptor,
        image: &Image,
    ) -> Result<Vec<Subject>, ExportError> {
        let Some(names) = &image.names else { return Ok(Vec::new()) };
        let digest = [manifest.digest];
        let names = references(names)?;
        let subject = |name| Subject::new(package_url(name, part.platform), &digest);
        Ok(names.iter().map(subject).collect())
    }

    async fn index(
        &self,
        manifests: Vec<Descriptor>,
        image: &mut Image,
    ) -> Result<Descriptor, ExportError> {
        let media_type = self.media_type(media::OCI_INDEX);
        let mut index = Index::new(media_type, manifests);
        index.annotations = self.settings.annotations.index.clone();
        let (mut descriptor, bytes) = encode(index, media_type)?;
        let _exporting =
            self.counters.start(format!("exporting manifest list {}", descriptor.digest));
        keep(self.refs, &bytes).await?;
        image.documents.push((descriptor.clone(), bytes));
        descriptor.annotations = self.settings.annotations.index_descriptor.clone();
        Ok(descriptor)
    }
}

impl Image {
    /// Adds blobs that the image needs, unless it has them.
    pub(super) fn add_blobs(&mut self, blobs: impl IntoIterator<Item = Descriptor>) {
        for blob in blobs {
            if !self.blobs.iter().any(|known| known.digest == blob.digest) {
                self.blobs.push(blob);
            }
        }
    }
}

/// Returns the statements that go into the image, by the platform they are about.
fn statements(result: &ExportResult, inline: bool) -> BTreeMap<String, &[Statement]> {
    let is_map = matches!(result.refs, ExportRefs::ByPlatform(_));
    let mut found = BTreeMap::new();
    for (id, ..) in in_order(result) {
        let statements = result.attestations.get(&id).map_or(&[][..], Vec::as_slice);
        // An index has room for all of them; a single image becomes one only if it must.
        let count = |statement: &Statement| is_map || inline || !statement.inline_only;
        if statements.iter().any(count) {
            found.insert(id, statements);
        }
    }
    found
}

/// Returns the parts of a result in the order that the frontend gave them, with their platforms' ids.
pub(crate) fn in_order(result: &ExportResult) -> Vec<(String, &ImmutableRef, &Platform)> {
    match &result.refs {
        ExportRefs::Single(tree, platform) => vec![(platform.to_string(), tree, platform)],
        ExportRefs::ByPlatform(trees) => {
            let order = order(&result.metadata);
            let place = |id: &String| order.iter().position(|other| other == id);
            let mut ids: Vec<_> = trees.iter().collect();
            ids.sort_by_key(|(id, _)| place(id).unwrap_or(usize::MAX));
            ids.into_iter().map(|(id, (tree, platform))| (id.clone(), tree, platform)).collect()
        }
    }
}

/// Returns the platforms' ids in the order of the metadata; what cannot be read has no order.
fn order(metadata: &Metadata) -> Vec<String> {
    #[derive(serde::Deserialize)]
    struct Platforms {
        #[serde(rename = "Platforms")]
        platforms: Vec<Entry>,
    }
    #[derive(serde::Deserialize)]
    struct Entry {
        #[serde(rename = "ID")]
        id: String,
    }
    let read = metadata.get("refs.platforms");
    let read = read.and_then(|bytes| serde_json::from_slice::<Platforms>(bytes).ok());
    read.map(|read| read.platforms.into_iter().map(|entry| entry.id).collect()).unwrap_or_default()
}

/// Returns true for what builders note on layers for themselves.
fn is_internal(key: &str) -> bool {
    matches!(key, annotations::UNCOMPRESSED | annotations::BUILDKIT_CREATED_AT)
        || key
            .strip_prefix(annotations::DISTRIBUTION_SOURCE)
            .is_some_and(|rest| rest.starts_with('.'))
}

pub(super) fn encode<T: Document>(
    document: T,
    media_type: &str,
) -> Result<(Descriptor, Bytes), ExportError> {
    let raw = Raw::encode_indented(document).map_err(ExportError::during("write manifest"))?;
    Ok((raw.descriptor(media_type), raw.bytes().clone()))
}

async fn keep(refs: &Refs, document: &Bytes) -> Result<(), ExportError> {
    let kept = blobs::keep(refs.content().as_ref(), document).await;
    kept.map_err(ExportError::during("keep a part of the image"))
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
