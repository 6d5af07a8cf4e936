//! One case through the real client: what it shows, how it ends, and what it leaves.

use serde_json::Value;
use tempfile::TempDir;

use super::case::Case;
use super::outcome::Outcome;
use super::{documents, trees};
use crate::{Build, Buildx, Project};

/// Builds a case with a client, and `arguments` that this side needs.
///
/// The words `{out}` and `{project}` in an option stand for where the output goes, and for the directory of the
/// case; `env NAME=value` sets a variable of the client. Unless an option says otherwise, an image is built, without attestations.
pub(crate) fn build(
    client: &Buildx,
    arguments: &[String],
    case: &Case,
    project: &Project,
) -> anyhow::Result<Outcome> {
    let scratch = TempDir::with_prefix("larder-output-")?;
    let out = scratch.path().join("out");
    let fill = |text: &str| {
        text.replace("{out}", &out.display().to_string())
            .replace("{project}", &project.root().display().to_string())
    };
    let mut command = client.build(project).args(arguments).env("BUILDX_METADATA_WARNINGS", "1");
    let says = |words: &[&str]| {
        case.options.iter().any(|option| words.iter().any(|word| option.starts_with(word)))
    };
    if !says(&["--output", "--call", "--check", "--push"]) {
        command = command.arg("--output").arg(fill("type=oci,dest={out}"));
    }
    if !says(&["--provenance", "--attest", "--sbom"]) {
        command = command.arg("--provenance=false");
    }
    for option in &case.options {
        command = match option.strip_prefix("env ").and_then(|pair| pair.split_once('=')) {
            Some((name, value)) => command.env(name, fill(value)),
            None => command.arg(fill(option)),
        };
    }
    let build = command.run()?;
    let mut outcome = Outcome::default();
    outcome.add("exit", &build.status.code().unwrap_or(-1).to_string());
    describe_display(&build, &mut outcome);
    describe_answer(&build.stdout, &mut outcome);
    describe_metadata(&build.metadata, &mut outcome);
    if out.exists() || (build.status.success() && !says(&["--call", "--check"])) {
        trees::describe_output(&out, &mut outcome)?;
    }
    outcome.map(|line| line.replace(&project.root().display().to_string(), "{project}"));
    outcome.map(without_name_of_tree);
    // What a side has to be called with is in what it says of the build, and nobody's doing.
    let of_the_call =
        |line: &str| line.contains("force-network-mode") || line.ends_with("op.Op.exec.network 1");
    outcome.retain(|line| !of_the_call(line));
    Ok(outcome)
}

/// Writes down what was shown: the steps by their names, because they run side by side, and the rest.
fn describe_display(build: &Build, outcome: &mut Outcome) {
    let mut steps: Vec<_> = build.plain.steps().collect();
    steps.sort_by(|a, b| a.name.cmp(&b.name));
    // Whether the work for a text of the Dockerfile itself is shown depends on how soon it is done.
    let told = |name: &str| {
        !name.starts_with("building with ") && name != "[internal] preparing inline document"
    };
    for step in steps.iter().filter(|step| told(&step.name)) {
        outcome.add("step", &step.name);
        if let Some(error) = &step.error {
            outcome.add("step error", error);
        }
        if step.name.contains("] RUN ") {
            step.lines.iter().for_each(|line| outcome.add("step says", line));
        }
    }
    let rest = build.output.lines().map(without_colours);
    let rest = rest.filter(|line| !is_of_a_step(line));
    // The client shows warnings in an order that changes from call to call.
    let (mut warnings, rest): (Vec<_>, Vec<_>) = rest.partition(|line| line.starts_with(" - "));
    warnings.sort();
    for line in rest.iter().chain(&warnings) {
        outcome.add("shown", without_time(line));
    }
}

/// Writes down the answer to a question: a document, or a text.
fn describe_answer(text: &str, outcome: &mut Outcome) {
    match serde_json::from_str::<Value>(text) {
        Ok(document) => documents::describe(&document, "stdout", outcome),
        Err(_) => outcome.add("stdout", text),
    }
}

/// Returns a line without the commands to a terminal in it.
fn without_colours(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(part.split_once('m').map_or(part, |(_, rest)| rest));
    }
    text
}

/// Returns whether a line belongs to a numbered step.
fn is_of_a_step(line: &str) -> bool {
    let number = line.strip_prefix('#').and_then(|rest| rest.split_once(' '));
    number.is_some_and(|(number, _)| number.parse::<u32>().is_ok()) || line.trim().is_empty()
}

/// Returns a message without what each daemon calls a tree by itself.
fn without_name_of_tree(line: &str) -> String {
    const BEFORE: &str = "checksum of ref ";
    let Some((before, rest)) = line.split_once(BEFORE) else { return line.to_owned() };
    let (_, after) = rest.split_once(": ").unwrap_or((rest, ""));
    format!("{before}{BEFORE}?: {after}")
}

/// Returns a line without the time at its start.
fn without_time(line: &str) -> &str {
    let said = line.split_once(' ');
    let timed = said.filter(|(time, _)| time.contains('.') && time.parse::<f64>().is_ok());
    timed.map_or(line, |(_, said)| said)
}

fn describe_metadata(metadata: &Value, outcome: &mut Outcome) {
    // Failed builds write none.
    if metadata.is_null() {
        return;
    }
    let mut metadata = metadata.clone();
    let warnings = metadata.get_mut("buildx.build.warnings");
    if let Some(warnings) = warnings.and_then(Value::as_array_mut) {
        warnings.sort_by_key(|warning| format!("{} {}", warning["short"], warning["range"]));
    }
    documents::describe(&metadata, "metadata", outcome);
}
