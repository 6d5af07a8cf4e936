//! Repositories from a server of this machine, which runs the backend that `git` has for the web.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use bytes::Bytes;
use executor::host::{self, HostCommand};
use llb::{GitOptions, OpOptions, State};
use mount::HostPath;
use session::testing::FakeClient;

use crate::server::{Answer, Asked, Server};
use crate::world::World;

/// A repository that is made by hand and served.
struct Origin {
    folder: tempfile::TempDir,
    server: Server,
}

async fn git(folder: PathBuf, words: &[&str]) -> String {
    let fixed = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"];
    let environment = [
        ("GIT_AUTHOR_DATE", "1000000000 +0000"),
        ("GIT_COMMITTER_DATE", "1000000000 +0000"),
        ("HOME", "/dev/null"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
    ];
    let output = host::run(HostCommand {
        program: "git".into(),
        arguments: fixed.iter().chain(words).map(Into::into).collect(),
        environment: environment.map(|(name, value)| (name.into(), value.into())).to_vec(),
        directory: HostPath::new(folder).unwrap(),
        input: Bytes::new(),
        timeout: Duration::from_secs(600),
        output_limit: 1 << 20,
    });
    let output = output.await.unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.to_vec()).unwrap().trim().to_owned()
}

/// Answers as a web server with the backend of `git` does; with a password if there is one.
async fn backend(root: PathBuf, asked: Asked, password: Option<&'static str>) -> Answer {
    if let Some(password) = password {
        let expected = STANDARD.encode(format!("x-access-token:{password}"));
        if asked.header("authorization") != Some(&format!("basic {expected}")) {
            return Answer::status(401).header("WWW-Authenticate", "Basic");
        }
    }
    let (path, query) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
    let variables = [
        ("GIT_PROJECT_ROOT", root.to_str().unwrap()),
        ("GIT_HTTP_EXPORT_ALL", "1"),
        ("PATH_INFO", path),
        ("QUERY_STRING", query),
        ("REQUEST_METHOD", &asked.method),
        ("CONTENT_TYPE", asked.header("content-type").unwrap_or_default()),
        ("HTTP_CONTENT_ENCODING", asked.header("content-encoding").unwrap_or_default()),
        ("GIT_PROTOCOL", asked.header("git-protocol").unwrap_or_default()),
        ("CONTENT_LENGTH", &asked.body.len().to_string()),
        ("REMOTE_ADDR", "127.0.0.1"),
        ("HOME", "/dev/null"),
    ];
    let output = host::run(HostCommand {
        program: "git".into(),
        arguments: vec!["http-backend".into()],
        environment: variables.map(|(name, value)| (name.into(), value.into())).to_vec(),
        directory: HostPath::new(root.clone()).unwrap(),
        input: asked.body.clone().into(),
        timeout: Duration::from_secs(600),
        output_limit: 1 << 24,
    });
    Answer::of_program(&output.await.unwrap().stdout)
}

impl Origin {
    async fn new() -> Option<Self> {
        Self::guarded(None).await
    }

