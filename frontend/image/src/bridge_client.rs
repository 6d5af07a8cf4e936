//! The bridge of a build, asked over a connection.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bridge::{
    Bridge, BuildError, FileRange, FileStat, FrontendResult, Kind, RefHandle, Results,
    SolveRequest, SolvedRef, SourceMeta, SourceMetaRequest, Warning, WorkerInfo,
};
use bytes::Bytes;
use gateway::{status, wire};
use llb::Definition;
use proto::gateway as message;
use proto::gateway::llb_bridge_client::LlbBridgeClient;
use proto::pb;
use tonic::transport::Channel;

use crate::Environment;
use crate::capabilities::Capabilities;

/// How long a builder may take to say what it can do.
const INTRODUCTION: Duration = Duration::from_secs(15);

/// One build of the builder at the other end.
#[derive(Debug)]
pub(crate) struct BridgeClient {
    client: LlbBridgeClient<Channel>,
    /// What may be asked.
    questions: Capabilities,
    /// What graphs may use.
    graphs: Capabilities,
    workers: Vec<WorkerInfo>,
    session: String,
}

impl BridgeClient {
    /// Asks the builder what it can do.
    ///
    /// # Errors
    /// Returns an error if it does not answer, or is too old to be given an answer.
    pub(crate) async fn introduce(
        channel: Channel,
        environment: &Environment,
    ) -> Result<Self, BuildError> {
        let mut client = LlbBridgeClient::new(channel)
            .max_decoding_message_size(proto::MAX_MESSAGE_SIZE)
            .max_encoding_message_size(proto::MAX_MESSAGE_SIZE);
        let ping = tokio::time::timeout(INTRODUCTION, client.ping(message::PingRequest {})).await;
        let silent = |_| BuildError::new(Kind::TimedOut, "the builder does not answer");
        let pong = ping.map_err(silent)?.map_err(|status| status::error(&status))?.into_inner();
        let (questions, graphs) =
            (Capabilities::new(pong.frontend_api_caps), Capabilities::new(pong.llb_caps));
        if questions.is_empty() || graphs.is_empty() {
            let text = "the builder is too old for this frontend: it does not say what it can do";
            return Err(BuildError::new(Kind::Unsupported, text));
        }
        questions.check("return")?;
        let told: Vec<_> = pong.workers.into_iter().map(wire::worker).collect();
        let told_platforms = told.iter().any(|worker| !worker.platforms.is_empty());
        let workers = if told_platforms { told } else { environment.workers.clone() };
        Ok(Self { client, questions, graphs, workers, session: environment.session.clone() })
    }

    /// Returns the graphs that were given by name.
    pub(crate) async fn inputs(&self) -> Result<BTreeMap<String, Definition>, BuildError> {
        if !self.questions.has("frontend.inputs") {
            return Ok(BTreeMap::new());
        }
        let inputs = self.client().inputs(message::InputsRequest {}).await;
        wire::definitions(answer(inputs)?.definitions)
    }

