//! A client as the frontend of its own build (protocol page `gateway.md` §1, §3): the build is the
//! one that the call's metadata names.

use std::sync::Arc;

use ::bridge::{BuildError, Kind, RefHandle};
use ::gateway::wire;
use builder::ClientBridge;
use futures::stream::BoxStream;
use proto::gateway;
use proto::gateway::llb_bridge_server::LlbBridge;
use tonic::{Request, Response, Status, Streaming};

use super::Services;
use crate::status;

/// The metadata that names the build.
const BUILD: &str = "buildkit-controlapi-buildid";

/// Passes a client's questions on to its build.
#[derive(Debug)]
pub(super) struct BridgeService {
    services: Services,
}

impl BridgeService {
    pub(super) fn new(services: Services) -> Self {
        Self { services }
    }

    /// Returns the build of a call, which may be about to begin.
    async fn build<T>(&self, request: &Request<T>) -> Result<Arc<ClientBridge>, Status> {
        let mut named = request.metadata().get_all(BUILD).into_iter();
        let (Some(reference), None) = (named.next(), named.next()) else {
            return Err(Status::unknown("no buildid found in context"));
        };
        let reference = reference.to_str();
        let reference = reference.map_err(|_| Status::invalid_argument("invalid build id"))?;
        self.services.builder.bridge(reference).await.map_err(status::of)
    }
}

fn handle(id: String, path: &str) -> Result<RefHandle, Status> {
    if id.is_empty() {
        return Err(Status::unknown(format!("empty ref: no file system to find `{path}` in")));
    }
    Ok(RefHandle::new(id))
}

