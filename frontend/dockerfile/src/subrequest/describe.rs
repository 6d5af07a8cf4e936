//! Which questions there are.

use serde::Serialize;

use super::table::aligned;
use super::{Answer, VERSION};
use crate::error::Problem;

#[derive(Serialize)]
struct Description {
    name: &'static str,
    version: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    description: &'static str,
    opts: Option<Vec<Named>>,
    inputs: Option<Vec<Named>>,
    metadata: Vec<Named>,
    refs: Option<Vec<Named>>,
}

#[derive(Serialize)]
struct Named {
    name: &'static str,
    description: &'static str,
}

pub(super) fn answer() -> Result<Answer, Problem> {
    let target = Named { name: "target", description: "Target build stage" };
    let all = [
        describe(
            "frontend.outline",
            "List all parameters current build target supports",
            Some(vec![target]),
        ),
        describe("frontend.targets", "List all targets current build supports", Some(Vec::new())),
        describe("frontend.subrequests.describe", "List available subrequest types", None),
    ];
    let mut rows = vec![vec!["NAME", "VERSION", "DESCRIPTION"]];
    rows.extend(all.iter().map(|entry| {
        let name = entry.name.strip_prefix("frontend.").unwrap_or(entry.name);
        vec![name, entry.version, entry.description]
    }));
    Answer::new(&all, aligned(&rows, 1))
}

fn describe(
    name: &'static str,
    description: &'static str,
    opts: Option<Vec<Named>>,
) -> Description {
    let metadata = |name| Named { name, description: "" };
    Description {
        name,
        version: VERSION,
        kind: "rpc",
        description,
        opts,
        inputs: None,
        metadata: vec![metadata("result.json"), metadata("result.txt")],
        refs: None,
    }
}