    /// Returns none, and says so, where there is no `git`.
    async fn guarded(password: Option<&'static str>) -> Option<Self> {
        if !["/usr/bin/git", "/usr/local/bin/git"].iter().any(|path| PathBuf::from(path).exists()) {
            eprintln!("skipped: `git` is not installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        let server =
            Server::run(Arc::new(move |asked| Box::pin(backend(root.clone(), asked, password))));
        let origin = Self { server: server.await, folder };
        origin.make("repo").await;
        origin.write("repo", &[("a", "1"), ("dir/b", "2")]).await;
        Some(origin)
    }

    async fn make(&self, name: &str) {
        std::fs::create_dir(self.folder.path().join(name)).unwrap();
        self.git(name, &["init", "--quiet"]).await;
    }

    async fn write(&self, name: &str, files: &[(&str, &str)]) -> String {
        for (file, text) in files {
            let path = self.folder.path().join(name).join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        self.git(name, &["add", "."]).await;
        self.git(name, &["commit", "--quiet", "-m", "x"]).await;
        self.git(name, &["rev-parse", "HEAD"]).await
    }

    async fn git(&self, name: &str, words: &[&str]) -> String {
        git(self.folder.path().join(name), words).await
    }

    fn url(&self, name: &str) -> String {
        self.server.url(&format!("/{name}/.git"))
    }

    fn state(&self, options: GitOptions) -> State {
        State::git(&self.url("repo"), options, OpOptions::named("repo"))
    }

    fn at(&self, reference: &str) -> State {
        self.state(GitOptions { reference: reference.to_owned(), ..GitOptions::default() })
    }

    /// Returns how many times objects were fetched.
    fn fetches(&self) -> usize {
        let asked = self.server.asked();
        let fetch = |asked: &&Asked| asked.body.windows(4).any(|four| four == b"want");
        asked.iter().filter(fetch).count()
    }
}

#[tokio::test]
async fn branches_tags_and_commits_are_checked_out() {
    let Some(origin) = Origin::new().await else { return };
    let world = World::new().await;
    let first = origin.git("repo", &["rev-parse", "HEAD"]).await;
    origin.git("repo", &["tag", "light"]).await;
    origin.git("repo", &["tag", "-a", "-m", "said", "heavy"]).await;
    origin.write("repo", &[("a", "newer")]).await;
    origin.git("repo", &["branch", "feature/x"]).await;
    for (reference, content) in [
        ("", "newer"),
        ("main", "newer"),
        ("feature/x", "newer"),
        ("refs/heads/main", "newer"),
        ("light", "1"),
        ("heavy", "1"),
        ("refs/tags/heavy", "1"),
        (first.as_str(), "1"),
    ] {
        let built = world.build(&origin.at(reference)).await.unwrap();
        assert_eq!(world.list(&built.tree).await, ["/a", "/dir/", "/dir/b"], "{reference}");
        assert_eq!(world.read(&built.tree, "/a").await, content, "{reference}");
        let stat = world.stat(&built.tree, "/dir/b").await;
        assert_eq!((stat.st_mode & 0o7777, stat.st_uid, stat.st_gid), (0o644, 0, 0));
    }
    // One commit, one checkout, whatever it is called; and each commit travelled once.
    assert!(origin.fetches() <= 3, "{}", origin.fetches());
    let text = world.failure(&origin.at("nowhere")).await;
    assert!(text.contains("does not contain ref nowhere"), "{text}");
}

#[tokio::test]
async fn a_branch_that_moves_is_built_anew_and_only_then() {
    let Some(origin) = Origin::new().await else { return };
    let world = World::new().await;
    world.build(&origin.at("main")).await.unwrap();
    let again = world.build(&origin.at("main")).await.unwrap();
    assert!(again.ran().is_empty(), "{:?}", again.ran());
    origin.write("repo", &[("a", "moved")]).await;
    let moved = world.build(&origin.at("main")).await.unwrap();
    assert_eq!(world.read(&moved.tree, "/a").await, "moved");
    // What was a branch becomes a directory of branches.
    origin.git("repo", &["branch", "x"]).await;
    world.build(&origin.at("x")).await.unwrap();
    origin.git("repo", &["branch", "-D", "x"]).await;
    origin.write("repo", &[("a", "below")]).await;
    origin.git("repo", &["branch", "x/y"]).await;
    let below = world.build(&origin.at("x/y")).await.unwrap();
    assert_eq!(world.read(&below.tree, "/a").await, "below");
}

#[tokio::test]
async fn a_directory_becomes_the_tree_and_must_be_one() {
    let Some(origin) = Origin::new().await else { return };
    let world = World::new().await;
    std::os::unix::fs::symlink("/etc", origin.folder.path().join("repo/link")).unwrap();
    origin.write("repo", &[("dir/deep/c", "3")]).await;
    let part = |subdir: &str| {
        origin.state(GitOptions { subdir: subdir.to_owned(), ..GitOptions::default() })
    };
    let built = world.build(&part("dir")).await.unwrap();
    assert_eq!(world.list(&built.tree).await, ["/b", "/deep/", "/deep/c"]);
    for (subdir, said) in
        [("a", "is not a directory"), ("link", "is not a directory"), ("none", "`none`")]
    {
        let text = world.failure(&part(subdir)).await;
        assert!(text.contains("invalid subdir") && text.contains(said), "{text}");
    }
}

#[tokio::test]
async fn the_git_directory_is_kept_on_request_and_knows_nothing_of_us() {
    let Some(origin) = Origin::new().await else { return };
    let world = World::new().await;
    origin.git("repo", &["tag", "-a", "-m", "said", "heavy"]).await;
    for (reference, name) in [("main", "refs/heads/main"), ("heavy", "refs/tags/heavy")] {
        let options = GitOptions {
            keep_git_dir: true,
            reference: reference.to_owned(),
            ..GitOptions::default()
        };
        let built = world.build(&origin.state(options)).await.unwrap();
        let config = world.read(&built.tree, "/.git/config").await;
        assert!(config.contains(&origin.url("repo")), "{config}");
        assert!(!config.contains(world.root.path().to_str().unwrap()), "{config}");
        let files = world.list(&built.tree).await;
        assert!(files.contains(&format!("/.git/{name}")), "{files:?}");
        assert!(!files.contains(&"/.git/FETCH_HEAD".to_owned()), "{files:?}");
    }
}

#[tokio::test]
async fn a_checksum_is_held_against_the_commit() {
    let Some(origin) = Origin::new().await else { return };
    let world = World::new().await;
    let commit = origin.git("repo", &["rev-parse", "HEAD"]).await;
    let with = |checksum: &str, reference: &str| {
        origin.state(GitOptions {
            checksum: checksum.to_owned(),
            reference: reference.to_owned(),
            ..GitOptions::default()
        })
    };
    world.build(&with(&commit[..10], "main")).await.unwrap();
    let text = world.failure(&with("0123abc", "main")).await;
    let wrong = format!("expected checksum to match 0123abc, got {commit}");
    assert_eq!(text, format!("failed to load cache key: {wrong}"));
    let by_commit = GitOptions {
        checksum: commit.clone(),
        reference: "main".to_owned(),
        fetch_by_commit: true,
        ..GitOptions::default()
    };
    let built = world.build(&origin.state(by_commit)).await.unwrap();
    assert_eq!(world.read(&built.tree, "/a").await, "1");
}

#[tokio::test]
async fn modules_come_along_unless_they_are_not_wanted() {
    let Some(origin) = Origin::new().await else { return };
    let world = World::new().await;
    origin.make("module").await;
    origin.write("module", &[("m", "module")]).await;
    let url = origin.url("module");
    origin.git("repo", &["submodule", "--quiet", "add", &url, "sub"]).await;
    origin.git("repo", &["commit", "--quiet", "-m", "module"]).await;
    let built = world.build(&origin.at("main")).await.unwrap();
    assert_eq!(world.read(&built.tree, "/sub/m").await, "module");
    assert!(!world.list(&built.tree).await.iter().any(|path| path.contains("/.git/")));
    assert!(!world.list(&built.tree).await.contains(&"/sub/.git".to_owned()));
    let without = GitOptions { skip_submodules: true, ..GitOptions::default() };
    let built = world.build(&origin.state(without)).await.unwrap();
    assert!(!world.list(&built.tree).await.contains(&"/sub/m".to_owned()));
}

#[tokio::test]
async fn a_module_cannot_be_a_repository_of_this_machine() {
    let Some(origin) = Origin::new().await else { return };
    let world = World::new().await;
    origin.make("private").await;
    origin.write("private", &[("p", "private")]).await;
    let path = origin.folder.path().join("private");
    let add = ["-c", "protocol.file.allow=always", "submodule", "--quiet", "add"];
    let path = path.to_str().unwrap();
    origin.git("repo", &[&add[..], &[path, "sub"]].concat()).await;
    origin.git("repo", &["commit", "--quiet", "-m", "module"]).await;
    let text = world.failure(&origin.at("main")).await;
    assert!(text.contains("transport 'file' not allowed"), "{text}");
}

#[tokio::test]
async fn times_are_those_of_the_commit_on_request() {
    let Some(origin) = Origin::new().await else { return };
    let world = World::new().await;
    let options = GitOptions { mtime: "commit".to_owned(), ..GitOptions::default() };
    let built = world.build(&origin.state(options)).await.unwrap();
    for path in ["/a", "/dir", "/dir/b"] {
        assert_eq!(world.stat(&built.tree, path).await.st_mtime, 1_000_000_000, "{path}");
    }
}

#[tokio::test]
async fn a_private_repository_is_shown_to_who_has_the_secret() {
    let Some(origin) = Origin::guarded(Some("word")).await else { return };
    let world = World::new().await;
    let text = world.failure(&origin.at("main")).await;
    assert!(text.contains("failed to fetch remote") && text.contains("git stderr:"), "{text}");
    let client = FakeClient::new().with_secret("GIT_AUTH_TOKEN", "word");
    let _client = client.connect(&world.sessions, "one").await.unwrap();
    let built = world.build_for(&origin.at("main"), ["one"]).await.unwrap();
    assert_eq!(world.read(&built.tree, "/a").await, "1");
}

#[tokio::test]
async fn what_a_killed_call_left_stops_nobody() {
    let Some(origin) = Origin::new().await else { return };
    let world = World::new().await;
    world.build(&origin.at("main")).await.unwrap();
    let world = world.reopen().await;
    let copy = world.trees.take(&format!("git:{}", origin.url("repo")), "").await.unwrap();
    let folder = copy.directory().unwrap().as_path().to_owned();
    assert!(folder.join("HEAD").exists(), "the copy is kept across restarts");
    for name in ["shallow.lock", "index.lock", "packed-refs.lock", "config.lock"] {
        std::fs::write(folder.join(name), "").unwrap();
    }
    drop(copy);
    origin.write("repo", &[("a", "moved")]).await;
    let built = world.build(&origin.at("main")).await.unwrap();
    assert_eq!(world.read(&built.tree, "/a").await, "moved");
}
