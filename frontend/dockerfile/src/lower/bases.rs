//! What stages begin with: images are looked up, named contexts loaded.

use std::collections::{BTreeMap, BTreeSet};

use bridge::{Bridge, BuildError, SourceMeta, SourceMetaRequest};
use bytes::Bytes;
use futures::future::try_join_all;
use oci::{ImageConfig, Platform, Reference};

use super::evaluate::Opening;
use super::naming::StageName;
use super::plan::Start;
use super::stages::{Node, SCRATCH, StageGraph};
use super::{ContextError, LowerError, StageError, image};
use crate::context::NamedContexts;
use crate::error::Problem;
use crate::expand::NoVariables;
use crate::lint::{Linter, rules};
use crate::options::Options;
use crate::suggest::{Case, hint};

/// Images that a misspelled name may mean, as people write them.
const COMMON_IMAGES: [&str; 14] = [
    "alpine",
    "alpine:latest",
    "busybox",
    "busybox:latest",
    "centos",
    "centos:latest",
    "debian",
    "debian:latest",
    "golang",
    "golang:latest",
    "ubuntu",
    "ubuntu:latest",
    "fedora",
    "fedora:latest",
];

/// What stages without a parent begin with, by index. Boxed, because maps move what is in them.
pub(super) type Openings = BTreeMap<usize, Box<Opening>>;

/// What is needed to look up a base.
#[derive(Debug)]
pub(super) struct Bases<'a> {
    /// Who is asked.
    pub(super) bridge: &'a dyn Bridge,
    /// The options of the build.
    pub(super) options: &'a Options,
    /// Trees that the client gives in place of images.
    pub(super) contexts: NamedContexts<'a>,
    /// The platform that is built for.
    pub(super) target: &'a Platform,
    /// True if no platform was asked for.
    pub(super) implicit_target: bool,
    /// The platforms of the daemon.
    pub(super) native: &'a [Platform],
}

/// A base that was looked up.
#[derive(Debug, Clone)]
struct Found {
    start: FoundStart,
    image: ImageConfig,
    base_image: Option<ImageConfig>,
    platform: Platform,
}

#[derive(Debug, Clone)]
enum FoundStart {
    Ready(Start),
    /// The full name of an image.
    Image(String),
}

/// An answer about an image, by its name and the platform.
type Answers = BTreeMap<(String, String), Result<SourceMeta, BuildError>>;

