//! What a build takes from elsewhere: files and archives of the web, repositories, images on the client's
//! disk, and contexts that are none of the client's directories.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use integration::{
    Answer, Asked, Image, Launch, Program, Project, Scripted, SshAgent, SshServer, World,
    statements,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// Serves files by their path, each with a tag.
fn serve(files: BTreeMap<String, Vec<u8>>) -> anyhow::Result<Scripted> {
    Scripted::start(move |asked: &Asked| {
        match files.get(asked.path.split('?').next().unwrap_or("")) {
            Some(body) => Answer::document("application/octet-stream", body.clone())
                .header("ETag", &format!("\"{}\"", digest(body))),
            None => Answer::status(404),
        }
    })
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn one(path: &str, body: impl Into<Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    [(path.to_owned(), body.into())].into()
}

/// Returns an archive of these files.
fn archive(files: &[(&str, &str)]) -> anyhow::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        archive.append_data(&mut header, name, text.as_bytes())?;
    }
    Ok(archive.into_inner()?)
}

fn gzip(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes)?;
    Ok(gzip.finish()?)
}

/// Makes a repository without a work tree at `to`, with these files in its only commit; returns that.
fn make_repository(to: &Path, files: &[(&str, &str)]) -> anyhow::Result<String> {
    let work = TempDir::new()?;
    for (name, text) in files {
        fs::write(work.path().join(name), text)?;
    }
    git(work.path(), &["init", "--quiet", "--initial-branch=main"])?;
    git(work.path(), &["add", "."])?;
    git(work.path(), &["commit", "--quiet", "-m", "x"])?;
    git(work.path(), &["tag", "v1"])?;
    git(work.path(), &["clone", "--quiet", "--bare", ".", &to.display().to_string()])?;
    Ok(git(to, &["rev-parse", "HEAD"])?.trim().to_owned())
}

/// A repository, served as the plain files that it consists of.
struct Repository {
    server: Scripted,
    commit: String,
}

impl Repository {
    fn new(files: &[(&str, &str)]) -> anyhow::Result<Self> {
        let bare = TempDir::new()?;
        let to = bare.path().join("repo.git");
        let commit = make_repository(&to, files)?;
        git(&to, &["update-server-info"])?;
        let mut served = BTreeMap::new();
        read_below(bare.path(), "", &mut served)?;
        Ok(Self { server: serve(served)?, commit })
    }

    fn url(&self) -> String {
        format!("http://{}/repo.git", self.server.host())
    }
}

fn read_below(
    folder: &Path,
    prefix: &str,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            read_below(&entry.path(), &name, files)?;
        } else {
            files.insert(name, fs::read(entry.path())?);
        }
    }
    Ok(())
}

fn git(folder: &Path, words: &[&str]) -> anyhow::Result<String> {
    let program = Program::new("git").directory(folder).env("HOME", "/dev/null");
    let who = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
    program.args(who).args(words).succeed().context("git")
}

#[test]
fn files_of_the_web_are_added_and_checked() -> anyhow::Result<()> {
    let world = World::start()?;
    let server = serve(one("/dir/file.txt", "from the web\n"))?;
    let (host, sum) = (server.host(), digest(b"from the web\n"));
    let project = world.project(&format!(
        "FROM {{busybox}}\n\
         ADD --checksum=sha256:{sum} http://{host}/dir/file.txt /checked\n\
         ADD --chmod=0750 --chown=7:8 http://{host}/dir/file.txt /into/\n\
         RUN cat /checked && stat -c '%a %u %g' /checked /into/file.txt\n"
    ))?;
    let build = world.build(&project).succeed()?;
    let step = build.step("RUN cat /checked")?;
    assert_eq!(step.lines, ["from the web", "600 0 0", "750 7 8"]);
    let wrong = world.project(&format!(
        "FROM scratch\nADD --checksum=sha256:{} http://{host}/dir/file.txt /\n",
        digest(b"other")
    ))?;
    world.build(&wrong).fail()?.assert_shows("digest mismatch for");
    let gone = world.project(&format!("FROM scratch\nADD http://{host}/gone /\n"))?;
    world.build(&gone).fail()?.assert_shows("invalid response status 404");
    Ok(())
}

