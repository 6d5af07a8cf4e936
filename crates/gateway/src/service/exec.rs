//! The one stream on which a frontend starts processes in its containers and talks with them
//! (protocol page `gateway.md` §4).
//!
//! Messages of the frontend are taken in their order, starts included, so that the first process of a
//! container is the one that was asked for first. What processes say travels beside that, each in its
//! own order. When the stream is dropped, so are its processes.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use bridge::{BuildError, Kind, Process, ProcessStreams};
use bytes::Bytes;
use futures::future::{join, join_all};
use futures::stream::{self, BoxStream, FuturesUnordered};
use futures::{Stream, StreamExt as _};
use proto::gateway::exec_message::Input;
use proto::gateway::{
    DoneMessage, ExecMessage, FdMessage, InitMessage, ResizeMessage, StartedMessage,
};
use tasks::Task;
use tokio::sync::mpsc;
use tonic::Status;

use super::BridgeService;
use crate::wire;

/// How many messages of the daemon wait for the frontend to read them; then processes wait.
const ANSWERS: usize = 16;
/// How many pieces wait for a process to read them, or for the frontend.
const PIECES: usize = 16;

const STDIN: u32 = 0;
const STDOUT: u32 = 1;
const STDERR: u32 = 2;

type Answers = mpsc::Sender<Result<ExecMessage, Status>>;

/// Returns what is answered to the messages of a frontend. Dropped, it kills the processes.
pub(super) fn answers(
    service: BridgeService,
    messages: impl Stream<Item = Result<ExecMessage, Status>> + Send + 'static,
) -> BoxStream<'static, Result<ExecMessage, Status>> {
    let (sender, receiver) = mpsc::channel(ANSWERS);
    let answers = sender.clone();
    let talk = async move {
        let processes = Processes {
            service,
            answers,
            known: HashMap::new(),
            followed: FuturesUnordered::new(),
        };
        if let Err(refused) = processes.talk(messages).await {
            // Who does not listen any more needs no reason.
            let _ = sender.send(Err(refused)).await;
        }
    };
    let task = tasks::spawn("exec processes", talk);
    let next = |(mut receiver, task): (mpsc::Receiver<_>, Task<()>)| async move {
        receiver.recv().await.map(|answer| (answer, (receiver, task)))
    };
    stream::unfold((receiver, task), next).boxed()
}

/// The processes of one stream.
struct Processes {
    service: BridgeService,
    answers: Answers,
    /// All there ever were: a frontend cannot know when one ends.
    known: HashMap<String, Known>,
    /// Those that run.
    followed: FuturesUnordered<Task<()>>,
}

/// A process, as the frontend's messages find it.
struct Known {
    /// None if it never ran. Who follows it holds it until it has ended.
    process: Option<Weak<dyn Process>>,
    /// None if it was not asked for, or was closed.
    stdin: Option<mpsc::Sender<Bytes>>,
}

impl Processes {
    async fn talk(
        mut self,
        messages: impl Stream<Item = Result<ExecMessage, Status>>,
    ) -> Result<(), Status> {
        let mut messages = std::pin::pin!(messages);
        loop {
            tokio::select! {
                Some(_) = self.followed.next() => {}
                message = messages.next() => match message {
                    Some(message) => self.take(message?).await?,
                    None => break,
                }
            }
        }
        // The frontend has nothing more to say; its processes may have.
        self.known.clear();
        while self.followed.next().await.is_some() {}
        Ok(())
    }

    async fn take(&mut self, message: ExecMessage) -> Result<(), Status> {
        let ExecMessage { process_id: id, input } = message;
        if id.is_empty() {
            return Err(Status::invalid_argument("ProcessID required"));
        }
        match input {
            Some(Input::Init(init)) => self.begin(id, init).await,
            Some(Input::File(file)) => self.find(&id)?.write(file).await,
            Some(Input::Resize(size)) => {
                self.find(&id)?.resize(&size);
                Ok(())
            }
            Some(Input::Signal(signal)) => self.find(&id)?.signal(&signal.name),
            // These are ours to say.
            Some(Input::Started(_) | Input::Exit(_) | Input::Done(_)) | None => Ok(()),
        }
    }

    fn find(&mut self, id: &str) -> Result<&mut Known, Status> {
        let known = self.known.get_mut(id);
        known.ok_or_else(|| Status::not_found(format!("IO for process {id:?} not found")))
    }

