//! Single files: from the web, or uploaded by the client that builds (protocol page `llb.md` §4).
//!
//! A file is brought into the store of blobs, where its digest says what it is; the result is a tree
//! with that one file. A file that has not changed since it was last seen is not transferred again.

mod download;
mod filename;
mod request;

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use async_trait::async_trait;
use cache::{ImmutableRef, LayerInfo};
use content::Reader;
use digests::{Digest, StableHasher};
use llb::SourceOp;
use mount::{GuestPath, RootDir};
use rustix::fs::{Mode, OFlags};
use solver::{CacheMap, Op, OpContext, OpError};

use crate::clients::Clients;
use crate::file::entry;
use crate::{Services, failure};

pub(crate) use download::{Downloads, Fetched};
use request::FileRequest;

/// Why a file could not be brought in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// The server refuses.
    #[error("invalid response status {status} of `{url}`")]
    Status { url: String, status: u16 },
    /// The server cannot be reached, or the connection broke.
    #[error("cannot get `{url}`")]
    Connection {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    /// Nothing was heard for too long.
    #[error("cannot get `{url}`: nothing was heard for {seconds} s")]
    Stalled { url: String, seconds: u64 },
    /// The file is longer than anybody means to add.
    #[error("cannot get `{url}`: it is longer than {limit} bytes")]
    TooLong { url: String, limit: u64 },
    /// The file is not the one that was asked for.
    #[error("digest mismatch for {url}: {actual} (expected: {expected})")]
    Checksum { url: String, actual: Digest, expected: Digest },
    /// A secret cannot be sent.
    #[error("secret `{0}` is not the value of a header: it has line breaks or control characters")]
    Secret(String),
    /// Nobody has an upload.
    #[error("no client has the upload `{0}`; each can be taken once only")]
    Upload(String),
    /// The file could not be written into the tree.
    #[error("cannot write `{name}`")]
    Write {
        name: String,
        #[source]
        source: io::Error,
    },
}

/// The operation that brings in a file.
#[derive(Debug)]
pub(crate) struct HttpSource {
    services: Arc<Services>,
    request: FileRequest,
    found: OnceLock<Fetched>,
}

impl HttpSource {
    pub(crate) fn new(services: Arc<Services>, source: &SourceOp) -> Result<Self, OpError> {
        let request = FileRequest::parse(source)?;
        Ok(Self { services, request, found: OnceLock::new() })
    }

    /// Returns what the source is now; a file whose digest is given is not asked for.
    pub(crate) async fn resolve(&self, clients: &Clients) -> Result<Fetched, OpError> {
        if let Some(digest) = self.request.checksum {
            let filename = self.request.filename(None);
            return Ok(Fetched { digest, filename, modified: None });
        }
        self.fetch(clients).await
    }

    /// Returns the file, brought into the store of blobs.
    async fn fetch(&self, clients: &Clients) -> Result<Fetched, OpError> {
        if let Some(found) = self.found.get()
            && self.services.has_blob(&found.digest).await?
        {
            return Ok(found.clone());
        }
        let fetched = self.services.downloads.fetch(&self.services, &self.request, clients).await?;
        if let Some(expected) = self.request.checksum.filter(|digest| *digest != fetched.digest) {
            let (url, actual) = (self.request.shown(), fetched.digest);
            return Err(failure(HttpError::Checksum { url, actual, expected }));
        }
        Ok(self.found.get_or_init(|| fetched).clone())
    }

    async fn write(&self, fetched: &Fetched) -> Result<ImmutableRef, OpError> {
        let refs = &self.services.refs;
        let blob = refs.content().open(&fetched.digest).await.map_err(failure)?;
        let info = LayerInfo::regular(format!("http url {}", self.request.shown()));
        let layer = refs.new_layer(&ImmutableRef::default(), info).await.map_err(failure)?;
        let root = layer.root().map_err(failure)?;
        let file = WantedFile {
            name: fetched.filename.clone(),
            mode: self.request.mode,
            owner: self.request.owner,
            modified: fetched.modified.unwrap_or(SystemTime::UNIX_EPOCH),
        };
        let name = file.name.clone();
        let written = tasks::blocking("write file", move || file.write(&root, blob)).await;
        let written = written.map_err(failure)?;
        written.map_err(|source| failure(HttpError::Write { name, source }))?;
        layer.commit().await.map_err(failure)
    }
}

/// The one file of a tree.
struct WantedFile {
    name: String,
    mode: u32,
    owner: entry::Owner,
    modified: SystemTime,
}

impl WantedFile {
    /// Writes the file at the top of `root`. Blocks.
    fn write(&self, root: &RootDir, blob: Reader) -> io::Result<()> {
        let top: OwnedFd = root.open_dir(&GuestPath::root())?;
        let (top, name) = (top.as_fd(), OsStr::new(&self.name));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(top, name, flags, Mode::from_raw_mode(0o600))?;
        io::copy(&mut blob.into_read(), &mut std::fs::File::from(file))?;
        entry::set_owner(top, name, self.owner)?;
        entry::set_mode(top, name, self.mode)?;
        let since = self.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let nanoseconds = i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
        entry::set_times(top, name, entry::timespec(nanoseconds))
    }
}

#[async_trait]
impl Op<ImmutableRef> for HttpSource {
    async fn cache_map(&self, context: &OpContext) -> Result<CacheMap, OpError> {
        let clients = Clients::of(&self.services.sessions, context);
        let found = self.resolve(&clients).await?;
        let mut hasher = StableHasher::new("http.v1");
        hasher.feed(&found.digest).feed(&found.filename).feed(&self.request.mode);
        hasher.feed(&self.request.owner.uid).feed(&self.request.owner.gid);
        let modified =
            found.modified.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        hasher.feed(&modified.map_or(0, |since| since.as_secs()));
        let (digest, pin) = (hasher.finish(), Some(found.digest.to_string()));
        Ok(CacheMap { digest, inputs: Vec::new(), volatile: false, pin })
    }

    async fn content_key(
        &self,
        _context: &OpContext,
        _slot: usize,
        _input: &ImmutableRef,
    ) -> Result<Option<Digest>, OpError> {
        Ok(None)
    }

    async fn exec(
        &self,
        context: &OpContext,
        _inputs: Vec<ImmutableRef>,
    ) -> Result<Vec<ImmutableRef>, OpError> {
        let clients = Clients::of(&self.services.sessions, context);
        let fetched = self.fetch(&clients).await?;
        Ok(vec![self.write(&fetched).await?])
    }
}
