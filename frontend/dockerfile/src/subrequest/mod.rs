//! Questions about a Dockerfile in place of a build (protocol page `gateway.md` §7).

mod describe;
mod graph;
mod lint;
mod location;
mod outline;
mod table;
mod targets;

use std::collections::BTreeMap;

use bridge::{BuildError, Detail, FrontendResult, Kind};
use bytes::Bytes;
use serde::Serialize;

use crate::error::Problem;
use crate::frontend::Build;

const VERSION: &str = "1.0.0";

/// Answers the question of this name.
pub(crate) async fn answer(build: &Build<'_>, id: &str) -> Result<FrontendResult, BuildError> {
    let answer = match id {
        "frontend.subrequests.describe" => describe::answer(),
        "frontend.outline" => outline::answer(build).await,
        "frontend.targets" => targets::answer(build),
        "frontend.lint" => lint::answer(build).await,
        "frontend.convertllb" => {
            let answer = graph::answer(build).await;
            return answer.map_err(|problem| build.build_error(problem));
        }
        other => {
            let text = format!("unsupported request {other}");
            let detail = Detail::Subrequest(other.to_owned());
            return Err(BuildError::new(Kind::Unsupported, text).with_detail(detail));
        }
    };
    answer.map(Answer::into_result).map_err(|problem| build.build_error(problem))
}

/// An answer in both forms.
struct Answer {
    json: Bytes,
    text: String,
    /// What a client exits with, where it asks for that.
    status: Option<u8>,
}

impl Answer {
    fn new(value: &impl Serialize, text: String) -> Result<Self, Problem> {
        Ok(Self { json: json(value)?, text, status: None })
    }

    fn into_result(self) -> FrontendResult {
        let mut metadata = BTreeMap::from([
            ("result.json".to_owned(), self.json),
            ("result.txt".to_owned(), Bytes::from(self.text)),
            ("version".to_owned(), Bytes::from_static(VERSION.as_bytes())),
        ]);
        if let Some(status) = self.status {
            metadata.insert("result.statuscode".to_owned(), status.to_string().into());
        }
        FrontendResult { metadata, ..FrontendResult::default() }
    }
}

fn json(value: &impl Serialize) -> Result<Bytes, BuildError> {
    let json = serde_json::to_vec_pretty(value);
    json.map(Bytes::from).map_err(|error| BuildError::from_error(Kind::Internal, error))
}