    /// Starts a process. What keeps it from running is its own end, and nobody else's.
    async fn begin(&mut self, id: String, init: InitMessage) -> Result<(), Status> {
        if self.known.contains_key(&id) {
            return Err(Status::already_exists(format!("Process {id} already exists")));
        }
        let name = &init.container_id;
        let container = self.service.0.containers.find(name).ok_or_else(|| {
            Status::not_found(format!("container {name:?} previously released or not created"))
        })?;
        let fds: BTreeSet<u32> = init.fds.iter().copied().collect();
        let (stdin, input) = channel(fds.contains(&STDIN));
        let (stdout, said) = channel(fds.contains(&STDOUT));
        let (stderr, complained) = channel(fds.contains(&STDERR));
        let streams = ProcessStreams { stdin: input, stdout, stderr };
        let started = match wire::process(init) {
            Ok(process) => container.start(process, streams).await,
            Err(error) => Err(error),
        };
        let outputs = Outputs {
            id: id.clone(),
            readers: [(STDOUT, said), (STDERR, complained)].into(),
            silent: fds.into_iter().filter(|fd| *fd > STDERR).collect(),
            answers: self.answers.clone(),
        };
        let process: Option<Arc<dyn Process>> = match started {
            Ok(process) => {
                let process: Arc<dyn Process> = Arc::from(process);
                self.follow(outputs.tell(Ok(process.clone())));
                Some(process)
            }
            Err(error) => {
                self.follow(outputs.tell(Err(error)));
                None
            }
        };
        let process = process.map(|process| Arc::downgrade(&process));
        self.known.insert(id, Known { process, stdin });
        Ok(())
    }

    fn follow(&self, telling: impl Future<Output = Option<()>> + Send + 'static) {
        let task = tasks::spawn("exec process", async move {
            // None if nobody listens any more.
            let _ = telling.await;
        });
        self.followed.push(task);
    }
}

fn channel(wanted: bool) -> (Option<mpsc::Sender<Bytes>>, Option<mpsc::Receiver<Bytes>>) {
    if !wanted {
        return (None, None);
    }
    let (sender, receiver) = mpsc::channel(PIECES);
    (Some(sender), Some(receiver))
}

impl Known {
    fn running(&self) -> Option<Arc<dyn Process>> {
        self.process.as_ref()?.upgrade()
    }

    async fn write(&mut self, file: FdMessage) -> Result<(), Status> {
        let stdin = self.stdin.as_ref().filter(|_| file.fd == STDIN);
        let stdin = stdin
            .ok_or_else(|| Status::out_of_range(format!("fd {} unavailable to write", file.fd)))?;
        if !file.data.is_empty() {
            // What a process does not read is lost, as with a pipe.
            let _ = stdin.send(file.data).await;
        }
        if file.eof {
            self.stdin = None;
        }
        Ok(())
    }

    fn resize(&self, size: &ResizeMessage) {
        let number = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
        if let Some(process) = self.running()
            && let Err(error) = process.resize(number(size.rows), number(size.cols))
        {
            // It may have ended a moment ago, or have no terminal.
            tracing::debug!(%error, "a process was not resized");
        }
    }

    fn signal(&self, name: &str) -> Result<(), Status> {
        match self.running().map(|process| process.signal(name)) {
            Some(Err(error)) if error.kind() == Kind::InvalidRequest => {
                Err(Status::invalid_argument(format!("Unknown signal {name}")))
            }
            // It may have ended a moment ago.
            Some(Ok(()) | Err(_)) | None => Ok(()),
        }
    }
}

/// What a process says, on its way to the frontend.
struct Outputs {
    id: String,
    readers: Vec<(u32, Option<mpsc::Receiver<Bytes>>)>,
    /// Descriptors that were asked for and that nothing is ever said on.
    silent: Vec<u32>,
    answers: Answers,
}

impl Outputs {
    /// Tells everything from the start of a process to its end; none if nobody listens any more.
    async fn tell(mut self, process: Result<Arc<dyn Process>, BuildError>) -> Option<()> {
        self.say(Input::Started(StartedMessage {})).await?;
        let readers = std::mem::take(&mut self.readers);
        let readers = readers.into_iter().filter_map(|(fd, reader)| Some((fd, reader?)));
        let silent = self.silent.iter().map(|fd| (*fd, mpsc::channel(1).1));
        let read = join_all(readers.chain(silent).map(|(fd, reader)| self.read(fd, reader)));
        let wait = async {
            match &process {
                Ok(process) => process.wait().await,
                Err(error) => Err(error.clone()),
            }
        };
        let (read, status) = join(read, wait).await;
        read.into_iter().collect::<Option<()>>()?;
        self.say(Input::Exit(wire::exit(status))).await?;
        self.say(Input::Done(DoneMessage {})).await
    }

    /// Tells what comes out of a descriptor, and its end.
    async fn read(&self, fd: u32, mut reader: mpsc::Receiver<Bytes>) -> Option<()> {
        while let Some(data) = reader.recv().await {
            self.say(Input::File(FdMessage { fd, eof: false, data })).await?;
        }
        self.say(Input::File(FdMessage { fd, eof: true, data: Bytes::new() })).await
    }

    async fn say(&self, input: Input) -> Option<()> {
        self.answers.send(Ok(wire::exec_message(&self.id, input))).await.ok()
    }
}
