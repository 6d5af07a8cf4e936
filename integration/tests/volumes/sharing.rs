//! How holders of one volume go together: each row of the table, alone and beside the others.

use integration::house::{HOLDING, House, WAITING, at_c};

const SHARED: &str = ",sharing=shared";
const LOCKED: &str = ",sharing=locked";
const PRIVATE: &str = ",sharing=private";
const READONLY: &str = ",readonly";

/// Makes a volume that holds `file`; with versions, or written in place.
fn make(house: &House, id: &str, versioned: bool) -> anyhow::Result<()> {
    let sharing = if versioned { PRIVATE } else { SHARED };
    house.run(&at_c(id, sharing), "echo base > /c/file")?;
    Ok(())
}

#[test]
fn shared_joins_a_live_tree_and_waits_for_who_has_it_alone() -> anyhow::Result<()> {
    let house = House::start("")?;
    for versioned in [false, true] {
        let id = if versioned { "versioned" } else { "plain" };
        make(&house, id, versioned)?;
        let gate = |name: &str| format!("{name}-{id}");
        let then = "cat /c/second";
        let first = house.hold(&gate("a"), &at_c(id, SHARED), ["echo first > /c/first", then])?;
        let second = house.hold(
            &gate("b"),
            &at_c(id, SHARED),
            ["cat /c/file /c/first && echo second > /c/second", "true"],
        )?;
        let alone = house.begin(
            &at_c(id, LOCKED),
            &house.gated(&gate("c"), ["cat /c/second && echo alone > /c/alone", "true"])?,
        )?;
        alone.build.wait_for(WAITING)?;
        house.open(&gate("a"))?;
        let first = first.succeed()?;
        assert_eq!(first.step("] RUN")?.lines.last().map(String::as_str), Some("second"));
        house.open(&gate("b"))?;
        let second = second.succeed()?;
        assert!(!second.output.contains(WAITING), "{}", second.output);
        assert!(second.step("] RUN")?.lines.starts_with(&["base", "first"].map(Into::into)));
        alone.build.wait_for(HOLDING)?;
        // Who comes now waits, and then has the tree: it is never an empty one.
        let late = house.begin(&at_c(id, SHARED), "ls /c")?;
        late.build.wait_for(WAITING)?;
        house.open(&gate("c"))?;
        alone.succeed()?;
        let late = late.succeed()?;
        let said = &late.step("] RUN")?.lines;
        let all = ["alone", "file", "first", "second"].map(Into::into);
        assert!(said.ends_with(&all), "{id}: {said:#?}");
    }
    Ok(())
}

#[test]
fn forks_are_warm_and_apart_and_the_policy_decides_which_becomes_the_head() -> anyhow::Result<()> {
    let policy = |id: &str| format!("[[larder.volumes.policy]]\nid = \"{id}\"\nmerge = \"{id}\"\n");
    let policies = ["first-writer", "union"].map(policy).concat();
    let house = House::start(&policies)?;
    let ids = ["last-writer", "first-writer", "union"];
    let mounts = |options: &str| {
        let one = |id| format!("--mount=type=cache,id={id},target=/v/{id}{options} ");
        ids.map(one).concat()
    };
    let each = |work: &str| format!("{{ for v in /v/*; do cd $v; {work}; done; }}");
    house.run(&mounts(PRIVATE), &each("echo base > base; echo base > common; mkdir d"))?;
    let write = |who: &str| {
        each(&format!(
            "cat base; ls; echo {who} > {who}; echo {who} > common; echo {who} > d/{who}"
        ))
    };
    let first = house.hold("a", &mounts(PRIVATE), [&write("one"), &each("ls; cat common")])?;
    let second = house.hold("b", &mounts(PRIVATE), [&write("two"), &each("ls; cat common")])?;
    house.open("a")?;
    let first = first.succeed()?;
    house.open("b")?;
    let second = second.succeed()?;
    for (build, who) in [(first, "one"), (second, "two")] {
        let step = build.step("] RUN")?;
        let warm = ["base", "base", "common", "d"].repeat(3);
        let mut expected = [warm, vec!["now holding"]].concat();
        expected.extend(["base", "common", "d", who, who].repeat(3));
        if who == "two" {
            expected.push(
                "cache volume `first-writer` keeps nothing of what this step wrote: another step \
                 published first (the policy's `merge = \"first-writer\"`)",
            );
        }
        assert_eq!(step.lines, expected, "nothing of the other is seen, and nobody waited");
    }
    let seen = |id: &str| house.run(&at_c(id, READONLY), "cd /c; ls; ls d; cat common");
    assert_eq!(seen("last-writer")?, ["base", "common", "d", "two", "two", "two"]);
    assert_eq!(seen("first-writer")?, ["base", "common", "d", "one", "one", "one"]);
    // What both changed is as the head has it.
    let union = ["base", "common", "d", "one", "two", "one", "two", "one"];
    assert_eq!(seen("union")?, union);
    Ok(())
}