#[test]
fn repositories_are_added_by_branch_tag_and_commit() -> anyhow::Result<()> {
    let world = World::start()?;
    let repository = Repository::new(&[("a", "one\n")])?;
    let (url, commit) = (repository.url(), &repository.commit);
    let project = world.project(&format!(
        "FROM {{busybox}}\nADD {url}#main /branch\nADD {url}?tag=v1 /tag\nADD {url}#{commit} /commit\n\
         ADD --keep-git-dir=true {url} /kept\n\
         RUN cat /branch/a /tag/a /commit/a && cat /kept/.git/HEAD && ls -A /branch\n"
    ))?;
    let build = world.build(&project).succeed()?;
    let step = build.step("RUN cat /branch/a")?;
    assert_eq!(step.lines, ["one", "one", "one", commit.as_str(), "a"]);
    let missing = world.project(&format!("FROM scratch\nADD {url}#nowhere /\n"))?;
    world.build(&missing).fail()?.assert_shows("does not contain ref nowhere");
    Ok(())
}

#[test]
fn a_private_repository_is_reached_with_the_key_of_the_client() -> anyhow::Result<()> {
    let world = World::start()?;
    let (agent, stranger) = (SshAgent::start("known")?, SshAgent::start("unknown")?);
    let server = SshServer::start(&agent.public_key())?;
    let folder = TempDir::new()?;
    let bare = folder.path().join("repo.git");
    let dockerfile = world.fill("FROM {busybox}\nCOPY a /a\nRUN cat /a\n");
    let commit = make_repository(&bare, &[("a", "private\n"), ("Dockerfile", &dockerfile)])?;
    let url = server.url(&bare);
    let with = |agent: &SshAgent| format!("--ssh=default={}", agent.socket().display());
    let project = world.project(&format!(
        "FROM {{busybox}}\nADD {url}#v1 /tag\nADD {url}#{commit} /commit\nRUN cat /tag/a /commit/a\n"
    ))?;
    let added = world.build(&project).arg(with(&agent)).succeed()?;
    assert_eq!(added.step("RUN cat /tag/a")?.lines, ["private", "private"]);
    let empty = Project::empty()?;
    let built = world.build(&empty).context(format!("{url}#main")).arg(with(&agent)).succeed()?;
    assert_eq!(built.step("RUN cat /a")?.lines, ["private"]);
    // Who may not have it gets nothing of what is here.
    let other = world.project(&format!("FROM scratch\nADD {url}#main /other\n"))?;
    let refused = world.build(&other).arg(with(&stranger)).fail()?;
    refused.assert_shows("Permission denied (publickey)");
    world.build(&other).fail()?.assert_shows("unset ssh forward key default");
    Ok(())
}

#[test]
fn what_is_taken_from_elsewhere_is_told_by_its_digest() -> anyhow::Result<()> {
    let world = World::start()?;
    let dockerfile = "FROM {busybox}\nCOPY a /a\nADD {file} /b\nRUN --network=none echo c > /c\n";
    let server = serve(one("/file", "from the web\n"))?;
    let file = format!("http://{}/file", server.host());
    let dockerfile = world.fill(dockerfile).replace("{file}", &file);
    let repository = Repository::new(&[("a", "one\n"), ("Dockerfile", &dockerfile)])?;
    let (address, name) = (repository.url() + "#main", world.registry.image("app:told"));
    let build = || -> anyhow::Result<Value> {
        let build = world.build(&Project::empty()?).context(&address).arg("--provenance=mode=max");
        build.push(&name).succeed()?;
        let said = statements(&format!("docker://{name}"))?;
        Ok(said.into_iter().next().context("a statement")?["predicate"].take())
    };
    let said = build()?;
    let definition = &said["buildDefinition"];
    let commit = json!({ "sha1": repository.commit });
    let dependencies = definition["resolvedDependencies"].as_array().context("dependencies")?;
    assert_eq!(dependencies.len(), 3, "{dependencies:#?}");
    assert!(dependencies[0]["uri"].as_str().is_some_and(|uri| uri.contains("/busybox@latest")));
    assert_eq!(dependencies[1], json!({ "uri": address, "digest": commit }));
    let digest = json!({ "sha256": digest(b"from the web\n") });
    assert_eq!(dependencies[2], json!({ "uri": file, "digest": digest }));
    let source = &definition["externalParameters"]["configSource"];
    assert_eq!((&source["uri"], &source["digest"]), (&json!(address), &commit));
    let metadata = &said["runDetails"]["metadata"];
    assert_eq!(metadata["buildkit_completeness"]["resolvedDependencies"], true);
    assert_eq!(metadata["buildkit_hermetic"], true);
    // Each step has the layers up to its own; also where nothing had to be done.
    let image = Image::read(&format!("docker://{name}"))?;
    let of_image = |layers: &Value| layers[0].as_array().map(|list| list.len());
    for said in [said.clone(), build()?] {
        let layers = &said["runDetails"]["metadata"]["buildkit_metadata"]["layers"];
        let layers = layers.as_object().context("no layers are told")?;
        let whole = layers.values().filter(|stacks| of_image(stacks) == Some(4));
        let whole: Vec<_> = whole.map(|stacks| &stacks[0]).collect();
        assert_eq!(whole, [&image.manifest["layers"]], "{layers:#?}");
        let mut heights: Vec<_> = layers.values().filter_map(of_image).collect();
        heights.sort_unstable();
        assert_eq!(heights, [1, 2, 3, 4]);
        let names = &said["buildDefinition"]["internalParameters"]["buildConfig"]["digestMapping"];
        let steps = names.as_object().context("steps")?;
        let known = |key: &String| {
            steps.values().any(|step| key == &format!("{}:0", step.as_str().unwrap_or_default()))
        };
        assert!(layers.keys().all(known), "{layers:#?}");
    }
    Ok(())
}

