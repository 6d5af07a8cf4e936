//! A connection to the service, and a client of it that puts up with nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use bridge::FrontendResult;
use bridge::testing::MemoryBuild;
use bytes::Bytes;
use gateway::{BridgeService, Verdict};
use hyper_util::rt::TokioIo;
use llb::Definition;
use proto::gateway::exec_message::Input;
use proto::gateway::llb_bridge_client::LlbBridgeClient;
use proto::gateway::{
    ExecMessage, ExitMessage, FdMessage, InitMessage, NewContainerRequest, SignalMessage,
};
use proto::pb;
use tasks::Task;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tonic::{Code, Status, Streaming};

use crate::fakes::{Events, FakeContainers};

/// A conversation with a fake build, over a connection in memory.
pub(crate) struct Connection {
    pub(crate) client: LlbBridgeClient<Channel>,
    pub(crate) verdict: oneshot::Receiver<Result<FrontendResult, bridge::BuildError>>,
    pub(crate) build: Arc<MemoryBuild>,
    pub(crate) events: Events,
    _served: Task<()>,
}

impl Connection {
    pub(crate) async fn open() -> Self {
        Self::given(BTreeMap::new()).await
    }

    /// Opens one to a frontend that was given these inputs.
    pub(crate) async fn given(inputs: BTreeMap<String, Definition>) -> Self {
        let containers = FakeContainers::default();
        let events = containers.events.clone();
        let build = MemoryBuild::new().containers_in(Arc::new(containers));
        Self { events, ..Self::to(build, inputs).await }
    }

    /// Opens one with a build of which no event is told.
    pub(crate) async fn to(build: MemoryBuild, inputs: BTreeMap<String, Definition>) -> Self {
        let build = Arc::new(build);
        let (service, verdict): (_, oneshot::Receiver<Verdict>) =
            BridgeService::new(build.clone(), inputs);
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let incoming = tokio_stream::iter([Ok::<_, std::io::Error>(theirs)]);
        let router = Server::builder().add_service(service.into_server());
        let served = tasks::spawn("serve", async move {
            router.serve_with_incoming(incoming).await.unwrap();
        });
        let mut ours = Some(TokioIo::new(ours));
        let connect = tower::service_fn(move |_: Uri| {
            let ours = ours.take().ok_or_else(|| std::io::Error::other("one connection only"));
            std::future::ready(ours)
        });
        let endpoint = Endpoint::from_static("http://build");
        let channel = endpoint.connect_with_connector(connect).await.unwrap();
        Self {
            client: LlbBridgeClient::new(channel),
            verdict,
            build,
            events: Events::default(),
            _served: served,
        }
    }

    pub(crate) async fn container(&self, id: &str) -> Result<(), Status> {
        self.container_named(id, id).await
    }

    pub(crate) async fn container_named(&self, id: &str, hostname: &str) -> Result<(), Status> {
        let root = pb::Mount { dest: "/".to_owned(), ..pb::Mount::default() };
        let request = NewContainerRequest {
            container_id: id.to_owned(),
            mounts: vec![root],
            hostname: hostname.to_owned(),
            ..NewContainerRequest::default()
        };
        self.client.clone().new_container(request).await.map(|_| ())
    }

    pub(crate) async fn exec(&self) -> Exec {
        let (messages, receiver) = mpsc::channel(1);
        let answers = self.client.clone().exec_process(ReceiverStream::new(receiver)).await;
        Exec {
            messages: Some(messages),
            answers: answers.unwrap().into_inner(),
            told: BTreeMap::new(),
        }
    }

    pub(crate) fn events(&self) -> Vec<String> {
        self.events.lock().clone()
    }

    /// Waits until something happened.
    pub(crate) async fn happened(&self, event: &str) {
        while !self.events.lock().iter().any(|one| one == event) {
            tokio::task::yield_now().await;
        }
    }
}

/// The stream of processes, which puts up with nothing that a client may not expect.
pub(crate) struct Exec {
    messages: Option<mpsc::Sender<ExecMessage>>,
    answers: Streaming<ExecMessage>,
    told: BTreeMap<String, Told>,
}

/// What was told of a process.
#[derive(Debug, Default, Clone)]
pub(crate) struct Told {
    wanted: Vec<u32>,
    started: bool,
    said: BTreeMap<u32, Vec<u8>>,
    closed: Vec<u32>,
    pub(crate) exit: Option<ExitMessage>,
    done: bool,
}

