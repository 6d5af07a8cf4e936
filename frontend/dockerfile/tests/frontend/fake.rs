//! A build that serves files and images from memory and refuses whatever a real one would not be asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use bridge::{
    Bridge, BuildError, FileRange, FileStat, Frontend, FrontendRequest, FrontendResult, Kind,
    RefHandle, ResolvedImage, Results, SolveRequest, SolvedRef, SourceMeta, SourceMetaRequest,
    Warning, WorkerInfo,
};
use bytes::Bytes;
use digests::Digest;
use dockerfile::DockerfileFrontend;
use llb::{Definition, Op};
use oci::Platform;

use crate::render::render;

/// What every image is configured with, unless a test says otherwise.
const CONFIG: &str = r#"{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:0000000000000000000000000000000000000000000000000000000000000001"]},"history":[{"created_by":"base"}],"docker_version":"1"}"#;

/// A build in memory.
#[derive(Debug)]
pub(crate) struct Fake {
    /// Files by tree (`local:context`, `git:…`) and path.
    files: BTreeMap<String, BTreeMap<String, String>>,
    /// Image configurations by full name.
    images: BTreeMap<String, String>,
    options: BTreeMap<String, String>,
    inputs: BTreeMap<String, Definition>,
    /// When the files of a tree were changed, in seconds.
    times: BTreeMap<String, u64>,
    said: Mutex<Said>,
}

/// What the frontend asked and told.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// Every call, in order.
    pub(crate) calls: Vec<String>,
    /// Every warning.
    pub(crate) warnings: Vec<Warning>,
    solved: Vec<Definition>,
    /// The options that another frontend was called with.
    pub(crate) forwarded: Option<SolveRequest>,
}

impl Fake {
    /// Returns a build of this Dockerfile, with a few images to begin with.
    pub(crate) fn new(dockerfile: &str) -> Self {
        let mut fake = Self {
            files: BTreeMap::new(),
            images: BTreeMap::new(),
            options: BTreeMap::new(),
            inputs: BTreeMap::new(),
            times: BTreeMap::new(),
            said: Mutex::default(),
        };
        fake = fake.file("local:dockerfile", "Dockerfile", dockerfile);
        fake.files.insert("local:context".to_owned(), BTreeMap::new());
        fake.image("docker.io/library/alpine:latest", CONFIG)
            .image("docker.io/library/golang:1", CONFIG)
            .image("docker.io/library/busybox:1", CONFIG)
    }

    /// Adds the images that well-known projects begin with.
    pub(crate) fn with_common_images(mut self) -> Self {
        for name in [
            "composer:2",
            "debian:bookworm-slim",
            "eclipse-temurin:21-jre",
            "golang:1.23-alpine",
            "gradle:8-jdk21",
            "nginx:1.27-alpine",
            "node:22-slim",
            "php:8.3-fpm",
            "python:3.12-slim",
            "ruby:3.3-slim",
            "rust:1-slim",
            "ubuntu:24.04",
        ] {
            self = self.image(&format!("docker.io/library/{name}"), CONFIG);
        }
        for name in [
            "docker.io/davidanson/markdownlint-cli2:v0.14.0",
            "docker.io/hexpm/elixir:1.17.3-erlang-27.1.2-debian-bookworm",
            "docker.io/tonistiigi/xx:latest",
            "gcr.io/distroless/static-debian12:nonroot",
            "ghcr.io/astral-sh/uv:latest",
            "mcr.example.com/dotnet/aspnet:9.0",
            "mcr.example.com/dotnet/sdk:9.0",
            "mcr.example.com/windows/nanoserver:ltsc2022",
        ] {
            self = self.image(name, CONFIG);
        }
        self
    }

    pub(crate) fn file(mut self, tree: &str, path: &str, content: &str) -> Self {
        let tree = self.files.entry(tree.to_owned()).or_default();
        tree.insert(path.to_owned(), content.to_owned());
        self
    }

    pub(crate) fn image(mut self, name: &str, config: &str) -> Self {
        self.images.insert(name.to_owned(), config.to_owned());
        self
    }

