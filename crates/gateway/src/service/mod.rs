//! The LLBBridge service: what a frontend may ask of its build, over the wire (protocol page
//! `gateway.md` §1, §3).
//!
//! One [`BridgeService`] is one conversation: of a client that drives its own build, or of a frontend
//! that runs as a container. It knows neither how its calls came here nor what follows from the answer
//! that it is given at the end.

mod containers;
mod exec;

use std::collections::BTreeMap;
use std::sync::Arc;

use bridge::{Bridge, BuildError, FrontendResult, Kind, RefHandle};
use futures::stream::BoxStream;
use llb::Definition;
use parking_lot::Mutex;
use proto::MAX_MESSAGE_SIZE;
use proto::gateway;
use proto::gateway::llb_bridge_server::{LlbBridge, LlbBridgeServer};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, Streaming};

use self::containers::ContainerTable;
use crate::{status, wire};

/// What a frontend says at the end: its result, or why it has none.
pub type Verdict = Result<FrontendResult, BuildError>;

/// One frontend's conversation with its build. Clones are the same conversation.
///
/// Containers that the frontend asks for live as long as the conversation at the longest: whoever
/// serves it keeps a clone for as long as the frontend may call, and drops it then.
#[derive(Debug, Clone)]
pub struct BridgeService(Arc<Conversation>);

#[derive(Debug)]
struct Conversation {
    bridge: Arc<dyn Bridge>,
    inputs: BTreeMap<String, Definition>,
    /// Gone once the frontend has said how it ends. Held for a look only.
    verdict: Mutex<Option<oneshot::Sender<Verdict>>>,
    containers: ContainerTable,
}

impl BridgeService {
    /// Opens a conversation about the build behind `bridge`, with a frontend that was given `inputs`.
    ///
    /// What the frontend says at the end arrives at the receiver; that ends a client's build, or a
    /// frontend. If the last clone is dropped without it, the receiver is told so.
    pub fn new(
        bridge: Arc<dyn Bridge>,
        inputs: BTreeMap<String, Definition>,
    ) -> (Self, oneshot::Receiver<Verdict>) {
        let (sender, receiver) = oneshot::channel();
        let verdict = Mutex::new(Some(sender));
        let containers = ContainerTable::default();
        (Self(Arc::new(Conversation { bridge, inputs, verdict, containers })), receiver)
    }

    /// Returns the conversation as a service for a connection that has no other.
    pub fn into_server(self) -> LlbBridgeServer<Self> {
        LlbBridgeServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE_SIZE)
            .max_encoding_message_size(MAX_MESSAGE_SIZE)
    }

    fn bridge(&self) -> &dyn Bridge {
        self.0.bridge.as_ref()
    }

    /// Takes what the frontend says at the end.
    ///
    /// # Errors
    /// Returns an error if it has said so before.
    fn give_back(&self, verdict: Verdict) -> Result<(), BuildError> {
        let sender = self.0.verdict.lock().take();
        let sender = sender.ok_or_else(|| {
            BuildError::new(Kind::InvalidRequest, "gateway result is already set")
        })?;
        // If the build was cancelled meanwhile, nobody wants the result.
        let _ = sender.send(verdict);
        Ok(())
    }
}

fn handle(id: String, path: &str) -> Result<RefHandle, Status> {
    if id.is_empty() {
        return Err(Status::unknown(format!("empty ref: no file system to find `{path}` in")));
    }
    Ok(RefHandle::new(id))
}

