//! Our own copy of a remote: a bare repository that gets the commits that builds asked for, and no more.
//!
//! Every commit that was fetched has a ref of its own, `refs/larder/<object>`, so that names at the
//! remote may move, and collide, as they like. The address is told on each call and is not written
//! down, for it may have a password in it.

use cache::LocalTree;
use mount::HostPath;
use solver::OpError;

use super::address::{Repository, is_commit};
use super::program::{CallError, Git};
use super::{Found, GitError, call_failed};
use crate::{Services, failure};

/// Files that a killed `git` leaves, and that stop the next one.
const LEFTOVERS: [&str; 5] =
    ["shallow.lock", "packed-refs.lock", "config.lock", "HEAD.lock", "index.lock"];

/// Our copy of a remote, in use.
pub(super) struct Mirror {
    tree: LocalTree,
    pub(super) directory: HostPath,
    /// Calls that may ask the remote.
    pub(super) git: Git,
}

/// A commit in our copy.
#[derive(Debug, Clone)]
pub(super) struct Commit {
    pub(super) found: Found,
    pub(super) id: String,
}

impl Commit {
    /// Returns the ref of our copy that stands for it.
    pub(super) fn local_ref(&self) -> String {
        local_ref(&self.found.object)
    }

    /// Returns whether its name is that of a 256-bit hash.
    pub(super) fn is_long(&self) -> bool {
        self.id.len() == 64
    }
}

fn local_ref(object: &str) -> String {
    format!("refs/larder/{object}")
}

impl Mirror {
    /// Takes our copy of a remote, or makes an empty one.
    pub(super) async fn open(
        services: &Services,
        git: &Git,
        repository: &Repository,
        found: &Found,
    ) -> Result<Self, OpError> {
        let is_long = found.object.len() == 64;
        let kind = if is_long { "git-sha256" } else { "git" };
        let key = format!("{kind}:{}", repository.shown());
        let description = format!("shared git repo for {}", repository.shown());
        let tree = services.trees.take(&key, &description).await.map_err(failure)?;
        let directory = tree.directory().map_err(failure)?.clone();
        let format = if is_long { "--object-format=sha256" } else { "--object-format=sha1" };
        let git = git.bare(&directory).setting(format!("remote.origin.url={}", repository.remote));
        for name in LEFTOVERS {
            // Nearly always there is none.
            let _ = std::fs::remove_file(directory.join(name).as_path());
        }
        let made = git.run(&["init", "--quiet", "--bare", "--template=", format]).await;
        made.map_err(|error| failure(call_failed("keep a copy of", repository)(error)))?;
        Ok(Self { tree, directory, git })
    }

    /// Brings the commit here, if it is not, and checks that it is the one that was asked for.
    pub(super) async fn fetch(
        &self,
        repository: &Repository,
        found: &Found,
    ) -> Result<Commit, GitError> {
        let object = found.object.as_str();
        if !self.has(object).await {
            self.bring(repository, found).await.map_err(call_failed("fetch remote", repository))?;
        }
        let remote = repository.shown();
        if !self.has(object).await {
            let name = format!("{} ({object})", found.name);
            return Err(GitError::NoSuchRef { remote, name });
        }
        let spec = format!("{object}^{{commit}}");
        let id =
            self.git.line(&["rev-parse", "--verify", "--quiet", "--end-of-options", &spec]).await;
        let Ok(id) = id else {
            return Err(GitError::NoCommit { remote, name: found.name.clone() });
        };
        if !repository.accepts(&[object, &id]) {
            let expected = repository.checksum.clone().unwrap_or_default();
            return Err(GitError::Checksum { expected, actual: id });
        }
        let commit = Commit { found: found.clone(), id };
        let kept = self.git.run(&["update-ref", "--no-deref", &commit.local_ref(), object]).await;
        kept.map_err(call_failed("keep a copy of", repository))?;
        Ok(commit)
    }

    async fn has(&self, object: &str) -> bool {
        self.git.run(&["cat-file", "-e", object]).await.is_ok()
    }

    /// Fetches as little as the server allows.
    async fn bring(&self, repository: &Repository, found: &Found) -> Result<(), CallError> {
        let remote = repository.remote.as_str();
        let name = if is_commit(&found.name) { &found.object } else { &found.name };
        // A name that has moved meanwhile brings another commit: then this one is asked for itself.
        let wanted = if repository.by_commit { [&found.object; 2] } else { [name, &found.object] };
        for (at, wanted) in wanted.into_iter().enumerate() {
            if at == 1 && wanted == name {
                break;
            }
            let words = ["fetch", "--quiet", "--depth=1", "--no-tags", "--", remote, wanted];
            match self.git.run(&words).await {
                Ok(_) if self.has(&found.object).await => return Ok(()),
                Ok(_) => {}
                // A server of plain files cannot give a part, and others only what has a name.
                Err(error) if repository.by_commit => return Err(error),
                Err(error) => tracing::debug!(%error, "a repository cannot be fetched in part"),
            }
        }
        self.bring_all(remote).await
    }

    /// Fetches all branches and tags.
    async fn bring_all(&self, remote: &str) -> Result<(), CallError> {
        const ALL: [&str; 2] = ["+refs/heads/*:refs/all/heads/*", "+refs/tags/*:refs/all/tags/*"];
        let is_shallow = self.directory.join("shallow").as_path().exists();
        let depth = if is_shallow { "--unshallow" } else { "--no-tags" };
        let words =
            ["fetch", "--quiet", "--prune", "--no-tags", depth, "--", remote, ALL[0], ALL[1]];
        self.git.run(&words).await.map(drop)
    }

    /// Gives our copy back, for the next who asks.
    pub(super) fn close(self) {
        drop(self.tree.share(true));
    }
}
