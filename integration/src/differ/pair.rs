//! Two daemons side by side, and the same cases put to both.

use std::fmt;
use std::path::Path;

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};

use super::building;
use super::case::{Case, CaseFile};
use super::known::Known;
use super::lowering::{self, Frontend};
use super::outcome::{Difference, Outcome};
use crate::{
    BUSYBOX, Backend, BuildCommand, Buildx, Daemon, Engine, FRONTEND, Launch, Project, Registry,
    Settings, Wire, push_frontend,
};

/// What graphs of the cases need beside what everybody may.
const ENTITLEMENT: &str = "network.host";
/// How many cases are lowered at a time. They are built one by one: of steps that are the same BuildKit shows
/// those of one build in the other.
const LOWERED: usize = 8;
/// Images of the public registry that Dockerfiles of the cases begin with. Each is the busybox here.
const PUBLIC: [&str; 20] = [
    "library/alpine:latest",
    "library/busybox:1",
    "library/busybox:latest",
    "library/composer:2",
    "library/debian:bookworm-slim",
    "library/eclipse-temurin:21-jre",
    "library/golang:1",
    "library/golang:1.23-alpine",
    "library/gradle:8-jdk21",
    "library/nginx:1.27-alpine",
    "library/node:22-slim",
    "library/php:8.3-fpm",
    "library/python:3.12-slim",
    "library/ruby:3.3-slim",
    "library/rust:1-slim",
    "library/ubuntu:24.04",
    "astral-sh/uv:latest",
    "davidanson/markdownlint-cli2:v0.14.0",
    "hexpm/elixir:1.17.3-erlang-27.1.2-debian-bookworm",
    "tonistiigi/xx:latest",
];

/// How a case is put to a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// To its frontend alone.
    Lowering,
    /// Through the real client, to the end.
    Building,
}

/// A daemon, and how it is called.
#[derive(Debug)]
struct Side {
    backend: Backend,
    client: Buildx,
    /// What the client needs to be told for this daemon only.
    arguments: Vec<String>,
    frontend: Frontend,
    /// The image of the frontend that is asked for, if one is.
    syntax: Option<String>,
}

/// Our daemon and another one, with one registry.
#[derive(Debug)]
pub struct Pair {
    ours: Side,
    theirs: Side,
    registry: Registry,
}

/// A case of which the two sides make something else.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Its name.
    pub case: String,
    /// What is different, and on no list.
    pub differences: Vec<Difference>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}", self.case)?;
        self.differences.iter().try_for_each(|difference| writeln!(f, "  {difference}"))
    }
}

impl Pair {
    /// Starts our daemon, and the distribution's engine beside it.
    ///
    /// # Errors
    /// Fails if one of them does not come up.
    pub fn with_engine(settings: &Settings) -> anyhow::Result<Self> {
        let registry = Registry::start(settings)?;
        let engine = Engine::start(settings, &registry)?;
        // Without a bridge the network of the machine is all there is.
        let arguments = vec!["--network=host".to_owned()];
        Self::of(settings, registry, Backend::Engine(Box::new(engine)), arguments)
    }

    /// Starts our daemon, to be compared with the one at `address`, which must be on this machine: base images
    /// come from a registry on loopback.
    ///
    /// # Errors
    /// Fails if our daemon does not come up, or nobody is at the address.
    pub fn against(settings: &Settings, address: &str) -> anyhow::Result<Self> {
        let registry = Registry::start(settings)?;
        Self::of(settings, registry, Backend::Elsewhere(address.to_owned()), Vec::new())
    }

    /// Returns a build of a project on the other side.
    pub fn build_there(&self, project: &Project) -> BuildCommand {
        self.theirs.client.build(project).args(&self.theirs.arguments)
    }

    /// Returns the registry of both sides.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Lets the other side build by our own frontend, an image that our daemon makes.
    ///
    /// # Errors
    /// Fails if it cannot be made.
    pub fn by_our_frontend(mut self, settings: &Settings) -> anyhow::Result<Self> {
        let image = push_frontend(settings, &self.ours.client, &self.registry)?;
        self.theirs.frontend.name = "gateway.v0".to_owned();
        for option in ["source", "cmdline"] {
            self.theirs.frontend.options.insert(option.to_owned(), image.clone());
        }
        self.theirs.syntax = Some(image);
        Ok(self)
    }

    fn of(
        settings: &Settings,
        registry: Registry,
        theirs: Backend,
        arguments: Vec<String>,
    ) -> anyhow::Result<Self> {
        for name in PUBLIC {
            registry.alias(BUSYBOX, name)?;
        }
        let host = registry.host();
        let config = format!(
            "insecure-entitlements = [\"{ENTITLEMENT}\"]\n[registry.\"docker.io\"]\nmirrors = [\"{host}\"]\n[registry.\"{host}\"]\nhttp = true\n"
        );
        let launch = Launch { config, ..Launch::default() };
        let ours =
            Side::of(settings, Backend::Larder(Daemon::start(settings, launch)?), Vec::new())?;
        Ok(Self { ours, theirs: Side::of(settings, theirs, arguments)?, registry })
    }

    /// Puts the cases to both sides, and returns what is different and not on the list. What a daemon shows
    /// first of two things that happen at once is chance, so a case whose builds differ is built once more,
    /// and what is different then counts.
    ///
    /// # Errors
    /// Fails if a side cannot be asked.
    pub fn compare(
        &self,
        level: Level,
        cases: &[Case],
        known: &Known,
    ) -> anyhow::Result<Vec<Finding>> {
        if level == Level::Lowering {
            return Ok(findings(level, cases, self.lower(cases)?, known));
        }
        let first = findings(level, cases, self.build("first", cases)?, known);
        let differ = |case: &&Case| first.iter().any(|found| found.case == level.name_of(case));
        let again: Vec<Case> = cases.iter().filter(differ).cloned().collect();
        Ok(findings(level, &again, self.build("again", &again)?, known))
    }