impl Bases<'_> {
    /// Looks up what stages without a parent begin with; all registries are asked at once.
    pub(super) async fn resolve(
        &self,
        graph: &StageGraph,
        wanted: &BTreeSet<usize>,
        lint: &mut Linter,
    ) -> Result<Openings, Problem> {
        let nodes = || wanted.iter().map(|index| (*index, &graph.nodes[*index]));
        let answers = self.ask(nodes().map(|(_, node)| node)).await?;
        let lookups = nodes().map(|(index, node)| {
            let answers = &answers;
            async move {
                let found = self.find(node, answers).await;
                let found = found.map_err(|problem| {
                    let problem = match problem.cause() {
                        crate::Cause::Build(_) if !node.replaced => {
                            let names = graph.names().chain(COMMON_IMAGES);
                            problem.context(&node.base).suggesting(&hint(
                                &node.base,
                                names,
                                Case::Matters,
                            ))
                        }
                        _ => problem,
                    };
                    problem.at_least(node.stage.lines)
                })?;
                Ok::<_, Problem>((index, found))
            }
        });
        let mut openings = Openings::new();
        for (index, found) in try_join_all(lookups).await? {
            let node = &graph.nodes[index];
            if let FoundStart::Image(_) = found.start {
                warn_platform(node, &found, lint);
            }
            openings.insert(index, Box::new(self.opening(node, found)));
        }
        Ok(openings)
    }

    /// Asks once about each image and platform.
    async fn ask(&self, nodes: impl Iterator<Item = &Node>) -> Result<Answers, Problem> {
        let mut questions = BTreeMap::new();
        for node in nodes {
            if let Some((reference, platform)) = self.image_of(node)? {
                let key = (reference.to_string(), platform.to_string());
                questions.entry(key).or_insert((reference, platform));
            }
        }
        let asked = questions.into_iter().map(|(key, (reference, platform))| async move {
            let failed = format!("failed to resolve source metadata for {reference}");
            let request = SourceMetaRequest {
                identifier: format!("docker-image://{reference}"),
                attributes: BTreeMap::new(),
                log_name: self.log_name(&reference, &platform),
                platform: Some(platform),
                mode: self.options.resolve_mode,
                with_config: true,
            };
            let answer = self.bridge.resolve_source(request).await;
            (key, answer.map_err(|error| error.context(failed)))
        });
        Ok(futures::future::join_all(asked).await.into_iter().collect())
    }

    fn log_name(&self, reference: &Reference, platform: &Platform) -> String {
        let prefix = match self.options.multi_platform {
            true => format!("{platform} "),
            false => String::new(),
        };
        format!("[{prefix}internal] load metadata for {reference}")
    }

    /// Returns the image that a stage begins with, if a registry knows about it.
    fn image_of(&self, node: &Node) -> Result<Option<(Reference, Platform)>, Problem> {
        if node.replaced || node.base == SCRATCH {
            return Ok(None);
        }
        let reference = parse_base(node)?;
        let platform = node.platform.as_ref().unwrap_or(self.target).clone();
        if self.contexts.find(&node.base, Some(&platform)).is_some() {
            return Ok(None);
        }
        Ok(Some((reference, platform)))
    }

    async fn find(&self, node: &Node, answers: &Answers) -> Result<Found, Problem> {
        if node.replaced {
            let platform = node.platform.as_ref();
            return match self.contexts.find(&node.stage.name, platform) {
                Some(context) => self.replacement(node, &context).await,
                None => Ok(self.scratch()),
            };
        }
        if node.base == SCRATCH {
            return Ok(self.scratch());
        }
        let platform = node.platform.as_ref().unwrap_or(self.target).clone();
        if let Some(context) = self.contexts.find(&node.base, Some(&platform)) {
            let loaded = self.contexts.load(&context).await?;
            let mut image = loaded.image.unwrap_or_else(|| image::empty(&platform));
            let base_image = Some(image.clone());
            image.created = None;
            let start = FoundStart::Ready(loaded.start);
            return Ok(Found { start, image, base_image, platform });
        }
        let reference = parse_base(node)?;
        let key = (reference.to_string(), platform.to_string());
        match answers.get(&key) {
            Some(Ok(meta)) => self.found_image(node, &reference, platform, meta),
            Some(Err(error)) => Err(error.clone().into()),
            None => Ok(self.scratch()),
        }
    }

    fn scratch(&self) -> Found {
        Found {
            start: FoundStart::Ready(Start::Scratch),
            image: image::empty(self.target),
            base_image: None,
            platform: self.target.clone(),
        }
    }

    /// A named context in place of a whole stage also says which platform it is for.
    async fn replacement(
        &self,
        node: &Node,
        context: &crate::context::NamedContext,
    ) -> Result<Found, Problem> {
        let loaded = self.contexts.load(context).await?;
        let mut platform = node.platform.as_ref().unwrap_or(self.target).clone();
        let mut image = loaded.image.unwrap_or_else(|| image::empty(&platform));
        image.created = None;
        if !image.architecture.is_empty() && !image.os.is_empty() {
            platform = image.platform();
        }
        let start = FoundStart::Ready(loaded.start);
        Ok(Found { start, image, base_image: None, platform })
    }

    fn found_image(
        &self,
        node: &Node,
        reference: &Reference,
        mut platform: Platform,
        meta: &SourceMeta,
    ) -> Result<Found, Problem> {
        let wrong = |error: ContextError| Problem::from(LowerError::from(error));
        let name = meta.identifier.strip_prefix("docker-image://");
        let reference = match name {
            Some(name) => Reference::parse(name).map_err(|error| wrong(error.into()))?,
            None => reference.clone(),
        };
        let Some(found) = &meta.image else {
            return Err(wrong(ContextError::NotAnImage(meta.identifier.clone())));
        };
        let base = read_image(&found.config)?;
        let image = ImageConfig { created: None, ..base.clone() };
        if node.platform.is_none() && self.implicit_target {
            platform = self.detected(&image, platform);
        }
        // An image without layers is as good as nothing.
        let has_layers = !image.rootfs.diff_ids.is_empty()
            || image.history.iter().any(|entry| !entry.empty_layer);
        let start = match has_layers {
            true => FoundStart::Image(reference.with_digest(found.digest).to_string()),
            false => FoundStart::Ready(Start::Scratch),
        };
        Ok(Found { start, image, base_image: Some(base), platform })
    }

    /// Where no platform was asked for, one that the daemon can run will do.
    fn detected(&self, image: &ImageConfig, target: Platform) -> Platform {
        let fits = |platform: &&Platform| {
            platform.os == image.os && platform.architecture == image.architecture
        };
        if fits(&&target) {
            return target;
        }
        self.native.iter().find(fits).cloned().unwrap_or(target)
    }

    fn opening(&self, node: &Node, found: Found) -> Opening {
        let Found { start, image, base_image, platform } = found;
        let mut name = self.stage_name(node, &platform);
        let start = match start {
            FoundStart::Ready(start) => start,
            FoundStart::Image(reference) => Start::Image {
                name: name.next(&format!("FROM {reference}"), &NoVariables, false),
                platform: platform.clone(),
                command: node.stage.code.clone(),
                reference,
            },
        };
        Opening { start, image, base_image, platform, name }
    }

    /// Returns what the names of a stage's steps begin with.
    pub(super) fn stage_name(&self, node: &Node, platform: &Platform) -> StageName {
        StageName {
            label: node.label.clone(),
            platform: self.options.multi_platform.then(|| platform.clone()),
            total: node.total,
            index: 0,
        }
    }
}

/// Checks that a base is an image name.
pub(super) fn parse_base(node: &Node) -> Result<Reference, Problem> {
    Reference::parse(&node.base).map_err(|error| {
        let (base, reason) = (node.base.clone(), error.to_string());
        Problem::from(LowerError::from(StageError::BaseName { base, reason })).at(node.stage.lines)
    })
}

/// Reads an image configuration; what we do not know is not inherited.
pub(crate) fn read_image(config: &Bytes) -> Result<ImageConfig, Problem> {
    let mut image: ImageConfig = serde_json::from_slice(config)
        .map_err(|error| Problem::from(LowerError::from(StageError::Config(error.to_string()))))?;
    image.forget_unknown();
    Ok(image)
}

fn warn_platform(node: &Node, found: &Found, lint: &mut Linter) {
    let (expected, actual) = (&found.platform, found.image.platform());
    if expected.os == actual.os && expected.architecture == actual.architecture {
        return;
    }
    let text = format!(
        "Base image {} was pulled with platform {}, expected {} for current build",
        node.stage.base,
        crate::quote::quoted(&actual.normalized().to_string()),
        crate::quote::quoted(&expected.clone().normalized().to_string()),
    );
    lint.report(&rules::INVALID_BASE_IMAGE_PLATFORM, node.stage.lines, &[], text);
}
