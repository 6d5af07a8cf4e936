//! Repositories, brought in by the `git` program (protocol page `llb.md` §4).
//!
//! Each remote has one bare repository of ours, kept so that only new commits travel. The result is a
//! layer with the files of one commit. Who asks is proved by secrets, or by the client's ssh agent.

mod address;
mod checkout;
mod mirror;
mod program;
mod refs;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use cache::ImmutableRef;
use digests::{Digest, StableHasher};
use llb::SourceOp;
use mount::HostPath;
use parking_lot::Mutex;
use session::{SshForward, SshSocket};
use solver::{CacheMap, Op, OpContext, OpError};

use crate::clients::Clients;
use crate::{Services, failure};
use address::{AuthSecret, GitDir, Repository, Times};
use mirror::Mirror;
use program::{CallError, Git};
pub(crate) use refs::Found;

/// Why a repository could not be brought in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    /// A call of `git` failed.
    #[error("failed to {action} {remote}")]
    Call {
        action: &'static str,
        remote: String,
        #[source]
        source: CallError,
    },
    /// There is no such branch, tag or commit.
    #[error("repository {remote} does not contain ref {name}")]
    NoSuchRef { remote: String, name: String },
    /// The commit is not the one that was asked for.
    #[error("expected checksum to match {expected}, got {actual}")]
    Checksum { expected: String, actual: String },
    /// What was found is no commit.
    #[error("{name} of repository {remote} is no commit")]
    NoCommit { remote: String, name: String },
    /// The directory that was asked for is none.
    #[error("invalid subdir {subdir} of repository {remote}: {reason}")]
    Subdir { remote: String, subdir: String, reason: String },
    /// A file of ours, or of the tree, could not be used.
    #[error("cannot {action}")]
    File {
        action: &'static str,
        #[source]
        source: io::Error,
    },
    /// A secret cannot be sent.
    #[error("secret `{0}` is not the value of a header: it has line breaks or control characters")]
    Secret(String),
}

