//! What a build is made from, which part of it is wanted, and what is said about a wrong line.

use std::fs;

use integration::{Project, World};
use tempfile::TempDir;

use super::{build, fails};

#[test]
fn the_usual_syntax_line_is_understood() -> anyhow::Result<()> {
    let world = World::start()?;
    build(&world, "# syntax=docker/dockerfile:1\nFROM {busybox}\nRUN true\n")?;
    Ok(())
}

#[test]
fn stages_targets_and_arguments_choose_what_is_built() -> anyhow::Result<()> {
    let world = World::start()?;
    let project = world.project(
        r#"ARG BASE={busybox}
ARG KIND=plain
FROM ${BASE} AS one
ARG KIND
ARG UNSET
ARG LATE=${KIND:-none}-${UNSET:-default}-${UNSET:+set}${KIND#pl}
RUN echo "$KIND $LATE" > /kind
FROM one AS two
RUN echo two > /two
FROM scratch AS result
COPY --from=one /kind /kind
COPY --from=0 /etc/group /group
FROM scratch AS unused
COPY missing /
FROM result
"#,
    )?;
    let out = TempDir::new()?;
    let build = world.build(&project).into_directory(out.path()).succeed()?;
    assert_eq!(fs::read_to_string(out.path().join("kind"))?, "plain plain-default-ain\n");
    assert!(build.plain.find("two").is_none(), "a stage that nobody needs is not built");
    world
        .build(&project)
        .args(["--build-arg", "KIND=fancy"])
        .into_directory(out.path())
        .succeed()?;
    assert_eq!(fs::read_to_string(out.path().join("kind"))?, "fancy fancy-default-fancy\n");
    let target = world.build(&project).args(["--target", "two"]).succeed()?;
    target.assert_shows("RUN echo two");
    Ok(())
}

#[test]
fn a_wrong_line_is_shown_with_what_was_meant() -> anyhow::Result<()> {
    let world = World::start()?;
    let unknown = fails(&world, "FROM {busybox}\nENV A=1\nRUM echo hello\n")?;
    unknown.assert_shows("unknown instruction: RUM");
    unknown.assert_shows("did you mean RUN?");
    unknown.assert_shows("Dockerfile:3");
    unknown.assert_shows(">>> RUM echo hello");
    let flag = fails(&world, "FROM {busybox}\nCOPY --form=x a b\n")?;
    flag.assert_shows("unknown flag: --form");
    flag.assert_shows("did you mean from?");
    let mount = fails(&world, "FROM {busybox}\nRUN --mount=type=cash,target=/x true\n")?;
    mount.assert_shows("unsupported mount type \"cash\"");
    let stage = fails(&world, "FROM {busybox} AS build\nFROM scratch\nCOPY --from=biuld /a /\n")?;
    stage.assert_shows("biuld");
    let missing = fails(&world, "FROM {busybox}\nCOPY absent.txt /\n")?;
    missing.assert_shows("\"/absent.txt\": not found");
    missing.assert_shows(">>> COPY absent.txt /");
    let base = fails(&world, &format!("FROM {}\n", world.registry.image("no/such:tag")))?;
    base.assert_shows("no/such:tag: not found");
    Ok(())
}

#[test]
fn a_dockerfile_comes_from_wherever_the_client_has_it() -> anyhow::Result<()> {
    let world = World::start()?;
    let project = Project::empty()?;
    project.write("sub/other.Dockerfile", world.fill("FROM {busybox}\nRUN echo other\n"))?;
    let named = world.build(&project).arg("-f").arg(project.path("sub/other.Dockerfile"));
    named.succeed()?.assert_shows("RUN echo other");
    let typed = world.build(&project).args(["-f", "-"]);
    let typed = typed.input(world.fill("FROM {busybox}\nRUN echo typed\n")).succeed()?;
    typed.assert_shows("RUN echo typed");
    Ok(())
}

#[test]
fn other_contexts_have_names() -> anyhow::Result<()> {
    let world = World::start()?;
    let other = Project::empty()?.with("file", "of the other\n")?;
    let project = world.project(
        "FROM base\nCOPY --from=other file /file\nRUN --mount=from=other,target=/o cat /o/file\n",
    )?;
    let build = world
        .build(&project)
        .arg("--build-context")
        .arg(format!("other={}", other.root().display()))
        .arg("--build-context")
        .arg(world.fill("base=docker-image://{busybox}"))
        .succeed()?;
    assert_eq!(build.step("cat /o/file")?.lines, ["of the other"]);
    Ok(())
}

#[test]
fn a_context_may_be_a_layout_of_the_client() -> anyhow::Result<()> {
    let world = World::start()?;
    let base = Project::empty()?;
    world
        .build(&world.project("FROM {busybox}\nENV FROM_LAYOUT=yes\nRUN echo layout > /layout\n")?)
        .args(["--provenance=false", "--tag", "base:latest", "--output"])
        .arg(format!("type=oci,tar=false,dest={}", base.root().display()))
        .succeed()?;
    let project = world.project("FROM base\nRUN cat /layout && echo $FROM_LAYOUT\n")?;
    let build = world
        .another_client()?
        .build(&project)
        .arg("--build-context")
        .arg(format!("base=oci-layout://{}:latest", base.root().display()))
        .succeed()?;
    assert_eq!(build.step("cat /layout")?.lines, ["layout", "yes"]);
    Ok(())
}

#[test]
fn a_build_can_be_told_not_to_use_the_cache() -> anyhow::Result<()> {
    let world = World::start()?;
    let project = world.project("FROM {busybox}\nRUN cat /proc/sys/kernel/random/uuid\n")?;
    let first = world.build(&project).succeed()?;
    let again = world.build(&project).arg("--no-cache").succeed()?;
    again.assert_cached("RUN cat", false);
    assert_ne!(first.step("RUN cat")?.lines, again.step("RUN cat")?.lines);
    world.build(&project).succeed()?.assert_all_cached();
    Ok(())
}
