//! From a commit in our copy to a layer with its files.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use cache::{ImmutableRef, LayerInfo, RecordKind};
use mount::{GuestPath, HostPath};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use solver::OpError;

use super::address::{GitDir, Repository, Times};
use super::mirror::{Commit, Mirror};
use super::program::{CallError, Git};
use super::{GitError, call_failed, file_failed};
use crate::{Services, failure};

/// Makes a layer of the files of a commit.
pub(super) async fn check_out(
    services: &Services,
    mirror: &Mirror,
    repository: &Repository,
    commit: &Commit,
) -> Result<ImmutableRef, OpError> {
    let ingest = services.refs.new_ingest().await.map_err(failure)?;
    let layer = ingest.directory().clone();
    let whole = repository.subdir.is_root();
    // A part of the tree is moved up when all of it is there: its modules may be named at the top.
    let tree = if whole { layer.clone() } else { layer.join(format!(".larder-{}", commit.id)) };
    if !whole {
        fs::create_dir(tree.as_path())
            .map_err(file_failed("make a directory to check out into"))?;
    }
    let filled = Checkout { mirror, repository, commit, tree: &tree }.fill().await;
    filled.map_err(|error| failure(call_failed("checkout remote", repository)(error)))?;
    let finish = Finish {
        layer: layer.clone(),
        tree,
        subdir: repository.subdir.clone(),
        keeps_git_dir: whole && repository.git_dir == GitDir::Kept,
        time: commit_time(mirror, repository, commit).await.map_err(failure)?,
    };
    let finished = tasks::blocking("finish checkout", move || finish.run()).await;
    finished.map_err(failure)?.map_err(|problem| match problem {
        Problem::Subdir(reason) => failure(GitError::Subdir {
            remote: repository.shown(),
            subdir: repository.subdir.to_string(),
            reason,
        }),
        Problem::File(source) => file_failed("finish a checkout")(source),
    })?;
    let name = format!("git snapshot for {}#{}", repository.shown(), commit.found.name);
    let info = LayerInfo { description: name, kind: RecordKind::GitCheckout };
    services.refs.commit_ingest(ingest, &ImmutableRef::default(), info).await.map_err(failure)
}

/// Returns the time that all files get, seconds since 1970; none if each has its own.
async fn commit_time(
    mirror: &Mirror,
    repository: &Repository,
    commit: &Commit,
) -> Result<Option<i64>, GitError> {
    if repository.times == Times::Checkout {
        return Ok(None);
    }
    let shown = mirror.git.line(&["show", "-s", "--format=%ct", &commit.id, "--"]).await;
    let shown = shown.map_err(call_failed("read a commit of", repository))?;
    Ok(Some(shown.parse().unwrap_or_default()))
}

struct Checkout<'a> {
    mirror: &'a Mirror,
    repository: &'a Repository,
    commit: &'a Commit,
    tree: &'a HostPath,
}

