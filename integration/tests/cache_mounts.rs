//! Cache mounts between steps, builds and lives of the daemon; what `du` shows of them, and `prune` removes.

use anyhow::Context as _;
use integration::{Launch, RunningBuild, World};

/// Returns a Dockerfile of one step with a cache mount at `/c`.
fn step(options: &str, command: &str) -> String {
    format!("FROM {{busybox}}\nRUN --mount=type=cache,target=/c{options} {command}\n")
}

/// Runs a step with a cache mount at `/c`, and returns what it wrote.
fn run(world: &World, options: &str, command: &str) -> anyhow::Result<Vec<String>> {
    let project = world.project(&step(options, command))?;
    let build = world.build(&project).succeed()?;
    Ok(build.step("--mount=type=cache")?.lines.clone())
}

/// Starts a step that goes on until a file `/c/go` comes, after it said that it runs: in words that its
/// name does not have.
fn hold(world: &World, options: &str, command: &str) -> anyhow::Result<RunningBuild> {
    let command =
        format!("{command}; echo now 'hold'ing; until [ -e /c/go ]; do usleep 1000; done");
    let project = world.project(&step(options, &command))?;
    let build = world.build(&project).spawn()?;
    build.wait_for(" now holding")?;
    Ok(build)
}

#[test]
fn a_volume_keeps_what_steps_write() -> anyhow::Result<()> {
    let mut world = World::start()?;
    run(&world, "", "echo kept > /c/file")?;
    assert_eq!(run(&world, "", "cat /c/file")?, ["kept"]);
    assert_eq!(run(&world, ",id=/c,readonly", "cat /c/file; ! touch /c/no 2>/dev/null")?, ["kept"]);
    assert!(run(&world, ",id=other", "ls /c")?.is_empty(), "another id is another volume");
    let daemon = world.daemon()?;
    daemon.stop()?;
    daemon.up()?;
    assert_eq!(run(&world, "", "cat /c/file; echo after the restart")?[0], "kept");
    Ok(())
}

#[test]
fn ownership_and_mode_are_of_the_mount_and_not_of_its_name() -> anyhow::Result<()> {
    let world = World::start()?;
    run(&world, "", "echo kept > /c/file")?;
    let owned = run(&world, ",uid=5,gid=6,mode=0750", "stat -c '%a %u %g' /c; cat /c/file")?;
    assert_eq!(owned, ["750 5 6", "kept"]);
    assert_eq!(run(&world, "", "stat -c '%a %u %g' /c; cat /c/file")?, ["755 0 0", "kept"]);
    Ok(())
}

#[test]
fn a_volume_starts_with_what_it_is_seeded_with() -> anyhow::Result<()> {
    let world = World::start()?;
    let project = world.project(
        "FROM {busybox} AS seed\nRUN mkdir /seed && echo seeded > /seed/file\nFROM {busybox}\n\
         RUN --mount=type=cache,target=/c,from=seed,source=/seed cat /c/file && echo more > /c/more\n\
         RUN --mount=type=cache,target=/c,from=seed,source=/seed ls /c\n",
    )?;
    let build = world.build(&project).succeed()?;
    assert_eq!(build.step("cat /c/file")?.lines, ["seeded"]);
    assert_eq!(build.step("ls /c")?.lines, ["file", "more"]);
    Ok(())
}

#[test]
fn holders_of_a_shared_volume_see_one_tree() -> anyhow::Result<()> {
    let world = World::start()?;
    let first = hold(&world, ",sharing=shared", "echo from the first > /c/first")?;
    let seen = run(&world, ",sharing=shared", "cat /c/first && touch /c/go")?;
    assert_eq!(seen, ["from the first"]);
    assert!(first.wait()?.status.success(), "the first saw what the second wrote");
    Ok(())
}

