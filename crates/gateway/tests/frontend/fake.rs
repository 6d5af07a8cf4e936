//! A build and its containers in memory. The process of a container is a function that talks over the
//! streams that it was given.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bridge::{
    Bridge, BuildError, Container, ContainerProcess, ContainerRequest, Containers, FileRange,
    FileStat, Frontend as _, FrontendRequest, FrontendResult, Kind, Process, ProcessStreams,
    RefHandle, ResolvedImage, Results, SolveRequest, SolvedRef, SourceMeta, SourceMetaRequest,
    Warning, WorkerInfo,
};
use bytes::Bytes;
use digests::Digest;
use futures::future::BoxFuture;
use futures::{FutureExt as _, SinkExt as _, StreamExt as _};
use gateway::ContainerFrontend;
use hyper_util::rt::TokioIo;
use llb::Definition;
use oci::Platform;
use proto::gateway::llb_bridge_client::LlbBridgeClient;
use tokio::sync::{Notify, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};
use tokio_util::sync::PollSender;
use tonic::transport::{Channel, Endpoint};

/// What a frontend's process has.
pub(crate) struct Talk {
    /// The build.
    pub(crate) build: LlbBridgeClient<Channel>,
    /// Where it complains.
    pub(crate) stderr: mpsc::Sender<Bytes>,
}

/// What a frontend's process does; it ends with this status.
pub(crate) type Script = Arc<dyn Fn(Talk) -> BoxFuture<'static, u32> + Send + Sync>;

/// A build in memory.
#[derive(Clone)]
pub(crate) struct Build(Arc<Inner>);

struct Inner {
    /// Image configurations by name.
    images: BTreeMap<String, String>,
    script: Script,
    seen: Mutex<Seen>,
}

/// What the build was asked.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    pub(crate) resolved: Vec<SourceMetaRequest>,
    pub(crate) solved: Vec<SolveRequest>,
    pub(crate) containers: Vec<ContainerRequest>,
    pub(crate) processes: Vec<ContainerProcess>,
    pub(crate) released: usize,
}

impl std::fmt::Debug for Build {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Build").finish_non_exhaustive()
    }
}

impl Build {
    /// Returns a build that knows the image `example.com/frontend:1` of this configuration, whose process
    /// does what `script` does.
    pub(crate) fn new<F, Fut>(config: &str, script: F) -> Self
    where
        F: Fn(Talk) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = u32> + Send + 'static,
    {
        let config = format!(r#"{{"architecture":"amd64","os":"linux","config":{config}}}"#);
        let images = [
            ("docker-image://example.com/frontend:1".to_owned(), config.clone()),
            ("docker-image://example.com/other:1".to_owned(), config),
        ];
        Self(Arc::new(Inner {
            images: images.into(),
            script: Arc::new(move |talk| script(talk).boxed()),
            seen: Mutex::default(),
        }))
    }

    /// Runs the frontend `example.com/frontend:1` with these options and inputs.
    pub(crate) async fn run(
        &self,
        options: &[(&str, &str)],
        inputs: &[(&str, Definition)],
    ) -> Result<FrontendResult, BuildError> {
        self.run_with(ContainerFrontend::default(), options, inputs).await
    }

    pub(crate) async fn run_with(
        &self,
        frontend: ContainerFrontend,
        options: &[(&str, &str)],
        inputs: &[(&str, Definition)],
    ) -> Result<FrontendResult, BuildError> {
        let source = [("source", "example.com/frontend:1")];
        let options = source.iter().chain(options).map(|(k, v)| ((*k).into(), (*v).into()));
        let inputs = inputs.iter().map(|(name, graph)| ((*name).to_owned(), graph.clone()));
        let request = FrontendRequest { options: options.collect(), inputs: inputs.collect() };
        frontend.run(Arc::new(self.clone()), request).await
    }

    pub(crate) fn seen(&self) -> Seen {
        self.0.seen.lock().unwrap().clone()
    }

    fn note(&self, note: impl FnOnce(&mut Seen)) {
        note(&mut self.0.seen.lock().unwrap());
    }
}

#[async_trait]
impl Bridge for Build {
    async fn solve(&self, request: SolveRequest) -> Result<FrontendResult, BuildError> {
        self.note(|seen| seen.solved.push(request.clone()));
        let id = format!("r{}", self.seen().solved.len());
        let solved = SolvedRef { handle: RefHandle::new(id), definition: request.definition };
        Ok(FrontendResult { results: Results::Single(solved), ..FrontendResult::default() })
    }

    async fn evaluate(&self, _reference: &RefHandle) -> Result<(), BuildError> {
        panic!("nobody wants it built");
    }

    async fn read_file(
        &self,
        _reference: &RefHandle,
        path: &str,
        _range: Option<FileRange>,
    ) -> Result<Bytes, BuildError> {
        Ok(format!("content of {path}").into())
    }

    async fn read_dir(
        &self,
        _reference: &RefHandle,
        _path: &str,
        _include: Option<&str>,
    ) -> Result<Vec<FileStat>, BuildError> {
        panic!("nobody lists anything");
    }

