//! What users see of builds, while they run and afterwards: the steps by their names, what was taken from the
//! cache, how much travelled, warnings; and the records of builds that have ended.

use std::fs;

use integration::{Build, World};
use tempfile::TempDir;

const DOCKERFILE: &str = "FROM {busybox} AS make\nENV old style\nRUN echo out; echo err >&2\n\
    FROM {busybox}\nWORKDIR /w\nCOPY --from=make /etc/passwd ./\nCOPY file ./\n\
    RUN cat file | wc -c\n";

/// Returns what the client showed, step by step: their names with what they said below, and how they ended.
/// Times, digests and hosts are left out.
fn shown(build: &Build, world: &World) -> Vec<String> {
    let mut shown = Vec::new();
    for step in build.plain.steps() {
        let name = step.name.replace(world.registry.host(), "HOST");
        let name = name.split_once("@sha256:").map_or(&*name, |(name, _)| name).to_owned();
        shown.push(if step.cached { format!("{name}: CACHED") } else { name });
    }
    // Steps that do not wait for each other are shown in any order.
    shown.sort();
    shown
}

#[test]
fn steps_have_the_names_that_clients_expect() -> anyhow::Result<()> {
    let world = World::start()?;
    let project = world.project(DOCKERFILE)?.with("file", vec![b'x'; 300_000])?;
    let first = world.build(&project).push(&world.registry.image("app:1")).succeed()?;
    let mut expected = [
        "[internal] load build definition from Dockerfile",
        "[internal] load metadata for HOST/busybox:latest",
        "[internal] load .dockerignore",
        "[internal] load build context",
        "[make 1/2] FROM HOST/busybox:latest",
        "[make 2/2] RUN echo out; echo err >&2",
        "[stage-1 2/5] WORKDIR /w",
        "[stage-1 3/5] COPY --from=make /etc/passwd ./",
        "[stage-1 4/5] COPY file ./",
        "[stage-1 5/5] RUN cat file | wc -c",
        "exporting to image",
    ]
    .map(str::to_owned);
    expected.sort();
    let mut found = shown(&first, &world);
    // What the client does on its own is not ours; the image of both stages is one step, by the name that
    // came first.
    found.retain(|name| name.starts_with(['[', 'e']) && !name.starts_with("[auth]"));
    for name in &mut found {
        *name = name.replace("[stage-1 1/5] FROM", "[make 1/2] FROM");
    }
    assert_eq!(found, expected, "{}", first.output);

    let second = world.build(&project).succeed()?;
    for step in second.plain.numbered().filter(|step| !step.name.contains("] FROM ")) {
        assert!(step.cached && !step.done && step.lines.is_empty(), "{step:?}");
    }
    Ok(())
}

#[test]
fn steps_tell_what_travels_and_what_is_odd() -> anyhow::Result<()> {
    let world = World::start()?;
    let project = world.project(DOCKERFILE)?.with("file", vec![b'x'; 300_000])?;
    let first = world.build(&project).push(&world.registry.image("app:1")).succeed()?;
    assert!(
        first.step("load build context")?.says("transferring context: 300"),
        "{}",
        first.output
    );
    assert!(first.step("load build definition")?.says("transferring dockerfile: "));
    assert_eq!(first.step("RUN cat file | wc -c")?.lines, ["300000"]);
    let lines = &first.step("RUN echo out")?.lines;
    assert!(lines.contains(&"out".to_owned()) && lines.contains(&"err".to_owned()), "{lines:?}");
    let exporting = first.step("exporting to image")?;
    for part in [
        "exporting layers",
        "exporting manifest sha256:",
        "exporting config sha256:",
        "exporting attestation manifest sha256:",
        "exporting manifest list sha256:",
        "pushing layers",
        "pushing manifest for ",
    ] {
        assert!(exporting.says(part), "{part}\n{}", first.output);
    }
    first.assert_shows("1 warning found");
    first
        .assert_shows("- LegacyKeyValueFormat: \"ENV key=value\" should be used instead of legacy");
    first.assert_shows("(line 2)");

    let second = world.build(&project).succeed()?;
    assert!(second.step("load build context")?.says("transferring context: "));
    Ok(())
}

