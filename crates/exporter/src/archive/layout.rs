//! The files of an image layout, and the archive they are sent in.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use content::ContentStore;
use digests::Digest;
use oci::{Descriptor, Index, Manifest, Raw, Reference, annotations, json, media};
use serde::Serialize;
use tar::{EntryType, Header};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::Form;
use crate::image::Image;
use crate::{ExportError, blobs};

const BLOCK: usize = 512;

/// An image layout, file by file, in the order of their names.
pub(super) struct Layout<'a> {
    entries: BTreeMap<String, Entry<'a>>,
}

/// A file of the layout.
enum Entry<'a> {
    Directory,
    /// Something that only the layout has.
    File(Bytes, u32),
    Document(&'a Bytes),
    Blob(&'a Descriptor),
}

/// Why an archive is not complete.
pub(super) enum Stopped {
    /// The client takes no more.
    ByClient,
    ByUs(ExportError),
}

/// What `docker load` looks for.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl<'a> Layout<'a> {
    pub(super) fn new(
        image: &'a Image,
        names: &[Reference],
        form: Form,
    ) -> Result<Self, ExportError> {
        let mut entries = BTreeMap::new();
        let layout = Bytes::from_static(br#"{"imageLayoutVersion":"1.0.0"}"#);
        entries.insert("oci-layout".to_owned(), Entry::File(layout, 0o444));
        for directory in ["blobs/", "blobs/sha256/"] {
            entries.insert(directory.to_owned(), Entry::Directory);
        }
        for (document, bytes) in &image.documents {
            entries.insert(path(&document.digest), Entry::Document(bytes));
        }
        for blob in &image.blobs {
            entries.insert(path(&blob.digest), Entry::Blob(blob));
        }
        let index = Entry::File(index(&image.root, names)?, 0o644);
        entries.insert("index.json".to_owned(), index);
        if form == Form::Docker {
            let images = Entry::File(docker_images(image, names)?, 0o644);
            entries.insert("manifest.json".to_owned(), images);
        }
        Ok(Self { entries })
    }

    /// Writes the layout as an archive. The same image gives the same bytes.
    pub(super) async fn write(
        &self,
        content: &Arc<dyn ContentStore>,
        sink: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), Stopped> {
        for (name, entry) in &self.entries {
            let (kind, mode, size) = match entry {
                Entry::Directory => (EntryType::Directory, 0o755, 0),
                Entry::File(bytes, mode) => (EntryType::Regular, *mode, bytes.len() as u64),
                Entry::Document(bytes) => (EntryType::Regular, 0o444, bytes.len() as u64),
                Entry::Blob(blob) => (EntryType::Regular, 0o444, blob.size),
            };
            let header = header(name, kind, mode, size).map_err(ours)?;
            sink.write_all(header.as_bytes()).await.map_err(theirs)?;
            match entry {
                Entry::Directory => {}
                Entry::File(bytes, _) => sink.write_all(bytes).await.map_err(theirs)?,
                Entry::Document(bytes) => sink.write_all(bytes).await.map_err(theirs)?,
                Entry::Blob(blob) => copy(content, blob, sink).await?,
            }
            // Less than a block.
            let missing = (size.next_multiple_of(BLOCK as u64) - size) as usize;
            sink.write_all(&[0; BLOCK][..missing]).await.map_err(theirs)?;
        }
        sink.write_all(&[0; 2 * BLOCK]).await.map_err(theirs)
    }
}

async fn copy(
    content: &Arc<dyn ContentStore>,
    blob: &Descriptor,
    sink: &mut (impl AsyncWrite + Unpin),
) -> Result<(), Stopped> {
    use tokio::io::AsyncBufReadExt as _;
    let opened = content.open(&blob.digest).await;
    let opened = opened.map_err(ExportError::during("open a layer")).map_err(Stopped::ByUs)?;
    if opened.size() != blob.size {
        return Err(ours(io::Error::other("a blob has another size than its descriptor says")));
    }
    let mut blob = blobs::verified(opened);
    loop {
        let chunk = blob.fill_buf().await.map_err(ours)?;
        if chunk.is_empty() {
            return Ok(());
        }
        sink.write_all(chunk).await.map_err(theirs)?;
        let length = chunk.len();
        blob.consume(length);
    }
}

fn ours(error: io::Error) -> Stopped {
    Stopped::ByUs(ExportError::during("write the archive")(error))
}

/// The call knows better why the client stopped.
fn theirs(_: io::Error) -> Stopped {
    Stopped::ByClient
}

fn path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

fn header(name: &str, kind: EntryType, mode: u32, size: u64) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_path(name)?;
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_device_major(0)?;
    header.set_device_minor(0)?;
    header.set_cksum();
    Ok(header)
}

/// Returns the index of the layout: the image once for each of its names.
fn index(root: &Descriptor, names: &[Reference]) -> Result<Bytes, ExportError> {
    let named = |name: &Reference| {
        let tag = name.tag().map(str::to_owned);
        let short = tag.or_else(|| name.digest().map(|digest| digest.to_string()));
        root.clone()
            .with_annotation(annotations::CONTAINERD_IMAGE_NAME, name.to_string())
            .with_annotation(annotations::REF_NAME, short.unwrap_or_default())
    };
    let mut images: Vec<_> = names.iter().map(named).collect();
    if images.is_empty() {
        images.push(root.clone());
    }
    let encoded = json::encode(&Index::new(media::OCI_INDEX, images));
    Ok(encoded.map_err(ExportError::during("write the index of the archive"))?.into())
}

fn docker_images(image: &Image, names: &[Reference]) -> Result<Bytes, ExportError> {
    let failed = "write the index of the archive";
    let mut images = Vec::new();
    for (_, bytes) in &image.documents {
        let manifest =
            Raw::<Manifest>::parse(bytes.clone()).map_err(ExportError::during(failed))?;
        let tags: Vec<_> = names.iter().map(Reference::familiar).collect();
        images.push(DockerImage {
            config: path(&manifest.config.digest),
            repo_tags: Some(tags).filter(|tags| !tags.is_empty()),
            layers: manifest.layers.iter().map(|layer| path(&layer.digest)).collect(),
        });
    }
    Ok(json::encode(&images).map_err(ExportError::during(failed))?.into())
}
