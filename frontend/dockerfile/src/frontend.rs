//! The frontend: from options to results, one build a platform.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bridge::{
    Attestation, Bridge, BuildError, Detail, Frontend, FrontendRequest, FrontendResult, Kind,
    PlatformEntry, ResultPlatforms, Results, SolveRequest, SolvedRef, Warning, keys,
};
use bytes::Bytes;
use futures::future::try_join_all;
use llb::Definition;
use oci::{ImageConfig, Platform, Raw};
use sbom::{ScanTarget, Scanner};

use crate::caps;
use crate::context::{DockerfileSource, IgnorePatterns, read_dockerfile};
use crate::error::Problem;
use crate::instruction::{Stages, note_stages};
use crate::lint::{LintConfig, LintWarning, Linter, checks};
use crate::lower::{LowerError, Lowered, Request, StageError, default_platform, lower};
use crate::options::Options;
use crate::subrequest;
use crate::syntax::{Lines, check_directive, detect_syntax, parse};

const NAME: &str = "dockerfile.v0";
const SYNTAX_ARG: &str = "build-arg:BUILDKIT_SYNTAX";

/// Builds Dockerfiles.
#[derive(Debug, Clone, Copy, Default)]
pub struct DockerfileFrontend;

impl DockerfileFrontend {
    /// Returns the frontend; it keeps nothing from one build to the next.
    pub const fn new() -> Self {
        Self
    }
}

#[async_trait]
impl Frontend for DockerfileFrontend {
    async fn run(
        &self,
        bridge: Arc<dyn Bridge>,
        request: FrontendRequest,
    ) -> Result<FrontendResult, BuildError> {
        let frontend = Detail::Frontend { name: NAME.to_owned(), source: String::new() };
        Build::run(&*bridge, &request).await.map_err(|error| error.with_detail(frontend))
    }
}

/// One run of the frontend.
pub(crate) struct Build<'a> {
    pub(crate) bridge: &'a dyn Bridge,
    pub(crate) request: &'a FrontendRequest,
    pub(crate) options: Options,
    /// The platforms of the daemon, the default first.
    pub(crate) native: Vec<Platform>,
    pub(crate) source: DockerfileSource,
    /// The Dockerfile as text.
    pub(crate) text: String,
}

/// What rules found in a build for one platform.
struct Findings {
    lint: Linter,
    /// Whether it was told.
    told: bool,
}

/// A Dockerfile that was read.
pub(crate) struct Parsed {
    /// The character that escapes others.
    pub(crate) escape: char,
    /// Its stages.
    pub(crate) stages: Stages,
}

impl<'a> Build<'a> {
    async fn run(
        bridge: &'a dyn Bridge,
        request: &'a FrontendRequest,
    ) -> Result<FrontendResult, BuildError> {
        let wanted = request.options.get("frontend.caps").map(String::as_str).unwrap_or_default();
        let unsupported = caps::check(wanted);
        if let Err((error, false)) = &unsupported {
            return Err(error.clone());
        }
        let native = native_platforms(bridge);
        let options = Options::read(&request.options, &native[0])
            .map_err(|error| Problem::from(LowerError::from(error)).into_build_error(None))?;
        let platform = llb::Platform::from(&native[0]);
        let source = read_dockerfile(bridge, &options, &request.inputs, &platform).await?;
        let text = String::from_utf8_lossy(&source.excerpt.data).into_owned();
        let build = Self { bridge, request, options, native, source, text };
        if let Some(result) = build.forward().await {
            return result;
        }
        unsupported.map_err(|(error, _)| error)?;
        if let Some(id) = build.options.get("requestid") {
            return subrequest::answer(&build, id).await;
        }
        build.build().await.map_err(|problem| build.build_error(problem))
    }

    /// Returns the error that the build ends with, with the places in the Dockerfile.
    pub(crate) fn build_error(&self, problem: Problem) -> BuildError {
        problem.into_build_error(Some(&self.source.excerpt))
    }

    /// Hands the build over to the frontend that the file or the client asks for.
    async fn forward(&self) -> Option<Result<FrontendResult, BuildError>> {
        // Set by whoever runs us as such a frontend already.
        if self.options.get("cmdline").is_some() {
            return None;
        }
        let (command_line, lines) = match self.options.get(SYNTAX_ARG) {
            Some(value) => (value.to_owned(), None),
            None => {
                let found = detect_syntax(&self.text)?;
                (found.command_line, Some(found.lines))
            }
        };
        let image = command_line.split_whitespace().next().unwrap_or_default().to_owned();
        let mut options = self.request.options.clone();
        options.insert("cmdline".to_owned(), command_line.clone());
        options.insert("source".to_owned(), image);
        let request = SolveRequest {
            frontend: "gateway.v0".to_owned(),
            options,
            inputs: self.request.inputs.clone(),
            ..SolveRequest::default()
        };
        Some(self.bridge.solve(request).await.map_err(|error| {
            let located = error.details().iter().any(Detail::is_source);
            match (located, lines) {
                (true, _) => error,
                (false, Some(lines)) => self.build_error(Problem::from(error).at(lines)),
                (false, None) => {
                    error.context(format!("failed with {SYNTAX_ARG} = {command_line}"))
                }
            }
        }))
    }

