//! An image on its way to a registry.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use content::{ContentStore, Reader};
use futures::future::try_join_all;
use oci::{Descriptor, Reference, annotations, media};
use registry::{Access, BlobPush, BlobSource, Registry};

use super::assembly::Image;
use crate::ExportError;
use crate::attributes::wrong;
use crate::counters::Counters;

/// Under which name in a registry an image is stored.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// The name, with its tag unless it is stored by digest only.
    reference: Reference,
    by_digest: bool,
}

impl Target {
    /// Returns the place that `name` stands for.
    pub(super) fn new(name: &str, by_digest: bool) -> Result<Self, ExportError> {
        let reference = Reference::parse(name)
            .map_err(|source| ExportError::Name { name: name.to_owned(), source })?;
        // Without either, the reference means a tag all the same.
        let last = name.rsplit('/').next().unwrap_or(name);
        if by_digest && last.contains([':', '@']) {
            let expected = "names without a tag or digest, because of `push-by-digest`";
            return Err(wrong("name", name, expected));
        }
        Ok(Self { reference, by_digest })
    }

    pub(super) fn host(&self) -> &str {
        self.reference.host()
    }

    /// Returns how the place is shown.
    fn shown(&self, root: &Descriptor) -> String {
        if self.by_digest {
            self.reference.name()
        } else {
            self.reference.with_digest(root.digest).to_string()
        }
    }

    /// Returns the name that `document` is stored under: the root by its tag, all else by digest.
    fn place(&self, document: &Descriptor, root: &Descriptor) -> Reference {
        let is_tagged = document.digest == root.digest && !self.by_digest;
        let tag = self.reference.tag().filter(|_| is_tagged);
        let tagged = tag.and_then(|tag| self.reference.with_tag(tag).ok());
        tagged.unwrap_or_else(|| self.reference.with_digest(document.digest))
    }
}

/// What an image is pushed with.
pub(super) struct Pushing<'a> {
    pub(super) registry: &'a dyn Registry,
    pub(super) content: &'a Arc<dyn ContentStore>,
    pub(super) access: &'a Access,
    pub(super) counters: &'a Counters,
}

impl Pushing<'_> {
    /// Pushes `image`: blobs all at once, then manifests, then what the name stands for.
    pub(super) async fn push(&self, target: &Target, image: &Image) -> Result<(), ExportError> {
        let failed = |source| {
            let name = target.reference.to_string();
            ExportError::Push { name, source }
        };
        {
            let _pushing = self.counters.start("pushing layers");
            let wanted = image.blobs.iter();
            let wanted = wanted.filter(|blob| !media::is_nondistributable(&blob.media_type));
            let blobs = wanted.map(|blob| async {
                let push = self.blob(&target.reference, blob).await?;
                let pushed = self.registry.push_blob(&target.reference, blob, push, self.access);
                pushed.await.map_err(failed)
            });
            try_join_all(blobs).await?;
        }
        let shown = target.shown(&image.root);
        let _pushing = self.counters.start(format!("pushing manifest for {shown}"));
        for (document, bytes) in &image.documents {
            let place = target.place(document, &image.root);
            let media_type = &document.media_type;
            let pushed =
                self.registry.push_manifest(&place, media_type, bytes.clone(), self.access);
            pushed.await.map_err(failed)?;
        }
        Ok(())
    }

    async fn blob(&self, to: &Reference, blob: &Descriptor) -> Result<BlobPush, ExportError> {
        let opened = self.content.open(&blob.digest).await;
        let push = BlobPush::new(source(opened.map_err(ExportError::during("open a layer"))?));
        let key = format!("{}.{}", annotations::DISTRIBUTION_SOURCE, to.host());
        let sources = blob.annotation(&key).unwrap_or_default();
        let elsewhere =
            sources.split(',').find(|from| !from.is_empty() && *from != to.repository());
        Ok(match elsewhere {
            Some(repository) => push.mounting_from(repository),
            None => push,
        })
    }
}

/// Returns a source that reads the open blob each time from its start: it cannot be removed from
/// under the transfer.
fn source(blob: Reader) -> BlobSource {
    BlobSource::opener(move || File::open(format!("/proc/self/fd/{}", blob.file().as_raw_fd())))
}
