//! From a vertex of the graph to its operation, and from a source's name to what it is now.

use std::sync::Arc;

use async_trait::async_trait;
use bridge::{BuildError, Kind, ResolvedImage, SourceMeta, SourceMetaRequest, SourceResolver};
use bytes::Bytes;
use cache::ImmutableRef;
use credentials::ClientCredentials;
use llb::SourceOp;
use session::SessionId;
use solver::{Op, OpError, OpResolver, Vertex};

use crate::build::BuildOperation;
use crate::clients::Clients;
use crate::combine::{Combination, Combine};
use crate::exec::ExecOperation;
use crate::file::FileOperation;
use crate::services::{Mechanisms, Services};
use crate::source::git::GitSource;
use crate::source::http::HttpSource;
use crate::source::image::{ImageFinder, ImageSource};
use crate::source::local::LocalSource;
use crate::source::origin::Place;
use crate::{NestedBuild, OperationError, failure};

/// Makes operations of vertices whose payload is an [`llb::Vertex`].
#[derive(Debug, Clone)]
pub struct LlbOps {
    services: Arc<Services>,
}

impl LlbOps {
    /// Returns operations that work with these mechanisms.
    pub fn new(mechanisms: Mechanisms) -> Self {
        Self { services: Arc::new(Services::new(mechanisms)) }
    }

    /// Says how a definition that is found while building is built. Said once, by whoever owns the
    /// solver; later calls change nothing.
    pub fn nest(&self, build: NestedBuild) {
        // A second one would be the same solver's.
        let _ = self.services.nested.set(build);
    }

    pub(crate) const fn services(&self) -> &Arc<Services> {
        &self.services
    }

    fn source(
        &self,
        vertex: &llb::Vertex,
        source: &SourceOp,
    ) -> Result<Arc<dyn Op<ImmutableRef>>, OpError> {
        let services = self.services.clone();
        match source.split().0 {
            "docker-image" | "oci-layout" => {
                let platform = services.platform(vertex.platform.as_ref());
                Ok(Arc::new(ImageSource::new(services, source, platform)?))
            }
            "local" => Ok(Arc::new(LocalSource::new(services, source)?)),
            "http" | "https" => Ok(Arc::new(HttpSource::new(services, source)?)),
            "git" => Ok(Arc::new(GitSource::new(services, source)?)),
            scheme => {
                let identifier = source.identifier.clone();
                let reason = format!(
                    "sources of type `{scheme}` are not supported; use docker-image, oci-layout, local, git, http or https"
                );
                Err(failure(OperationError::Source { identifier, reason }))
            }
        }
    }
}

impl OpResolver<ImmutableRef> for LlbOps {
    fn resolve(&self, vertex: &Vertex) -> Result<Arc<dyn Op<ImmutableRef>>, OpError> {
        let Ok(payload) = vertex.payload.clone().downcast::<llb::Vertex>() else {
            let text = format!("vertex {} has no operation", vertex.digest);
            return Err(failure(OperationError::Unsupported(text)));
        };
        let (services, inputs) = (self.services.clone(), payload.inputs.len());
        let combine = |combination| -> Arc<dyn Op<ImmutableRef>> {
            Arc::new(Combine { refs: services.refs.clone(), combination, inputs })
        };
        Ok(match &payload.op {
            llb::Op::Source(source) => self.source(&payload, source)?,
            llb::Op::Exec(op) => {
                let op = op.as_ref().clone();
                Arc::new(ExecOperation { services, vertex: payload.clone(), op })
            }
            llb::Op::File(op) => {
                Arc::new(FileOperation { refs: services.refs.clone(), op: op.clone(), inputs })
            }
            llb::Op::Merge => combine(Combination::Merge),
            llb::Op::Diff { lower, upper } => {
                combine(Combination::Diff { lower: *lower, upper: *upper })
            }
            llb::Op::Passthrough(op) => {
                let (id, outputs) = (op.id.clone(), op.outputs.clone());
                combine(Combination::Passthrough { id, outputs })
            }
            llb::Op::Build(op) => Arc::new(BuildOperation { services, op: op.clone(), inputs }),
        })
    }
}

#[async_trait]
impl SourceResolver for LlbOps {
    async fn resolve(
        &self,
        sessions: &[String],
        request: &SourceMetaRequest,
    ) -> Result<SourceMeta, BuildError> {
        let mut meta = SourceMeta {
            identifier: request.identifier.clone(),
            attributes: request.attributes.clone(),
            image: None,
            commit: None,
            file: None,
        };
        let scheme = request.identifier.split_once("://").map_or("", |(scheme, _)| scheme);
        let refused = |error: OpError| BuildError::new(Kind::User, error.full_text());
        match scheme {
            "docker-image" | "oci-layout" => {
                meta.image = Some(self.resolve_image(sessions, request).await?);
            }
            "http" | "https" => {
                let clients = Clients::asking(&self.services.sessions, sessions);
                let source = HttpSource::new(self.services.clone(), &source_of(request));
                let file = source.map_err(refused)?.resolve(&clients).await.map_err(refused)?;
                meta.file = Some((file.digest, file.filename));
            }
            "git" => {
                let clients = Clients::asking(&self.services.sessions, sessions);
                let source = GitSource::new(self.services.clone(), &source_of(request));
                let found = source.map_err(refused)?.resolve(&clients).await.map_err(refused)?;
                meta.commit = Some(found.commit().clone());
            }
            _ => {}
        }
        Ok(meta)
    }
}

/// Returns the source that a question is about.
fn source_of(request: &SourceMetaRequest) -> SourceOp {
    let (identifier, attributes) = (request.identifier.clone(), request.attributes.clone());
    SourceOp { identifier, attributes }
}

impl LlbOps {
    async fn resolve_image(
        &self,
        sessions: &[String],
        request: &SourceMetaRequest,
    ) -> Result<ResolvedImage, BuildError> {
        let place = Place::parse(&source_of(request));
        let place = place.map_err(|reason| BuildError::new(Kind::User, reason))?;
        let ids = sessions.iter().filter_map(|id| SessionId::new(id.as_str()).ok()).collect();
        let platform = request.platform.clone().unwrap_or_else(|| self.services.platform(None));
        let access = ClientCredentials::access(&self.services.sessions, ids);
        let clients = Clients::asking(&self.services.sessions, sessions);
        let origin = place.origin_for(&self.services, access, clients);
        let finder = ImageFinder { services: &self.services, origin: &origin, platform };
        let found =
            finder.find().await.map_err(|error| BuildError::new(Kind::User, error.full_text()))?;
        let config = if request.with_config { found.config.bytes().clone() } else { Bytes::new() };
        Ok(ResolvedImage { digest: found.top, config })
    }
}
