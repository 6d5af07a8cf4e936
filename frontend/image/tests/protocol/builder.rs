//! A builder at the other end of a pipe in memory. It keeps what it was asked, and refuses whatever it did
//! not announce.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::stream::{self, BoxStream};
use image::Environment;
use proto::apicaps::ApiCap;
use proto::gateway as message;
use proto::gateway::llb_bridge_server::{LlbBridge, LlbBridgeServer};
use proto::{pb, worker};
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status, Streaming};

const CONFIG: &str = r#"{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:0000000000000000000000000000000000000000000000000000000000000001"]},"history":[{"created_by":"base"}]}"#;

/// A builder, as a value.
#[derive(Debug, Clone)]
pub(crate) struct Builder {
    files: BTreeMap<String, String>,
    options: BTreeMap<String, String>,
    inputs: BTreeMap<String, pb::Definition>,
    questions: Vec<ApiCap>,
    graphs: Vec<ApiCap>,
    said: Arc<Mutex<Said>>,
}

/// What the frontend asked and gave back.
#[derive(Debug, Default, Clone)]
pub(crate) struct Said {
    pub(crate) calls: Vec<String>,
    pub(crate) solved: Vec<message::SolveRequest>,
    pub(crate) warned: Vec<message::WarnRequest>,
    pub(crate) returned: Option<message::ReturnRequest>,
}

impl Said {
    /// Returns the result that was given back.
    pub(crate) fn result(&self) -> &message::Result {
        let returned = self.returned.as_ref().expect("an answer");
        returned.result.as_ref().unwrap_or_else(|| panic!("a result, not {:?}", returned.error))
    }

    /// Returns the error that was given back.
    pub(crate) fn error(&self) -> &proto::rpc::Status {
        let returned = self.returned.as_ref().expect("an answer");
        returned.error.as_ref().expect("an error")
    }

    /// Returns how often a method was called.
    pub(crate) fn count(&self, call: &str) -> usize {
        self.calls.iter().filter(|name| *name == call).count()
    }
}

impl Builder {
    /// Returns a builder that can do everything, with this Dockerfile.
    pub(crate) fn new(dockerfile: &str) -> Self {
        let all = |list: &[llb::caps::Capability]| {
            let announced = |one: &llb::caps::Capability| ApiCap {
                id: one.id.to_owned(),
                enabled: true,
                ..ApiCap::default()
            };
            list.iter().map(announced).collect()
        };
        Self {
            files: [("Dockerfile".to_owned(), dockerfile.to_owned())].into(),
            options: BTreeMap::new(),
            inputs: BTreeMap::new(),
            questions: all(&llb::caps::FRONTEND),
            graphs: all(&llb::caps::LLB),
            said: Arc::default(),
        }
    }

    /// Takes a feature away.
    pub(crate) fn without(mut self, capability: &str) -> Self {
        let known = self.questions.len() + self.graphs.len();
        self.questions.retain(|one| one.id != capability);
        self.graphs.retain(|one| one.id != capability);
        assert!(self.questions.len() + self.graphs.len() < known, "{capability} is no capability");
        self
    }

    /// Takes all lists away, as the oldest builders have none.
    pub(crate) fn without_lists(mut self) -> Self {
        self.questions.clear();
        self.graphs.clear();
        self
    }

    pub(crate) fn option(mut self, key: &str, value: &str) -> Self {
        self.options.insert(key.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn input(mut self, name: &str, graph: pb::Definition) -> Self {
        self.inputs.insert(name.to_owned(), graph);
        self
    }

    /// Runs the frontend to its end; returns how it ended, and what it said before.
    pub(crate) async fn run(self) -> (Result<(), image::ProgramError>, Said) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let environment = Environment {
            options: self.options.clone(),
            session: "session".to_owned(),
            workers: Vec::new(),
        };
        let said = self.said.clone();
        let service = LlbBridgeServer::new(self);
        let incoming = stream::once(std::future::ready(Ok::<_, std::io::Error>(ours)));
        let serve = Server::builder().add_service(service).serve_with_incoming(incoming);
        let (served, outcome) = tokio::join!(serve, image::answer(theirs, environment));
        served.expect("served");
        let said = said.lock().unwrap().clone();
        (outcome, said)
    }

    /// Runs the frontend, which must give an answer.
    pub(crate) async fn answered(self) -> Said {
        let (outcome, said) = self.run().await;
        outcome.expect("an answer");
        said
    }

    fn note(&self, call: &str, needs: &str) -> Result<(), Status> {
        self.said.lock().unwrap().calls.push(call.to_owned());
        let announced = needs.is_empty() || self.questions.iter().any(|one| one.id == needs);
        if announced { Ok(()) } else { Err(Status::unimplemented(format!("no {needs} here"))) }
    }
}

type Answer<T> = Result<Response<T>, Status>;

fn never<T>() -> Answer<T> {
    Err(Status::internal("nobody asks this"))
}

#[tonic::async_trait]
impl LlbBridge for Builder {
    type ExecProcessStream = BoxStream<'static, Result<message::ExecMessage, Status>>;

