//! Builds that are large in one way or another.

use std::fmt::Write as _;
use std::fs;

use anyhow::Context as _;
use integration::{Build, World};
use tempfile::TempDir;

#[test]
fn two_hundred_steps_are_one_build() -> anyhow::Result<()> {
    let world = World::start()?;
    let mut dockerfile = "FROM {busybox} AS steps\n".to_owned();
    for number in 1..=200 {
        writeln!(dockerfile, "RUN echo {number} >> /log")?;
    }
    dockerfile.push_str("FROM scratch\nCOPY --from=steps /log /log\n");
    let project = world.project(&dockerfile)?;
    let out = TempDir::new()?;
    world.build(&project).into_directory(out.path()).succeed()?;
    let log = fs::read_to_string(out.path().join("log"))?;
    let expected = (1..=200).fold(String::new(), |text, number| format!("{text}{number}\n"));
    assert_eq!(log, expected);
    let again = world.build(&project).succeed()?;
    again.assert_all_cached();
    assert_eq!(again.plain.numbered().filter(|step| step.name.contains("RUN echo")).count(), 200);
    Ok(())
}

#[test]
fn forty_stages_are_built_side_by_side() -> anyhow::Result<()> {
    let world = World::start()?;
    let mut dockerfile = String::new();
    for number in 0..40 {
        writeln!(dockerfile, "FROM {{busybox}} AS s{number}\nRUN echo {number} > /out")?;
    }
    dockerfile.push_str("FROM scratch\n");
    for number in 0..40 {
        writeln!(dockerfile, "COPY --from=s{number} /out /{number}")?;
    }
    let project = world.project(&dockerfile)?;
    let out = TempDir::new()?;
    world.build(&project).into_directory(out.path()).succeed()?;
    for number in 0..40 {
        let text = fs::read_to_string(out.path().join(number.to_string()))?;
        assert_eq!(text, format!("{number}\n"));
    }
    world.build(&project).succeed()?.assert_all_cached();
    Ok(())
}

/// Returns how many bytes of the context the client said it sent.
fn transferred(build: &Build) -> anyhow::Result<f64> {
    let step = build.step("load build context")?;
    let said = step.lines.iter().rev().find_map(|line| line.split_once("transferring context: "));
    let (_, said) = said.with_context(|| format!("no transfer:\n{}", build.output))?;
    let amount = said.split_whitespace().next().context("no amount")?;
    let digits = amount.trim_end_matches(|letter: char| letter.is_alphabetic());
    let factor = match &amount[digits.len()..] {
        "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        other => anyhow::bail!("{other} is no unit"),
    };
    Ok(digits.parse::<f64>()? * factor)
}

#[test]
fn of_a_large_context_only_changes_travel_again() -> anyhow::Result<()> {
    let world = World::start()?;
    let project = world
        .project("FROM {busybox}\nCOPY . /src\nRUN find /src -type f | wc -l && cat /src/0/0\n")?;
    for folder in 0..100 {
        for file in 0..200 {
            project.write(&format!("{folder}/{file}"), format!("{folder} {file}\n").repeat(200))?;
        }
    }
    let first = world.build(&project).succeed()?;
    let shown = &first.step("RUN find")?.lines;
    assert_eq!(shown.first().map(String::as_str), Some("20001"), "and the Dockerfile");
    let again = world.build(&project).succeed()?;
    again.assert_all_cached();
    project.write("0/0", "changed\n")?;
    fs::remove_file(project.path("99/199"))?;
    let changed = world.build(&project).succeed()?;
    assert_eq!(changed.step("RUN find")?.lines, ["20000", "changed"]);
    let (all, none, one) = (transferred(&first)?, transferred(&again)?, transferred(&changed)?);
    assert!(all > 20e6, "{all}");
    assert!(none * 5.0 < all && one * 5.0 < all, "{none} and {one} of {all}");
    Ok(())
}

#[test]
fn a_step_may_say_a_lot() -> anyhow::Result<()> {
    let world = World::start()?;
    let project = world.project(
        "FROM {busybox}\nRUN yes 'a line of forty letters, more or less....' | head -c 10485760; \
         echo the end > /end\nRUN cat /end\n",
    )?;
    let build = world.build(&project).succeed()?;
    assert_eq!(build.step("RUN cat /end")?.lines, ["the end"]);
    let step = build.step("RUN yes")?;
    assert!(step.lines.len() > 1000, "some of it is shown");
    // All of it, or a word that there was more.
    assert!(step.lines.len() > 200_000 || step.says("output clipped"), "{:?}", step.lines.last());
    Ok(())
}

#[test]
fn twenty_clients_build_at_once_and_share_the_work() -> anyhow::Result<()> {
    let world = World::start()?;
    let mut builds = Vec::new();
    for number in 0..20 {
        let project = world.project(&format!(
            "FROM {{busybox}} AS shared\nRUN cat /proc/sys/kernel/random/uuid > /uuid\n\
             FROM shared AS own\nRUN echo {number} > /number\nFROM scratch\n\
             COPY --from=own /uuid /number /\nCOPY file /\n"
        ))?;
        project.write("file", format!("file {number}"))?;
        let out = TempDir::new()?;
        let client = world.another_client()?;
        let running = client.build(&project).into_directory(out.path()).spawn()?;
        builds.push((number, project, out, client, running));
    }
    let mut uuids = Vec::new();
    for (number, _project, out, _client, running) in builds {
        let build = running.wait()?;
        assert!(build.status.success(), "{}", build.output);
        assert_eq!(fs::read_to_string(out.path().join("number"))?, format!("{number}\n"));
        assert_eq!(fs::read_to_string(out.path().join("file"))?, format!("file {number}"));
        uuids.push(fs::read_to_string(out.path().join("uuid"))?);
    }
    uuids.dedup();
    assert_eq!(uuids.len(), 1, "the common step ran once");
    Ok(())
}