#[test]
fn a_context_is_a_repository() -> anyhow::Result<()> {
    let world = World::start()?;
    let dockerfile = world.fill("FROM {busybox}\nCOPY a /a\nRUN cat /a\n");
    let repository = Repository::new(&[("a", "in the repository\n"), ("Dockerfile", &dockerfile)])?;
    let build = world.build(&Project::empty()?).context(repository.url() + "#main").succeed()?;
    assert_eq!(build.step("RUN cat /a")?.lines, ["in the repository"]);
    Ok(())
}

#[test]
fn a_context_is_an_archive_or_a_dockerfile_of_the_web() -> anyhow::Result<()> {
    let world = World::start()?;
    let dockerfile = world.fill("FROM {busybox}\nCOPY a /a\nRUN cat /a\n");
    let packed = gzip(&archive(&[("a", "packed\n"), ("Dockerfile", &dockerfile)])?)?;
    let mut files = one("/context.tar.gz", packed);
    files.extend(one("/Dockerfile", world.fill("FROM {busybox}\nRUN echo alone\n")));
    let server = serve(files)?;
    let at = |path: &str| format!("http://{}{path}", server.host());
    let build = world.build(&Project::empty()?).context(at("/context.tar.gz")).succeed()?;
    assert_eq!(build.step("RUN cat /a")?.lines, ["packed"]);
    let build = world.build(&Project::empty()?).context(at("/Dockerfile")).succeed()?;
    assert_eq!(build.step("RUN echo alone")?.lines, ["alone"]);
    Ok(())
}

#[test]
fn a_context_is_an_archive_on_standard_input() -> anyhow::Result<()> {
    let world = World::start()?;
    let dockerfile = world.fill("FROM {busybox}\nCOPY a /a\nRUN cat /a\n");
    let plain = archive(&[("a", "piped\n"), ("Dockerfile", &dockerfile)])?;
    for (number, context) in [gzip(&plain)?, plain].into_iter().enumerate() {
        let build = world.build(&Project::empty()?).context("-").input(context).succeed()?;
        let step = build.step("RUN cat /a")?;
        // What is in the archive counts, not how it was packed.
        assert_eq!(step.lines.is_empty(), number == 1, "{:?}", step.lines);
    }
    Ok(())
}

#[test]
fn a_base_image_is_on_the_disk_of_the_client() -> anyhow::Result<()> {
    let world = World::start()?;
    let out = TempDir::new()?;
    let layout = out.path().display();
    let base = world.project("FROM {busybox}\nRUN echo base > /base\n")?;
    world
        .build(&base)
        .args(["--provenance=false", "--tag", "example.org/base:1", "--output"])
        .arg(format!("type=oci,tar=false,dest={layout}"))
        .succeed()?;
    let other = World::start()?;
    let project = Project::new("FROM mine\nRUN cat /base\n")?;
    let build = other
        .build(&project)
        .args(["--build-context", &format!("mine=oci-layout://{layout}:1")])
        .succeed()?;
    assert_eq!(build.step("RUN cat /base")?.lines, ["base"]);
    Ok(())
}

#[test]
fn a_mirror_is_asked_in_place_of_a_registry() -> anyhow::Result<()> {
    let config = "[registry.\"registry.invalid\"]\nmirrors = [\"{registry}\"]\n";
    let world = World::launch(Launch { config: config.to_owned(), ..Launch::default() })?;
    let project = Project::new("FROM registry.invalid/busybox\nRUN echo mirrored\n")?;
    let build = world.build(&project).succeed()?;
    assert_eq!(build.step("RUN echo")?.lines, ["mirrored"]);
    Ok(())
}