/// Returns a pattern; an empty one is none.
fn pattern(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl LlbBridge for BridgeService {
    type ExecProcessStream = BoxStream<'static, Result<gateway::ExecMessage, Status>>;

    async fn resolve_image_config(
        &self,
        request: Request<gateway::ResolveImageConfigRequest>,
    ) -> Answer<gateway::ResolveImageConfigResponse> {
        let question = wire::image_question(request.into_inner()).map_err(status::of)?;
        let meta = self.bridge().resolve_source(question).await.map_err(status::of)?;
        wire::image_reference(meta).map(Response::new).map_err(status::of)
    }

    async fn resolve_source_meta(
        &self,
        request: Request<gateway::ResolveSourceMetaRequest>,
    ) -> Answer<gateway::ResolveSourceMetaResponse> {
        let question = wire::source_question(request.into_inner()).map_err(status::of)?;
        let meta = self.bridge().resolve_source(question).await.map_err(status::of)?;
        Ok(Response::new(wire::source_answer(meta)))
    }

    async fn solve(
        &self,
        request: Request<gateway::SolveRequest>,
    ) -> Answer<gateway::SolveResponse> {
        let request = request.into_inner();
        let (with_result, with_definitions) =
            (request.allow_result_return, request.allow_result_array_ref);
        let last = request.r#final.then(|| request.exporter_attr.clone());
        let solve = wire::to_solve(request).map_err(status::of)?;
        let result = self.bridge().solve(solve).await.map_err(status::of)?;
        if let Some(attributes) = last {
            // How frontends that do not know `Return` say that they are done.
            let mut result = result.clone();
            result.metadata.extend(wire::last_metadata(&attributes).map_err(status::of)?);
            self.give_back(Ok(result)).map_err(status::of)?;
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
        let request = request.into_inner();
        let reference = handle(request.r#ref, &request.file_path)?;
        let range = request.range.map(wire::file_range).transpose().map_err(status::of)?;
        let data = self.bridge().read_file(&reference, &request.file_path, range).await;
        Ok(Response::new(gateway::ReadFileResponse { data: data.map_err(status::of)? }))
    }

    async fn read_dir(
        &self,
        request: Request<gateway::ReadDirRequest>,
    ) -> Answer<gateway::ReadDirResponse> {
        let request = request.into_inner();
        let reference = handle(request.r#ref, &request.dir_path)?;
        let include = pattern(&request.include_pattern);
        let files = self.bridge().read_dir(&reference, &request.dir_path, include).await;
        Ok(Response::new(wire::directory(files.map_err(status::of)?)))
    }

    async fn stat_file(
        &self,
        request: Request<gateway::StatFileRequest>,
    ) -> Answer<gateway::StatFileResponse> {
        let request = request.into_inner();
        let reference = handle(request.r#ref, &request.path)?;
        let file = self.bridge().stat_file(&reference, &request.path).await.map_err(status::of)?;
        Ok(Response::new(gateway::StatFileResponse { stat: Some(wire::stat(file)) }))
    }

    async fn evaluate(
        &self,
        request: Request<gateway::EvaluateRequest>,
    ) -> Answer<gateway::EvaluateResponse> {
        let reference = handle(request.into_inner().r#ref, "/")?;
        self.bridge().evaluate(&reference).await.map_err(status::of)?;
        Ok(Response::new(gateway::EvaluateResponse {}))
    }

    async fn ping(&self, _request: Request<gateway::PingRequest>) -> Answer<gateway::PongResponse> {
        Ok(Response::new(wire::pong(&self.bridge().workers())))
    }

    async fn r#return(
        &self,
        request: Request<gateway::ReturnRequest>,
    ) -> Answer<gateway::ReturnResponse> {
        let gateway::ReturnRequest { result, error } = request.into_inner();
        let verdict = match (result, error) {
            (Some(result), None) => Ok(wire::from_result(result).map_err(status::of)?),
            (None, Some(error)) => Err(wire::from_rpc(error)),
            _ => return Err(Status::unknown("gateway return must be either result or err")),
        };
        self.give_back(verdict).map_err(status::of)?;
        Ok(Response::new(gateway::ReturnResponse {}))
    }

    async fn inputs(
        &self,
        _request: Request<gateway::InputsRequest>,
    ) -> Answer<gateway::InputsResponse> {
        let inputs = self.0.inputs.iter();
        let definitions = inputs.map(|(name, graph)| (name.clone(), graph.to_wire())).collect();
        Ok(Response::new(gateway::InputsResponse { definitions }))
    }

    async fn warn(&self, request: Request<gateway::WarnRequest>) -> Answer<gateway::WarnResponse> {
        let warning = wire::warning(request.into_inner()).map_err(status::of)?;
        self.bridge().warn(warning).await.map_err(status::of)?;
        Ok(Response::new(gateway::WarnResponse {}))
    }

    async fn new_container(
        &self,
        request: Request<gateway::NewContainerRequest>,
    ) -> Answer<gateway::NewContainerResponse> {
        let request = request.into_inner();
        let id = request.container_id.clone();
        let wanted = wire::container(request).map_err(status::of)?;
        let made = self.0.containers.make(self.bridge(), &id, wanted).await;
        made.map_err(status::of)?;
        Ok(Response::new(gateway::NewContainerResponse {}))
    }

    async fn release_container(
        &self,
        request: Request<gateway::ReleaseContainerRequest>,
    ) -> Answer<gateway::ReleaseContainerResponse> {
        let id = request.into_inner().container_id;
        let container = self.0.containers.take(&id).map_err(status::of)?;
        container.release().await.map_err(status::of)?;
        Ok(Response::new(gateway::ReleaseContainerResponse {}))
    }

    async fn exec_process(
        &self,
        request: Request<Streaming<gateway::ExecMessage>>,
    ) -> Answer<Self::ExecProcessStream> {
        Ok(Response::new(exec::answers(self.clone(), request.into_inner())))
    }

    async fn read_file_container(
        &self,
        request: Request<gateway::ReadFileRequest>,
    ) -> Answer<gateway::ReadFileResponse> {
        let request = request.into_inner();
        let (container, mount) = self.0.containers.mount(&request.r#ref, request.mount_index)?;
        let range = request.range.map(wire::file_range).transpose().map_err(status::of)?;
        let data = container.read_file(mount, &request.file_path, range).await;
        Ok(Response::new(gateway::ReadFileResponse { data: data.map_err(status::of)? }))
    }

    async fn read_dir_container(
        &self,
        request: Request<gateway::ReadDirRequest>,
    ) -> Answer<gateway::ReadDirResponse> {
        let request = request.into_inner();
        let (container, mount) = self.0.containers.mount(&request.r#ref, request.mount_index)?;
        let include = pattern(&request.include_pattern);
        let files = container.read_dir(mount, &request.dir_path, include).await;
        Ok(Response::new(wire::directory(files.map_err(status::of)?)))
    }

    async fn stat_file_container(
        &self,
        request: Request<gateway::StatFileRequest>,
    ) -> Answer<gateway::StatFileResponse> {
        let request = request.into_inner();
        let (container, mount) = self.0.containers.mount(&request.r#ref, request.mount_index)?;
        let file = container.stat_file(mount, &request.path).await.map_err(status::of)?;
        Ok(Response::new(gateway::StatFileResponse { stat: Some(wire::stat(file)) }))
    }
}