impl Checkout<'_> {
    /// Writes the files, and those of the modules.
    async fn fill(&self) -> Result<(), CallError> {
        let keeps = self.repository.git_dir == GitDir::Kept && self.repository.subdir.is_root();
        let modules = self.repository.submodules && self.has_modules().await;
        if !keeps && !modules {
            return self.plain().await;
        }
        // Modules leave their traces in the repository: not in our copy, which others use too.
        let git_dir = self.tree.join(".git");
        let git = self.mirror.git.with_tree(&git_dir, self.tree);
        self.clone_commit(&git, keeps).await?;
        if modules {
            bring_modules(&git).await?;
        }
        if keeps {
            let shown = self.repository.shown();
            git.run(&["config", "remote.origin.url", &shown]).await?;
            let all = "+refs/heads/*:refs/remotes/origin/*";
            git.run(&["config", "remote.origin.fetch", all]).await?;
            // It names our own copy.
            let _ = fs::remove_file(git_dir.join("FETCH_HEAD").as_path());
        }
        Ok(())
    }

    async fn has_modules(&self) -> bool {
        let list = format!("{}:.gitmodules", self.commit.id);
        self.mirror.git.run(&["cat-file", "-e", &list]).await.is_ok()
    }

    async fn plain(&self) -> Result<(), CallError> {
        // What an earlier checkout noted is of a tree that is not here.
        let _ = fs::remove_file(self.mirror.directory.join("index").as_path());
        let git = self.mirror.git.with_tree(&self.mirror.directory, self.tree);
        git.run(&["read-tree", "--reset", "-u", &self.commit.id]).await.map(drop)
    }

    /// Makes a repository of the one commit, and writes its files.
    async fn clone_commit(&self, git: &Git, keeps: bool) -> Result<(), CallError> {
        let format = if self.commit.is_long() { "sha256" } else { "sha1" };
        let format = format!("--object-format={format}");
        git.run(&["init", "--quiet", "--template=", &format]).await?;
        let (from, name) = (self.commit.local_ref(), &self.commit.found.name);
        let named = keeps && name.starts_with("refs/");
        let spec = if named { format!("+{from}:{name}") } else { from };
        let copy = self.mirror.directory.to_string();
        let words = ["fetch", "--quiet", "-u", "--depth=1", "--no-tags", "--", &copy, &spec];
        git.run(&words).await?;
        git.run(&["checkout", "--quiet", "--force", "--detach", &self.commit.id, "--"])
            .await
            .map(drop)
    }
}

/// Brings the modules, in part if their servers can do that.
async fn bring_modules(git: &Git) -> Result<(), CallError> {
    let all = ["submodule", "--quiet", "update", "--init", "--recursive", "--force"];
    let [a, b, c, d, e, f] = all;
    match git.run(&[a, b, c, d, e, f, "--depth=1"]).await {
        Ok(_) => Ok(()),
        Err(error) => {
            tracing::debug!(%error, "modules cannot be fetched in part");
            git.run(&all).await.map(drop)
        }
    }
}

/// What is left to be done when all files are there.
struct Finish {
    layer: HostPath,
    tree: HostPath,
    subdir: GuestPath,
    keeps_git_dir: bool,
    time: Option<i64>,
}

enum Problem {
    Subdir(String),
    File(io::Error),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

impl Finish {
    /// Makes the layer what it should be. Blocks.
    fn run(&self) -> Result<(), Problem> {
        if self.tree != self.layer {
            self.move_up()?;
        }
        fs::set_permissions(self.layer.as_path(), fs::Permissions::from_mode(0o755))?;
        self.settle(self.layer.as_path())?;
        Ok(())
    }

    /// Makes one directory of the tree the top of the layer.
    fn move_up(&self) -> Result<(), Problem> {
        let mut from = self.tree.as_path().to_owned();
        for name in self.subdir.relative() {
            from.push(name);
            let shown = || from.strip_prefix(&self.tree).unwrap_or(&from).display().to_string();
            match fs::symlink_metadata(&from) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => return Err(Problem::Subdir(format!("`{}` is not a directory", shown()))),
                Err(error) => return Err(Problem::Subdir(format!("`{}`: {error}", shown()))),
            }
        }
        for entry in fs::read_dir(&from)? {
            let entry = entry?;
            fs::rename(entry.path(), self.layer.join(entry.file_name()).as_path())?;
        }
        Ok(fs::remove_dir_all(self.tree.as_path())?)
    }

    /// Removes what is not of the tree, and sets modes and times: the same on every machine, whatever
    /// its mask for new files is.
    fn settle(&self, directory: &Path) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if entry.file_name() == ".git" {
                if self.keeps_git_dir {
                    continue;
                }
                if kind.is_dir() {
                    fs::remove_dir_all(&path)?
                } else {
                    fs::remove_file(&path)?
                }
                continue;
            }
            if kind.is_dir() {
                self.settle(&path)?;
            }
            if !kind.is_symlink() {
                let runs = kind.is_dir() || entry.metadata()?.permissions().mode() & 0o100 != 0;
                let mode = if runs { 0o755 } else { 0o644 };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
            }
            self.date(&path)?;
        }
        Ok(())
    }

    fn date(&self, path: &Path) -> io::Result<()> {
        let Some(seconds) = self.time else { return Ok(()) };
        let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }
}
