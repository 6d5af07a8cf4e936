//! Images in one archive for the client, or in its content store.

mod layout;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use content::ContentStore;
use futures::future::try_join_all;
use oci::{Descriptor, Time, annotations, media};
use session::{BlobWrite, Session, SessionError, StoreId};

use self::layout::Layout;
use crate::attributes::Attributes;
use crate::counters::Counters;
use crate::exporters::Mechanisms;
use crate::image::{Assembly, Image, ImageSettings, references, response};
use crate::{ExportContext, ExportError, ExportRefs, ExportRequest, ExportResult, Exporter, blobs};

/// What kind of archive it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// An OCI image layout.
    Oci,
    /// The same, with what `docker load` wants to find beside it.
    Docker,
}

/// Delivers a result as an archive of an image.
#[derive(Debug)]
pub(crate) struct ArchiveExporter {
    mechanisms: Arc<Mechanisms>,
    index: usize,
    form: Form,
    settings: ImageSettings,
    /// Whether it is one file; otherwise its blobs go to the client one by one.
    tar: bool,
}

impl ArchiveExporter {
    pub(crate) fn new(
        mechanisms: Arc<Mechanisms>,
        index: usize,
        form: Form,
        request: &ExportRequest,
    ) -> Result<Self, ExportError> {
        let settings = ImageSettings::parse(request, false)?;
        settings.known_names().map(references).transpose()?;
        let tar = Attributes(&request.attributes).switch("tar", true)?;
        Ok(Self { mechanisms, index, form, settings, tar })
    }

    /// Sends one file with everything in it.
    async fn send_archive(
        &self,
        client: &Session,
        layout: &Layout<'_>,
        response: &BTreeMap<String, String>,
    ) -> Result<(), ExportError> {
        let failed = |error| ExportError::during("send the archive to the client")(error);
        let mut file = client.send_file(self.index, response).map_err(failed)?;
        let written = layout.write(self.mechanisms.refs.content(), &mut file).await;
        match written {
            Err(layout::Stopped::ByUs(error)) => Err(error),
            // Says why, if the client stopped.
            Ok(()) | Err(layout::Stopped::ByClient) => {
                file.finish().await.map(drop).map_err(failed)
            }
        }
    }
}

#[async_trait]
impl Exporter for ArchiveExporter {
    fn title(&self) -> String {
        match self.form {
            Form::Oci => "exporting to oci image format".to_owned(),
            Form::Docker => "exporting to docker image format".to_owned(),
        }
    }

    async fn export(
        &self,
        result: &ExportResult,
        context: &ExportContext,
    ) -> Result<BTreeMap<String, String>, ExportError> {
        let no_lists = "docker exporter does not currently support exporting manifest lists";
        let is_docker = self.form == Form::Docker;
        if is_docker && matches!(result.refs, ExportRefs::ByPlatform(_)) {
            return Err(ExportError::Result(no_lists.to_owned()));
        }
        let counters = Counters::new(context);
        let assembly = Assembly::new(&self.mechanisms.refs, &counters, result, &self.settings)?;
        if is_docker && assembly.is_index() {
            return Err(ExportError::Result(no_lists.to_owned()));
        }
        let mut image = assembly.run().await?;
        note_creation(&mut image);
        let mut response = response(&image)?;
        let names = image.names.as_deref().map(references).transpose()?.unwrap_or_default();
        if !names.is_empty() {
            let names: Vec<_> = names.iter().map(ToString::to_string).collect();
            response.insert("image.name".to_owned(), names.join(","));
        }
        let client = self.mechanisms.client(context).await?;
        if self.tar {
            let _sending = counters.start("sending tarball");
            let layout = Layout::new(&image, &names, self.form)?;
            self.send_archive(&client, &layout, &response).await?;
        } else {
            send_blobs(&client, self.mechanisms.refs.content(), &image).await?;
        }
        Ok(response)
    }
}

/// Notes on what the client is told of the image when it was made, unless somebody did.
fn note_creation(image: &mut Image) {
    let now = Time::from(SystemTime::now()).unix_seconds();
    let time = Time::from_unix(image.epoch.unwrap_or(now));
    let noted = image.root.annotations.entry(annotations::CREATED.to_owned());
    noted.or_insert_with(|| time.to_string());
}

/// Writes all parts of the image into the client's store: blobs, then what points to them.
async fn send_blobs(
    client: &Session,
    content: &Arc<dyn ContentStore>,
    image: &Image,
) -> Result<(), ExportError> {
    let store = client.content(StoreId::Export);
    let failed = ExportError::during::<SessionError>;
    const ACTION: &str = "send the image to the client";
    let blobs = image.blobs.iter().map(|blob| async {
        let opened = content.open(&blob.digest).await;
        let opened = opened.map_err(ExportError::during("open a layer"))?;
        let written = store.write(&write_of(blob), blobs::verified(opened)).await;
        written.map_err(failed(ACTION))
    });
    try_join_all(blobs).await?;
    for (document, bytes) in &image.documents {
        let bytes: &Bytes = bytes;
        let written = store.write(&write_of(document), &bytes[..]).await;
        written.map_err(failed(ACTION))?;
    }
    Ok(())
}

fn write_of(blob: &Descriptor) -> BlobWrite {
    let kind = match blob.media_type.as_str() {
        kind if media::is_index(kind) => "index",
        kind if media::is_manifest(kind) => "manifest",
        kind if media::is_config(kind) => "config",
        kind if media::is_layer(kind) => "layer",
        media::IN_TOTO => "intoto",
        _ => "unknown",
    };
    BlobWrite {
        reference: format!("{kind}-{}", blob.digest),
        digest: blob.digest,
        size: blob.size,
        labels: BTreeMap::new(),
    }
}
