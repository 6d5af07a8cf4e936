//! A client for tests, in this process: the serving end of a session, over a real tunnel.
//!
//! [`FakeClient`] is stricter than real clients: it refuses whatever the protocol does not allow,
//! and keeps a record of what it was asked. It speaks the messages of `proto`, not our own codec,
//! and walks directories with the standard library.

mod content;
mod file_send;
mod file_sync;
mod services;
mod tree;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use digests::Digest;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tasks::Task;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::connection::NamedTasks;
use crate::{Registration, Session, SessionError, SessionGuard, SessionId, Sessions, Tunnel};

pub use proto::fsutil::{Packet, Stat};

/// What a client has to offer. Nothing is offered until it is added.
#[derive(Debug, Default)]
pub struct FakeClient {
    shared_key: String,
    offers: Offers,
}

#[derive(Debug, Default)]
struct Offers {
    directories: BTreeMap<String, Directory>,
    outputs: BTreeMap<usize, Output>,
    secrets: BTreeMap<String, Bytes>,
    credentials: BTreeMap<String, (String, String)>,
    tokens: BTreeMap<String, String>,
    ssh: Vec<String>,
    uploads: Mutex<BTreeMap<String, Bytes>>,
    stores: Mutex<BTreeMap<String, BTreeMap<Digest, Bytes>>>,
    partial: Mutex<BTreeMap<String, Bytes>>,
    record: Mutex<Record>,
    /// Set when the client goes away, with or without a word.
    gone: CancellationToken,
}

#[derive(Debug)]
enum Directory {
    /// Served as it is.
    Path(PathBuf),
    /// Served, but the client vanishes after so many packets.
    Vanishing(PathBuf, usize),
    /// These packets, whatever is asked; then silence until the call ends.
    Script(Vec<Packet>),
}

#[derive(Debug)]
enum Output {
    /// A directory; true if it is to mirror what is sent.
    Directory(PathBuf, bool),
    /// One file, kept in memory.
    File,
    /// One file that is there already.
    Existing,
}

/// What a client was asked and given.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// The metadata of each sync, as pairs of key and value.
    pub syncs: Vec<Vec<(String, String)>>,
    /// The paths whose content was requested, in order.
    pub requested: Vec<String>,
    /// Error packets that came.
    pub errors: Vec<String>,
    /// The metadata of each file or directory that was sent to the client.
    pub sends: Vec<Vec<(String, String)>>,
    /// Files that were sent, by exporter.
    pub files: BTreeMap<usize, Bytes>,
    /// Exporters whose file was broken off.
    pub broken: Vec<usize>,
}

impl FakeClient {
    /// Returns a client that serves its health only.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the client's shared key.
    #[must_use]
    pub fn with_shared_key(mut self, key: &str) -> Self {
        key.clone_into(&mut self.shared_key);
        self
    }

    /// Serves `path` under `name`. Owners are sent as 0, as real clients do.
    #[must_use]
    pub fn with_directory(mut self, name: &str, path: impl Into<PathBuf>) -> Self {
        self.offers.directories.insert(name.to_owned(), Directory::Path(path.into()));
        self
    }

    /// Serves `path` under `name`, but vanishes after sending `packets` packets.
    #[must_use]
    pub fn with_vanishing(mut self, name: &str, path: impl Into<PathBuf>, packets: usize) -> Self {
        let directory = Directory::Vanishing(path.into(), packets);
        self.offers.directories.insert(name.to_owned(), directory);
        self
    }

    /// Answers a sync of `name` with these packets, then waits for the call to end.
    #[must_use]
    pub fn with_script(mut self, name: &str, packets: Vec<Packet>) -> Self {
        self.offers.directories.insert(name.to_owned(), Directory::Script(packets));
        self
    }

    /// Takes the output of exporter `id` into `path`, beside what is there.
    #[must_use]
    pub fn with_output_directory(mut self, id: usize, path: impl Into<PathBuf>) -> Self {
        self.offers.outputs.insert(id, Output::Directory(path.into(), false));
        self
    }

    /// Takes the output of exporter `id` into `path` and deletes what else is there.
    #[must_use]
    pub fn with_mirror(mut self, id: usize, path: impl Into<PathBuf>) -> Self {
        self.offers.outputs.insert(id, Output::Directory(path.into(), true));
        self
    }

    /// Takes the output of exporter `id` as one file ([`Record::files`]).
    #[must_use]
    pub fn with_output_file(mut self, id: usize) -> Self {
        self.offers.outputs.insert(id, Output::File);
        self
    }

    /// Says that the output file of exporter `id` exists already.
    #[must_use]
    pub fn with_existing_output(mut self, id: usize) -> Self {
        self.offers.outputs.insert(id, Output::Existing);
        self
    }

    /// Has a secret.
    #[must_use]
    pub fn with_secret(mut self, id: &str, value: impl Into<Bytes>) -> Self {
        self.offers.secrets.insert(id.to_owned(), value.into());
        self
    }

    /// Has credentials for a registry host.
    #[must_use]
    pub fn with_credentials(mut self, host: &str, username: &str, secret: &str) -> Self {
        let pair = (username.to_owned(), secret.to_owned());
        self.offers.credentials.insert(host.to_owned(), pair);
        self
    }

    /// Fetches this token for a registry host.
    #[must_use]
    pub fn with_token(mut self, host: &str, token: &str) -> Self {
        self.offers.tokens.insert(host.to_owned(), token.to_owned());
        self
    }

