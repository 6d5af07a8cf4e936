//! Many small Dockerfiles, by topic: what each becomes is kept as one snapshot a topic.
//!
//! A case begins with `=== title`, after which options may follow as `| key=value`. A snapshot shows the
//! steps after the base image, the history and what the configuration has beside its environment. The topics
//! `real_…` are long files in the style of well-known projects.

use std::collections::BTreeMap;

use bridge::{BuildError, Detail, FrontendResult, Results, SolvedRef, keys};
use llb::{OpOptions, Platform, SourceOp, State};
use serde_json::Value;

use crate::fake::Fake;
use crate::render::render;

macro_rules! topics {
    ($($name:ident),* $(,)?) => {
        $(#[tokio::test]
        async fn $name() {
            let shown = show_all(include_str!(concat!("corpus/", stringify!($name), ".txt"))).await;
            insta::assert_snapshot!(concat!("corpus_", stringify!($name)), shown);
        })*
    };
}

topics!(
    add,
    arg,
    commands,
    config,
    copy,
    env,
    expansion,
    from,
    heredoc,
    lines,
    mounts,
    onbuild,
    real,
    real_bases,
    real_services,
    real_systems,
    real_tools,
    run,
);

async fn show_all(text: &str) -> String {
    let mut shown = String::new();
    for case in text.split("=== ").skip(1) {
        let (title, dockerfile) = case.split_once('\n').unwrap();
        let mut parts = title.split(" | ");
        shown.push_str(&format!("=== {}\n", parts.next().unwrap()));
        let mut fake = Fake::new(dockerfile).with_common_images();
        for option in parts {
            let (key, value) = option.split_once('=').unwrap();
            fake = with_context(fake, value).option(key, value);
        }
        let (result, _) = fake.run().await;
        shown.push_str(&match result {
            Ok(result) => show_result(result),
            Err(error) => show_error(&error),
        });
    }
    shown
}

/// Adds what a named context stands for: an empty directory of the client's, or a graph.
fn with_context(fake: Fake, value: &str) -> Fake {
    if let Some(name) = value.strip_prefix("input:") {
        let identifier = "git://example.com/sources.git".to_owned();
        let op = SourceOp { identifier, ..SourceOp::default() };
        let state = State::source(op, OpOptions::default());
        return fake.input(name, state.marshal(&Platform::new("linux", "amd64")).unwrap());
    }
    if value.starts_with("local:") { fake.file(value, "file", "") } else { fake }
}

fn show_error(error: &BuildError) -> String {
    let lines = error.details().iter().flat_map(|detail| match detail {
        Detail::Source(place) => place.ranges.iter().map(|range| range.start.line).collect(),
        _ => Vec::new(),
    });
    let lines: Vec<_> = lines.map(|line| line.to_string()).collect();
    format!("! {} (lines {})\n", error.message(), lines.join(","))
}

fn show_result(result: FrontendResult) -> String {
    match result.results {
        Results::Single(solved) => show_image(&solved, &result.metadata[keys::IMAGE_CONFIG]),
        Results::ByPlatform(images) => images
            .iter()
            .map(|(platform, solved)| {
                let config = &result.metadata[&format!("{}/{platform}", keys::IMAGE_CONFIG)];
                format!("= {platform}\n{}", show_image(solved, config))
            })
            .collect(),
        Results::None => panic!("a result is expected"),
    }
}

fn show_image(solved: &SolvedRef, config: &[u8]) -> String {
    let mut text = without_base(&render(solved.definition.as_ref().unwrap()));
    let config: Value = serde_json::from_slice(config).unwrap();
    for entry in config["history"].as_array().into_iter().flatten() {
        let created_by = entry["created_by"].as_str().unwrap_or_default();
        if created_by != "base" {
            text.push_str(&format!("h {created_by}\n"));
        }
    }
    let run: BTreeMap<String, Value> = serde_json::from_value(config["config"].clone()).unwrap();
    for (key, value) in run {
        if key != "Env" || value != serde_json::json!(["PATH=/bin"]) {
            text.push_str(&format!("c {key} {value}\n"));
        }
    }
    text
}

/// Drops what is the same in every case: base images, the context, digests.
fn without_base(graph: &str) -> String {
    let mut shown = String::new();
    let mut keep = true;
    for line in graph.lines() {
        if line.starts_with('#') {
            keep = !line.contains("FROM docker.io/library/alpine:latest@")
                && !line.ends_with("[internal] load build context");
        }
        let usual = ["   command ", "   lines ", "   local.s", "   git.auth"];
        let shared =
            line.starts_with("   local.followpaths") || line.starts_with("   local.exclude");
        if line.starts_with("= ") || (!keep && !shared) || usual.iter().any(|u| line.starts_with(u))
        {
            continue;
        }
        match line.split_once("@sha256:") {
            Some((name, _)) => shown.push_str(name),
            None => shown.push_str(line),
        }
        shown.push('\n');
    }
    shown
}
