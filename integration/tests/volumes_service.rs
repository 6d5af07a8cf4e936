//! Volumes of a running daemon: through `larder`, through stock `docker buildx`, and in its numbers.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Context as _;
use integration::{Launch, Program, RunningBuild, World};
use serde_json::Value;

/// Returns a Dockerfile of one step with the cache mount `options` at `/c`.
fn step(options: &str, command: &str) -> String {
    format!("FROM {{busybox}}\nRUN --mount=type=cache,target=/c,{options} {command}\n")
}

/// Builds a step with a cache mount at `/c`, and returns what it wrote.
fn build(world: &World, options: &str, command: &str) -> anyhow::Result<Vec<String>> {
    let project = world.project(&step(options, command))?;
    Ok(world.build(&project).succeed()?.step("--mount=type=cache")?.lines.clone())
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

/// Returns `larder` about to speak to the daemon.
fn larder(world: &World, words: &[&str]) -> anyhow::Result<Program> {
    let program = Program::new(&world.settings.built("larder")?);
    Ok(program.arg("--addr").arg(world.backend.address()).arg("volume").args(words))
}

/// Returns what `larder` says, if it is content.
fn say(world: &World, words: &[&str]) -> anyhow::Result<String> {
    larder(world, words)?.succeed()
}

fn inspect(world: &World, id: &str) -> anyhow::Result<Value> {
    let text = say(world, &["inspect", id, "--format", "json"])?;
    let mut volumes: Vec<Value> = serde_json::from_str(&text)?;
    volumes.pop().context("one volume")
}

/// Returns the lines of a table without its head, split into words.
fn rows(table: &str) -> Vec<Vec<&str>> {
    table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn the_volumes_of_builds_are_listed_inspected_and_browsed() -> anyhow::Result<()> {
    let world = World::start()?;
    build(&world, "id=go-build", "mkdir /c/pkg && echo 12345 > /c/pkg/a && ln -s /pkg /c/link")?;
    build(&world, "id=go-build,sharing=private", "rm -r /c/pkg/a; echo 1 > /c/pkg/b")?;
    let table = say(&world, &["ls"])?;
    assert_eq!(rows(&table)[0][..2], ["default", "go-build"], "{table}");
    let volume = inspect(&world, "go-build")?;
    let versions = volume["versions"].as_array().context("versions")?;
    let lineage: Vec<_> = versions.iter().map(|v| (&v["origin"], &v["parent"])).collect();
    let expected = (Value::from("created"), Value::Null, Value::from("published"), Value::from(1));
    assert_eq!(lineage, [(&expected.0, &expected.1), (&expected.2, &expected.3)]);
    let step = versions[1]["step"].as_str().context("who made it")?;
    assert!(step.contains("echo 1 > /c/pkg/b"), "{step}");
    let browsed = say(&world, &["browse", "go-build", "/link"])?;
    assert_eq!(
        browsed.lines().count(),
        2,
        "a link stays inside, and what is gone is gone: {browsed}"
    );
    assert!(browsed.ends_with(" b"), "{browsed}");
    let refused = larder(&world, &["browse", "go-build", "/../../etc"])?.run()?;
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    Ok(())
}

#[test]
fn an_owner_changes_volumes_while_the_daemon_runs() -> anyhow::Result<()> {
    let world = World::start()?;
    build(&world, "id=v,sharing=private", "echo one > /c/f")?;
    say(&world, &["fork", "v", "w"])?;
    assert_eq!(build(&world, "id=w", "cat /c/f; echo of the fork")?[0], "one");
    say(&world, &["reset", "v"])?;
    assert_eq!(build(&world, "id=v", "ls /c; echo after the reset")?, ["after the reset"]);
    let volume = inspect(&world, "v")?;
    let versions = volume["versions"].as_array().context("versions")?;
    let published = versions.iter().find(|version| version["origin"] == "published");
    let number = published.context("a version that was published")?["number"].to_string();
    say(&world, &["rollback", "v", &number])?;
    assert_eq!(build(&world, "id=v", "cat /c/f; echo after the rollback")?[0], "one");
    for (words, status, says) in [
        (&["rollback", "v", "99"][..], 3, "volume `default/v` has no version 99"),
        (&["rm", "nothing"], 3, "no volume `default/nothing`"),
        (&["fork", "v", "w"], 5, "volume `default/w` exists already"),
        (&["inspect", "--namespace", "a", "v"], 3, "no volume `a/v`"),
    ] {
        let refused = larder(&world, words)?.run()?;
        assert_eq!(refused.status.code(), Some(status), "{refused:?}");
        assert!(refused.stderr.contains(says), "{refused:?}");
    }
    say(&world, &["rm", "v", "w"])?;
    assert!(rows(&say(&world, &["ls"])?).is_empty());
    Ok(())
}

#[test]
fn a_policy_that_is_decided_by_name_holds_for_the_next_build() -> anyhow::Result<()> {
    let config = "[[larder.volumes.policy]]\nid = \"v*\"\nversions = 5\n".to_owned();
    let world = World::launch(Launch { config, ..Launch::default() })?;
    build(&world, "id=v", "echo kept > /c/f")?;
    assert_eq!(inspect(&world, "v")?["policy"]["versions"], 5, "the daemon's rules are shown");
    let decided = say(&world, &["policy", "v", "--on-failure", "discard", "--format", "json"])?;
    let decided: Value = serde_json::from_str(&decided)?;
    assert_eq!((&decided["onFailure"], &decided["versions"]), (&"discard".into(), &5.into()));
    let project = world.project(&step("id=v", "echo poison > /c/f; exit 3"))?;
    world.build(&project).fail()?;
    assert_eq!(build(&world, "id=v", "cat /c/f")?, ["kept"]);
    say(&world, &["policy", "v", "--clear"])?;
    assert_eq!(inspect(&world, "v")?["policy"]["onFailure"], "keep");
    Ok(())
}

#[test]
fn a_volume_in_use_says_by_whom_and_stays() -> anyhow::Result<()> {
    let world = World::start()?;
    let holder = hold(&world, "id=v,sharing=locked", "echo mine > /c/f")?;
    let refused = larder(&world, &["rm", "v"])?.run()?;
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    assert!(refused.stderr.contains("volume `default/v` is in use by step"), "{refused:?}");
    let lease = inspect(&world, "v")?["leases"][0].clone();
    assert_eq!(lease["sharing"], "locked");
    assert!(lease["step"].as_str().is_some_and(|step| step.contains("echo mine")), "{lease}");
    say(&world, &["prune", "--all"])?;
    assert_eq!(build(&world, "id=other", "echo other")?, ["other"]);
    // Who looks from outside finds the step's files where `path` says.
    let mut words = vec!["--root".into()];
    let Some(root) = root(&world) else { return Ok(()) };
    words.push(root.display().to_string());
    let path = Program::new(world.settings.built("larder")?).args(&words);
    let path = path.args(["volume", "path", "v"]).succeed()?;
    assert_eq!(std::fs::read_to_string(format!("{}/f", path.trim()))?, "mine\n");
    std::fs::write(format!("{}/go", path.trim()), "")?;
    assert!(holder.wait()?.status.success());
    Ok(())
}

/// Returns the daemon's root, if it is ours.
fn root(world: &World) -> Option<std::path::PathBuf> {
    match &world.backend {
        integration::Backend::Larder(daemon) => Some(daemon.root()),
        integration::Backend::Elsewhere(_) | integration::Backend::Engine(_) => None,
    }
}

#[test]
fn a_command_of_the_machine_takes_turns_with_builds() -> anyhow::Result<()> {
    let world = World::start()?;
    let Some(root) = root(&world) else { return Ok(()) };
    let target = tempfile::tempdir()?;
    let run = |sharing: &str, script: &str| -> anyhow::Result<Program> {
        let program = Program::new(world.settings.built("larder")?).arg("--root").arg(&root);
        let program =
            program.args(["volume", "run", "--id", "v", "--sharing", sharing, "--target"]);
        Ok(program.arg(target.path()).env("T", target.path()).args(["--", "sh", "-c", script]))
    };
    build(&world, "id=v", "echo from the build > /c/f")?;
    assert_eq!(run("shared", "cat $T/f")?.succeed()?, "from the build");
    let holder = hold(&world, "id=v,sharing=locked", "true")?;
    // The build goes on when the command says so, which waits for the build: so it must say it elsewhere.
    let waiter = run("locked", "cat $T/f; echo from the command > $T/f")?.spawn()?;
    let said = waiter.stderr.wait_for(Duration::from_secs(60), |line| line.contains("waiting"));
    let said = said.context("the command says that it waits")?;
    assert!(said.contains("waiting for volume `default/v`, held by step `"), "{said}");
    let path = Program::new(world.settings.built("larder")?).arg("--root").arg(&root);
    let path = path.args(["volume", "path", "v"]).succeed()?;
    std::fs::write(format!("{}/go", path.trim()), "")?;
    assert!(holder.wait()?.status.success());
    let ended = waiter.wait()?;
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(build(&world, "id=v", "cat /c/f; echo again")?[0], "from the command");
    Ok(())
}

#[test]
fn stock_clients_find_and_remove_a_volume_by_its_key_and_by_its_id() -> anyhow::Result<()> {
    let world = World::start()?;
    build(&world, "id=npm", "echo 1 > /c/f")?;
    build(&world, "id=npm,uid=5,mode=0700", "echo 2 > /c/g")?;
    build(&world, "id=npm-other", "echo other > /c/f")?;
    let key = inspect(&world, "npm")?["key"].as_str().context("a key")?.to_owned();
    let by_id = "description~=^cache volume id=npm$".to_owned();
    for filter in [format!("id={key}"), format!("id~=^{}", &key[..12]), by_id.clone()] {
        let shown = world.disk_usage(&[&filter])?;
        assert_eq!(shown.matches("ID:").count(), 1, "{filter}: {shown}");
        for line in [&key, "exec.cachemount", "cache volume id=npm\n"] {
            assert!(shown.contains(line), "{filter}: {line} is not in {shown}");
        }
    }
    let prune =
        |filter: &str| world.client.command(["prune", "--force", "--filter", filter]).succeed();
    say(&world, &["pin", "npm"])?;
    prune(&format!("id={key}"))?;
    let table = say(&world, &["ls"])?;
    assert_eq!(rows(&table).len(), 2, "a pinned volume stays: {table}");
    say(&world, &["unpin", "npm"])?;
    assert!(prune(&by_id)?.contains(&key));
    let table = say(&world, &["ls"])?;
    assert_eq!(rows(&table).len(), 1, "{table}");
    assert_eq!(rows(&table)[0][1], "npm-other");
    build(&world, "id=npm", "echo it is back > /c/f")?;
    assert_eq!(inspect(&world, "npm")?["key"], key.as_str(), "the same volume has the same key");
    Ok(())
}

#[test]
fn a_build_without_cache_has_a_fresh_version_of_its_own() -> anyhow::Result<()> {
    let world = World::start()?;
    build(&world, "id=v", "echo old > /c/f")?;
    let project = world.project(&step("id=v", "ls /c; echo new > /c/new"))?;
    let fresh = world.build(&project).arg("--no-cache").succeed()?;
    assert!(fresh.step("--mount=type=cache")?.lines.is_empty(), "{}", fresh.output);
    let versions = inspect(&world, "v")?["versions"].clone();
    let last = versions.as_array().and_then(|all| all.last()).context("versions")?;
    assert_eq!(last["origin"], "fresh");
    say(&world, &["rollback", "v", "1"])?;
    assert_eq!(build(&world, "id=v", "ls /c; echo what was there is there")?[0], "f");
    // For the stages that are named, and for no others.
    let two = "FROM {busybox} AS one\nRUN --mount=type=cache,target=/c,id=v ls /c; echo in one\n\
               FROM {busybox} AS two\nRUN --mount=type=cache,target=/c,id=v ls /c; echo in two\n\
               FROM {busybox}\nCOPY --from=one /etc /one\nCOPY --from=two /etc /two\n";
    say(&world, &["policy", "v", "--merge", "first-writer"])?;
    let project = world.project(two)?;
    let build = world.build(&project).args(["--no-cache-filter", "two"]).succeed()?;
    assert_eq!(build.step("in one")?.lines, ["f", "in one"], "{}", build.output);
    assert_eq!(build.step("in two")?.lines, ["in two"], "{}", build.output);
    Ok(())
}

/// Asks for the daemon's numbers.
fn numbers(world: &mut World) -> anyhow::Result<String> {
    let serving = "serving metrics address=";
    let log = world.daemon()?.log().text();
    let at = log.find(serving).context("the daemon serves numbers")? + serving.len();
    let address = log[at..].split_whitespace().next().context("an address")?.to_owned();
    let mut stream = TcpStream::connect(&address)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn numbers_say_what_happened_to_each_volume() -> anyhow::Result<()> {
    let config = "[larder]\nmetrics-address = \"127.0.0.1:0\"\n".to_owned();
    let mut world = World::launch(Launch { config, ..Launch::default() })?;
    build(&world, "id=v,sharing=private", "echo 1 > /c/f")?;
    build(&world, "id=v,sharing=private", "echo 2 > /c/f")?;
    say(&world, &["policy", "v", "--on-failure", "discard"])?;
    let project = world.project(&step("id=v", "echo 3 > /c/f; exit 1"))?;
    world.build(&project).fail()?;
    let holder = hold(&world, "id=w,sharing=locked", "true")?;
    let project = world.project(&step("id=w,sharing=locked", "echo had to wait"))?;
    let waiter = world.another_client()?.build(&project).spawn()?;
    waiter.wait_for("waiting for cache volume")?;
    let text = numbers(&mut world)?;
    for line in [
        "larder_volume_leases{namespace=\"default\",id=\"w\",variant=\"\"} 1",
        "larder_volume_waiting{namespace=\"default\",id=\"w\",variant=\"\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let root = world.daemon()?.root();
    let path = Program::new(world.settings.built("larder")?).arg("--root").arg(root);
    let path = path.args(["volume", "path", "w"]).succeed()?;
    std::fs::write(format!("{}/go", path.trim()), "")?;
    assert!(holder.wait()?.status.success() && waiter.wait()?.status.success());
    world.client.command(["prune", "--force", "--filter", "description~=id=w$"]).succeed()?;
    let text = numbers(&mut world)?;
    for line in [
        "larder_volume_publishes_total{namespace=\"default\",id=\"v\",variant=\"\"} 2",
        "larder_volume_discards_total{namespace=\"default\",id=\"v\",variant=\"\"} 1",
        "larder_volume_forks_total{namespace=\"default\",id=\"v\",variant=\"\"} 3",
        "larder_volume_versions{namespace=\"default\",id=\"v\",variant=\"\"} 3",
        "larder_volume_waits_total{namespace=\"default\",id=\"w\",variant=\"\"} 1",
        "larder_volume_wait_seconds_total{namespace=\"default\",id=\"w\"",
        "larder_volume_evictions_total{namespace=\"default\",id=\"w\",variant=\"\"} 1",
        "larder_volume_size_bytes{namespace=\"default\",id=\"v\"",
        "larder_builds_total{status=\"completed\"}",
        "larder_steps_total",
        "larder_cached_steps_total",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("larder_volume_size_bytes{namespace=\"default\",id=\"w\""), "{text}");
    Ok(())
}
