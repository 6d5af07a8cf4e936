//! Steps that fail, are killed or cut off: what of their writes stays, and that nobody is held up.

use integration::SmallMemory;
use integration::house::{GOT, House, at_c};
use rustix::process::Signal;

/// A daemon that throws away what failed steps wrote to volumes named so.
const DISCARD: &str = "[[larder.volumes.policy]]\nid = \"discard-*\"\non-failure = \"discard\"\n";

const READONLY: &str = ",readonly";

#[test]
fn what_a_failed_step_wrote_stays_or_goes_by_policy() -> anyhow::Result<()> {
    let house = House::start(DISCARD)?;
    for sharing in ["shared", "locked", "private"] {
        let options = format!(",sharing={sharing}");
        for (kind, left) in [("keep", &["bad", "good"][..]), ("discard", &["good"])] {
            let id = format!("{kind}-{sharing}");
            house.run(&at_c(&id, &options), "touch /c/good")?;
            let failed = house.fail(&at_c(&id, &options), "touch /c/bad; exit 3")?;
            failed.assert_shows("exit code: 3");
            assert_eq!(house.run(&at_c(&id, &options), "ls /c")?, left, "{id}");
        }
    }
    Ok(())
}

#[test]
fn what_a_cancelled_step_wrote_is_gone_and_the_next_one_begins() -> anyhow::Result<()> {
    let house = House::start("")?;
    for signal in [Signal::INT, Signal::KILL] {
        let id = format!("v{}", signal.as_raw());
        let (locked, private) = (at_c(&id, ",sharing=locked"), at_c(&id, ",sharing=private"));
        house.run(&private, "touch /c/good")?;
        let gate = format!("never-{id}");
        let fork = house.hold(&gate, &private, ["touch /c/bad-fork", "true"])?;
        let alone = house.hold(&gate, &locked, ["touch /c/bad-alone", "true"])?;
        let next = house.begin(&locked, "ls /c")?;
        next.build.wait_for("next in the queue")?;
        fork.build.signal(signal)?;
        fork.fail()?;
        alone.build.signal(signal)?;
        alone.fail()?;
        let next = next.succeed()?;
        let said = &next.step("] RUN")?.lines;
        assert!(said.iter().any(|line| line.starts_with(GOT)), "{said:#?}");
        assert_eq!(said.last().map(String::as_str), Some("good"), "{said:#?}");
        house.wait_until_unused(&id)?;
        assert_eq!(house.run(&at_c(&id, READONLY), "ls /c")?, ["good"]);
    }
    Ok(())
}

#[test]
fn what_a_step_wrote_that_was_killed_from_outside_is_gone() -> anyhow::Result<()> {
    let house = House::start("")?;
    for sharing in ["private", "locked"] {
        house.run(&at_c(sharing, ",sharing=private"), "touch /c/good")?;
        let mount = at_c(sharing, &format!(",sharing={sharing}"));
        let step = house.hold(sharing, &mount, ["touch /c/bad", "true"])?;
        house.kill_step_at(sharing)?;
        step.fail()?.assert_shows("exit code: 137");
        assert_eq!(house.run(&at_c(sharing, READONLY), "ls /c")?, ["good"], "{sharing}");
        assert_eq!(house.run(&mount, "ls /c && touch /c/more")?, ["good"], "{sharing}");
    }
    Ok(())
}

#[test]
fn what_a_step_wrote_that_ran_out_of_memory_is_gone() -> anyhow::Result<()> {
    let Some(small) = SmallMemory::of(32 << 20)? else { return Ok(()) };
    let house = House::start("")?;
    let hog = "touch /c/bad && dd if=/dev/zero of=/dev/null bs=200M count=1";
    for sharing in ["private", "locked"] {
        house.run(&at_c(sharing, ",sharing=private"), "touch /c/good")?;
        let mount = at_c(sharing, &format!(",sharing={sharing}"));
        let group = format!("--cgroup-parent={}", small.name());
        let step = house.begin_with(&mount, hog, |build| build.arg(&group))?;
        step.fail()?.assert_shows("cannot allocate memory: exit code: 137");
        assert_eq!(house.run(&at_c(sharing, READONLY), "ls /c")?, ["good"], "{sharing}");
        assert_eq!(house.run(&mount, "ls /c && touch /c/more")?, ["good"], "{sharing}");
    }
    Ok(())
}

