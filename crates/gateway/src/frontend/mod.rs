//! Frontends that are images: one process in a container, which asks its build for everything over its
//! own standard input and output (protocol page `gateway.md` §5).

mod caps;
mod conversation;
mod process;
mod source;
mod stream;

use std::sync::Arc;

use async_trait::async_trait;
use bridge::{
    Bridge, BuildError, ContainerMount, ContainerRequest, Detail, Frontend, FrontendRequest,
    FrontendResult, Kind,
};
use llb::{Mount, NetMode};
use oci::Reference;

use self::source::FrontendImage;

const NAME: &str = "gateway.v0";
const SOURCE: &str = "source";
/// An option of long ago, which ran a frontend from a context.
const DEVELOPMENT: &str = "gateway-devel";
const NO_NETWORK: &str = "moby.buildkit.frontend.network.none";
const METADATA: &str = "/run/config/buildkit/metadata/frontend.bin";

/// Runs the frontend whose image the option `source` names.
#[derive(Debug, Clone, Default)]
pub struct ContainerFrontend {
    /// Repositories that images may come from; empty for all.
    repositories: Vec<String>,
}

impl ContainerFrontend {
    /// Returns a frontend that takes images from these repositories only; from all if there is none.
    pub const fn new(repositories: Vec<String>) -> Self {
        Self { repositories }
    }

    fn check_allowed(&self, source: &str) -> Result<(), BuildError> {
        if self.repositories.is_empty() {
            return Ok(());
        }
        let name = reference(source)?.name();
        if self.repositories.contains(&name) {
            return Ok(());
        }
        let text = format!("'{source}' is not an allowed gateway source");
        Err(BuildError::new(Kind::Denied, text))
    }

    async fn build(
        &self,
        source: &str,
        bridge: Arc<dyn Bridge>,
        request: FrontendRequest,
    ) -> Result<FrontendResult, BuildError> {
        if request.options.contains_key(DEVELOPMENT) {
            let text = "development gateway is no longer supported";
            return Err(BuildError::new(Kind::Unsupported, text));
        }
        if source.is_empty() {
            let text = "no source specified for gateway: the option `source` names the image";
            return Err(BuildError::new(Kind::InvalidRequest, text));
        }
        self.check_allowed(source)?;
        let containers = bridge.containers().ok_or_else(|| {
            BuildError::new(Kind::Unsupported, "frontends from images cannot be run here")
        })?;
        let image = FrontendImage::find(source, &*bridge, &request).await?;
        caps::check(&image.config, &request)?;
        let process = process::describe(&image.config, &*bridge, &request.options)?;
        let container = containers.create(container(&image)).await?;
        let spoken = conversation::hold(&*container, process, bridge, request.inputs).await;
        // How the process ended is known already; what is left of it goes.
        let _ = container.release().await;
        spoken
    }
}

#[async_trait]
impl Frontend for ContainerFrontend {
    async fn run(
        &self,
        bridge: Arc<dyn Bridge>,
        request: FrontendRequest,
    ) -> Result<FrontendResult, BuildError> {
        let source = request.options.get(SOURCE).cloned().unwrap_or_default();
        let built = self.build(&source, bridge, request).await;
        built.map_err(|error| error.with_detail(Detail::Frontend { name: NAME.to_owned(), source }))
    }
}

/// Returns the container of a frontend. What it writes is gone with it.
fn container(image: &FrontendImage) -> ContainerRequest {
    let alone = image.config.labels.get(NO_NETWORK).is_some_and(|value| is_true(value));
    ContainerRequest {
        mounts: vec![ContainerMount { mount: Mount::root(), reference: image.reference.clone() }],
        files: vec![(METADATA.to_owned(), image.definition.to_bytes())],
        network: if alone { NetMode::None } else { NetMode::Sandbox },
        ..ContainerRequest::default()
    }
}

/// Returns whether a label says yes.
fn is_true(value: &str) -> bool {
    ["1", "t", "T", "true", "TRUE", "True"].contains(&value)
}

fn reference(text: &str) -> Result<Reference, BuildError> {
    let wrong = |error| BuildError::from_error(Kind::User, error);
    Reference::parse(text).map_err(|error| wrong(error).context(format!("frontend `{text}`")))
}
