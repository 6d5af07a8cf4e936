//! Images: put together in the blob store, and pushed if that is wanted.
//!
//! There is no table of images by name: the blob store has the image by its digest, and whoever wants
//! it by name has it pushed.

mod annotations;
mod assembly;
mod attestation;
mod config;
mod file_layers;
mod file_list;
mod file_list_version;
mod push;
mod settings;
mod statement;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use credentials::ClientCredentials;

pub(crate) use self::assembly::{Assembly, Image, base64, in_order};
use self::push::{Pushing, Target};
pub(crate) use self::settings::{ImageSettings, references};
pub(crate) use self::statement::{Subject, indented};
use crate::attributes::Attributes;
use crate::counters::Counters;
use crate::exporters::Mechanisms;
use crate::{ExportContext, ExportError, ExportRequest, ExportResult, Exporter};

/// Delivers a result as an image in the blob store, and to registries.
#[derive(Debug)]
pub(crate) struct ImageExporter {
    mechanisms: Arc<Mechanisms>,
    settings: ImageSettings,
    delivery: Delivery,
}

/// What becomes of the image.
#[derive(Debug, Clone)]
struct Delivery {
    push: bool,
    by_digest: bool,
    /// Whether any way to the registry will do.
    insecure: bool,
    /// Whether the image has a name in the store.
    store: bool,
    /// What a name begins with that is made of the digest.
    dangling_prefix: String,
    /// Whether that name is only for images that have no other.
    dangling_only_unnamed: bool,
}

impl ImageExporter {
    pub(crate) fn new(
        mechanisms: Arc<Mechanisms>,
        request: &ExportRequest,
    ) -> Result<Self, ExportError> {
        let settings = ImageSettings::parse(request, true)?;
        let attributes = Attributes(&request.attributes);
        let delivery = Delivery {
            push: attributes.switch("push", false)?,
            by_digest: attributes.switch("push-by-digest", false)?,
            insecure: attributes.switch("registry.insecure", false)?,
            store: attributes.switch("store", true)?,
            dangling_prefix: attributes.text("dangling-name-prefix").unwrap_or_default().to_owned(),
            // The name of the attribute is what clients send.
            dangling_only_unnamed: attributes.switch("danging-name-empty-only", false)?,
        };
        // Both concern a table of names, which we do not have.
        attributes.switch("unpack", false)?;
        attributes.switch("name-canonical", false)?;
        if let (true, Some(names)) = (delivery.push, settings.known_names()) {
            names
                .split(',')
                .try_for_each(|name| Target::new(name, delivery.by_digest).map(drop))?;
        }
        Ok(Self { mechanisms, settings, delivery })
    }

    /// Adds the name that is made of the digest, if one is wanted.
    fn add_dangling_name(&self, image: &mut Image) {
        let Delivery { dangling_prefix: prefix, dangling_only_unnamed, .. } = &self.delivery;
        if prefix.is_empty() || (*dangling_only_unnamed && image.names.is_some()) {
            return;
        }
        let made = format!("{prefix}@{}", image.root.digest);
        image.names = Some(match image.names.take() {
            Some(names) => format!("{names},{made}"),
            None => made,
        });
    }

    async fn push(
        &self,
        names: &str,
        image: &Image,
        context: &ExportContext,
        counters: &Counters,
    ) -> Result<(), ExportError> {
        let access = ClientCredentials::access(&self.mechanisms.sessions, context.sessions.clone());
        for name in names.split(',') {
            let target = Target::new(name, self.delivery.by_digest)?;
            let registry = self.mechanisms.registry(target.host(), self.delivery.insecure);
            let pushing = Pushing {
                registry: registry.as_ref(),
                content: self.mechanisms.refs.content(),
                access: &access,
                counters,
            };
            pushing.push(&target, image).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Exporter for ImageExporter {
    fn title(&self) -> String {
        "exporting to image".to_owned()
    }

    async fn export(
        &self,
        result: &ExportResult,
        context: &ExportContext,
    ) -> Result<BTreeMap<String, String>, ExportError> {
        let counters = Counters::new(context);
        let assembly = Assembly::new(&self.mechanisms.refs, &counters, result, &self.settings)?;
        let mut image = assembly.run().await?;
        self.add_dangling_name(&mut image);
        let mut response = response(&image)?;
        if let Some(names) = &image.names {
            for name in names.split(',').filter(|_| self.delivery.store) {
                drop(counters.start(format!("naming to {name}")));
            }
            if self.delivery.push {
                self.push(names, &image, context, &counters).await?;
            }
            response.insert("image.name".to_owned(), names.clone());
        }
        Ok(response)
    }
}

/// Returns what clients are told of an image, but for its names.
pub(crate) fn response(image: &Image) -> Result<BTreeMap<String, String>, ExportError> {
    let descriptor = oci::json::encode(&image.root);
    let descriptor = descriptor.map_err(ExportError::during("write the descriptor"))?;
    let mut response = BTreeMap::from([
        ("containerimage.digest".to_owned(), image.root.digest.to_string()),
        ("containerimage.descriptor".to_owned(), base64(&descriptor)),
    ]);
    if let Some(config) = image.config {
        response.insert("containerimage.config.digest".to_owned(), config.to_string());
    }
    Ok(response)
}
