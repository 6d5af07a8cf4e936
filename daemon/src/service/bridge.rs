//! A client as the frontend of its own build (protocol page `gateway.md` §1, §3): the build is the
//! one that the call's metadata names, and the conversation about it has the answers.

use ::gateway::BridgeService as Conversation;
use builder::Builder;
use proto::gateway;
use proto::gateway::llb_bridge_server::LlbBridge;
use tonic::{Request, Response, Status, Streaming};

use crate::status;

/// The metadata that names the build.
const BUILD: &str = "buildkit-controlapi-buildid";

/// Passes a client's calls on to the conversation about its build.
#[derive(Debug)]
pub(super) struct BridgeService {
    builder: Builder,
}

impl BridgeService {
    pub(super) fn new(builder: Builder) -> Self {
        Self { builder }
    }

    /// Returns the conversation that a call belongs to; its build may be about to begin.
    async fn of<T>(&self, request: &Request<T>) -> Result<Conversation, Status> {
        let mut named = request.metadata().get_all(BUILD).into_iter();
        let (Some(reference), None) = (named.next(), named.next()) else {
            return Err(Status::unknown("no buildid found in context"));
        };
        let reference = reference.to_str();
        let reference = reference.map_err(|_| Status::invalid_argument("invalid build id"))?;
        self.builder.bridge(reference).await.map_err(status::of)
    }
}

/// Passes calls on, each by its name with the types of question and answer.
macro_rules! passed_on {
    ($($name:ident($question:ty) -> $answer:ty;)*) => {
        #[tonic::async_trait]
        impl LlbBridge for BridgeService {
            type ExecProcessStream = <Conversation as LlbBridge>::ExecProcessStream;

            $(
                async fn $name(
                    &self,
                    request: Request<$question>,
                ) -> Result<Response<$answer>, Status> {
                    self.of(&request).await?.$name(request).await
                }
            )*
        }
    };
}

passed_on! {
    resolve_image_config(gateway::ResolveImageConfigRequest) -> gateway::ResolveImageConfigResponse;
    resolve_source_meta(gateway::ResolveSourceMetaRequest) -> gateway::ResolveSourceMetaResponse;
    solve(gateway::SolveRequest) -> gateway::SolveResponse;
    read_file(gateway::ReadFileRequest) -> gateway::ReadFileResponse;
    read_dir(gateway::ReadDirRequest) -> gateway::ReadDirResponse;
    stat_file(gateway::StatFileRequest) -> gateway::StatFileResponse;
    evaluate(gateway::EvaluateRequest) -> gateway::EvaluateResponse;
    ping(gateway::PingRequest) -> gateway::PongResponse;
    r#return(gateway::ReturnRequest) -> gateway::ReturnResponse;
    inputs(gateway::InputsRequest) -> gateway::InputsResponse;
    warn(gateway::WarnRequest) -> gateway::WarnResponse;
    new_container(gateway::NewContainerRequest) -> gateway::NewContainerResponse;
    release_container(gateway::ReleaseContainerRequest) -> gateway::ReleaseContainerResponse;
    exec_process(Streaming<gateway::ExecMessage>) -> Self::ExecProcessStream;
    read_file_container(gateway::ReadFileRequest) -> gateway::ReadFileResponse;
    read_dir_container(gateway::ReadDirRequest) -> gateway::ReadDirResponse;
    stat_file_container(gateway::StatFileRequest) -> gateway::StatFileResponse;
}
