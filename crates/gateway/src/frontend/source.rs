//! The image of a frontend: what its name stands for, and what it is replaced by.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bridge::{
    Bridge, BuildError, FrontendRequest, Kind, RefHandle, ResolveMode, Results, SolveRequest,
    SourceMetaRequest,
};
use bytes::Bytes;
use llb::{Definition, ImageOptions, LocalOptions, OciLayoutOptions, OpOptions, RecordType, State};
use oci::{ImageConfig, Platform, Reference, RunConfig};
use std::collections::BTreeMap;

use super::reference;

const IMAGE: &str = "docker-image://";
const LAYOUT: &str = "oci-layout://";

/// The image of a frontend.
#[derive(Debug)]
pub(super) struct FrontendImage {
    /// Its files.
    pub(super) reference: RefHandle,
    /// The graph that they come from.
    pub(super) definition: Definition,
    /// How it is run.
    pub(super) config: RunConfig,
}

/// The search for one frontend's image.
struct Search<'a> {
    bridge: &'a dyn Bridge,
    request: &'a FrontendRequest,
    platform: Platform,
}

impl FrontendImage {
    /// Finds the image that the build means by `source`: the client may have put something else in its
    /// place, as a named context.
    pub(super) async fn find(
        source: &str,
        bridge: &dyn Bridge,
        request: &FrontendRequest,
    ) -> Result<Self, BuildError> {
        let worker = bridge.workers().into_iter().next();
        let platform = worker.and_then(|worker| worker.platforms.into_iter().next());
        let platform =
            platform.unwrap_or_else(|| Platform::new("linux", std::env::consts::ARCH).normalized());
        let search = Search { bridge, request, platform };
        let name = reference(source)?;
        match search.replacement(&name) {
            Some((key, value)) => search.replaced(&name, &key, value).await,
            None => search.image(&name, String::new()).await,
        }
    }
}

impl<'a> Search<'a> {
    /// Returns the named context of a frontend, if there is one.
    fn replacement(&self, name: &Reference) -> Option<(String, &'a str)> {
        let familiar = name.familiar();
        let name = familiar.strip_suffix(":latest").unwrap_or(&familiar);
        let keys = [format!("{name}::{}", self.platform), name.to_owned()];
        keys.into_iter().find_map(|key| {
            let value = self.request.options.get(&format!("context:{key}"))?;
            Some((key, value.as_str()))
        })
    }

    async fn replaced(
        &self,
        name: &Reference,
        key: &str,
        value: &str,
    ) -> Result<FrontendImage, BuildError> {
        if let Some(image) = value.strip_prefix(IMAGE) {
            let line = format!("[context {key}] load metadata for {image}");
            return self.image(&reference(image)?, line).await;
        }
        if let Some(layout) = value.strip_prefix(LAYOUT) {
            return self.layout(name, key, layout).await;
        }
        if let Some(local) = value.strip_prefix("local:") {
            let session = self.bridge.session();
            let hint = format!("context:{key}-");
            let options = LocalOptions { session, shared_key_hint: hint, ..Default::default() };
            let shown = OpOptions::named(format!("[context {key}] load from client"));
            return self.tree(State::local(local, options, shown), RunConfig::default()).await;
        }
        if let Some(input) = value.strip_prefix("input:") {
            let given = self.request.inputs.get(input).ok_or_else(|| {
                let text =
                    format!("the context `{key}` names the input `{input}`, which is not given");
                BuildError::new(Kind::User, text)
            })?;
            return self.tree(State::definition(given), self.input_config(input)?).await;
        }
        let text = format!(
            "the context `{key}` is `{value}`, from which no frontend can be run: give a \
             `docker-image://`, an `oci-layout://`, a `local:` or an `input:`"
        );
        Err(BuildError::new(Kind::Unsupported, text))
    }

    /// Asks what an image's name stands for.
    async fn image(&self, name: &Reference, line: String) -> Result<FrontendImage, BuildError> {
        let found = self.ask(format!("{IMAGE}{name}"), BTreeMap::new(), line).await?;
        let known = found.identifier.strip_prefix(IMAGE).unwrap_or(&found.identifier);
        let pinned = reference(known)?.with_digest(found.digest);
        let options = ImageOptions { record_type: RecordType::Frontend, ..ImageOptions::default() };
        let shown = OpOptions { platform: Some((&self.platform).into()), ..OpOptions::default() };
        let state = State::image(&pinned.to_string(), options, shown);
        self.tree(state, read(&found.config)?).await
    }

