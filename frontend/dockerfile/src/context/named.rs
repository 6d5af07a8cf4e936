//! Named contexts: trees that a client gives in place of images and stages.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bridge::{Bridge, ResolveMode, SourceMetaRequest};
use bytes::Bytes;
use llb::{Definition, HttpOptions, ImageOptions, OciLayoutOptions, OpOptions, State};
use oci::{ImageConfig, Platform, Reference};

use super::main::{git_state, read_ignore_file, session};
use super::parse_ignore_file;
use crate::error::Problem;
use crate::lower::{ContextError, LowerError, NamedDirectory, Start, read_image};
use crate::options::Options;

/// The named contexts of a build.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NamedContexts<'a> {
    /// Who is asked.
    pub(crate) bridge: &'a dyn Bridge,
    /// The options, where they are named.
    pub(crate) options: &'a Options,
    /// Graphs that were given by name.
    pub(crate) inputs: &'a BTreeMap<String, Definition>,
    /// The platform that is built for.
    pub(crate) target: &'a Platform,
}

/// One of them.
#[derive(Debug, Clone)]
pub(crate) struct NamedContext {
    /// Its name, with a platform if it has one.
    key: String,
    /// What it is: `docker-image://…`, `local:…`.
    value: String,
    /// Its name alone.
    name: String,
    platform: Platform,
}

/// What a named context holds.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    /// The tree.
    pub(crate) start: Start,
    /// The configuration of the image it is, if it is one.
    pub(crate) image: Option<ImageConfig>,
}

fn wrong(error: ContextError) -> Problem {
    LowerError::from(error).into()
}

fn parse(text: &str) -> Result<Reference, Problem> {
    Reference::parse(text).map_err(|error| wrong(error.into()))
}

impl NamedContext {
    /// Returns what it is: `docker-image://…`, `local:…`, an address of the web.
    pub(crate) fn address(&self) -> &str {
        &self.value
    }
}

