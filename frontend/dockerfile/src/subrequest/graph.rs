//! The graph that the wanted stage becomes.

use std::collections::BTreeMap;

use bridge::FrontendResult;
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::json;
use crate::error::Problem;
use crate::frontend::{Build, marshal};

const VERSION: &str = "0.1.0";

#[derive(Serialize)]
struct Shown {
    def: BTreeMap<String, Value>,
    metadata: BTreeMap<String, Value>,
    source: Value,
}

/// Answers with JSON alone: a graph has no form for people.
pub(super) async fn answer(build: &Build<'_>) -> Result<FrontendResult, Problem> {
    let mut lint = build.linter()?;
    let parsed = build.parse(&mut lint)?;
    let ignore = build.ignore_patterns();
    // As of other questions, it is no matter for which platform a build is asked.
    let lowered = build.lower((&parsed, &ignore), None, false, &mut lint).await?;
    let messages = marshal(&lowered)?.messages();
    let shown =
        Shown { def: messages.operations, metadata: messages.metadata, source: messages.source };
    let metadata = BTreeMap::from([
        ("result.json".to_owned(), json(&shown)?),
        ("version".to_owned(), Bytes::from_static(VERSION.as_bytes())),
    ]);
    Ok(FrontendResult { metadata, ..FrontendResult::default() })
}