#[test]
fn a_failed_step_is_shown_with_its_line_and_the_end_of_its_log() -> anyhow::Result<()> {
    let world = World::start()?;
    let project = world.project(
        "FROM {busybox}\nRUN echo fine\nRUN for i in 1 2 3; do echo line $i; done; exit 42\n",
    )?;
    let build = world.build(&project).fail()?;
    let step = build.step("RUN for i in 1 2 3")?;
    let said = "process \"/bin/sh -c for i in 1 2 3; do echo line $i; done; exit 42\" did not complete \
                successfully: exit code: 42";
    assert_eq!(step.error.as_deref(), Some(said));
    for shown in [
        " > [3/3] RUN for i in 1 2 3; do echo line $i; done; exit 42:",
        "line 3",
        "Dockerfile:3",
        "   3 | >>> RUN for i in 1 2 3; do echo line $i; done; exit 42",
    ] {
        build.assert_shows(shown);
    }
    build.assert_shows(&format!("ERROR: failed to build: failed to solve: {said}"));
    Ok(())
}

#[test]
fn the_records_of_builds_are_listed_shown_exported_and_removed() -> anyhow::Result<()> {
    let mut world = World::start()?;
    let project = world.project("FROM {busybox}\nARG KIND=none\nRUN echo of $KIND\n")?;
    let name = world.registry.image("app:1");
    world.build(&project).args(["--build-arg", "KIND=good"]).push(&name).succeed()?;
    let bad = world.project("FROM {busybox}\nRUN echo before; exit 3\n")?;
    world.build(&bad).fail()?;

    // They are there after a restart too.
    world.daemon()?.stop()?;
    world.daemon()?.up()?;
    let history = |words: &[&str]| world.client.command(["history"]).args(words).run();
    let listed = history(&["ls", "--format", "{{.Ref}} {{.Status}}"])?.stdout;
    let references = |status: &str| -> Vec<String> {
        let lines = listed.lines().filter(|line| line.contains(status));
        lines
            .filter_map(|line| Some(line.split(' ').next()?.rsplit('/').next()?.to_owned()))
            .collect()
    };
    let [good, bad] = ["Completed", "Error"].map(references);
    assert_eq!((good.len(), bad.len()), (1, 1), "{listed}");

    let shown = history(&["inspect", &good[0]])?.stdout;
    for part in [
        "KIND",
        "good",
        "(0% cached)",
        "https://slsa.dev/provenance/",
        "application/vnd.oci.image.manifest.v1+json",
    ] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
    let shown = history(&["inspect", &bad[0]])?.stdout;
    assert!(shown.contains("exit code: 3") && shown.contains("before"), "{shown}");
    let attachment = history(&["inspect", "attachment", "--type", "provenance", &good[0]])?.stdout;
    assert!(attachment.contains("buildType"), "{attachment}");

    let log = history(&["logs", "--progress=plain", &good[0]])?;
    assert!(log.stderr.contains("of good") || log.stdout.contains("of good"), "{log:?}");
    let out = TempDir::new()?;
    let archive = out.path().join("record").display().to_string();
    let exported = history(&["export", "--output", &archive, &good[0]])?;
    assert!(exported.status.success() && fs::metadata(&archive)?.len() > 1000, "{exported:?}");

    assert!(history(&["rm", &good[0]])?.status.success());
    let again = history(&["rm", &good[0]])?;
    assert!(!again.status.success() && again.stderr.contains("not found"), "{again:?}");
    assert!(history(&["rm", "--all"])?.status.success());
    assert_eq!(history(&["ls", "--format", "{{.Ref}}"])?.stdout.trim(), "");
    Ok(())
}