#[test]
fn holders_of_a_locked_volume_take_turns() -> anyhow::Result<()> {
    let world = World::start()?;
    let command = "for i in 1 2 3 4 5 6 7 8; do n=$(cat /c/n 2>/dev/null || echo 0); usleep 1000; \
                   echo $((n + 1)) > /c/n; done";
    let builds = (0..6).map(|number| {
        let project = world.project(&step(",sharing=locked", &format!("{command}; # {number}")))?;
        let running = world.another_client()?.build(&project).spawn()?;
        Ok((project, running))
    });
    for build in builds.collect::<anyhow::Result<Vec<_>>>()? {
        let build = build.1.wait()?;
        assert!(build.status.success(), "{}", build.output);
    }
    // Without turns, some would have counted from the same number.
    assert_eq!(run(&world, ",sharing=locked", "cat /c/n")?, ["48"]);
    Ok(())
}

#[test]
fn who_waits_for_a_locked_volume_is_told_for_whom() -> anyhow::Result<()> {
    let world = World::start()?;
    let first = hold(&world, ",sharing=locked,id=the-volume", "true")?;
    let project = world.project(&step(",sharing=locked,id=the-volume", "echo second"))?;
    let second = world.another_client()?.build(&project).spawn()?;
    second.wait_for("the-volume")?;
    second.wait_for("wait")?;
    // Another name is nobody's turn.
    assert_eq!(run(&world, ",sharing=locked,id=free", "echo free")?, ["free"]);
    first.signal(rustix::process::Signal::INT)?;
    assert!(!first.wait()?.status.success());
    let second = second.wait()?;
    assert!(second.status.success(), "{}", second.output);
    assert!(second.step("echo second")?.says("second"));
    Ok(())
}

#[test]
fn a_private_volume_is_warm_and_never_waits() -> anyhow::Result<()> {
    let world = World::start()?;
    run(&world, ",sharing=private", "echo warm > /c/file")?;
    let first = hold(&world, ",sharing=private", "echo mine > /c/first")?;
    let second = run(&world, ",sharing=private", "ls /c; cat /c/file")?;
    assert_eq!(second, ["file", "warm"], "the second has the head, without what the first writes");
    first.signal(rustix::process::Signal::INT)?;
    assert!(!first.wait()?.status.success());
    Ok(())
}

#[test]
fn a_failed_step_keeps_what_it_downloaded() -> anyhow::Result<()> {
    let world = World::start()?;
    let project = world.project(&step("", "echo kept > /c/file; exit 3"))?;
    world.build(&project).fail()?.assert_shows("exit code: 3");
    assert_eq!(run(&world, "", "cat /c/file")?, ["kept"]);
    Ok(())
}

#[test]
fn a_build_without_cache_starts_from_empty_volumes() -> anyhow::Result<()> {
    let world = World::start()?;
    run(&world, "", "echo old > /c/file")?;
    let project = world.project(&step("", "ls /c; echo new > /c/new"))?;
    let build = world.build(&project).arg("--no-cache").succeed()?;
    assert!(build.step("--mount=type=cache")?.lines.is_empty(), "{}", build.output);
    assert_eq!(run(&world, "", "ls /c; echo seen")?, ["new", "seen"]);
    Ok(())
}

#[test]
fn several_volumes_of_a_step_never_deadlock() -> anyhow::Result<()> {
    let world = World::start()?;
    let builds = (0..6).map(|number| {
        let (a, b) = if number % 2 == 0 { ("/a", "/b") } else { ("/b", "/a") };
        let project = world.project(&format!(
            "FROM {{busybox}}\nRUN --mount=type=cache,target={a},sharing=locked \
             --mount=type=cache,target={b},sharing=locked echo {number} >> /a/log && usleep 1000\n"
        ))?;
        let running = world.another_client()?.build(&project).spawn()?;
        Ok((project, running))
    });
    for build in builds.collect::<anyhow::Result<Vec<_>>>()? {
        assert!(build.1.wait()?.status.success());
    }
    Ok(())
}

