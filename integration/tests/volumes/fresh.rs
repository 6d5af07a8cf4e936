//! Builds without cache: they begin with empty volumes of their own, and empty nobody else's.

use integration::house::{House, WAITING, at_c};

/// Returns the last lines that a step of a running build said.
fn ends_with(said: &[String], wanted: &[&str]) -> bool {
    said.iter().map(String::as_str).collect::<Vec<_>>().ends_with(wanted)
}

#[test]
fn a_build_without_cache_begins_empty_and_the_others_keep_what_they_have() -> anyhow::Result<()> {
    let house = House::start("")?;
    for (versioned, sharing) in [
        (false, "shared"),
        (true, "shared"),
        (true, "private"),
        (false, "locked"),
        (true, "locked"),
    ] {
        let id = format!("{sharing}-{versioned}");
        let mount = at_c(&id, &format!(",sharing={sharing}"));
        let first = if versioned { at_c(&id, ",sharing=private") } else { mount.clone() };
        house.run(&first, "touch /c/old")?;
        let gate = format!("gate-{id}");
        let holder = house.hold(&gate, &mount, ["ls /c", "touch /c/more && ls /c"])?;
        let command = "ls -A /c && touch /c/new";
        let fresh = house.begin_with(&mount, command, |build| build.arg("--no-cache"))?;
        if sharing == "locked" {
            fresh.build.wait_for(WAITING)?;
            house.open(&gate)?;
            assert!(ends_with(&holder.succeed()?.step("] RUN")?.lines, &["more", "old"]));
            let said = fresh.succeed()?.step("] RUN")?.lines.clone();
            assert_eq!(said.len(), 2, "only of the wait: {said:#?}");
            assert_eq!(house.run(&mount, "ls /c")?, ["new"], "{id}");
        } else {
            let said = fresh.succeed()?.step("] RUN")?.lines.clone();
            assert!(said.is_empty(), "{id} was empty, and nobody waited: {said:#?}");
            if versioned {
                let fork = at_c(&id, ",sharing=private");
                assert_eq!(house.run(&fork, "ls /c")?, ["new"], "{id}");
            }
            house.open(&gate)?;
            let said = holder.succeed()?.step("] RUN")?.lines.clone();
            assert!(ends_with(&said, &["more", "old"]), "{id}: {said:#?}");
            // Who ends last decides, with a whole tree and never a mixture.
            assert_eq!(house.run(&at_c(&id, ",readonly"), "ls /c")?, ["more", "old"], "{id}");
        }
    }
    Ok(())
}

#[test]
fn only_the_stages_that_are_named_begin_empty() -> anyhow::Result<()> {
    let house = House::start("")?;
    for id in ["one", "two"] {
        house.run(&at_c(id, ""), "touch /c/old")?;
    }
    let project = house.world.project(
        "FROM {busybox} AS one\nRUN --mount=type=cache,id=one,target=/c ls -A /c > /out\n\
         FROM {busybox} AS two\nRUN --mount=type=cache,id=two,target=/c ls -A /c > /out\n\
         FROM {busybox}\nCOPY --from=one /out /one\nCOPY --from=two /out /two\n\
         RUN echo one: $(cat /one), two: $(cat /two)\n",
    )?;
    let build = house.world.build(&project).args(["--no-cache-filter", "one"]).succeed()?;
    assert_eq!(build.step("RUN echo one:")?.lines, ["one: , two: old"]);
    assert!(house.run(&at_c("one", ""), "ls -A /c")?.is_empty(), "the empty tree is the head");
    assert_eq!(house.run(&at_c("two", ""), "ls -A /c")?, ["old"]);
    Ok(())
}

#[test]
fn a_policy_leaves_volumes_alone_in_builds_without_cache() -> anyhow::Result<()> {
    let house = House::start("[[larder.volumes.policy]]\nid = \"kept*\"\nno-cache = \"keep\"\n")?;
    for id in ["kept", "lost"] {
        house.run(&at_c(id, ""), "touch /c/old")?;
        let fresh = house.begin_with(&at_c(id, ""), "ls -A /c", |build| build.arg("--no-cache"))?;
        let said = fresh.succeed()?.step("] RUN")?.lines.clone();
        assert_eq!(said.len(), usize::from(id == "kept"), "{id}: {said:#?}");
    }
    Ok(())
}
