//! A daemon to ask, and clients to ask with.

use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;

use proto::MAX_MESSAGE_SIZE;
use proto::content::content_client::ContentClient;
use proto::control::SolveRequest;
use proto::control::control_client::ControlClient;
use proto::gateway::llb_bridge_client::LlbBridgeClient;
use proto::gateway::{PingRequest, PongResponse};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

/// A running daemon. Dropped, it is killed.
pub(crate) struct Daemon {
    child: Child,
    directory: TempDir,
    lines: mpsc::Receiver<String>,
}

/// How to start a daemon.
pub(crate) struct Start {
    directory: TempDir,
    arguments: Vec<String>,
    socket: Option<OwnedFd>,
}

impl Default for Start {
    fn default() -> Self {
        let directory = TempDir::new().expect("a directory");
        let path = directory.path().display().to_string();
        let mut start = Self { directory, arguments: Vec::new(), socket: None };
        start.arguments = vec![format!("--root={path}/root"), format!("--config={path}/none")];
        start
    }
}

impl Start {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    #[must_use]
    pub(crate) fn with(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Listens on a unix socket in the daemon's directory.
    #[must_use]
    pub(crate) fn on_unix(self) -> Self {
        let path = self.path("s.sock");
        self.with(format!("--addr=unix://{}", path.display()))
    }

    /// Uses another root than its own.
    #[must_use]
    pub(crate) fn on_root(mut self, root: &Path) -> Self {
        self.arguments[0] = format!("--root={}", root.display());
        self
    }

    /// Reads this configuration.
    #[must_use]
    pub(crate) fn configured(mut self, text: &str) -> Self {
        let path = self.path("larderd.toml");
        std::fs::write(&path, text).expect("a file");
        self.arguments[1] = format!("--config={}", path.display());
        self
    }

    /// Passes a socket as a service manager does.
    #[must_use]
    pub(crate) fn passing(mut self, socket: impl Into<OwnedFd>) -> Self {
        self.socket = Some(socket.into());
        self
    }

    pub(crate) fn spawn(self) -> Daemon {
        let program = env!("CARGO_BIN_EXE_larderd");
        #[expect(clippy::disallowed_methods, reason = "the daemon is what is tested")]
        let mut command = match self.socket {
            None => Command::new(program),
            Some(socket) => {
                // The first socket that is passed has the number 3.
                let mut shell = Command::new("sh");
                shell.args(["-c", "exec \"$0\" \"$@\" 3<&0 0</dev/null", program]);
                shell.env("LISTEN_FDS", "1").stdin(Stdio::from(socket));
                shell
            }
        };
        let command = command.args(&self.arguments).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the daemon");
        let errors = BufReader::new(child.stderr.take().expect("standard error"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                // The daemon is asked no more.
                let _ = sender.send(line);
            }
        });
        Daemon { child, directory: self.directory, lines }
    }

    /// Starts a daemon and waits until it serves.
    pub(crate) fn ready(self) -> Daemon {
        let mut daemon = self.spawn();
        daemon.wait_for("larderd: ready");
        daemon
    }
}

impl Daemon {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Waits until the log has a line with `text`; returns that line.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        while let Ok(line) = self.lines.recv() {
            if line.contains(text) {
                return line;
            }
            seen.push(line);
        }
        panic!("the log has no `{text}`:\n{}", seen.join("\n"));
    }

    /// Waits for the end; returns its status and the rest of the log.
    pub(crate) fn wait(&mut self) -> (ExitStatus, String) {
        let status = self.child.wait().expect("a status");
        (status, self.lines.iter().collect::<Vec<_>>().join("\n"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("a living daemon");
    }

    /// Ends the daemon as a service manager does; returns its directory.
    pub(crate) fn stop(mut self) -> Start {
        self.signal(Signal::TERM);
        let (status, log) = self.wait();
        assert!(status.success(), "{log}");
        let directory = std::mem::replace(&mut self.directory, TempDir::new().expect("another"));
        let path = directory.path().display().to_string();
        let arguments = vec![format!("--root={path}/root"), format!("--config={path}/none")];
        Start { directory, arguments, socket: None }
    }

    pub(crate) async fn connect(&self) -> Client {
        Client::unix(&self.path("s.sock")).await
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client of the daemon.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) channel: Channel,
}

impl Client {
    pub(crate) async fn unix(path: &Path) -> Self {
        let endpoint = Endpoint::from_shared(format!("unix://{}", path.display()));
        Self { channel: endpoint.expect("an address").connect().await.expect("a connection") }
    }

    pub(crate) fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_SIZE)
            .max_encoding_message_size(MAX_MESSAGE_SIZE)
    }

    pub(crate) fn bridge(&self) -> LlbBridgeClient<Channel> {
        LlbBridgeClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_SIZE)
    }

    pub(crate) fn content(&self) -> ContentClient<Channel> {
        ContentClient::new(self.channel.clone())
    }

    /// Asks a build what it can, whenever it begins.
    pub(crate) fn ping(
        &self,
        reference: &str,
    ) -> tokio::task::JoinHandle<Result<PongResponse, tonic::Status>> {
        let (mut bridge, request) = (self.bridge(), about(reference, PingRequest {}));
        #[expect(clippy::disallowed_methods, reason = "a client is not the daemon")]
        tokio::spawn(async move { bridge.ping(request).await.map(tonic::Response::into_inner) })
    }

    /// Begins a build that this client drives.
    pub(crate) fn solve(
        &self,
        reference: &str,
    ) -> tokio::task::JoinHandle<Result<(), tonic::Status>> {
        let request = SolveRequest { r#ref: reference.to_owned(), ..Default::default() };
        let mut control = self.control();
        #[expect(clippy::disallowed_methods, reason = "a client is not the daemon")]
        tokio::spawn(async move { control.solve(request).await.map(|_| ()) })
    }
}

/// Names the build that a call to the bridge is about.
pub(crate) fn about<T>(reference: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let reference = reference.parse().expect("a header");
    request.metadata_mut().insert("buildkit-controlapi-buildid", reference);
    request
}
