//! The main job, end to end: a real project is built, pushed, built again from the cache, and survives
//! whatever happens to the daemon in between.

use anyhow::Context as _;
use integration::{Image, World};

/// Several stages, cache mounts, files of the context, an image that is small.
const PROJECT: &str = r#"
FROM {busybox} AS base
WORKDIR /src
ENV MODE=release

FROM base AS fetch
RUN --mount=type=cache,target=/var/cache/fetch,id=fetch \
    echo fetched >> /var/cache/fetch/log && cp /var/cache/fetch/log /fetched

FROM base AS compile
COPY --from=fetch /fetched /src/fetched
COPY source.txt ./
RUN --mount=type=cache,target=/cache cat source.txt fetched > /program && echo "compiled in $MODE"

FROM {busybox}
COPY --from=compile --chmod=755 /program /usr/bin/program
LABEL org.example.kind=test
ENTRYPOINT ["/usr/bin/program"]
"#;

#[test]
fn a_project_is_built_pushed_and_built_again_from_the_cache() -> anyhow::Result<()> {
    let world = World::start()?;
    let project = world.project(PROJECT)?.with("source.txt", "source\n")?;
    let name = world.registry.image("team/app:1");

    let first = world.build(&project).push(&name).succeed()?;
    first.assert_cached("RUN --mount=type=cache,target=/cache", false);
    assert!(first.step("RUN --mount=type=cache,target=/cache")?.says("compiled in release"));
    let image = Image::read(&format!("docker://{name}"))?;
    assert_eq!(image.text("usr/bin/program")?, "source\nfetched\n");
    assert_eq!(image.config["config"]["Entrypoint"], serde_json::json!(["/usr/bin/program"]));
    assert_eq!(image.config["config"]["Labels"]["org.example.kind"], "test");

    let second = world.build(&project).push(&name).succeed()?;
    second.assert_all_cached();
    // What attests to it tells when it was built; the image itself is the same.
    let again = Image::read(&format!("docker://{name}"))?;
    assert_eq!(again.top["manifests"][0]["digest"], image.top["manifests"][0]["digest"]);

    project.write("source.txt", "changed\n")?;
    let third = world.build(&project).push(&name).succeed()?;
    third.assert_cached("RUN --mount=type=cache,target=/var/cache/fetch", true);
    third.assert_cached("RUN --mount=type=cache,target=/cache", false);
    assert_eq!(
        Image::read(&format!("docker://{name}"))?.text("usr/bin/program")?,
        "changed\nfetched\n"
    );
    Ok(())
}

#[test]
fn everything_is_cached_after_a_restart() -> anyhow::Result<()> {
    let mut world = World::start()?;
    let project = world.project(PROJECT)?.with("source.txt", "source\n")?;
    world.build(&project).succeed()?;
    let daemon = world.daemon()?;
    daemon.stop()?;
    assert!(daemon.leftovers().is_empty(), "{:?}", daemon.leftovers());
    daemon.up()?;
    let name = world.registry.image("app:restarted");
    world.build(&project).push(&name).succeed()?.assert_all_cached();
    assert_eq!(
        Image::read(&format!("docker://{name}"))?.text("usr/bin/program")?,
        "source\nfetched\n"
    );
    Ok(())
}

#[test]
fn finished_steps_are_cached_after_the_daemon_was_killed_in_the_middle() -> anyhow::Result<()> {
    let mut world = World::start()?;
    let project = world.project(
        "FROM {busybox}\nRUN echo one > /one\n\
         RUN --mount=type=cache,target=/cache echo two > /cache/two && cp /cache/two /two\n\
         RUN --mount=type=cache,target=/cache if [ ! -e /cache/go ]; then touch /cache/go; \
         echo now running; tail -f /dev/null; fi\n",
    )?;
    let build = world.build(&project).spawn()?;
    build.wait_for(" now running")?;
    let daemon = world.daemon()?;
    daemon.kill()?;
    let left = daemon.leftovers();
    assert!(left.mounts.is_empty() && left.processes.is_empty(), "{left:?}");
    assert!(!build.wait()?.status.success(), "the client saw the daemon go");

    world.daemon()?.up()?;
    let project = world.project(
        "FROM {busybox}\nRUN echo one > /one\n\
         RUN --mount=type=cache,target=/cache echo two > /cache/two && cp /cache/two /two\n\
         RUN cat /one /two\n",
    )?;
    let build = world.build(&project).succeed()?;
    build.assert_cached("RUN echo one > /one", true);
    build.assert_cached("cp /cache/two /two", true);
    let shown = &build.step("RUN cat /one /two")?.lines;
    assert_eq!(shown, &["one", "two"]);
    Ok(())
}

#[test]
fn a_client_that_is_stopped_stops_the_work() -> anyhow::Result<()> {
    let mut world = World::start()?;
    let project = world.project(
        "FROM {busybox}\nRUN --mount=type=cache,target=/c,sharing=locked \
         echo now running; tail -f /dev/null\n",
    )?;
    let build = world.build(&project).spawn()?;
    build.wait_for(" now running")?;
    build.signal(rustix::process::Signal::INT)?;
    let build = build.wait()?;
    assert!(!build.status.success());
    // The next one gets the volume, which nobody holds any more.
    let project = world
        .project("FROM {busybox}\nRUN --mount=type=cache,target=/c,sharing=locked echo free\n")?;
    world.build(&project).succeed()?;
    let daemon = world.daemon()?;
    daemon.stop()?;
    assert!(daemon.leftovers().is_empty(), "{:?}", daemon.leftovers());
    Ok(())
}

#[test]
fn the_builder_shows_itself_to_the_client() -> anyhow::Result<()> {
    let world = World::start()?;
    let shown = world.client.command(["inspect", "--bootstrap"]).succeed()?;
    assert!(shown.contains("Status:") && shown.contains("running"), "{shown}");
    assert!(shown.contains("linux/"), "{shown}");
    let listed = world.client.command(["ls"]).succeed()?;
    assert!(listed.contains("running"), "{listed}");
    Ok(())
}

#[test]
fn a_second_daemon_on_the_same_root_names_the_first() -> anyhow::Result<()> {
    let mut world = World::start()?;
    let program = world.settings.built("larderd")?;
    let daemon = world.daemon()?;
    let finished = integration::Program::new(program)
        .arg("--root")
        .arg(daemon.root())
        .arg(format!("--addr=unix://{}", daemon.beside().join("other").display()))
        .run()?;
    assert!(!finished.status.success(), "two daemons on one root");
    let id = daemon.id().context("the first one runs")?.to_string();
    assert!(finished.stderr.contains(&id), "the holder {id} is not named: {}", finished.stderr);
    Ok(())
}