    /// Asks what an image is that the client has in a store of its own.
    async fn layout(
        &self,
        name: &Reference,
        key: &str,
        layout: &str,
    ) -> Result<FrontendImage, BuildError> {
        let wrong = || {
            let text = format!("the context `{key}` names no digest: `oci-layout://{layout}`");
            BuildError::new(Kind::User, text)
        };
        let (store, digest) = layout.rsplit_once('@').ok_or_else(wrong)?;
        let digest = digest.parse().map_err(|_| wrong())?;
        // A tag may follow the store's name, where a colon is no port.
        let store = match store.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => name,
            _ => store,
        };
        let shown_name = name.with_digest(digest).without_tag().to_string();
        let session = self.bridge.session();
        let attributes = [("oci.store", store), ("oci.session", session.as_str())];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let line = format!("[context {key}] load metadata for {shown_name}");
        let found = self.ask(format!("{LAYOUT}{shown_name}"), attributes, line).await?;
        let options =
            OciLayoutOptions { session, store: store.to_owned(), ..OciLayoutOptions::default() };
        let shown = OpOptions {
            platform: Some((&self.platform).into()),
            ..OpOptions::named(format!("[context {key}] OCI load from client"))
        };
        self.tree(State::oci_layout(&shown_name, options, shown), read(&found.config)?).await
    }

    async fn ask(
        &self,
        identifier: String,
        attributes: BTreeMap<String, String>,
        log_name: String,
    ) -> Result<Found, BuildError> {
        let question = SourceMetaRequest {
            identifier,
            attributes,
            platform: Some(self.platform.clone()),
            log_name,
            mode: ResolveMode::Default,
            with_config: true,
        };
        let meta = self.bridge.resolve_source(question).await?;
        let image = meta.image.ok_or_else(|| {
            BuildError::new(Kind::User, format!("`{}` is not an image", meta.identifier))
        })?;
        Ok(Found { identifier: meta.identifier, digest: image.digest, config: image.config })
    }

    async fn tree(&self, state: State, config: RunConfig) -> Result<FrontendImage, BuildError> {
        let definition = state.marshal(&(&self.platform).into());
        let definition =
            definition.map_err(|error| BuildError::from_error(Kind::Internal, error))?;
        let request =
            SolveRequest { definition: Some(definition.clone()), ..SolveRequest::default() };
        match self.bridge.solve(request).await?.results {
            Results::Single(solved) if !solved.handle.is_empty() => {
                Ok(FrontendImage { reference: solved.handle, definition, config })
            }
            Results::Single(_) | Results::None | Results::ByPlatform(_) => {
                Err(BuildError::new(Kind::User, "the frontend is an empty file system"))
            }
        }
    }

    /// Returns how an input is run: what is known of it is among the options.
    fn input_config(&self, input: &str) -> Result<RunConfig, BuildError> {
        let Some(text) = self.request.options.get(&format!("input-metadata:{input}")) else {
            return Ok(RunConfig::default());
        };
        let wrong = |reason: String| {
            let text = format!("the metadata of the input `{input}` cannot be read: {reason}");
            BuildError::new(Kind::InvalidRequest, text)
        };
        let metadata: BTreeMap<String, String> =
            serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        match metadata.get(bridge::keys::IMAGE_CONFIG) {
            None => Ok(RunConfig::default()),
            Some(encoded) => {
                let bytes = STANDARD.decode(encoded).map_err(|error| wrong(error.to_string()))?;
                read(&bytes.into())
            }
        }
    }
}

/// What an image's name stands for.
struct Found {
    identifier: String,
    digest: digests::Digest,
    config: Bytes,
}

fn read(config: &Bytes) -> Result<RunConfig, BuildError> {
    let image: ImageConfig = serde_json::from_slice(config).map_err(|error| {
        BuildError::from_error(Kind::User, error).context("malformed image config")
    })?;
    Ok(image.config)
}