    async fn stat_file(&self, _reference: &RefHandle, _path: &str) -> Result<FileStat, BuildError> {
        panic!("nobody looks at anything");
    }

    async fn resolve_source(&self, request: SourceMetaRequest) -> Result<SourceMeta, BuildError> {
        self.note(|seen| seen.resolved.push(request.clone()));
        let config = self.0.images.get(&request.identifier).or_else(|| {
            let layout = request.identifier.starts_with("oci-layout://");
            self.0.images.values().next().filter(|_| layout)
        });
        let config = config.ok_or_else(|| {
            BuildError::new(Kind::NotFound, format!("{}: not found", request.identifier))
        })?;
        let image = ResolvedImage { digest: Digest::of("m"), config: config.clone().into() };
        Ok(SourceMeta {
            identifier: request.identifier,
            attributes: request.attributes,
            image: Some(image),
            commit: None,
            file: None,
        })
    }

    async fn warn(&self, _warning: Warning) -> Result<(), BuildError> {
        Ok(())
    }

    fn workers(&self) -> Vec<WorkerInfo> {
        vec![WorkerInfo {
            id: "w".to_owned(),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            platforms: vec![Platform::new("linux", "amd64")],
        }]
    }

    fn session(&self) -> String {
        "sid".to_owned()
    }

    fn containers(&self) -> Option<Arc<dyn Containers>> {
        Some(Arc::new(self.clone()))
    }
}

#[async_trait]
impl Containers for Build {
    async fn create(&self, request: ContainerRequest) -> Result<Arc<dyn Container>, BuildError> {
        self.note(|seen| seen.containers.push(request));
        Ok(Arc::new(self.clone()))
    }
}

#[async_trait]
impl Container for Build {
    async fn start(
        &self,
        process: ContainerProcess,
        streams: ProcessStreams,
    ) -> Result<Box<dyn Process>, BuildError> {
        self.note(|seen| seen.processes.push(process));
        let (script, killed, ended) =
            (self.0.script.clone(), Arc::new(Notify::new()), watch::Sender::new(None));
        let (kill, end) = (killed.clone(), ended.clone());
        let run = async move {
            let body = async {
                let stderr = streams.stderr.expect("a stream");
                let (stdin, stdout) = (streams.stdin.expect("one"), streams.stdout.expect("one"));
                script(Talk { build: connect(stdin, stdout).await, stderr }).await
            };
            let code = tokio::select! {
                code = body => code,
                () = killed.notified() => 137,
            };
            ended.send_replace(Some(code));
        };
        let task = tasks::spawn("process", run);
        Ok(Box::new(Fake { kill, end, _task: task }))
    }

    async fn read_file(
        &self,
        _mount: usize,
        _path: &str,
        _range: Option<FileRange>,
    ) -> Result<Bytes, BuildError> {
        panic!("nobody looks into it");
    }

    async fn read_dir(
        &self,
        _mount: usize,
        _path: &str,
        _include: Option<&str>,
    ) -> Result<Vec<FileStat>, BuildError> {
        panic!("nobody looks into it");
    }

    async fn stat_file(&self, _mount: usize, _path: &str) -> Result<FileStat, BuildError> {
        panic!("nobody looks into it");
    }

    async fn release(&self) -> Result<(), BuildError> {
        self.note(|seen| seen.released += 1);
        Ok(())
    }
}

async fn connect(
    stdin: mpsc::Receiver<Bytes>,
    stdout: mpsc::Sender<Bytes>,
) -> LlbBridgeClient<Channel> {
    let reader = StreamReader::new(ReceiverStream::new(stdin).map(Ok::<Bytes, io::Error>));
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    let writer = SinkWriter::new(CopyToBytes::new(PollSender::new(stdout).sink_map_err(gone)));
    let mut pipes = Some(TokioIo::new(tokio::io::join(reader, writer)));
    let connector = tower::service_fn(move |_| {
        std::future::ready(pipes.take().ok_or_else(|| io::Error::other("hung up")))
    });
    let endpoint = Endpoint::from_static("http://build");
    LlbBridgeClient::new(endpoint.connect_with_connector_lazy(connector))
}

/// A process that is a task.
#[derive(Debug)]
struct Fake {
    kill: Arc<Notify>,
    end: watch::Sender<Option<u32>>,
    _task: tasks::Task<()>,
}

#[async_trait]
impl Process for Fake {
    async fn wait(&self) -> Result<u32, BuildError> {
        let mut ended = self.end.subscribe();
        let code = ended.wait_for(Option::is_some).await.expect("an end");
        Ok(code.expect("a status"))
    }

    fn signal(&self, signal: &str) -> Result<(), BuildError> {
        assert_eq!(signal, "KILL");
        self.kill.notify_one();
        Ok(())
    }

    fn resize(&self, _rows: u16, _columns: u16) -> Result<(), BuildError> {
        panic!("it has no terminal");
    }
}
