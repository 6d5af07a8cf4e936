//! What volumes take, shown and removed by the usual client, and the limits that policies set.

use integration::Launch;
use integration::house::{House, at_c};

#[test]
fn sizes_are_those_of_du_for_plain_and_versioned_volumes() -> anyhow::Result<()> {
    let house = House::start("")?;
    let files = "for i in 1 2 3; do mkdir -p /c/$i && head -c 100000 /dev/urandom > /c/$i/f; done; \
                 ln /c/1/f /c/hard; ln -s 1 /c/soft; mkfifo /c/pipe; \
                 dd if=/dev/zero of=/c/sparse bs=1 count=1 seek=100000000 2>/dev/null";
    house.run(&at_c("plain", ""), files)?;
    house.run(&at_c("versioned", ",sharing=private"), files)?;
    house.run(&at_c("versioned", ",sharing=private"), "rm -r /c/1 && echo new > /c/2/f")?;
    let reader = house.hold("r", &at_c("versioned", ",readonly"), ["true", "true"])?;
    house.run(&at_c("versioned", ",sharing=locked"), "head -c 300000 /dev/urandom > /c/big")?;
    let volumes = house.volumes();
    house.owner().assert_sizes(volumes)?;
    house.open("r")?;
    reader.succeed()?;
    house.owner().assert_sizes(volumes)
}

#[test]
fn volumes_are_shown_and_removed_by_id_and_by_description() -> anyhow::Result<()> {
    let house = House::start("")?;
    for id in ["go-build", "go-mod", "npm"] {
        house.run(&at_c(id, ""), "head -c 2000000 /dev/urandom > /c/data")?;
    }
    let key = house.owner().inspect("go-mod")?.key;
    let du = |filter: &str| house.world.disk_usage(&[filter]);
    let records = |shown: &str| shown.lines().filter(|line| line.starts_with("ID:")).count();
    let prune = |filter: &str| {
        let words = ["prune", "--force", "--all", "--filter", filter];
        house.world.client.command(words).succeed()
    };
    let ids = || -> anyhow::Result<Vec<String>> {
        let names = house.owner().list()?.into_iter().filter_map(|volume| volume.name);
        let mut ids: Vec<_> = names.map(|name| String::from_utf8_lossy(&name.id).into()).collect();
        ids.sort();
        Ok(ids)
    };

    let shown = du(&format!("id={key}"))?;
    assert_eq!(records(&shown), 1, "{shown}");
    assert!(shown.contains(&key) && shown.contains("cache volume id=go-mod"), "{shown}");
    assert!(shown.contains("exec.cachemount") && shown.contains("2.0"), "{shown}");
    assert_eq!(records(&du("description~=^cache volume id=go-")?), 2);
    assert_eq!(records(&du("description=cache volume id=npm")?), 1);

    // The key is that of the name: it is the same when the volume is made anew.
    prune(&format!("id={key}"))?;
    assert_eq!(ids()?, ["go-build", "npm"]);
    assert!(house.run(&at_c("go-mod", ""), "ls -A /c")?.is_empty());
    assert_eq!(house.owner().inspect("go-mod")?.key, key);
    prune("description~=^cache volume id=go-")?;
    assert_eq!(ids()?, ["npm"]);
    prune("description=cache volume id=npm")?;
    assert!(ids()?.is_empty());
    let layers = du("type=regular")?;
    assert!(records(&layers) > 0, "layers are none of it: {layers}");
    Ok(())
}

#[test]
fn nobody_waits_longer_than_the_policy_allows() -> anyhow::Result<()> {
    let house = House::start("[[larder.volumes.policy]]\nid = \"busy\"\nwait-limit = \"1s\"\n")?;
    let mount = at_c("busy", ",sharing=locked");
    let holder = house.hold("a", &mount, ["echo the holder", "true"])?;
    let gave_up = house.fail(&mount, "echo never")?;
    gave_up.assert_shows(
        "gave up waiting for volume `default/busy` after 1 s: it is in use by step `",
    );
    gave_up.assert_shows("`wait-limit`");
    let error = gave_up.step("] RUN")?.error.clone().unwrap_or_default();
    assert!(error.contains("echo the holder"), "the holder is named: {error}");
    assert!(house.owner().inspect("busy")?.waiting.is_empty(), "the queue was left");
    house.open("a")?;
    holder.succeed()?;
    assert_eq!(house.run(&mount, "echo free")?, ["free"]);
    Ok(())
}

#[test]
fn what_would_take_a_volume_over_its_quota_is_not_published() -> anyhow::Result<()> {
    let rule =
        |id: &str, quota: &str| format!("[[larder.volumes.policy]]\nid = \"{id}\"\n{quota}\n");
    let config = rule("bytes", "quota = \"1MB\"") + &rule("files", "quota-inodes = 100");
    let house = House::start(&config)?;
    house.world.allow_log("over its quota: not published");
    for (id, too_much, quota) in [
        (
            "bytes",
            "head -c 3000000 /dev/urandom > /c/big",
            "and its quota is 1MB; raise the `quota`",
        ),
        ("files", "for i in $(seq 200); do echo $i > /c/$i; done", "and its quota is 100 files;"),
    ] {
        // Never used but together, or by one at a time: not even then is it written in place.
        let sharing = if id == "bytes" { "shared" } else { "locked" };
        let mount = at_c(id, &format!(",sharing={sharing}"));
        house.run(&mount, "echo small > /c/file")?;
        // The step itself has all it wrote; only nobody after it.
        let said = house.run(&mount, &format!("{too_much} && ls /c > /dev/null"))?.join("\n");
        let named = format!("cache volume `{id}` keeps nothing of what this step wrote: with it");
        assert!(said.contains(&named) && said.contains(quota), "the user is told: {said}");
        assert_eq!(house.run(&mount, "ls /c && echo more >> /c/file")?, ["file"], "{id}");
        assert_eq!(house.run(&mount, "cat /c/file")?, ["small", "more"], "{id} is of use still");
    }
    Ok(())
}

#[test]
fn results_that_nobody_needs_give_way_before_a_volume_does() -> anyhow::Result<()> {
    let config = "[larder.volumes]\nreserve = \"32MB\"\n".to_owned();
    let house = House::launch(Launch { config, disk: Some(72 << 20), ..Launch::default() })?;
    let write = |file: &str, megabytes: u32| {
        format!("dd if=/dev/urandom of={file} bs=1048576 count={megabytes} 2>/dev/null")
    };
    house.run(&at_c("warm", ""), &write("/c/kept", 8))?;
    house.run("", &write("/result", 36))?;
    assert!(house.world.disk_usage(&[])?.contains("of=/result"), "it stays while there is room");
    // Of 72 MiB less than 28 are free now.
    assert_eq!(house.run(&at_c("warm", ""), "ls /c")?, ["kept"]);
    let left = house.world.disk_usage(&[])?;
    assert!(!left.contains("of=/result"), "the result is what goes: {left}");
    Ok(())
}