impl NamedContexts<'_> {
    /// Returns the context of this name for a platform; none if there is none.
    pub(crate) fn find(&self, name: &str, platform: Option<&Platform>) -> Option<NamedContext> {
        let is_reserved =
            ["scratch", "context"].iter().any(|known| name.eq_ignore_ascii_case(known));
        if is_reserved || !self.options.name_contexts() {
            return None;
        }
        let familiar = Reference::parse(name).ok()?.familiar();
        let name = familiar.strip_suffix(":latest").unwrap_or(&familiar);
        let platform = platform.unwrap_or(self.target).clone().normalized();
        let keys = [format!("{name}::{platform}"), name.to_owned()];
        keys.into_iter().find_map(|key| {
            let value = self.options.get(&format!("context:{key}"))?.to_owned();
            Some(NamedContext { key, value, name: name.to_owned(), platform: platform.clone() })
        })
    }

    /// Finds out what a context holds.
    pub(crate) async fn load(&self, context: &NamedContext) -> Result<Loaded, Problem> {
        let NamedContext { key, value, .. } = context;
        let Some((scheme, rest)) = value.split_once(':') else {
            let (key, value) = (key.clone(), value.clone());
            return Err(wrong(ContextError::Specifier { key, value }));
        };
        let tree = |state| Loaded { start: Start::Tree(state), image: None };
        let path = rest.strip_prefix("//").unwrap_or(rest);
        match scheme {
            "docker-image" => self.image(context, path).await,
            "oci-layout" => self.oci_layout(context, path).await,
            "local" => self.local(context, rest).await,
            "input" => self.input(context, rest),
            "http" | "https" => match git_state(value, None, None) {
                Some(git) => Ok(tree(git.map_err(|error| wrong(ContextError::Git(error)))?.0)),
                None => {
                    let http =
                        HttpOptions { filename: "context".to_owned(), ..HttpOptions::default() };
                    let name = format!("[context {key}] {value}");
                    Ok(tree(State::http(value, http, OpOptions::named(name))))
                }
            },
            _ if scheme == "git" || scheme.starts_with("git@") => {
                match git_state(value, None, None) {
                    Some(git) => Ok(tree(git.map_err(|error| wrong(ContextError::Git(error)))?.0)),
                    None => Err(wrong(ContextError::Git(format!("invalid git context {value}")))),
                }
            }
            other => {
                let (key, kind) = (key.clone(), other.to_owned());
                Err(wrong(ContextError::Unsupported { key, kind }))
            }
        }
    }

    async fn image(&self, context: &NamedContext, path: &str) -> Result<Loaded, Problem> {
        if path == "scratch" {
            return Ok(Loaded { start: Start::Scratch, image: None });
        }
        let reference = parse(path)?;
        let request = SourceMetaRequest {
            identifier: format!("docker-image://{reference}"),
            attributes: BTreeMap::new(),
            platform: Some(context.platform.clone()),
            log_name: format!("[context {}] load metadata for {path}", context.key),
            mode: self.options.resolve_mode,
            with_config: true,
        };
        let failed = || format!("failed to resolve source metadata for {reference}");
        let answer = self.bridge.resolve_source(request).await;
        let meta = answer.map_err(|error| error.context(failed()))?;
        let Some(found) = meta.image else {
            return Err(wrong(ContextError::NotAnImage(meta.identifier)));
        };
        let name = meta.identifier.strip_prefix("docker-image://").unwrap_or(&meta.identifier);
        let reference = parse(name)?.with_digest(found.digest).to_string();
        // Which image it is has been found out as the build wants it, and is in the name.
        let options = ImageOptions::default();
        let shown = OpOptions {
            platform: Some((&context.platform).into()),
            ..OpOptions::named(format!("[context {}] {path}", context.key))
        };
        let start = Start::Tree(State::image(&reference, options, shown));
        let image = ImageConfig { created: None, ..read_image(&found.config)? };
        Ok(Loaded { start, image: Some(image) })
    }

    async fn oci_layout(&self, context: &NamedContext, path: &str) -> Result<Loaded, Problem> {
        let (store, digest) =
            path.rsplit_once('@').ok_or_else(|| wrong(ContextError::NoDigest(path.to_owned())))?;
        let digest = digest
            .parse()
            .map_err(|source| wrong(ContextError::Digest { reference: path.to_owned(), source }))?;
        // A tag may follow the store's name, where a colon is no port.
        let store = match store.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => name,
            _ => store,
        };
        // The name that is shown; which image it is, is the digest's matter.
        let reference = parse(&context.name)?.with_digest(digest).without_tag().to_string();
        let session = self.bridge.session();
        let attributes = [("oci.store", store), ("oci.session", session.as_str())];
        let request = SourceMetaRequest {
            identifier: format!("oci-layout://{reference}"),
            attributes: attributes
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into_iter()
                .collect(),
            platform: Some(context.platform.clone()),
            log_name: format!("[context {}] load metadata for {reference}", context.key),
            mode: ResolveMode::Default,
            with_config: true,
        };
        let meta = self.bridge.resolve_source(request).await?;
        let config = meta.image.map(|image| image.config).unwrap_or_default();
        let layout =
            OciLayoutOptions { session, store: store.to_owned(), ..OciLayoutOptions::default() };
        let shown = OpOptions {
            platform: Some((&context.platform).into()),
            ..OpOptions::named(format!("[context {}] OCI load from client", context.key))
        };
        let start = Start::Tree(State::oci_layout(&reference, layout, shown));
        Ok(Loaded { start, image: Some(read_image(&config)?) })
    }

    async fn local(&self, context: &NamedContext, local: &str) -> Result<Loaded, Problem> {
        let key = &context.key;
        let hint = format!("context:{key}-.dockerignore");
        let name = format!("[context {key}] load .dockerignore");
        let native = llb::Platform::from(self.target);
        let ignore =
            read_ignore_file(self.bridge, self.options, &native, (local, hint, name), true).await?;
        let text = ignore.map(|data| String::from_utf8_lossy(&data).into_owned());
        let shared_key = self.options.get(&format!("sharedkey:localdir:{key}")).unwrap_or_default();
        let directory = NamedDirectory {
            local: local.to_owned(),
            session: session(self.bridge, self.options, local),
            name: format!("[context {key}] load from client"),
            shared_key: format!("context:{key}-{shared_key}"),
            exclude: parse_ignore_file(&text.unwrap_or_default()),
        };
        Ok(Loaded { start: Start::Directory(directory), image: None })
    }

    fn input(&self, context: &NamedContext, input: &str) -> Result<Loaded, Problem> {
        let Some(definition) = self.inputs.get(input) else {
            let (key, input) = (context.key.clone(), input.to_owned());
            return Err(wrong(ContextError::Input { key, input }));
        };
        let start = Start::Tree(State::definition(definition));
        let Some(text) = self.options.get(&format!("input-metadata:{input}")) else {
            return Ok(Loaded { start, image: None });
        };
        let metadata: BTreeMap<String, String> =
            serde_json::from_str(text).map_err(|error| unreadable(context, error.to_string()))?;
        let image = match metadata.get(bridge::keys::IMAGE_CONFIG) {
            None => None,
            Some(encoded) => {
                let bytes = BASE64
                    .decode(encoded)
                    .map_err(|error| unreadable(context, error.to_string()))?;
                Some(read_image(&Bytes::from(bytes))?)
            }
        };
        Ok(Loaded { start, image })
    }
}

fn unreadable(context: &NamedContext, reason: String) -> Problem {
    wrong(ContextError::Metadata { key: context.key.clone(), reason })
}

/// Returns the mode as the graph has it.
pub(crate) const fn graph_mode(mode: ResolveMode) -> llb::ResolveMode {
    match mode {
        ResolveMode::Default => llb::ResolveMode::Default,
        ResolveMode::Pull => llb::ResolveMode::Pull,
        ResolveMode::Local => llb::ResolveMode::Local,
    }
}