    fn lower(&self, cases: &[Case]) -> anyhow::Result<Vec<(Outcome, Outcome)>> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            let theirs = Wire::connect(&self.theirs.backend.address()).await?;
            let ours = Wire::connect(&self.ours.backend.address()).await?;
            let both = |case: Case| {
                let (theirs, ours) = (theirs.clone(), ours.clone());
                async move {
                    let case = self.filled(case, BUSYBOX);
                    let theirs = lowering::lower(&theirs, &self.theirs.frontend, &case);
                    let ours = lowering::lower(&ours, &self.ours.frontend, &case);
                    let (theirs, ours) = tokio::join!(theirs, ours);
                    let name = || case.name();
                    anyhow::Ok((
                        self.general(theirs.with_context(name)?),
                        self.general(ours.with_context(name)?),
                    ))
                }
            };
            futures::stream::iter(cases.iter().cloned())
                .map(both)
                .buffered(LOWERED)
                .try_collect()
                .await
        })
    }

    fn build(&self, round: &str, cases: &[Case]) -> anyhow::Result<Vec<(Outcome, Outcome)>> {
        let built = cases.iter().enumerate().map(|(number, case)| {
            // Its own name for the base, so that nothing of it is known from the case before.
            let base = format!("{round}-{number}/{BUSYBOX}");
            self.build_one(&base, case).with_context(|| case.name())
        });
        built.collect()
    }

    fn build_one(&self, base: &str, case: &Case) -> anyhow::Result<(Outcome, Outcome)> {
        self.registry.alias(BUSYBOX, &format!("{base}:latest"))?;
        let case = self.filled(case.clone(), base);
        let project = case.project()?;
        let build = |side: &Side| {
            let mut outcome = side.build(&case, &project)?;
            outcome.map(|line| line.replace(base, BUSYBOX));
            anyhow::Ok(self.general(outcome))
        };
        let (theirs, ours) = std::thread::scope(|scope| {
            let theirs = scope.spawn(|| build(&self.theirs));
            let ours = build(&self.ours);
            (theirs.join(), ours)
        });
        let theirs = theirs.map_err(|_| anyhow::anyhow!("the other side's build panicked"))??;
        Ok((theirs, ours?))
    }

    /// Returns a case with the names of this run for those it has.
    fn filled(&self, mut case: Case, base: &str) -> Case {
        let fill = |text: &str| {
            text.replace("{busybox}", &self.registry.image(base))
                .replace("{registry}", self.registry.host())
                .replace("ghcr.io/", "")
        };
        case.dockerfile = fill(&case.dockerfile);
        case.options = case.options.iter().map(|option| fill(option)).collect();
        for file in &mut case.files {
            if let CaseFile::File { contents, .. } = file {
                *contents = fill(contents);
            }
        }
        case
    }

    /// Returns an outcome without the names of this run.
    fn general(&self, mut outcome: Outcome) -> Outcome {
        outcome.map(|line| line.replace(self.registry.host(), "{registry}"));
        outcome
    }
}

impl Side {
    fn of(settings: &Settings, backend: Backend, arguments: Vec<String>) -> anyhow::Result<Self> {
        let client = Buildx::connect(settings, &backend.address())?;
        // A daemon of somebody else's may not give it, and then refuses a build that asks.
        let entitled = !matches!(backend, Backend::Elsewhere(_));
        let frontend = Frontend {
            name: "dockerfile.v0".to_owned(),
            entitlements: entitled.then(|| ENTITLEMENT.to_owned()).into_iter().collect(),
            ..Frontend::default()
        };
        Ok(Self { backend, client, arguments, frontend, syntax: None })
    }

    fn build(&self, case: &Case, project: &Project) -> anyhow::Result<Outcome> {
        let syntax = self.syntax.iter().map(|image| format!("--build-arg=BUILDKIT_SYNTAX={image}"));
        let arguments: Vec<_> = self.arguments.iter().cloned().chain(syntax).collect();
        let mut outcome = building::build(&self.client, &arguments, case, project)?;
        if self.syntax.is_some() {
            // That it is found, and run, is nothing of the case.
            let all = outcome.lines().len();
            outcome.retain(|line| !line.contains(FRONTEND));
            anyhow::ensure!(outcome.lines().len() < all, "our image did not build it");
        }
        Ok(outcome)
    }
}

impl Level {
    /// Returns the folder of the cases of this level, in a workspace at `root`.
    pub fn cases(self, root: &Path) -> std::path::PathBuf {
        root.join(match self {
            Self::Lowering => "frontend/dockerfile/tests/frontend/corpus",
            Self::Building => "integration/cases",
        })
    }

    /// Returns the name of a case as the list of differences has it.
    pub fn name_of(self, case: &Case) -> String {
        let level = match self {
            Self::Lowering => "lower",
            Self::Building => "build",
        };
        format!("{level}/{}", case.name())
    }
}

/// Returns what is different between the two sides of each case, and not on the list.
fn findings(
    level: Level,
    cases: &[Case],
    outcomes: Vec<(Outcome, Outcome)>,
    known: &Known,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (case, (theirs, ours)) in cases.iter().zip(outcomes) {
        let case = level.name_of(case);
        let mut differences = Outcome::compare(&theirs, &ours);
        differences.retain(|difference| !known.has(&case, difference));
        if !differences.is_empty() {
            findings.push(Finding { case, differences });
        }
    }
    findings
}