    pub(crate) fn option(mut self, key: &str, value: &str) -> Self {
        self.options.insert(key.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn input(mut self, name: &str, definition: Definition) -> Self {
        self.inputs.insert(name.to_owned(), definition);
        self
    }

    /// Says when the files of a tree were changed.
    pub(crate) fn time(mut self, tree: &str, seconds: u64) -> Self {
        self.times.insert(tree.to_owned(), seconds);
        self
    }

    /// Runs the frontend.
    pub(crate) async fn run(self) -> (Result<FrontendResult, BuildError>, Said) {
        let request =
            FrontendRequest { options: self.options.clone(), inputs: self.inputs.clone() };
        let fake = Arc::new(self);
        let result = DockerfileFrontend::new().run(fake.clone(), request).await;
        let said = std::mem::take(&mut *fake.said.lock().unwrap());
        (result, said)
    }

    /// Runs the frontend and returns its result.
    pub(crate) async fn build(self) -> FrontendResult {
        self.run().await.0.unwrap()
    }

    /// Runs the frontend and returns its only graph, readable.
    pub(crate) async fn graph(self) -> String {
        let result = self.build().await;
        match result.results {
            Results::Single(solved) => render(&solved.definition.unwrap()),
            Results::ByPlatform(map) => {
                let one = |(id, solved): (String, SolvedRef)| {
                    format!("=== {id}\n{}", render(&solved.definition.unwrap()))
                };
                map.into_iter().map(one).collect()
            }
            Results::None => panic!("no result"),
        }
    }

    /// Runs the frontend and returns the image configuration.
    pub(crate) async fn config(self) -> serde_json::Value {
        let result = self.build().await;
        serde_json::from_slice(&result.metadata[bridge::keys::IMAGE_CONFIG]).unwrap()
    }

    /// Runs the frontend and returns why it failed.
    pub(crate) async fn error(self) -> BuildError {
        self.run().await.0.unwrap_err()
    }

    fn note(&self, call: String) {
        self.said.lock().unwrap().calls.push(call);
    }

    /// Returns the tree that a reference stands for; only sources can be read.
    fn tree(&self, reference: &RefHandle) -> (String, Vec<String>) {
        let index: usize = reference.as_str().parse().expect("a reference of this build");
        let definition = self.said.lock().unwrap().solved[index].clone();
        let graph = definition.load().expect("a graph");
        let vertex = graph.vertices.last().expect("a vertex");
        let Op::Source(source) = &vertex.op else {
            panic!("only a source is read, not {}", vertex.name);
        };
        let (scheme, rest) = source.split();
        let follow = source.attribute("local.followpaths").unwrap_or("[]");
        (format!("{scheme}:{rest}"), serde_json::from_str(follow).expect("a list"))
    }
}

#[async_trait]
impl Bridge for Fake {
    async fn solve(&self, request: SolveRequest) -> Result<FrontendResult, BuildError> {
        if !request.frontend.is_empty() {
            assert!(request.definition.is_none());
            self.note(format!("solve with {}", request.frontend));
            self.said.lock().unwrap().forwarded = Some(request);
            return Ok(FrontendResult::default());
        }
        let definition = request.definition.expect("a graph or a frontend");
        if definition.is_empty() {
            let solved = SolvedRef { handle: RefHandle::default(), definition: Some(definition) };
            return Ok(FrontendResult { results: Results::Single(solved), ..Default::default() });
        }
        let graph = definition.load().expect("a graph that can be built");
        let last = graph.vertices.last().expect("a vertex");
        self.note(format!("solve {}", last.name));
        let mut said = self.said.lock().unwrap();
        let handle = RefHandle::new(said.solved.len().to_string());
        said.solved.push(definition.clone());
        let solved = SolvedRef { handle, definition: Some(definition) };
        Ok(FrontendResult { results: Results::Single(solved), ..Default::default() })
    }

    async fn evaluate(&self, _reference: &RefHandle) -> Result<(), BuildError> {
        panic!("a Dockerfile is lowered without building anything");
    }

    async fn read_file(
        &self,
        reference: &RefHandle,
        path: &str,
        range: Option<FileRange>,
    ) -> Result<Bytes, BuildError> {
        let (tree, follow) = self.tree(reference);
        self.note(format!("read {tree} {path}"));
        assert!(
            follow.is_empty() || follow.iter().any(|followed| followed == path),
            "{path} was not asked for: {follow:?}"
        );
        let files = self.files.get(&tree).unwrap_or_else(|| panic!("no tree {tree}"));
        let Some(content) = files.get(path) else {
            let text = format!("open {path}: no such file or directory");
            return Err(BuildError::new(Kind::User, text));
        };
        let mut data = Bytes::copy_from_slice(content.as_bytes());
        if let Some(range) = range {
            assert_eq!(range.offset, 0);
            data.truncate(usize::try_from(range.length).unwrap());
        }
        Ok(data)
    }

    async fn read_dir(
        &self,
        reference: &RefHandle,
        path: &str,
        _include: Option<&str>,
    ) -> Result<Vec<FileStat>, BuildError> {
        assert_eq!(path, "/", "only times are looked at");
        self.stat_file(reference, "any").await.map(|entry| vec![entry])
    }

    async fn stat_file(&self, reference: &RefHandle, path: &str) -> Result<FileStat, BuildError> {
        let (tree, _) = self.tree(reference);
        let seconds = self.times.get(&tree).unwrap_or_else(|| panic!("no time of {tree}"));
        Ok(FileStat {
            name: path.to_owned(),
            mode: 0o100_644,
            uid: 0,
            gid: 0,
            size: 0,
            modified: UNIX_EPOCH + Duration::from_secs(*seconds),
            link_target: String::new(),
            device: (0, 0),
        })
    }

    async fn resolve_source(&self, request: SourceMetaRequest) -> Result<SourceMeta, BuildError> {
        let platform = request.platform.as_ref().map(ToString::to_string).unwrap_or_default();
        self.note(format!("resolve {} {platform} ({})", request.identifier, request.log_name));
        let (_, name) = request.identifier.split_once("://").expect("an identifier");
        let Some(config) = self.images.get(name) else {
            return Err(BuildError::new(Kind::NotFound, format!("{name}: not found")));
        };
        let image = ResolvedImage { digest: Digest::of(name), config: Bytes::from(config.clone()) };
        Ok(SourceMeta {
            identifier: request.identifier,
            attributes: request.attributes,
            image: Some(image),
            commit: None,
            file: None,
        })
    }

    async fn warn(&self, warning: Warning) -> Result<(), BuildError> {
        self.said.lock().unwrap().warnings.push(warning);
        Ok(())
    }

    fn workers(&self) -> Vec<WorkerInfo> {
        vec![WorkerInfo {
            id: "worker".to_owned(),
            labels: BTreeMap::new(),
            platforms: vec![Platform::new("linux", "amd64"), Platform::new("linux", "386")],
        }]
    }

    fn session(&self) -> String {
        "sid".to_owned()
    }
}
