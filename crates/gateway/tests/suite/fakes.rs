//! Containers that run nothing: their processes do what their words say. Stricter than real ones: they refuse
//! what a service has to keep from them.

use std::sync::Arc;

use async_trait::async_trait;
use bridge::{
    BuildError, Container, ContainerProcess, ContainerRequest, Containers, Detail, FileRange,
    FileStat, Kind, Process, ProcessStreams,
};
use bytes::Bytes;
use parking_lot::Mutex;
use tasks::Task;
use tokio::sync::{mpsc, watch};

/// What happened to the [`FakeContainers`] and their processes, in order.
pub(crate) type Events = Arc<Mutex<Vec<String>>>;

/// Where the containers of a build are made.
#[derive(Debug, Clone, Default)]
pub(crate) struct FakeContainers {
    pub(crate) events: Events,
}

fn unasked() -> BuildError {
    BuildError::new(Kind::Unsupported, "nothing asks for this here")
}

#[async_trait]
impl Containers for FakeContainers {
    async fn create(&self, request: ContainerRequest) -> Result<Arc<dyn Container>, BuildError> {
        assert!(request.mounts.iter().any(|one| one.mount.is_root()), "a container has a root");
        if request.hostname == "impossible" {
            return Err(BuildError::new(Kind::User, "this cannot be"));
        }
        let name = request.hostname;
        self.events.lock().push(format!("made {name}"));
        Ok(Arc::new(FakeContainer { name, events: self.events.clone(), main: Mutex::default() }))
    }
}

#[derive(Debug)]
struct FakeContainer {
    name: String,
    events: Events,
    /// How the main process ended; none while there is none.
    main: Mutex<Option<watch::Receiver<Option<u32>>>>,
}

impl Drop for FakeContainer {
    fn drop(&mut self) {
        self.events.lock().push(format!("dropped {}", self.name));
    }
}

#[async_trait]
impl Container for FakeContainer {
    async fn start(
        &self,
        process: ContainerProcess,
        streams: ProcessStreams,
    ) -> Result<Box<dyn Process>, BuildError> {
        let words = process.args.join(" ");
        assert!(!words.is_empty(), "a process has a command");
        if let Some(main) = &*self.main.lock()
            && main.borrow().is_some()
        {
            return Err(BuildError::new(Kind::User, format!("container {} is over", self.name)));
        }
        if words == "missing" {
            return Err(BuildError::new(Kind::User, "no such command"));
        }
        let (told, orders) = mpsc::unbounded_channel();
        let (end, ended) = watch::channel(None);
        let role = if self.main.lock().is_none() { "main" } else { "beside" };
        self.main.lock().get_or_insert_with(|| ended.clone());
        self.events.lock().push(format!("{role} {words}"));
        let task = tasks::spawn("fake process", async move {
            let status = live(&words, streams, orders).await;
            end.send_replace(Some(status));
        });
        let (events, name) = (self.events.clone(), process.args.join(" "));
        Ok(Box::new(FakeProcess { name, tty: process.tty, told, ended, events, _task: task }))
    }

    async fn read_file(
        &self,
        mount: usize,
        path: &str,
        range: Option<FileRange>,
    ) -> Result<Bytes, BuildError> {
        let range =
            range.map_or(String::new(), |range| format!(" {}+{}", range.offset, range.length));
        Ok(Bytes::from(format!("{} {mount} {path}{range}", self.name)))
    }

    async fn read_dir(
        &self,
        _mount: usize,
        path: &str,
        include: Option<&str>,
    ) -> Result<Vec<FileStat>, BuildError> {
        let name = format!("{path} {include:?}");
        Ok(vec![stat(name)])
    }

    async fn stat_file(&self, mount: usize, path: &str) -> Result<FileStat, BuildError> {
        Ok(stat(format!("{mount} {path}")))
    }

    async fn release(&self) -> Result<(), BuildError> {
        self.events.lock().push(format!("released {}", self.name));
        let status = self.main.lock().as_ref().and_then(|main| *main.borrow());
        match status {
            None | Some(0) => Ok(()),
            Some(code) => Err(BuildError::new(Kind::User, format!("exit code: {code}"))
                .with_detail(Detail::Exit(code))),
        }
    }
}

fn stat(name: String) -> FileStat {
    FileStat {
        name,
        mode: 0o100_644,
        uid: 0,
        gid: 0,
        size: 0,
        modified: std::time::UNIX_EPOCH,
        link_target: String::new(),
        device: (0, 0),
    }
}

#[derive(Debug)]
enum Order {
    Signal(u32),
    Resize(u16, u16),
}

#[derive(Debug)]
struct FakeProcess {
    name: String,
    tty: bool,
    told: mpsc::UnboundedSender<Order>,
    ended: watch::Receiver<Option<u32>>,
    events: Events,
    _task: Task<()>,
}

impl Drop for FakeProcess {
    fn drop(&mut self) {
        if self.ended.borrow().is_none() {
            self.events.lock().push(format!("killed {}", self.name));
        }
    }
}

async fn say(to: &Option<mpsc::Sender<Bytes>>, text: impl Into<Bytes>) {
    if let Some(to) = to {
        // A reader that went away changes nothing.
        let _ = to.send(text.into()).await;
    }
}

/// Does what the words say: `cat`, `exit <code>`, `complain`, or else waits for orders.
async fn live(
    words: &str,
    streams: ProcessStreams,
    mut orders: mpsc::UnboundedReceiver<Order>,
) -> u32 {
    let ProcessStreams { stdin, stdout, stderr } = streams;
    match words.split_once(' ').unwrap_or((words, "")) {
        ("cat", _) => {
            let Some(mut stdin) = stdin else { return 0 };
            while let Some(piece) = stdin.recv().await {
                say(&stdout, piece).await;
            }
            0
        }
        ("exit", code) => code.parse().unwrap(),
        ("complain", _) => {
            say(&stdout, "fine").await;
            say(&stderr, "not fine").await;
            1
        }
        _ => loop {
            match orders.recv().await {
                Some(Order::Resize(rows, columns)) => {
                    say(&stdout, format!("{rows}x{columns}")).await;
                }
                Some(Order::Signal(number)) => return 128 + number,
                None => std::future::pending().await,
            }
        },
    }
}

#[async_trait]
impl Process for FakeProcess {
    async fn wait(&self) -> Result<u32, BuildError> {
        let mut ended = self.ended.clone();
        let status = ended.wait_for(Option::is_some).await.map(|status| *status);
        status.ok().flatten().ok_or_else(unasked)
    }

    fn signal(&self, signal: &str) -> Result<(), BuildError> {
        let number = match signal {
            "TERM" => 15,
            "KILL" => 9,
            other => {
                let text = format!("`{other}` is not a signal");
                return Err(BuildError::new(Kind::InvalidRequest, text));
            }
        };
        let over = |_| BuildError::new(Kind::User, "it has ended");
        self.told.send(Order::Signal(number)).map_err(over)
    }

    fn resize(&self, rows: u16, columns: u16) -> Result<(), BuildError> {
        if !self.tty {
            return Err(BuildError::new(Kind::User, "it has no terminal"));
        }
        let over = |_| BuildError::new(Kind::User, "it has ended");
        self.told.send(Order::Resize(rows, columns)).map_err(over)
    }
}