/// One at a time works on our copy of a remote.
#[derive(Debug, Default)]
pub(crate) struct Mirrors(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Mirrors {
    /// Waits until nobody else works on the copy of `remote`.
    async fn enter(&self, remote: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let door = {
            let mut doors = self.0.lock();
            doors.retain(|_, door| Arc::strong_count(door) > 1);
            doors.entry(remote.to_owned()).or_default().clone()
        };
        door.lock_owned().await
    }
}

/// The operation that brings in a repository.
#[derive(Debug)]
pub(crate) struct GitSource {
    services: Arc<Services>,
    repository: Repository,
    found: OnceLock<Found>,
}

/// `git`, with what proves to the remote who asks for as long as this is held.
struct Caller {
    git: Git,
    _agent: Option<SshForward>,
    _known_hosts: Option<OwnFile>,
}

impl GitSource {
    pub(crate) fn new(services: Arc<Services>, source: &SourceOp) -> Result<Self, OpError> {
        let repository = Repository::parse(source)?;
        Ok(Self { services, repository, found: OnceLock::new() })
    }

    /// Finds out what the branch or tag is now.
    pub(crate) async fn resolve(&self, clients: &Clients) -> Result<Found, OpError> {
        if let Some(found) = self.found.get() {
            return Ok(found.clone());
        }
        let found = match refs::known(&self.repository) {
            Some(found) => found,
            None => {
                let caller = self.caller(clients).await?;
                refs::find(&caller.git, &self.repository).await.map_err(failure)?
            }
        };
        Ok(self.found.get_or_init(|| found).clone())
    }

    /// Returns `git` as the clients want it to be called.
    async fn caller(&self, clients: &Clients) -> Result<Caller, OpError> {
        let mut git = Git::new(self.services.state().clone());
        let remote = &self.repository.remote;
        if remote.starts_with("http://") || remote.starts_with("https://") {
            if let Some(header) = self.authorization(clients).await? {
                let key = format!("http.{}.extraHeader", secret_scope(remote));
                git = git.secret_setting(&key, &header);
            }
            return Ok(Caller { git, _agent: None, _known_hosts: None });
        }
        let agent = match &self.repository.agent {
            None => None,
            Some(id) => self.forward_agent(clients, id).await?,
        };
        if let Some(agent) = &agent {
            git = git.variable("SSH_AUTH_SOCK", agent.path().as_path());
        }
        let known_hosts = match &self.repository.known_hosts {
            None => None,
            Some(text) => {
                Some(OwnFile::write(self.services.new_file_path(), text).map_err(failure)?)
            }
        };
        let hosts = match &known_hosts {
            // The path is ours and has no quotes in it.
            Some(file) => format!("-o UserKnownHostsFile='{}'", file.0),
            None => "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null".to_owned(),
        };
        let ssh = format!("ssh -F /dev/null -o BatchMode=yes {hosts}");
        git = git.variable("GIT_SSH_COMMAND", ssh);
        Ok(Caller { git, _agent: agent, _known_hosts: known_hosts })
    }

    /// Returns the header `Authorization`, from the first secret that there is.
    async fn authorization(&self, clients: &Clients) -> Result<Option<String>, OpError> {
        for AuthSecret { name, is_token } in &self.repository.secrets {
            let Some(secret) = clients.secret(name).await? else { continue };
            let value = if *is_token {
                let token = [b"x-access-token:", secret.expose()].concat();
                format!("basic {}", STANDARD.encode(token))
            } else {
                String::from_utf8_lossy(secret.expose().trim_ascii_end()).into_owned()
            };
            if value.chars().any(char::is_control) {
                return Err(failure(GitError::Secret(name.clone())));
            }
            return Ok(Some(format!("Authorization: {value}")));
        }
        Ok(None)
    }

    async fn forward_agent(
        &self,
        clients: &Clients,
        id: &str,
    ) -> Result<Option<SshForward>, OpError> {
        let Some(session) = clients.with_agent(id, false).await? else { return Ok(None) };
        let socket = SshSocket {
            path: self.services.new_socket_path(),
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            mode: 0o600,
        };
        session.forward_ssh(id, socket).map(Some).map_err(failure)
    }

    async fn check_out(&self, clients: &Clients) -> Result<ImmutableRef, OpError> {
        let found = self.resolve(clients).await?;
        let caller = self.caller(clients).await?;
        let repository = &self.repository;
        let _alone = self.services.mirrors.enter(&repository.remote).await;
        let mirror = Mirror::open(&self.services, &caller.git, repository, &found).await?;
        let commit = mirror.fetch(repository, &found).await.map_err(failure)?;
        let tree = checkout::check_out(&self.services, &mirror, repository, &commit).await?;
        mirror.close();
        Ok(tree)
    }
}

/// Returns the addresses that a secret is meant for: all of one large host that many modules of a
/// repository are likely to be on, otherwise the repository itself.
fn secret_scope(remote: &str) -> &str {
    const SHARED: &str = "https://github.com/";
    if remote.starts_with(SHARED) { SHARED } else { remote }
}

/// A file for a program of ours; removed when this is dropped.
struct OwnFile(HostPath);

impl OwnFile {
    fn write(path: HostPath, text: &str) -> Result<Self, GitError> {
        let failed = |source| GitError::File { action: "write the known hosts", source };
        std::fs::write(path.as_path(), text).map_err(failed)?;
        Ok(Self(path))
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(self.0.as_path()) {
            tracing::debug!(%error, path = %self.0, "cannot remove a file");
        }
    }
}

#[async_trait]
impl Op<ImmutableRef> for GitSource {
    async fn cache_map(&self, context: &OpContext) -> Result<CacheMap, OpError> {
        let clients = Clients::of(&self.services.sessions, context);
        let found = self.resolve(&clients).await?;
        let mut hasher = StableHasher::new("git.v1");
        let keeps = self.repository.git_dir == GitDir::Kept;
        hasher.feed(&keeps);
        if keeps {
            // What is kept has the name, and the tag itself, in it; and where it came from.
            hasher.feed(&found.object).feed(&found.name).feed(&self.repository.shown());
        } else {
            hasher.feed(found.commit());
        }
        hasher.feed(&self.repository.subdir.to_string());
        hasher.feed(&self.repository.submodules);
        hasher.feed(&(self.repository.times == Times::Commit));
        let (digest, pin) = (hasher.finish(), Some(found.commit().to_string()));
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
        Ok(vec![self.check_out(&clients).await?])
    }
}

/// Returns the error of a failed call.
fn call_failed(
    action: &'static str,
    repository: &Repository,
) -> impl Fn(CallError) -> GitError + use<> {
    let remote = repository.shown();
    move |source| GitError::Call { action, remote: remote.clone(), source }
}

/// Returns an operation's error for a file that cannot be used.
fn file_failed(action: &'static str) -> impl Fn(io::Error) -> OpError {
    move |source| failure(GitError::File { action, source })
}