    /// Reads the Dockerfile. What is found on the way goes to `lint`, also if something cannot be read.
    pub(crate) fn parse(&self, lint: &mut Linter) -> Result<Parsed, Problem> {
        if self.text.is_empty() {
            return Err(LowerError::from(StageError::Empty).into());
        }
        let document = parse(&self.text)?;
        checks::empty_continuations(&document, lint);
        let mut notes = Vec::new();
        let stages = note_stages(&document, &mut notes);
        checks::notes(&notes, lint);
        Ok(Parsed { stages: stages?, escape: document.escape })
    }

    /// Returns the patterns of files that the client does not send.
    pub(crate) fn ignore_patterns(&self) -> IgnorePatterns<'_> {
        let native = llb::Platform::from(&self.native[0]);
        IgnorePatterns::new(self.bridge, &self.options, &self.source, native)
    }

    /// Returns a linter as the file, or the build, wants it.
    pub(crate) fn linter(&self) -> Result<Linter, Problem> {
        let config = match &self.options.lint {
            Some(config) => config.clone(),
            None => LintConfig::parse(&check_directive(&self.text).unwrap_or_default())
                .map_err(LowerError::from)?,
        };
        Ok(Linter::new(config))
    }

    async fn build(&self) -> Result<FrontendResult, Problem> {
        let mut lint = self.linter()?;
        let parsed = self.parse(&mut lint);
        if parsed.is_err() {
            self.warn(&lint).await?;
        }
        let parsed = parsed?;
        let ignore = self.ignore_patterns();
        let platforms: Vec<Option<&Platform>> = match self.options.platforms.as_slice() {
            [] => vec![None],
            platforms => platforms.iter().map(Some).collect(),
        };
        // Before anything is built: a scanner that does not exist is known at once.
        let scanner = match &self.options.scan {
            Some(scan) => Some(Scanner::find(self.bridge, scan, &self.native[0]).await?),
            None => None,
        };
        let mut findings: Vec<_> =
            platforms.iter().map(|_| Findings { lint: lint.clone(), told: false }).collect();
        let builds = platforms.iter().zip(&mut findings).enumerate();
        let builds = builds.map(|(index, (platform, found))| {
            // What is wrong with the file is wrong for every platform: once is enough.
            self.build_one((&parsed, &ignore), *platform, found, index == 0)
        });
        let built = try_join_all(builds).await;
        // What the first platform found is told also if another one failed before it was through.
        if let (Err(_), Some(Findings { lint, told: false })) = (&built, findings.first()) {
            self.warn(lint).await?;
        }
        let built = built?;
        let attestations = match scanner {
            Some(scanner) => self.scan(&scanner, &platforms, &built).await?,
            None => BTreeMap::new(),
        };
        Ok(FrontendResult { attestations, ..self.result(&platforms, built)? })
    }

    /// Has the results scanned, and what else the file says: only here is it known which trees that are.
    async fn scan(
        &self,
        scanner: &Scanner,
        platforms: &[Option<&Platform>],
        built: &[(Lowered, SolvedRef)],
    ) -> Result<BTreeMap<String, Vec<Attestation>>, Problem> {
        let mut attestations = BTreeMap::new();
        for (platform, (lowered, _)) in platforms.iter().zip(built) {
            let id = platform_entry(platform.unwrap_or(&self.native[0]), &lowered.image).id;
            let target = ScanTarget {
                platform: id.clone(),
                tree: lowered.state.clone(),
                extras: lowered.scan.trees.clone(),
                ignore_cache: lowered.scan.ignore_cache,
            };
            attestations.insert(id, vec![scanner.scan(self.bridge, target).await?]);
        }
        Ok(attestations)
    }

    async fn build_one(
        &self,
        (parsed, ignore): (&Parsed, &IgnorePatterns<'_>),
        platform: Option<&Platform>,
        found: &mut Findings,
        speaks: bool,
    ) -> Result<(Lowered, SolvedRef), Problem> {
        let lowered = self.lower((parsed, ignore), platform, false, &mut found.lint).await?;
        if speaks {
            found.told = true;
            self.warn(&found.lint).await?;
        }
        if let (true, Some(rules)) = (speaks, found.lint.violations()) {
            return Err(LowerError::from(StageError::Rules(rules)).into());
        }
        let definition = marshal(&lowered)?;
        let request = SolveRequest {
            definition: Some(definition.clone()),
            cache_imports: self.options.cache_imports.clone(),
            ..SolveRequest::default()
        };
        let solved = match self.bridge.solve(request).await?.results {
            Results::Single(solved) => solved,
            Results::None => SolvedRef { definition: Some(definition), ..SolvedRef::default() },
            Results::ByPlatform(_) => {
                let text = "a graph has more than one result";
                return Err(BuildError::new(Kind::Internal, text).into());
            }
        };
        Ok((lowered, solved))
    }

    /// Lowers the Dockerfile for one platform.
    pub(crate) async fn lower(
        &self,
        (parsed, ignore): (&Parsed, &IgnorePatterns<'_>),
        platform: Option<&Platform>,
        all_stages: bool,
        lint: &mut Linter,
    ) -> Result<Lowered, Problem> {
        let request = Request {
            bridge: self.bridge,
            options: &self.options,
            inputs: &self.request.inputs,
            source: &self.source.excerpt,
            escape: parsed.escape,
            stages: &parsed.stages,
            context: &self.source.context,
            ignore,
            native: &self.native,
            platform,
            all_stages,
        };
        lower(&request, lint).await
    }

    /// Tells what was found.
    async fn warn(&self, lint: &Linter) -> Result<(), BuildError> {
        let Some(vertex) = self.source.vertex else {
            return Ok(());
        };
        let excerpt = &self.source.excerpt;
        let warning = |found: &LintWarning| Warning {
            vertex: vertex.digest(),
            level: 1,
            short: found.short(),
            detail: vec![found.rule.description.to_owned()],
            url: found.rule.url.to_owned(),
            source: Some(bridge::SourceExcerpt {
                ranges: Lines::ranges(found.lines),
                ..excerpt.clone()
            }),
        };
        for found in lint.warnings() {
            self.bridge.warn(warning(found)).await?;
        }
        Ok(())
    }

    fn result(
        &self,
        platforms: &[Option<&Platform>],
        built: Vec<(Lowered, SolvedRef)>,
    ) -> Result<FrontendResult, Problem> {
        let mut metadata = BTreeMap::new();
        let mut entries = Vec::with_capacity(built.len());
        let mut results = BTreeMap::new();
        for (platform, (lowered, solved)) in platforms.iter().zip(built) {
            let entry = platform_entry(platform.unwrap_or(&self.native[0]), &lowered.image);
            let suffix = match self.options.multi_platform {
                true => format!("/{}", entry.id),
                false => String::new(),
            };
            let mut put = |key: &str, value: Bytes| {
                metadata.insert(format!("{key}{suffix}"), value);
            };
            put(keys::IMAGE_CONFIG, encode(lowered.image)?);
            if let Some(base) = lowered.base_image {
                put(keys::BASE_CONFIG, encode(base)?);
            }
            if let Some(epoch) = lowered.epoch {
                put(keys::SOURCE_DATE_EPOCH, epoch.unix_seconds().to_string().into());
            }
            results.insert(entry.id.clone(), solved);
            entries.push(entry);
        }
        let platforms = serde_json::to_vec(&ResultPlatforms { platforms: entries })
            .map_err(|error| BuildError::from_error(Kind::Internal, error))?;
        metadata.insert(keys::PLATFORMS.to_owned(), platforms.into());
        let results = match self.options.multi_platform {
            true => Results::ByPlatform(results),
            false => results.into_values().next().map_or(Results::None, Results::Single),
        };
        Ok(FrontendResult { results, metadata, ..FrontendResult::default() })
    }
}

/// Returns the graph of a build.
pub(crate) fn marshal(lowered: &Lowered) -> Result<Definition, Problem> {
    lowered
        .state
        .marshal(&llb::Platform::from(&lowered.platform))
        .map_err(|error| LowerError::Graph(error.to_string()).into())
}

fn encode(image: ImageConfig) -> Result<Bytes, BuildError> {
    let raw = Raw::encode(image).map_err(|error| BuildError::from_error(Kind::Internal, error))?;
    Ok(raw.bytes().clone())
}

fn native_platforms(bridge: &dyn Bridge) -> Vec<Platform> {
    let first = bridge.workers().into_iter().next();
    let platforms = first.map(|worker| worker.platforms).unwrap_or_default();
    if platforms.is_empty() { vec![default_platform()] } else { platforms }
}

fn platform_entry(platform: &Platform, image: &ImageConfig) -> PlatformEntry {
    let mut platform = platform.clone().normalized();
    let id = platform.to_string();
    // The base image of Windows knows better which version it is.
    if platform.os == "windows" && image.os == platform.os {
        if platform.os_version.is_empty() {
            platform.os_version.clone_from(&image.os_version);
        }
        if platform.os_features.is_empty() {
            platform.os_features.clone_from(&image.os_features);
        }
    }
    PlatformEntry { id, platform: platform.normalized() }
}