impl Told {
    pub(crate) fn said(&self, fd: u32) -> String {
        String::from_utf8(self.said.get(&fd).cloned().unwrap_or_default()).unwrap()
    }

    pub(crate) fn code(&self) -> Option<u32> {
        self.exit.as_ref().map(|exit| exit.code)
    }

    fn hear(&mut self, input: Input) {
        assert!(!self.done, "nothing comes after the end");
        match input {
            Input::Started(_) => assert!(!std::mem::replace(&mut self.started, true)),
            Input::File(FdMessage { fd, eof, data }) => {
                assert!(self.started, "it starts before it speaks");
                assert!(self.wanted.contains(&fd) && fd != 0, "{fd} was not asked for");
                assert!(!self.closed.contains(&fd), "{fd} was closed");
                assert_eq!(eof, data.is_empty(), "data, or the end");
                self.said.entry(fd).or_default().extend_from_slice(&data);
                self.closed.extend(eof.then_some(fd));
            }
            Input::Exit(exit) => {
                assert!(self.started && self.exit.is_none());
                assert_eq!(exit.code == 0, exit.error.is_none());
                self.exit = Some(exit);
            }
            Input::Done(_) => {
                assert!(self.exit.is_some(), "it ends before it is done");
                let mut open = self.wanted.iter().filter(|fd| **fd != 0);
                assert!(open.all(|fd| self.closed.contains(fd)), "all is closed at the end");
                self.done = true;
            }
            other => panic!("{other:?} is not the daemon's to say"),
        }
    }
}

impl Exec {
    pub(crate) async fn send(&self, process: &str, input: Input) {
        let message = ExecMessage { process_id: process.to_owned(), input: Some(input) };
        let messages = self.messages.as_ref().unwrap();
        // If the stream is over, its end says why.
        let _ = messages.send(message).await;
    }

    pub(crate) async fn start(&mut self, container: &str, id: &str, words: &str, fds: &[u32]) {
        self.start_with(container, id, words, fds, false).await;
    }

    pub(crate) async fn start_with(
        &mut self,
        container: &str,
        id: &str,
        words: &str,
        fds: &[u32],
        tty: bool,
    ) {
        let args = words.split(' ').map(str::to_owned).collect();
        let init = InitMessage {
            container_id: container.to_owned(),
            meta: Some(pb::Meta { args, ..pb::Meta::default() }),
            fds: fds.to_vec(),
            tty,
            ..InitMessage::default()
        };
        self.told.insert(id.to_owned(), Told { wanted: fds.to_vec(), ..Told::default() });
        self.send(id, Input::Init(init)).await;
    }

    pub(crate) async fn write(&self, id: &str, data: &str) {
        let data = Bytes::from(data.to_owned());
        self.send(id, Input::File(FdMessage { fd: 0, eof: false, data })).await;
    }

    pub(crate) async fn close(&self, id: &str) {
        self.send(id, Input::File(FdMessage { fd: 0, eof: true, data: Bytes::new() })).await;
    }

    pub(crate) async fn signal(&self, id: &str, name: &str) {
        self.send(id, Input::Signal(SignalMessage { name: name.to_owned() })).await;
    }

    /// Says that there is nothing more to say.
    pub(crate) fn finish(&mut self) {
        self.messages = None;
    }

    async fn hear(&mut self) -> Result<bool, Status> {
        let Some(message) = self.answers.message().await? else { return Ok(false) };
        let told = self.told.get_mut(&message.process_id).expect("a process that was started");
        told.hear(message.input.expect("a message says something"));
        Ok(true)
    }

    /// Listens until this holds for a process.
    pub(crate) async fn until(&mut self, id: &str, holds: impl Fn(&Told) -> bool) -> Told {
        while !holds(&self.told[id]) {
            assert!(self.hear().await.unwrap(), "the stream ended early: {:?}", self.told);
        }
        self.told[id].clone()
    }

    pub(crate) async fn until_started(&mut self, id: &str) {
        self.until(id, |told| told.started).await;
    }

    pub(crate) async fn until_done(&mut self, id: &str) -> Told {
        self.until(id, |told| told.done).await
    }

    /// Listens to the end of the stream, and returns why it ended.
    pub(crate) async fn end(&mut self) -> Code {
        loop {
            match self.hear().await {
                Ok(true) => {}
                Ok(false) => return Code::Ok,
                Err(status) => return status.code(),
            }
        }
    }
}
