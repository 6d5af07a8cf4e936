//! Any bytes for a Dockerfile: the frontend ends, in a result or in an error that says something.
//!
//! The build in memory panics where a frontend does what no build has to put up with. That counts as well.

#![no_main]

use std::sync::Arc;

use bridge::testing::MemoryBuild;
use bridge::{Frontend as _, FrontendRequest};
use dockerfile::DockerfileFrontend;
use futures::executor::block_on;
use libfuzzer_sys::fuzz_target;

/// What every image is configured with.
const PLAIN: &str = r#"{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin","E=e"],"WorkingDir":"/w"}}"#;
/// What one image is configured with, besides what it wants to be done by those who build on it.
const TRIGGERS: &str = r#"{"architecture":"amd64","os":"linux","config":{"OnBuild":["COPY a b","RUN --mount=target=/m x"]}}"#;

/// What may be asked of the frontend, as options.
const QUESTIONS: [&[(&str, &str)]; 4] = [
    &[],
    &[("requestid", "frontend.lint")],
    &[("requestid", "frontend.outline")],
    &[
        ("platform", "linux/amd64,linux/arm64"),
        ("build-arg:A", "b"),
        ("label:l", "m"),
        ("no-cache", ""),
    ],
];

fuzz_target!(|bytes: &[u8]| {
    // Each input asks one of them, which is four times as many inputs; a mutation asks another.
    let options = QUESTIONS[bytes.len() % QUESTIONS.len()];
    let build = MemoryBuild::new()
        .file("local:dockerfile", "Dockerfile", bytes)
        .file("local:context", ".dockerignore", "a*\n!ab\n")
        .any_image(PLAIN)
        .image("docker.io/library/golang:1", TRIGGERS);
    let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let request = FrontendRequest { options: options.collect(), ..FrontendRequest::default() };
    let frontend = DockerfileFrontend::new();
    if let Err(error) = block_on(frontend.run(Arc::new(build), request)) {
        assert!(!error.message().is_empty());
    }
});