    /// Says how the build ends.
    ///
    /// # Errors
    /// Returns an error if the builder did not hear it.
    pub(crate) async fn give_back(
        &self,
        outcome: Result<FrontendResult, BuildError>,
    ) -> Result<(), BuildError> {
        let outcome = outcome.and_then(|result| self.may_return(&result).map(|()| result));
        let said = match outcome {
            Ok(result) => {
                let result = wire::to_result(result, self.questions.has("proto.refarray"));
                message::ReturnRequest { result: Some(result), error: None }
            }
            Err(error) => {
                message::ReturnRequest { result: None, error: Some(wire::to_rpc(&error)) }
            }
        };
        answer(self.client().r#return(said).await).map(|_| ())
    }

    fn may_return(&self, result: &FrontendResult) -> Result<(), BuildError> {
        match &result.results {
            Results::ByPlatform(several) if several.len() > 1 => self.questions.check("returnmap"),
            Results::None | Results::Single(_) | Results::ByPlatform(_) => Ok(()),
        }
    }

    /// Returns a handle for one call; handles share the connection.
    fn client(&self) -> LlbBridgeClient<Channel> {
        self.client.clone()
    }

    /// Checks that a graph uses only what the builder can do.
    fn check(&self, graph: &pb::Definition) -> Result<(), BuildError> {
        let mut used = graph.metadata.values().flat_map(|metadata| metadata.caps.keys());
        used.try_for_each(|id| self.graphs.check(id))
    }

    async fn stat(&self, handle: &RefHandle, path: &str) -> Result<FileStat, BuildError> {
        self.questions.check("statfile")?;
        let question = message::StatFileRequest {
            r#ref: handle.as_str().to_owned(),
            path: path.to_owned(),
            ..Default::default()
        };
        let stat = answer(self.client().stat_file(question).await)?.stat;
        stat.map(wire::file_stat).ok_or_else(|| wire::silent("file"))
    }
}

/// Returns what a call was answered with.
fn answer<T>(response: Result<tonic::Response<T>, tonic::Status>) -> Result<T, BuildError> {
    match response {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => Err(status::error(&status)),
    }
}

#[async_trait]
impl Bridge for BridgeClient {
    async fn solve(&self, request: SolveRequest) -> Result<FrontendResult, BuildError> {
        let mut asked = wire::solve_message(request);
        if let Some(graph) = &asked.definition {
            self.check(graph)?;
        }
        if !self.questions.has("importcaches") {
            // They only make a build faster.
            asked.cache_imports.clear();
        }
        let look = asked.evaluate && !self.questions.has("gateway.solve.evaluate");
        asked.evaluate &= !look;
        let given = answer(self.client().solve(asked).await)?;
        let result = match given.result {
            Some(result) => wire::given_result(result)?,
            None => {
                let handle = RefHandle::new(given.r#ref);
                let results = Results::Single(SolvedRef { handle, definition: None });
                FrontendResult { results, ..FrontendResult::default() }
            }
        };
        if look {
            for tree in result.trees() {
                self.evaluate(&tree.handle).await?;
            }
        }
        Ok(result)
    }

    async fn evaluate(&self, reference: &RefHandle) -> Result<(), BuildError> {
        if reference.is_empty() {
            return Ok(());
        }
        if !self.questions.has("gateway.evaluate") {
            // Who looks at a result has it built.
            return self.stat(reference, ".").await.map(|_| ());
        }
        let question = message::EvaluateRequest { r#ref: reference.as_str().to_owned() };
        answer(self.client().evaluate(question).await).map(|_| ())
    }

    async fn read_file(
        &self,
        reference: &RefHandle,
        path: &str,
        range: Option<FileRange>,
    ) -> Result<Bytes, BuildError> {
        let question = message::ReadFileRequest {
            r#ref: reference.as_str().to_owned(),
            file_path: path.to_owned(),
            range: range.map(wire::range_message),
            ..Default::default()
        };
        Ok(answer(self.client().read_file(question).await)?.data)
    }

    async fn read_dir(
        &self,
        reference: &RefHandle,
        path: &str,
        include: Option<&str>,
    ) -> Result<Vec<FileStat>, BuildError> {
        self.questions.check("readdir")?;
        let question = message::ReadDirRequest {
            r#ref: reference.as_str().to_owned(),
            dir_path: path.to_owned(),
            include_pattern: include.unwrap_or_default().to_owned(),
            ..Default::default()
        };
        let listed = answer(self.client().read_dir(question).await)?;
        Ok(listed.entries.into_iter().map(wire::file_stat).collect())
    }

    async fn stat_file(&self, reference: &RefHandle, path: &str) -> Result<FileStat, BuildError> {
        self.stat(reference, path).await
    }

    async fn resolve_source(&self, request: SourceMetaRequest) -> Result<SourceMeta, BuildError> {
        if self.questions.has("source.metaresolver") {
            let question = wire::source_message(request);
            return wire::source_meta(answer(self.client().resolve_source_meta(question).await)?);
        }
        let Some(question) = wire::image_message(request.clone()) else {
            // Such builders find out when they need the source.
            return Ok(SourceMeta {
                identifier: request.identifier,
                attributes: request.attributes,
                image: None,
                commit: None,
                file: None,
            });
        };
        let found = answer(self.client().resolve_image_config(question).await)?;
        wire::image_meta(&request, found)
    }

    async fn warn(&self, warning: Warning) -> Result<(), BuildError> {
        if !self.questions.has("gateway.warnings") {
            return Ok(());
        }
        answer(self.client().warn(wire::warn_message(warning)).await).map(|_| ())
    }

    fn supports(&self, capability: &str) -> bool {
        self.graphs.has(capability)
    }

    fn workers(&self) -> Vec<WorkerInfo> {
        self.workers.clone()
    }

    fn session(&self) -> String {
        self.session.clone()
    }
}