#[test]
fn a_path_as_an_id_stays_inside() -> anyhow::Result<()> {
    let mut world = World::start()?;
    for id in ["../../../escape", "/etc/../../x", "a/b/c", ".."] {
        run(&world, &format!(",id={id}"), &format!("echo {} > /c/file", id.len()))?;
        // Another id alone is no reason to run a step again, so the steps differ.
        let read = run(&world, &format!(",id={id}"), &format!("cat /c/file # {id}"))?;
        assert_eq!(read, [id.len().to_string()]);
    }
    let beside = world.daemon()?.beside().to_owned();
    assert!(!beside.join("escape").exists() && !beside.join("root/escape").exists());
    Ok(())
}

#[test]
fn usage_is_shown_and_pruned_by_filter() -> anyhow::Result<()> {
    let world = World::start()?;
    let write = "dd if=/dev/zero of=/c/data bs=1024 count=2048 2>/dev/null";
    run(&world, ",id=the-big-one", write)?;
    run(&world, ",id=the-small-one", "echo x > /c/x")?;
    let mounts = world.disk_usage(&["type=exec.cachemount"])?;
    assert!(mounts.contains("the-big-one") && mounts.contains("the-small-one"), "{mounts}");
    assert!(mounts.contains("2.1") || mounts.contains("2.097"), "the size is shown: {mounts}");
    let all = world.disk_usage(&[])?;
    assert!(all.contains("regular"), "the layers are shown: {all}");

    // Mounts alone go; the layers stay.
    let pruned = world
        .client
        .command(["prune", "--force", "--all", "--filter", "type=exec.cachemount"])
        .succeed()?;
    assert!(pruned.contains("Total"), "{pruned}");
    let mounts = world.disk_usage(&["type=exec.cachemount"])?;
    assert!(!mounts.contains("the-big-one"), "{mounts}");
    assert!(world.disk_usage(&[])?.contains("regular"));
    assert!(run(&world, ",id=the-big-one", "ls /c")?.is_empty());

    world.client.command(["prune", "--force", "--all"]).succeed()?;
    let left = world.disk_usage(&[])?;
    assert!(!left.contains("regular"), "{left}");
    assert!(!left.contains("the-small-one"), "{left}");
    let project = world.project(&step("", "echo again"))?;
    world.build(&project).succeed()?.assert_cached("echo again", false);
    Ok(())
}

#[test]
fn what_is_in_use_is_not_pruned() -> anyhow::Result<()> {
    let world = World::start()?;
    let holder = hold(&world, ",id=held", "echo held > /c/file")?;
    world.client.command(["prune", "--force", "--all"]).succeed()?;
    assert_eq!(run(&world, ",id=held", "cat /c/file && touch /c/go")?, ["held"]);
    let build = holder.wait()?;
    assert!(build.status.success(), "{}", build.output);
    Ok(())
}

#[test]
fn the_disk_is_bounded_by_policy() -> anyhow::Result<()> {
    let config = "[[worker.oci.gcpolicy]]\nall = true\nmaxUsedSpace = \"8MB\"\n";
    let launch = Launch { config: config.to_owned(), ..Launch::default() };
    let world = World::launch(launch)?;
    for number in 0..6 {
        let project = world.project(&format!(
            "FROM {{busybox}}\nRUN dd if=/dev/urandom of=/data bs=1024 count=4096 2>/dev/null; echo {number}\n"
        ))?;
        world.build(&project).succeed()?;
    }
    // Collection follows a build; every question gives it time.
    let mut total = String::new();
    for _ in 0..200 {
        let shown = world.disk_usage(&[])?;
        let line =
            shown.lines().rev().find(|line| line.starts_with("Total:")).context("no total")?;
        total = line.trim_start_matches("Total:").trim().to_owned();
        let megabytes = total.strip_suffix("MB").and_then(|number| number.parse::<f64>().ok());
        if megabytes.is_some_and(|megabytes| megabytes < 13.0) {
            return Ok(());
        }
    }
    anyhow::bail!("24 MB were written, at most 8 MB and what is in use stay: {total}")
}