#[test]
fn readers_have_what_was_published_and_never_half_of_something() -> anyhow::Result<()> {
    let house = House::start("")?;
    make(&house, "v", true)?;
    let (reader, look) = (at_c("v", READONLY), "ls /c; ! touch /c/no 2>/dev/null");
    let writer = house.hold("w", &at_c("v", LOCKED), ["touch /c/half", "touch /c/whole"])?;
    assert_eq!(house.run(&reader, look)?, ["file"], "not yet published, and no wait");
    let early = house.hold("r", &reader, [look, "ls /c"])?;
    house.open("w")?;
    writer.succeed()?;
    assert_eq!(house.run(&reader, look)?, ["file", "half", "whole"]);
    house.open("r")?;
    let early = early.succeed()?;
    assert_eq!(early.step("] RUN")?.lines, ["file", "now holding", "file"], "it stands still");
    Ok(())
}

#[test]
fn the_first_fork_of_a_volume_that_is_written_in_place_waits_until_it_is_whole()
-> anyhow::Result<()> {
    let house = House::start("")?;
    for (id, options) in [("read", READONLY), ("fork", PRIVATE)] {
        make(&house, id, false)?;
        let writer = house.hold(id, &at_c(id, SHARED), ["touch /c/half", "touch /c/whole"])?;
        let apart = house.begin(&at_c(id, options), "ls /c")?;
        apart.build.wait_for(WAITING)?;
        house.open(id)?;
        writer.succeed()?;
        let apart = apart.succeed()?;
        let said = &apart.step("] RUN")?.lines;
        assert!(said.ends_with(&["file", "half", "whole"].map(Into::into)), "{said:#?}");
        // That was the only time.
        let writer =
            house.hold(&format!("{id}-2"), &at_c(id, SHARED), ["touch /c/more", "true"])?;
        assert_eq!(house.run(&at_c(id, options), "ls /c")?, ["file", "half", "whole"]);
        house.open(&format!("{id}-2"))?;
        writer.succeed()?;
    }
    Ok(())
}

#[test]
fn every_way_of_sharing_goes_together_on_one_volume() -> anyhow::Result<()> {
    let house = House::start("[larder.volumes]\nmerge = \"union\"\n")?;
    make(&house, "v", true)?;
    let alone = house.hold("alone", &at_c("v", LOCKED), ["touch /c/alone", "true"])?;
    let fork = house.hold("fork", &at_c("v", PRIVATE), ["touch /c/fork; ls /c", "true"])?;
    let read = house.hold("read", &at_c("v", READONLY), ["ls /c", "ls /c"])?;
    let joined = house.begin(&at_c("v", SHARED), &house.gated("joined", ["ls /c", "ls /c"])?)?;
    joined.build.wait_for(WAITING)?;
    house.open("fork")?;
    let fork = fork.succeed()?;
    assert_eq!(fork.step("] RUN")?.lines, ["file", "fork", "now holding"]);
    house.open("alone")?;
    alone.succeed()?;
    joined.build.wait_for(HOLDING)?;
    house.run(&at_c("v", SHARED), "touch /c/shared")?;
    house.open("joined")?;
    let joined = joined.succeed()?;
    let said = &joined.step("] RUN")?.lines;
    assert!(said.ends_with(&["alone", "file", "fork", "shared"].map(Into::into)), "{said:#?}");
    house.open("read")?;
    assert_eq!(read.succeed()?.step("] RUN")?.lines, ["file", "now holding", "file"]);
    assert_eq!(house.run(&at_c("v", READONLY), "ls /c")?, ["alone", "file", "fork", "shared"]);
    Ok(())
}

#[test]
fn two_mounts_of_one_volume_in_a_step_are_one_tree() -> anyhow::Result<()> {
    let house = House::start("")?;
    for first in [SHARED, LOCKED, PRIVATE] {
        for versioned in [false, true] {
            let id = format!("v{versioned}{}", first.trim_start_matches(",sharing="));
            make(&house, &id, versioned)?;
            let mounts = format!(
                "--mount=type=cache,id={id},target=/a{first} --mount=type=cache,id={id},target=/b \
                 --mount=type=cache,id={id},target=/r,readonly"
            );
            let command = "echo one > /a/one; echo two > /b/two; cat /a/two /b/one /r/two /r/file; \
                           ! touch /r/no 2>/dev/null";
            let said = house.run(&mounts, command)?;
            assert_eq!(said, ["two", "one", "two", "base"], "{id}");
            assert_eq!(house.run(&at_c(&id, first), "ls /c")?, ["file", "one", "two"], "{id}");
        }
    }
    Ok(())
}
