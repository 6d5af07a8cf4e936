//! Which stages there are.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;

use super::Answer;
use super::location::Location;
use super::table::aligned;
use crate::error::Problem;
use crate::frontend::Build;
use crate::instruction::{Stage, read_stages};
use crate::syntax::parse;

#[derive(Serialize)]
struct Targets {
    targets: Vec<Target>,
    sources: Vec<String>,
}

#[derive(Serialize)]
struct Target {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    default: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    base: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    platform: String,
    location: Location,
}

pub(super) fn answer(build: &Build<'_>) -> Result<Answer, Problem> {
    let stages = read_stages(&parse(&build.text)?)?.stages;
    let last = stages.len().saturating_sub(1);
    let target = |(index, stage): (usize, Stage)| Target {
        default: index == last,
        location: Location::of(stage.lines),
        name: stage.name,
        description: stage.description,
        base: stage.base,
        platform: stage.platform,
    };
    let targets: Vec<_> = stages.into_iter().enumerate().map(target).collect();
    let names: Vec<_> = targets.iter().map(shown_name).collect();
    let mut rows = vec![vec!["TARGET", "DESCRIPTION"]];
    for (name, target) in names.iter().zip(&targets) {
        rows.push(vec![name, &target.description]);
    }
    let text = aligned(&rows, 1);
    let sources = vec![BASE64.encode(&build.source.excerpt.data)];
    Answer::new(&Targets { targets, sources }, text)
}

fn shown_name(target: &Target) -> String {
    match (target.name.as_str(), target.default) {
        ("", true) => "(default)".to_owned(),
        (name, true) => format!("{name} (default)"),
        (name, false) => name.to_owned(),
    }
}
