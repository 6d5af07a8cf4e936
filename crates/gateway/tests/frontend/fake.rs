//! A build in memory whose containers are functions: the process of a container talks over the streams that it
//! was given.

use std::io;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bridge::testing::{MemoryBuild, Said};
use bridge::{
    BuildError, Container, ContainerProcess, ContainerRequest, Containers, FileRange, FileStat,
    Frontend as _, FrontendRequest, FrontendResult, Process, ProcessStreams,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, SinkExt as _, StreamExt as _};
use gateway::ContainerFrontend;
use hyper_util::rt::TokioIo;
use llb::Definition;
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

/// A build in memory, and where its containers are.
#[derive(Debug)]
pub(crate) struct Build {
    bridge: Arc<MemoryBuild>,
    machine: Machine,
}

/// What runs the processes of containers.
#[derive(Clone)]
struct Machine(Arc<Inner>);

struct Inner {
    script: Script,
    seen: Mutex<Seen>,
}

/// What was asked of the containers.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    pub(crate) containers: Vec<ContainerRequest>,
    pub(crate) processes: Vec<ContainerProcess>,
    pub(crate) released: usize,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").finish_non_exhaustive()
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
        let script: Script = Arc::new(move |talk| script(talk).boxed());
        let machine = Machine(Arc::new(Inner { script, seen: Mutex::default() }));
        let bridge = MemoryBuild::new()
            .image("example.com/frontend:1", &config)
            .image("example.com/other:1", &config)
            .image(&format!("example.com/frontend@sha256:{}", "1".repeat(64)), &config)
            .file("frontend:dockerfile.v0", "f", "content of f")
            .containers_in(Arc::new(machine.clone()));
        Self { bridge: Arc::new(bridge), machine }
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
        frontend.run(self.bridge.clone(), request).await
    }

    /// Returns what the build was asked.
    pub(crate) fn said(&self) -> Said {
        self.bridge.said()
    }

    /// Returns what its containers were asked.
    pub(crate) fn seen(&self) -> Seen {
        self.machine.0.seen.lock().unwrap().clone()
    }
}

impl Machine {
    fn note(&self, note: impl FnOnce(&mut Seen)) {
        note(&mut self.0.seen.lock().unwrap());
    }
}

#[async_trait]
impl Containers for Machine {
    async fn create(&self, request: ContainerRequest) -> Result<Arc<dyn Container>, BuildError> {
        self.note(|seen| seen.containers.push(request));
        Ok(Arc::new(self.clone()))
    }
}

#[async_trait]
impl Container for Machine {
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
