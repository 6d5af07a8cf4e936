//! Where an image comes from: a registry, or a store of the client's (protocol page `session.md` §9).

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cache::CacheError;
use digests::Digest;
use futures::StreamExt as _;
use llb::SourceOp;
use oci::{Descriptor, Reference, media};
use registry::{Access, Registry};
use session::{BlobInfo, BlobRange, RemoteContent, SessionId, StoreId};
use solver::{OpContext, OpError};

use crate::clients::{Clients, blame};
use crate::{OperationError, Services, failure};

/// The largest manifest or index that is read, bytes.
const LARGEST_DOCUMENT: u64 = 4 << 20;

/// The name of an image, and where names of its kind are looked up.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// A registry.
    Registry(Reference),
    /// A store of the client's.
    Layout(LayoutName),
}

/// An image in a store of the client's.
#[derive(Debug, Clone)]
pub(crate) struct LayoutName {
    /// What the build calls it, without the digest.
    name: String,
    digest: Digest,
    store: String,
    /// The client that has it; the others of the build are asked if it does not.
    session: Option<SessionId>,
}

impl Place {
    /// Reads the name of an image.
    pub(crate) fn parse(source: &SourceOp) -> Result<Self, String> {
        let (scheme, name) = source.split();
        if scheme != "oci-layout" {
            return Reference::parse(name).map(Self::Registry).map_err(|error| error.to_string());
        }
        let (name, digest) =
            name.rsplit_once('@').ok_or("an image of a layout is named by its digest")?;
        let digest = digest.parse().map_err(|error| format!("{error}"))?;
        let given = |key: &str| source.attribute(key).filter(|text| !text.is_empty());
        let session = match given("oci.session") {
            None => None,
            Some(id) => Some(SessionId::new(id).map_err(|error| error.to_string())?),
        };
        // Without a store, the name is that of the store.
        let store = given("oci.store").unwrap_or(name).to_owned();
        Ok(Self::Layout(LayoutName { name: name.to_owned(), digest, store, session }))
    }

    /// Returns where the image is to be had, for the clients of an operation.
    pub(crate) fn origin(&self, services: &Services, context: &OpContext) -> Origin {
        self.origin_for(
            services,
            services.access(context),
            Clients::of(&services.sessions, context),
        )
    }

    /// Returns where the image is to be had, in the name of `access` or of `clients`.
    pub(crate) fn origin_for(
        &self,
        services: &Services,
        access: Access,
        clients: Clients,
    ) -> Origin {
        match self {
            Self::Registry(reference) => Origin::Registry {
                registry: services.registry.clone(),
                reference: reference.clone(),
                access,
            },
            Self::Layout(name) => Origin::Layout {
                clients: clients.preferring(name.session.as_ref()),
                name: name.clone(),
            },
        }
    }

    /// Returns the name with the digest of what it stands for.
    pub(crate) fn resolved(&self, top: Digest) -> String {
        match self {
            Self::Registry(reference) => reference.with_digest(top).to_string(),
            Self::Layout(layout) => format!("{}@{top}", layout.name),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => reference.fmt(f),
            Self::Layout(layout) => write!(f, "{}@{}", layout.name, layout.digest),
        }
    }
}

/// Where an image is to be had, and in whose name.
#[derive(Debug)]
pub(crate) enum Origin {
    /// A registry.
    Registry { registry: Arc<dyn Registry>, reference: Reference, access: Access },
    /// A store of the client's.
    Layout { name: LayoutName, clients: Clients },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry { reference, .. } => reference.fmt(f),
            Self::Layout { name, .. } => Place::Layout(name.clone()).fmt(f),
        }
    }
}

impl Origin {
    /// Returns the digest that the image is named by, if it is.
    pub(crate) fn pinned(&self) -> Option<Digest> {
        match self {
            Self::Registry { reference, .. } => reference.digest(),
            Self::Layout { name, .. } => Some(name.digest),
        }
    }

