//! Which forms there are.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::sync::Arc;

use async_trait::async_trait;
use cache::Refs;
use registry::Registry;
use session::{Session, SessionError, Sessions};

use crate::archive::{ArchiveExporter, Form};
use crate::files::{DirectoryExporter, TarExporter};
use crate::image::ImageExporter;
use crate::{ExportContext, ExportError, ExportRequest, ExportResult};

/// Delivers results in one form.
#[async_trait]
pub trait Exporter: Send + Sync + Debug {
    /// Returns the name of the line that is shown while it works: `exporting to image`.
    fn title(&self) -> String;

    /// Delivers `result`; returns what the client is told (protocol page `control.md` §3.5).
    async fn export(
        &self,
        result: &ExportResult,
        context: &ExportContext,
    ) -> Result<BTreeMap<String, String>, ExportError>;
}

/// Returns registries that reach the host by any means: without TLS, or with any certificate.
pub type InsecureRegistries = Arc<dyn Fn(&str) -> Arc<dyn Registry> + Send + Sync>;

/// All forms of delivery, with what they work with.
#[derive(Debug, Clone)]
pub struct Exporters {
    mechanisms: Arc<Mechanisms>,
}

/// What the forms work with.
#[derive(Clone)]
pub(crate) struct Mechanisms {
    pub(crate) refs: Refs,
    pub(crate) sessions: Sessions,
    registry: Arc<dyn Registry>,
    insecure: Option<InsecureRegistries>,
}

impl Exporters {
    /// Returns the forms, working with these mechanisms.
    pub fn new(refs: Refs, sessions: Sessions, registry: Arc<dyn Registry>) -> Self {
        Self { mechanisms: Arc::new(Mechanisms { refs, sessions, registry, insecure: None }) }
    }

    /// Returns the same forms, that push by `registries` where the client asks for it
    /// (`registry.insecure`). Without them such a host is reached as any other.
    #[must_use]
    pub fn with_insecure(self, registries: InsecureRegistries) -> Self {
        let mechanisms = Mechanisms { insecure: Some(registries), ..(*self.mechanisms).clone() };
        Self { mechanisms: Arc::new(mechanisms) }
    }

    /// Returns the exporter that `request` asks for. `index` is its place in the client's request.
    ///
    /// # Errors
    /// Returns an error if there is none, or a setting makes no sense.
    pub fn resolve(
        &self,
        index: usize,
        request: &ExportRequest,
    ) -> Result<Arc<dyn Exporter>, ExportError> {
        let mechanisms = self.mechanisms.clone();
        Ok(match request.kind.as_str() {
            "image" => Arc::new(ImageExporter::new(mechanisms, request)?),
            "oci" => Arc::new(ArchiveExporter::new(mechanisms, index, Form::Oci, request)?),
            "docker" => Arc::new(ArchiveExporter::new(mechanisms, index, Form::Docker, request)?),
            "local" => Arc::new(DirectoryExporter::new(mechanisms, index, request)?),
            "tar" => Arc::new(TarExporter::new(mechanisms, index, request)?),
            kind => return Err(ExportError::Unknown { kind: kind.to_owned() }),
        })
    }
}

impl Mechanisms {
    /// Returns what reaches the registry `host`; by any means, if it may.
    pub(crate) fn registry(&self, host: &str, insecure: bool) -> Arc<dyn Registry> {
        match &self.insecure {
            Some(registries) if insecure => registries(host),
            _ => self.registry.clone(),
        }
    }

    /// Returns the client that asked for the export.
    pub(crate) async fn client(&self, context: &ExportContext) -> Result<Session, ExportError> {
        let found = match context.sessions.first() {
            Some(id) => self.sessions.get(id).await,
            None => Err(SessionError::NoneActive),
        };
        found.map_err(ExportError::during("find the client to send the result to"))
    }
}

impl Debug for Mechanisms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { refs, sessions, registry, insecure } = self;
        f.debug_struct("Mechanisms")
            .field("refs", refs)
            .field("sessions", sessions)
            .field("registry", registry)
            .field("insecure", &insecure.is_some())
            .finish()
    }
}
