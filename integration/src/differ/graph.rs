//! A graph as lines: its vertices in the order in which they are needed, each with what is not as always.

use std::collections::BTreeMap;

use anyhow::Context as _;
use prost::Message as _;
use proto::pb;
use sha2::{Digest as _, Sha256};

use super::outcome::Outcome;

/// Writes a graph down at `place`.
pub(crate) fn describe(
    definition: &pb::Definition,
    place: &str,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let mut graph = Graph { ops: BTreeMap::new(), numbers: BTreeMap::new(), order: Vec::new() };
    let mut last = None;
    for bytes in &definition.def {
        let digest = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>();
        let digest = format!("sha256:{digest}");
        graph.ops.insert(digest.clone(), pb::Op::decode(bytes.clone())?);
        last = Some(digest);
    }
    let Some(last) = last else {
        outcome.add(place, "nothing");
        return Ok(());
    };
    graph.visit(&last)?;
    for (number, digest) in graph.order.iter().enumerate() {
        let op = graph.ops.get(digest).context("a vertex was visited")?;
        let place = format!("{place} #{number}");
        describe_metadata(definition, digest, &place, outcome);
        outcome.add(&place, &flatten(&graph.with_numbers(op)));
    }
    Ok(())
}

struct Graph {
    ops: BTreeMap<String, pb::Op>,
    numbers: BTreeMap<String, usize>,
    order: Vec<String>,
}

impl Graph {
    /// Numbers a vertex after its inputs.
    fn visit(&mut self, digest: &str) -> anyhow::Result<()> {
        if self.numbers.contains_key(digest) {
            return Ok(());
        }
        let op = self.ops.get(digest).with_context(|| format!("the graph has no {digest}"))?;
        let inputs: Vec<_> = op.inputs.iter().map(|input| input.digest.clone()).collect();
        for input in inputs {
            self.visit(&input)?;
        }
        self.numbers.insert(digest.to_owned(), self.order.len());
        self.order.push(digest.to_owned());
        Ok(())
    }

    fn with_numbers(&self, op: &pb::Op) -> pb::Op {
        let mut op = op.clone();
        for input in &mut op.inputs {
            if let Some(number) = self.numbers.get(&input.digest) {
                input.digest = format!("#{number}");
            }
        }
        op
    }
}

fn describe_metadata(
    definition: &pb::Definition,
    digest: &str,
    place: &str,
    outcome: &mut Outcome,
) {
    if let Some(metadata) = definition.metadata.get(digest) {
        for (key, value) in &metadata.description {
            outcome.add(place, &format!("{key} {value:?}"));
        }
        if metadata.ignore_cache {
            outcome.add(place, "without cache");
        }
        if let Some(group) = &metadata.progress_group {
            let weak = if group.weak { " weak" } else { "" };
            outcome.add(place, &format!("group {:?}{weak}", group.name));
        }
        if let Some(resources) = &metadata.linux_resources {
            outcome.add(place, &flatten(resources));
        }
    }
    let places = definition.source.iter().filter_map(|source| source.locations.get(digest));
    for location in places.flat_map(|places| &places.locations) {
        let lines: Vec<_> = location.ranges.iter().map(range).collect();
        outcome.add(place, &format!("lines {}", lines.join(" ")));
    }
}

/// Returns a range of lines as text.
pub(crate) fn range(range: &pb::Range) -> String {
    let position = |position: Option<pb::Position>| {
        let position = position.unwrap_or_default();
        format!("{}:{}", position.line, position.character)
    };
    format!("{}-{}", position(range.start), position(range.end))
}

/// Returns a message as lines of path and value, without what is empty.
fn flatten(message: &impl std::fmt::Debug) -> String {
    const EMPTY: [&str; 9] = ["0", "\"\"", "false", "None", "[]", "{}", "b\"\"", "-0", "Unset"];
    let mut path: Vec<String> = Vec::new();
    let mut text = String::new();
    for line in format!("{message:#?}").lines() {
        let line = line.trim().trim_end_matches(',');
        let (name, value) = match line.split_once(": ") {
            Some((name, value)) if !name.starts_with(['"', 'b']) || value.ends_with(['{', '[']) => {
                (name, value)
            }
            _ if line.ends_with(['{', '[', '(']) => (line.trim_end_matches(['{', '[', '(']), line),
            _ => ("", line),
        };
        if value.ends_with(['{', '[', '(']) {
            path.push(name.trim().trim_start_matches("Some").to_owned());
        } else if value.starts_with(['}', ']', ')']) {
            path.pop();
        } else if !EMPTY.contains(&value) {
            let parts = path.iter().map(String::as_str).chain([name]);
            let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
            text.push_str(&format!("{} {value}\n", parts[1.min(parts.len())..].join(".")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Graph as Made;

    #[test]
    fn a_graph_is_described_without_digests() {
        let mut made = Made::default();
        let file = made.file(None, "/a", b"x");
        let run = made.run(&file, "true");
        let definition = made.finish(&run);
        let mut outcome = Outcome::default();
        describe(&definition, "graph", &mut outcome).unwrap();
        let text = outcome.lines().join("\n");
        assert!(text.contains("graph #1: inputs.Input.digest \"#0\""), "{text}");
        assert!(text.contains("\"true\"") && text.contains("path \"/a\""), "{text}");
        assert!(!text.contains("sha256:"), "{text}");
    }
}
