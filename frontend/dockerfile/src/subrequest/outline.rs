//! What the wanted stage needs from outside.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;

use super::Answer;
use super::location::Location;
use super::table::aligned;
use crate::error::Problem;
use crate::frontend::Build;
use crate::lower::Outline;
use crate::lower::arguments::Definition;
use crate::syntax::Lines;

#[derive(Serialize)]
struct Shown {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<Argument>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<Needed>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ssh: Vec<Needed>,
    sources: Vec<String>,
}

#[derive(Serialize)]
struct Argument {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    value: String,
    location: Location,
}

#[derive(Serialize)]
struct Needed {
    name: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    required: bool,
    location: Location,
}

pub(super) async fn answer(build: &Build<'_>) -> Result<Answer, Problem> {
    let mut lint = build.linter()?;
    let parsed = build.parse(&mut lint)?;
    let ignore = build.ignore_patterns();
    // Nothing is built: what the daemon would build for by itself will do.
    let outline = build.lower((&parsed, &ignore), None, false, &mut lint).await?.outline;
    let secrets = needed(outline.stages.iter().rev().map(|stage| &stage.secrets));
    let ssh = needed(outline.stages.iter().rev().map(|stage| &stage.ssh));
    let args = arguments(&outline);
    let shown = Shown {
        name: outline.name,
        description: outline.description,
        args,
        secrets,
        ssh,
        sources: vec![BASE64.encode(&build.source.excerpt.data)],
    };
    let text = text(&shown);
    Answer::new(&shown, text)
}

/// Returns the arguments that are used, by the place of their definition. Of several of a name that of the wanted stage
/// is told, or of the last before it.
fn arguments(outline: &Outline) -> Vec<Argument> {
    let mut found: BTreeMap<&str, &Definition> = BTreeMap::new();
    for stage in outline.stages.iter().rev() {
        let mut used = BTreeSet::new();
        let mut pending: Vec<&str> = stage.used.iter().map(String::as_str).collect();
        while let Some(name) = pending.pop() {
            if !used.insert(name) {
                continue;
            }
            let own = stage.arguments.get(name);
            if let Some(definition) = own.or_else(|| outline.globals.defined.get(name)) {
                found.entry(name).or_insert(definition);
                pending.extend(definition.needs.iter().map(String::as_str));
            }
        }
    }
    let mut found: Vec<_> = found.into_values().collect();
    found.sort_by_key(|definition| definition.lines);
    let shown = |definition: &Definition| Argument {
        name: definition.argument.name.clone(),
        description: definition.argument.description.clone(),
        value: definition.value.clone(),
        location: Location::of(definition.lines),
    };
    found.into_iter().map(shown).collect()
}

/// Returns what is needed, by the place where it is said first in the first stage that says it.
fn needed<'a>(stages: impl Iterator<Item = &'a BTreeMap<String, (bool, Lines)>>) -> Vec<Needed> {
    let mut found: BTreeMap<&String, (bool, Lines)> = BTreeMap::new();
    for (name, need) in stages.flatten() {
        found.entry(name).or_insert(*need);
    }
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by_key(|(_, (_, lines))| *lines);
    let shown = |(name, (required, lines)): (&String, (bool, Lines))| Needed {
        name: name.clone(),
        required,
        location: Location::of(lines),
    };
    found.into_iter().map(shown).collect()
}

fn text(shown: &Shown) -> String {
    let mut text = String::new();
    if !shown.name.is_empty() || !shown.description.is_empty() {
        let name = if shown.name.is_empty() { "(default)" } else { &shown.name };
        let mut rows = vec![vec!["TARGET:", name]];
        if !shown.description.is_empty() {
            rows.push(vec!["DESCRIPTION:", &shown.description]);
        }
        text.push_str(&aligned(&rows, 1));
        text.push('\n');
    }
    if !shown.args.is_empty() {
        let mut rows = vec![vec!["BUILD ARG", "VALUE", "DESCRIPTION"]];
        rows.extend(
            shown
                .args
                .iter()
                .map(|arg| vec![arg.name.as_str(), arg.value.as_str(), arg.description.as_str()]),
        );
        text.push_str(&aligned(&rows, 3));
        text.push('\n');
    }
    for (title, list) in [("SECRET", &shown.secrets), ("SSH", &shown.ssh)] {
        if !list.is_empty() {
            let mut rows = vec![vec![title, "REQUIRED"]];
            rows.extend(
                list.iter()
                    .map(|need| vec![need.name.as_str(), if need.required { "true" } else { "" }]),
            );
            text.push_str(&aligned(&rows, 3));
            text.push('\n');
        }
    }
    text
}
