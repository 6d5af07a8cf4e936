//! Many builds at once on one large private volume.

use integration::house::{HOLDING, House, WAITING, at_c};

const BUILDS: usize = 16;
const FILES: usize = 20_000;

#[test]
fn sixteen_builds_at_once_have_a_large_volume_whole_and_copy_none_of_it() -> anyhow::Result<()> {
    let policy = |id: &str| format!("[[larder.volumes.policy]]\nid = \"{id}\"\nmerge = \"{id}\"\n");
    let house = House::start(&["union", "first-writer"].map(policy).concat())?;
    let big = at_c("big", ",sharing=private");
    let make = "mkdir /c/0 && for f in $(seq 2000); do head -c 10486 /dev/urandom > /c/0/$f; done && \
                for d in 1 2 3 4 5 6 7 8 9; do cp -r /c/0 /c/$d; done; find /c -type f | wc -l";
    assert_eq!(house.run(&big, make)?, [FILES.to_string()]);
    let (one_tree, one_trees_names) = (house.taken()?, house.names()?);

    let small = |id: &str, target: &str| {
        format!("--mount=type=cache,id={id},target={target},sharing=private")
    };
    let mounts = format!("{big} {} {}", small("union", "/u"), small("first-writer", "/f"));
    let mut builds = Vec::new();
    for number in 0..BUILDS {
        let own = format!(
            "rm -r /c/0 && for tree in /c /u /f; do echo {number} > $tree/own-{number}; done"
        );
        // All hold it, then all write, and then all look.
        let look = "echo all 'writ'ten && read go < /gates/written && ls /c /u /f | grep own";
        let command =
            house.gated("held", ["find /c -type f | wc -l", &format!("{{ {own}; }} && {look}")])?;
        builds.push((number, house.begin(&mounts, &command)?));
    }
    for (_, running) in &builds {
        running.build.wait_for(HOLDING)?;
    }
    assert_eq!(house.owner().inspect("big")?.leases.len(), BUILDS);
    let above = house.taken()?.saturating_sub(one_tree);
    assert!(above < 5_000_000, "no copies: {above} bytes above the one tree");
    let names = house.names()?.saturating_sub(one_trees_names);
    assert!(
        names < BUILDS * 100,
        "nothing is made for each file: {names} more files and directories"
    );
    house.gate("written")?;
    for _ in 0..BUILDS {
        house.open("held")?;
    }
    for (_, running) in &builds {
        running.build.wait_for(" all written")?;
    }
    for _ in 0..BUILDS {
        house.open("written")?;
    }
    let mut dropped = 0;
    for (number, running) in builds {
        let build = running.succeed()?;
        assert!(!build.output.contains(WAITING), "{}", build.output);
        let (files, mine) = (FILES.to_string(), format!("own-{number}"));
        let expected = [&*files, "now holding", "all written", &*mine, &*mine, &*mine];
        let step = build.step("] RUN")?;
        let lines = step.lines.iter().map(String::as_str);
        let (told, said): (Vec<&str>, Vec<&str>) =
            lines.partition(|line| line.starts_with("cache volume `first-writer` keeps nothing"));
        assert_eq!(said, expected, "warm, and nothing of the others");
        dropped += told.len();
    }
    assert_eq!(dropped, BUILDS - 1, "all but the first writer are told");

    let said =
        house.run(&at_c("big", ",readonly"), "ls /c | grep -c own; find /c -type f | wc -l")?;
    let whole = [1, FILES - FILES / 10 + 1].map(|number| number.to_string());
    assert_eq!(said, whole, "the head is what one of them left");
    let all = house.run(&at_c("union", ",readonly"), "ls /c | wc -l")?;
    assert_eq!(all, [BUILDS.to_string()], "nobody's is lost where they are united");
    let first = house.run(&at_c("first-writer", ",readonly"), "ls /c | wc -l")?;
    assert_eq!(first, ["1"], "who ends first decides");
    let versions = house.owner().inspect("big")?.versions.len();
    assert!(versions <= 3, "{versions} versions are kept");
    let above = house.taken()?.saturating_sub(one_tree);
    assert!(above < 20_000_000, "one tree and what is new: {above} bytes above it");
    house.owner().assert_sizes(house.volumes())
}