/// Containers that a client asks for have their own issue.
fn no_containers() -> Status {
    let text = "containers outside of a build step are not supported yet";
    status::of(BuildError::new(Kind::Unsupported, text))
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl LlbBridge for BridgeService {
    type ExecProcessStream = BoxStream<'static, Result<gateway::ExecMessage, Status>>;

    async fn resolve_image_config(
        &self,
        request: Request<gateway::ResolveImageConfigRequest>,
    ) -> Answer<gateway::ResolveImageConfigResponse> {
        let build = self.build(&request).await?;
        let question = wire::image_question(request.into_inner()).map_err(status::of)?;
        let meta = build.bridge().resolve_source(question).await.map_err(status::of)?;
        wire::image_reference(meta).map(Response::new).map_err(status::of)
    }

    async fn resolve_source_meta(
        &self,
        request: Request<gateway::ResolveSourceMetaRequest>,
    ) -> Answer<gateway::ResolveSourceMetaResponse> {
        let build = self.build(&request).await?;
        let question = wire::source_question(request.into_inner()).map_err(status::of)?;
        let meta = build.bridge().resolve_source(question).await.map_err(status::of)?;
        Ok(Response::new(wire::source_answer(meta)))
    }

    async fn solve(
        &self,
        request: Request<gateway::SolveRequest>,
    ) -> Answer<gateway::SolveResponse> {
        let build = self.build(&request).await?;
        let request = request.into_inner();
        let (with_result, with_definitions) =
            (request.allow_result_return, request.allow_result_array_ref);
        let is_last = request.r#final;
        let solve = wire::to_solve(request).map_err(status::of)?;
        let result = build.bridge().solve(solve).await.map_err(status::of)?;
        if is_last {
            // How clients that do not know `Return` say that they are done.
            build.give_back(Ok(result.clone())).map_err(status::of)?;
        }
        let result = wire::to_result(result, with_definitions);
        if with_result {
            return Ok(Response::new(gateway::SolveResponse {
                r#ref: String::new(),
                result: Some(result),
            }));
        }
        let r#ref = match result.result {
            Some(gateway::result::Result::Ref(one)) => one.id,
            Some(gateway::result::Result::RefDeprecated(id)) => id,
            _ => return Err(Status::unknown("this client cannot take several results")),
        };
        Ok(Response::new(gateway::SolveResponse { r#ref, result: None }))
    }

    async fn read_file(
        &self,
        request: Request<gateway::ReadFileRequest>,
    ) -> Answer<gateway::ReadFileResponse> {
        let build = self.build(&request).await?;
        let request = request.into_inner();
        let reference = handle(request.r#ref, &request.file_path)?;
        let range = request.range.map(wire::file_range).transpose().map_err(status::of)?;
        let data = build.bridge().read_file(&reference, &request.file_path, range).await;
        Ok(Response::new(gateway::ReadFileResponse { data: data.map_err(status::of)? }))
    }

    async fn read_dir(
        &self,
        request: Request<gateway::ReadDirRequest>,
    ) -> Answer<gateway::ReadDirResponse> {
        let build = self.build(&request).await?;
        let request = request.into_inner();
        let reference = handle(request.r#ref, &request.dir_path)?;
        let include = Some(&*request.include_pattern).filter(|pattern| !pattern.is_empty());
        let files = build.bridge().read_dir(&reference, &request.dir_path, include).await;
        Ok(Response::new(wire::directory(files.map_err(status::of)?)))
    }

    async fn stat_file(
        &self,
        request: Request<gateway::StatFileRequest>,
    ) -> Answer<gateway::StatFileResponse> {
        let build = self.build(&request).await?;
        let request = request.into_inner();
        let reference = handle(request.r#ref, &request.path)?;
        let file = build.bridge().stat_file(&reference, &request.path).await.map_err(status::of)?;
        Ok(Response::new(gateway::StatFileResponse { stat: Some(wire::stat(file)) }))
    }

    async fn evaluate(
        &self,
        request: Request<gateway::EvaluateRequest>,
    ) -> Answer<gateway::EvaluateResponse> {
        let build = self.build(&request).await?;
        let reference = handle(request.into_inner().r#ref, "/")?;
        build.bridge().evaluate(&reference).await.map_err(status::of)?;
        Ok(Response::new(gateway::EvaluateResponse {}))
    }

    async fn ping(&self, request: Request<gateway::PingRequest>) -> Answer<gateway::PongResponse> {
        self.build(&request).await?;
        Ok(Response::new(wire::pong(&self.services.workers.workers)))
    }

    async fn r#return(
        &self,
        request: Request<gateway::ReturnRequest>,
    ) -> Answer<gateway::ReturnResponse> {
        let build = self.build(&request).await?;
        let gateway::ReturnRequest { result, error } = request.into_inner();
        let verdict = match (result, error) {
            (Some(result), None) => Ok(wire::from_result(result).map_err(status::of)?),
            (None, Some(error)) => Err(wire::from_rpc(error)),
            _ => return Err(Status::unknown("gateway return must be either result or err")),
        };
        build.give_back(verdict).map_err(status::of)?;
        Ok(Response::new(gateway::ReturnResponse {}))
    }

    async fn inputs(
        &self,
        request: Request<gateway::InputsRequest>,
    ) -> Answer<gateway::InputsResponse> {
        let build = self.build(&request).await?;
        let inputs = build.inputs().iter();
        let definitions = inputs.map(|(name, graph)| (name.clone(), graph.to_wire())).collect();
        Ok(Response::new(gateway::InputsResponse { definitions }))
    }

    async fn warn(&self, request: Request<gateway::WarnRequest>) -> Answer<gateway::WarnResponse> {
        let build = self.build(&request).await?;
        let warning = wire::warning(request.into_inner()).map_err(status::of)?;
        build.bridge().warn(warning).await.map_err(status::of)?;
        Ok(Response::new(gateway::WarnResponse {}))
    }

    async fn new_container(
        &self,
        _request: Request<gateway::NewContainerRequest>,
    ) -> Answer<gateway::NewContainerResponse> {
        Err(no_containers())
    }

    async fn release_container(
        &self,
        _request: Request<gateway::ReleaseContainerRequest>,
    ) -> Answer<gateway::ReleaseContainerResponse> {
        Err(no_containers())
    }

    async fn exec_process(
        &self,
        _request: Request<Streaming<gateway::ExecMessage>>,
    ) -> Answer<Self::ExecProcessStream> {
        Err(no_containers())
    }

    async fn read_file_container(
        &self,
        _request: Request<gateway::ReadFileRequest>,
    ) -> Answer<gateway::ReadFileResponse> {
        Err(no_containers())
    }

    async fn read_dir_container(
        &self,
        _request: Request<gateway::ReadDirRequest>,
    ) -> Answer<gateway::ReadDirResponse> {
        Err(no_containers())
    }

    async fn stat_file_container(
        &self,
        _request: Request<gateway::StatFileRequest>,
    ) -> Answer<gateway::StatFileResponse> {
        Err(no_containers())
    }
}
