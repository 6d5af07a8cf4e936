//! A build of one Dockerfile, in memory: what the frontend is called with, and what it makes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bridge::testing::{MemoryBuild, Said};
use bridge::{BuildError, Frontend, FrontendRequest, FrontendResult, Results, SolvedRef};
use dockerfile::DockerfileFrontend;
use llb::Definition;

use crate::render::render;

/// What every image is configured with, unless a test says otherwise.
const CONFIG: &str = r#"{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:0000000000000000000000000000000000000000000000000000000000000001"]},"history":[{"created_by":"base"}],"docker_version":"1"}"#;

/// A build of one Dockerfile, in memory.
#[derive(Debug)]
pub(crate) struct Fake {
    build: MemoryBuild,
    options: BTreeMap<String, String>,
    inputs: BTreeMap<String, Definition>,
}

impl Fake {
    /// Returns a build of this Dockerfile, with a few images to begin with.
    pub(crate) fn new(dockerfile: &str) -> Self {
        let build = MemoryBuild::new()
            .file("local:dockerfile", "Dockerfile", dockerfile)
            .tree("local:context");
        Self { build, options: BTreeMap::new(), inputs: BTreeMap::new() }
            .image("docker.io/library/alpine:latest", CONFIG)
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

    pub(crate) fn file(self, tree: &str, path: &str, content: &str) -> Self {
        Self { build: self.build.file(tree, path, content), ..self }
    }

    pub(crate) fn bytes(self, tree: &str, path: &str, content: &[u8]) -> Self {
        Self { build: self.build.file(tree, path, content), ..self }
    }

    pub(crate) fn image(self, name: &str, config: &str) -> Self {
        Self { build: self.build.image(name, config), ..self }
    }

    pub(crate) fn option(mut self, key: &str, value: &str) -> Self {
        self.options.insert(key.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn input(mut self, name: &str, definition: Definition) -> Self {
        self.inputs.insert(name.to_owned(), definition);
        self
    }

    /// Says when a tree was changed, in which there is a file of this name.
    pub(crate) fn time(self, tree: &str, file: &str, seconds: u64) -> Self {
        let build = self.build.file(tree, file, "").time(tree, seconds);
        Self { build, ..self }
    }

    /// Runs the frontend.
    pub(crate) async fn run(self) -> (Result<FrontendResult, BuildError>, Said) {
        let request = FrontendRequest { options: self.options, inputs: self.inputs };
        let build = Arc::new(self.build);
        let result = DockerfileFrontend::new().run(build.clone(), request).await;
        let said = build.said();
        let built = said.calls.iter().find(|call| call.starts_with("evaluate "));
        assert_eq!(built, None, "a Dockerfile is lowered without building anything");
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
}