    /// Forwards an ssh agent that repeats what it is told.
    #[must_use]
    pub fn with_ssh(mut self, id: &str) -> Self {
        self.offers.ssh.push(id.to_owned());
        self
    }

    /// Has an upload, which it gives away once.
    #[must_use]
    pub fn with_upload(self, id: &str, data: impl Into<Bytes>) -> Self {
        self.offers.uploads.lock().insert(id.to_owned(), data.into());
        self
    }

    /// Has a content store (such as `local:/cache`) with these blobs.
    #[must_use]
    pub fn with_store(self, store: &str, blobs: impl IntoIterator<Item = Bytes>) -> Self {
        let blobs = blobs.into_iter().map(|blob| (Digest::of(&blob), blob)).collect();
        self.offers.stores.lock().insert(store.to_owned(), blobs);
        self
    }

    /// Has the beginning of a transfer from an earlier attempt.
    #[must_use]
    pub fn with_partial_write(self, reference: &str, data: impl Into<Bytes>) -> Self {
        self.offers.partial.lock().insert(reference.to_owned(), data.into());
        self
    }

    /// Connects to `sessions` under `id`.
    ///
    /// # Errors
    /// Returns an error if the id is invalid or the connection cannot be opened.
    pub async fn connect(
        self,
        sessions: &Sessions,
        id: &str,
    ) -> Result<ConnectedClient, SessionError> {
        let id = SessionId::new(id)?;
        let methods = self.methods();
        let offers = Arc::new(self.offers);
        let (ours, theirs) = pipe();
        let service = TowerToHyperService::new(routes(&offers).prepare());
        let gone = offers.gone.clone();
        let server = tasks::spawn("fake-client", async move {
            let connection = hyper::server::conn::http2::Builder::new(NamedTasks)
                .timer(TokioTimer::new())
                .max_frame_size(1 << 20)
                .serve_connection(TokioIo::new(theirs), service);
            tokio::select! {
                _ = connection => {}
                () = gone.cancelled() => {}
            }
        });
        let shared_key = self.shared_key;
        let registration = Registration { id, shared_key, methods, health_interval: None };
        let guard = sessions.register(registration, ours).await?;
        Ok(ConnectedClient { guard, offers, _server: server })
    }

    fn methods(&self) -> Vec<String> {
        let mut methods = vec!["/grpc.health.v1.Health/Check".to_owned()];
        if !self.offers.directories.is_empty() {
            methods.push("/moby.filesync.v1.FileSync/DiffCopy".to_owned());
        }
        if !self.offers.outputs.is_empty() {
            methods.push("/moby.filesync.v1.FileSend/DiffCopy".to_owned());
        }
        methods
    }
}

/// A client that is connected. Dropping it makes it vanish.
#[derive(Debug)]
pub struct ConnectedClient {
    guard: SessionGuard,
    offers: Arc<Offers>,
    _server: Task<()>,
}

impl ConnectedClient {
    /// Returns the daemon's side of the session.
    pub fn session(&self) -> Session {
        self.guard.session().clone()
    }

    /// Returns what has happened so far, and forgets it.
    pub fn take_record(&self) -> Record {
        std::mem::take(&mut self.offers.record.lock())
    }

    /// Returns what has happened so far.
    pub fn record(&self) -> Record {
        self.offers.record.lock().clone()
    }

    /// Returns the blobs of a content store.
    pub fn blobs(&self, store: &str) -> BTreeMap<Digest, Bytes> {
        self.offers.stores.lock().get(store).cloned().unwrap_or_default()
    }

    /// Makes the client vanish, as when its process is killed.
    pub fn vanish(&self) {
        self.offers.gone.cancel();
    }
}

impl Drop for ConnectedClient {
    fn drop(&mut self) {
        self.vanish();
    }
}

/// Returns the two ends of a session's byte stream.
fn pipe() -> (Tunnel, Tunnel) {
    let (to_client, at_client) = mpsc::channel::<Bytes>(16);
    let (to_daemon, at_daemon) = mpsc::channel::<Bytes>(16);
    let daemon = Tunnel::new(ReceiverStream::new(at_daemon).map(Ok), to_client);
    let client = Tunnel::new(ReceiverStream::new(at_client).map(Ok), to_daemon);
    (daemon, client)
}

fn routes(offers: &Arc<Offers>) -> Routes {
    let (_, health) = tonic_health::server::health_reporter();
    let mut routes = Routes::new(health);
    if !offers.directories.is_empty() {
        routes = routes.add_service(file_sync::service(offers.clone()));
    }
    if !offers.outputs.is_empty() {
        routes = routes.add_service(file_send::service(offers.clone()));
    }
    if !offers.credentials.is_empty() || !offers.tokens.is_empty() {
        routes = routes.add_service(services::auth(offers.clone()));
    }
    if !offers.secrets.is_empty() {
        routes = routes.add_service(services::secrets(offers.clone()));
    }
    if !offers.ssh.is_empty() {
        routes = routes.add_service(services::ssh(offers.clone()));
    }
    if !offers.uploads.lock().is_empty() {
        routes = routes.add_service(services::upload(offers.clone()));
    }
    if !offers.stores.lock().is_empty() {
        routes = routes.add_service(content::service(offers.clone()));
    }
    routes
}

/// Returns metadata as pairs, without what the transport adds.
fn pairs(metadata: &tonic::metadata::MetadataMap) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = metadata
        .clone()
        .into_headers()
        .iter()
        .filter(|(key, _)| !matches!(key.as_str(), "te" | "content-type" | "user-agent"))
        .map(|(key, value)| {
            (key.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    pairs.sort();
    pairs
}