    async fn ping(&self, _request: Request<message::PingRequest>) -> Answer<message::PongResponse> {
        self.note("ping", "")?;
        let platform = pb::Platform {
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
            ..pb::Platform::default()
        };
        let worker = worker::WorkerRecord { platforms: vec![platform], ..Default::default() };
        Ok(Response::new(message::PongResponse {
            frontend_api_caps: self.questions.clone(),
            llb_caps: self.graphs.clone(),
            workers: vec![worker],
        }))
    }

    async fn solve(
        &self,
        request: Request<message::SolveRequest>,
    ) -> Answer<message::SolveResponse> {
        self.note("solve", "solve.base")?;
        let request = request.into_inner();
        let mut said = self.said.lock().unwrap();
        let def = request.definition.clone();
        let id = match &def {
            Some(def) if !def.def.is_empty() => format!("r{}", said.solved.len()),
            _ => String::new(),
        };
        said.solved.push(request);
        let one = message::result::Result::Ref(message::Ref { id, def });
        let result = message::Result { result: Some(one), ..Default::default() };
        Ok(Response::new(message::SolveResponse { r#ref: String::new(), result: Some(result) }))
    }

    async fn read_file(
        &self,
        request: Request<message::ReadFileRequest>,
    ) -> Answer<message::ReadFileResponse> {
        self.note("read_file", "readfile")?;
        let path = request.into_inner().file_path;
        let missing = || Status::unknown(format!("open {path}: no such file or directory"));
        let text = self.files.get(&path).ok_or_else(missing)?;
        Ok(Response::new(message::ReadFileResponse { data: text.clone().into() }))
    }

    async fn resolve_source_meta(
        &self,
        request: Request<message::ResolveSourceMetaRequest>,
    ) -> Answer<message::ResolveSourceMetaResponse> {
        self.note("resolve_source_meta", "source.metaresolver")?;
        let source = request.into_inner().source.unwrap_or_default();
        if source.identifier.contains("missing") {
            return Err(Status::not_found(format!("{}: not found", source.identifier)));
        }
        let image = message::ResolveSourceImageResponse {
            digest: format!("sha256:{}", "1".repeat(64)),
            config: CONFIG.into(),
            attestation_chain: None,
        };
        let (source, image) = (Some(source), Some(image));
        Ok(Response::new(message::ResolveSourceMetaResponse {
            source,
            image,
            ..Default::default()
        }))
    }

    async fn resolve_image_config(
        &self,
        request: Request<message::ResolveImageConfigRequest>,
    ) -> Answer<message::ResolveImageConfigResponse> {
        self.note("resolve_image_config", "resolveimage")?;
        Ok(Response::new(message::ResolveImageConfigResponse {
            digest: format!("sha256:{}", "2".repeat(64)),
            config: CONFIG.into(),
            r#ref: request.into_inner().r#ref,
        }))
    }

    async fn inputs(
        &self,
        _request: Request<message::InputsRequest>,
    ) -> Answer<message::InputsResponse> {
        self.note("inputs", "frontend.inputs")?;
        Ok(Response::new(message::InputsResponse { definitions: self.inputs.clone() }))
    }

    async fn warn(&self, request: Request<message::WarnRequest>) -> Answer<message::WarnResponse> {
        self.note("warn", "gateway.warnings")?;
        self.said.lock().unwrap().warned.push(request.into_inner());
        Ok(Response::new(message::WarnResponse {}))
    }

    async fn r#return(
        &self,
        request: Request<message::ReturnRequest>,
    ) -> Answer<message::ReturnResponse> {
        self.note("return", "return")?;
        let again = self.said.lock().unwrap().returned.replace(request.into_inner());
        match again {
            None => Ok(Response::new(message::ReturnResponse {})),
            Some(_) => Err(Status::new(Code::Unknown, "answered twice")),
        }
    }

    async fn stat_file(
        &self,
        _request: Request<message::StatFileRequest>,
    ) -> Answer<message::StatFileResponse> {
        self.note("stat_file", "statfile")?;
        let stat = Some(proto::fsutil::Stat::default());
        Ok(Response::new(message::StatFileResponse { stat }))
    }

    async fn evaluate(
        &self,
        _request: Request<message::EvaluateRequest>,
    ) -> Answer<message::EvaluateResponse> {
        self.note("evaluate", "gateway.evaluate")?;
        Ok(Response::new(message::EvaluateResponse {}))
    }

    async fn read_dir(
        &self,
        _request: Request<message::ReadDirRequest>,
    ) -> Answer<message::ReadDirResponse> {
        never()
    }

    async fn new_container(
        &self,
        _request: Request<message::NewContainerRequest>,
    ) -> Answer<message::NewContainerResponse> {
        never()
    }

    async fn release_container(
        &self,
        _request: Request<message::ReleaseContainerRequest>,
    ) -> Answer<message::ReleaseContainerResponse> {
        never()
    }

    async fn exec_process(
        &self,
        _request: Request<Streaming<message::ExecMessage>>,
    ) -> Answer<Self::ExecProcessStream> {
        never()
    }

    async fn read_file_container(
        &self,
        _request: Request<message::ReadFileRequest>,
    ) -> Answer<message::ReadFileResponse> {
        never()
    }

    async fn read_dir_container(
        &self,
        _request: Request<message::ReadDirRequest>,
    ) -> Answer<message::ReadDirResponse> {
        never()
    }

    async fn stat_file_container(
        &self,
        _request: Request<message::StatFileRequest>,
    ) -> Answer<message::StatFileResponse> {
        never()
    }
}