#[test]
fn a_cache_that_a_killed_step_poisoned_is_not_there_in_the_next_build() -> anyhow::Result<()> {
    let house = House::start(DISCARD)?;
    let mount = at_c("discard-pip", "");
    // As an index of downloads that names a file of which only half has come.
    let cache = |name: &str, text: &str| {
        format!(
            "mkdir -p /c/http/a && echo {name} >> /c/http/index && echo {text} > /c/http/a/{name}"
        )
    };
    house.run(&mount, &cache("one", "whole"))?;
    let killed = house.hold("never", &mount, [&cache("two", "hal"), "true"])?;
    killed.build.signal(Signal::KILL)?;
    killed.fail()?;
    house.wait_until_unused("discard-pip")?;
    assert_eq!(house.run(&mount, "cat /c/http/index; ls /c/http/a")?, ["one", "one"]);
    house.fail(&mount, &format!("{}; false", cache("three", "hal")))?;
    assert_eq!(house.run(&mount, "cat /c/http/index; ls /c/http/a")?, ["one", "one"]);
    Ok(())
}

#[test]
fn volumes_outlive_a_daemon_that_is_killed_while_steps_hold_them() -> anyhow::Result<()> {
    let mut house = House::start("")?;
    house.run(&at_c("versioned", ",sharing=private"), "echo old > /c/file")?;
    house.run(&at_c("joined", ",sharing=private"), "echo old > /c/file")?;
    house.run(&at_c("plain", ""), "echo old > /c/file")?;
    let write = ["echo new > /c/file", "true"];
    let held = [
        house.hold("never", &at_c("versioned", ",sharing=locked"), write)?,
        house.hold("never", &at_c("versioned", ",sharing=private"), write)?,
        house.hold("never", &at_c("versioned", READONLY), ["cat /c/file", "true"])?,
        house.hold("never", &at_c("joined", ""), write)?,
        house.hold("never", &at_c("plain", ",sharing=locked"), ["touch /c/more", "true"])?,
    ];
    let waiting = house.begin(&at_c("versioned", ",sharing=locked"), "true")?;
    waiting.build.wait_for("next in the queue")?;
    let daemon = house.world.daemon()?;
    daemon.kill()?;
    daemon.up()?;
    house.reconnect()?;
    for running in held {
        running.fail()?;
    }
    waiting.fail()?;
    for options in [",sharing=locked", ",sharing=private", ",sharing=shared", READONLY] {
        let said = house.run(&at_c("versioned", options), "cat /c/file")?;
        assert_eq!(said, ["old"], "{options}: the dead hold nothing, and nothing half is seen");
    }
    let joined = house.run(&at_c("joined", ",sharing=locked"), "cat /c/file")?;
    let joined = joined.last().map(String::as_str);
    assert!(joined == Some("old") || joined == Some("new"), "{joined:?}");
    assert_eq!(house.run(&at_c("plain", READONLY), "ls /c; cat /c/file")?, ["file", "more", "old"]);
    // What the dead had mounted is gone too: the daemon is judged by that when the world ends.
    house.owner().assert_sizes(house.volumes())
}

#[test]
fn a_daemon_killed_while_a_step_ends_leaves_the_old_version_or_the_new_one() -> anyhow::Result<()> {
    let mut house = House::start("")?;
    let mount = at_c("v", ",sharing=private");
    house.run(&mount, "for i in $(seq 100); do echo 0 > /c/$i; done")?;
    let mut age: u32 = 0;
    for round in 1..=4_u32 {
        let all = format!("for i in $(seq 100); do echo {round} > /c/$i; done");
        let gate = format!("gate-{round}");
        let running = house.hold(&gate, &mount, [&format!("{{ {all}; }}"), "true"])?;
        house.open(&gate)?;
        let daemon = house.world.daemon()?;
        daemon.kill()?;
        daemon.up()?;
        house.reconnect()?;
        // How it went for the client is its own affair: it may have been told before the end.
        running.build.wait()?;
        let said = house.run(&at_c("v", READONLY), "ls /c | wc -l; cat /c/* | sort -u")?;
        assert_eq!(said[0], "100", "round {round}: {said:?}");
        assert!(said[1..] == [age.to_string()] || said[1..] == [round.to_string()], "{said:?}");
        age = said[1].parse()?;
    }
    Ok(())
}