    /// Finds out what the name stands for, with the document if it came along.
    pub(crate) async fn resolve(&self) -> Result<(Descriptor, Option<Bytes>), OpError> {
        match self {
            Self::Registry { registry, reference, access } => {
                let found = registry.resolve(reference, access).await.map_err(failure)?;
                Ok((found.descriptor, found.manifest))
            }
            Self::Layout { name, .. } => {
                let bytes = self.read_layout(&name.digest).await?;
                let media_type = media::detect(&bytes).unwrap_or_default();
                let descriptor = Descriptor::new(media_type, name.digest, bytes.len() as u64);
                Ok((descriptor, Some(bytes)))
            }
        }
    }

    /// Returns a manifest or an index.
    pub(crate) async fn document(&self, descriptor: &Descriptor) -> Result<Bytes, OpError> {
        match self {
            Self::Registry { registry, reference, access } => {
                registry.manifest(reference, descriptor, access).await.map_err(failure)
            }
            Self::Layout { .. } => self.read_layout(&descriptor.digest).await,
        }
    }

    /// Brings a blob into our own store; `progress` hears how many bytes have come.
    pub(crate) async fn fetch(
        &self,
        services: &Services,
        blob: &Descriptor,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), CacheError> {
        let mut stream = match self {
            Self::Registry { registry, reference, access } => {
                let stream = registry.blob(reference, blob, access).await;
                let stream = stream.map_err(CacheError::from_error)?;
                stream.map(|chunk| chunk.map_err(CacheError::from_error)).boxed()
            }
            Self::Layout { .. } => {
                let (store, _) =
                    self.layout_with(&blob.digest).await.map_err(CacheError::from_error)?;
                let stream = store.read(&blob.digest, BlobRange::default()).await;
                let stream = stream.map_err(CacheError::from_error)?;
                stream.map(|chunk| chunk.map_err(CacheError::from_error)).boxed()
            }
        };
        let content = services.refs.content();
        let mut ingest = content.ingest(Some(blob.digest), Some(blob.size)).await?;
        while let Some(chunk) = stream.next().await {
            ingest.write(chunk?).await?;
            progress(ingest.received());
        }
        ingest.commit().await?;
        Ok(())
    }

    /// Returns a document of a store of the client's, which has the digest that it should.
    async fn read_layout(&self, digest: &Digest) -> Result<Bytes, OpError> {
        let (store, info) = self.layout_with(digest).await?;
        if info.size > LARGEST_DOCUMENT {
            let what = format!("{digest} of {} bytes is too large for a manifest", info.size);
            return Err(self.unusable(what));
        }
        let mut stream = store.read(digest, BlobRange::default()).await.map_err(failure)?;
        let mut bytes = BytesMut::new();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk.map_err(failure)?);
            if bytes.len() as u64 > info.size {
                break;
            }
        }
        let actual = Digest::of(&bytes);
        if actual != *digest {
            return Err(self.unusable(format!("the client's blob {digest} is in fact {actual}")));
        }
        Ok(bytes.freeze())
    }

    /// Returns the first store of a client that has a blob.
    async fn layout_with(&self, digest: &Digest) -> Result<(RemoteContent, BlobInfo), OpError> {
        let Self::Layout { name, clients } = self else {
            return Err(self.unusable("it is in no store of a client".to_owned()));
        };
        let mut last = None;
        for (job, id) in clients.ids() {
            let session = match clients.connect(job, id).await {
                Ok(session) => session,
                Err(error) => {
                    last = last.or(Some(error));
                    continue;
                }
            };
            let store = session.content(StoreId::Layout(name.store.clone()));
            match store.info(digest).await {
                Ok(Some(info)) => return Ok((store, info)),
                Ok(None) => {}
                Err(error) if error.is_absent() => {}
                Err(error) => last = Some(blame(job, &session, error)),
            }
        }
        let missing =
            || self.unusable(format!("no client has blob {digest} in store `{}`", name.store));
        Err(last.unwrap_or_else(missing))
    }

    fn unusable(&self, what: String) -> OpError {
        failure(OperationError::Image { name: self.to_string(), what })
    }
}
