//! One case through a frontend alone: the graph and the configuration that it makes of a Dockerfile, its
//! warnings, or its error. Nothing is built, so this is cheap.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use prost::Message as _;
use proto::control::{CacheOptions, SolveRequest, StatusRequest, VertexWarning};
use proto::{gateway, pb, rpc};
use serde_json::Value;
use tonic::Status;

use super::case::Case;
use super::documents;
use super::graph::{describe, range};
use super::outcome::Outcome;
use crate::{Graph, Wire};

/// Gives each build of this process a name of its own.
static BUILDS: AtomicUsize = AtomicUsize::new(0);

/// What a frontend is called by, and with which options.
#[derive(Debug, Clone, Default)]
pub(crate) struct Frontend {
    /// Such as `dockerfile.v0`.
    pub(crate) name: String,
    /// Such as the `source` of `gateway.v0`.
    pub(crate) options: BTreeMap<String, String>,
    /// What the build asks to be allowed.
    pub(crate) entitlements: Vec<String>,
}

/// Puts a Dockerfile to the frontend of a daemon.
pub(crate) async fn lower(
    wire: &Wire,
    frontend: &Frontend,
    case: &Case,
) -> anyhow::Result<Outcome> {
    let number = BUILDS.fetch_add(1, Ordering::Relaxed);
    let build = format!("lower-{}-{number}", std::process::id());
    let request = SolveRequest {
        r#ref: build.clone(),
        cache: Some(CacheOptions::default()),
        internal: true,
        entitlements: frontend.entitlements.clone(),
        ..SolveRequest::default()
    };
    let mut control = wire.control();
    let (solved, answered, warnings) = tokio::join!(
        control.solve(request),
        ask(wire, &build, frontend, case),
        warnings(wire, &build)
    );
    let mut outcome = Outcome::default();
    match answered? {
        Ok(result) => {
            solved.context("the build that the frontend belongs to")?;
            describe_result(&result, &mut outcome)?;
        }
        Err(status) => describe_error(&status, &mut outcome),
    }
    // In which order they are sent is nobody's business.
    let mut warnings: Vec<_> =
        warnings.iter().map(|warning| (&warning.short, describe_warning(warning))).collect();
    warnings.sort();
    warnings.iter().for_each(|(_, text)| outcome.add("warning", text));
    Ok(outcome)
}

/// Asks the frontend, and ends the build it is asked in.
async fn ask(
    wire: &Wire,
    build: &str,
    frontend: &Frontend,
    case: &Case,
) -> anyhow::Result<Result<gateway::Result, Status>> {
    let mut bridge = wire.bridge(build)?;
    bridge.ping(gateway::PingRequest::default()).await?;
    let mut options = frontend.options.clone();
    for option in &case.options {
        let (key, value) = option.split_once('=').context("an option is `key=value`")?;
        options.insert(key.to_owned(), value.to_owned());
    }
    let request = gateway::SolveRequest {
        frontend: frontend.name.clone(),
        frontend_opt: options,
        frontend_inputs: inputs(case),
        allow_result_return: true,
        allow_result_array_ref: true,
        ..gateway::SolveRequest::default()
    };
    let answer = bridge.solve(request).await;
    let end = match &answer {
        Ok(_) => gateway::ReturnRequest { result: Some(gateway::Result::default()), error: None },
        Err(status) => gateway::ReturnRequest { result: None, error: Some(wire_status(status)) },
    };
    bridge.r#return(end).await?;
    Ok(match answer {
        Ok(answer) => Ok(answer.into_inner().result.unwrap_or_default()),
        Err(status) => Err(status),
    })
}

fn wire_status(status: &Status) -> rpc::Status {
    rpc::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    }
}

/// Returns the directories of a case as graphs, so that no client has to have them.
fn inputs(case: &Case) -> BTreeMap<String, pb::Definition> {
    let tree = |path: &str, contents: &str| {
        let mut graph = Graph::default();
        let file = graph.file(None, path, contents.as_bytes());
        graph.finish(&file)
    };
    BTreeMap::from([
        ("dockerfile".to_owned(), tree("/Dockerfile", &case.dockerfile)),
        ("context".to_owned(), tree("/context", "the context\n")),
    ])
}

/// Returns what a build warned of, when it has ended.
async fn warnings(wire: &Wire, build: &str) -> Vec<VertexWarning> {
    let mut warnings = Vec::new();
    let request = StatusRequest { r#ref: build.to_owned() };
    if let Ok(stream) = wire.control().status(request).await {
        let mut stream = stream.into_inner();
        while let Ok(Some(part)) = stream.message().await {
            warnings.extend(part.warnings);
        }
    }
    warnings
}

fn describe_result(result: &gateway::Result, outcome: &mut Outcome) -> anyhow::Result<()> {
    for (key, value) in &result.metadata {
        let text = String::from_utf8_lossy(value);
        match serde_json::from_str::<Value>(&text) {
            Ok(document) => documents::describe(&document, key, outcome),
            Err(_) => outcome.add(key, &text),
        }
    }
    for (platform, said) in &result.attestations {
        for attestation in &said.attestation {
            describe_attestation(attestation, &format!("attestation {platform}"), outcome)?;
        }
    }
    use gateway::result::Result::{Ref, Refs};
    match &result.result {
        Some(Ref(single)) => describe_reference(single, "graph", outcome),
        Some(Refs(several)) => several.refs.iter().try_for_each(|(platform, reference)| {
            describe_reference(reference, &format!("graph {platform}"), outcome)
        }),
        other => {
            outcome.add("graph", &format!("{other:?}"));
            Ok(())
        }
    }
}

fn describe_attestation(
    attestation: &gateway::Attestation,
    place: &str,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    for (key, value) in &attestation.metadata {
        outcome.add(place, &format!("{key}={}", String::from_utf8_lossy(value)));
    }
    let gateway::Attestation { kind, path, in_toto_predicate_type, in_toto_subjects, .. } =
        attestation;
    let said = format!("{kind} {path:?} {in_toto_predicate_type} {in_toto_subjects:?}");
    outcome.add(place, &said);
    describe_reference(&attestation.r#ref.clone().unwrap_or_default(), place, outcome)
}

fn describe_reference(
    reference: &gateway::Ref,
    place: &str,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    match &reference.def {
        Some(definition) => describe(definition, place, outcome),
        None => {
            outcome.add(place, "none");
            Ok(())
        }
    }
}

fn describe_error(status: &Status, outcome: &mut Outcome) {
    outcome.add("error", status.message());
    let details = rpc::Status::decode(status.details()).unwrap_or_default().details;
    for detail in details.iter().filter(|detail| detail.type_url.ends_with("errdefs.Source+json")) {
        let source: Value = serde_json::from_slice(&detail.value).unwrap_or_default();
        outcome.add("error", &format!("in {} {}", source["info"]["filename"], source["ranges"]));
    }
}

/// Returns a warning as a text: where it is and what it is about, and what else it says.
fn describe_warning(warning: &VertexWarning) -> String {
    let ranges: Vec<_> = warning.ranges.iter().map(range).collect();
    let short = String::from_utf8_lossy(&warning.short);
    let mut text = format!("{} {} {short}\n", ranges.join(" "), warning.level);
    for detail in &warning.detail {
        text.push_str(&String::from_utf8_lossy(detail));
        text.push('\n');
    }
    text + &warning.url
}
