//! Many builds at once on one large private volume.

use integration::Program;

use crate::house::{House, WAITING, at_c};

const BUILDS: usize = 16;
const FILES: usize = 20_000;

#[test]
fn sixteen_builds_at_once_have_a_large_volume_whole_and_copy_none_of_it() -> anyhow::Result<()> {
    let house = House::start("[[larder.volumes.policy]]\nid = \"union\"\nmerge = \"union\"\n")?;
    let big = at_c("big", ",sharing=private");
    let make = "mkdir /c/0 && for f in $(seq 2000); do head -c 10486 /dev/urandom > /c/0/$f; done && \
                for d in 1 2 3 4 5 6 7 8 9; do cp -r /c/0 /c/$d; done; find /c -type f | wc -l";
    assert_eq!(house.run(&big, make)?, [FILES.to_string()]);
    let volumes = house.volumes();
    let taken = || -> anyhow::Result<u64> {
        let count = || Program::new("du").args(["-s", "--block-size=1"]).arg(volumes).succeed();
        // What is removed in the background may go while it is counted: then it is counted again.
        let said = (0..100).find_map(|_| count().ok()).map_or_else(count, Ok)?;
        Ok(said.split_whitespace().next().unwrap_or_default().parse()?)
    };
    let one_tree = taken()?;

    let mounts = format!("{big} --mount=type=cache,id=union,target=/u,sharing=private");
    let mut builds = Vec::new();
    for number in 0..BUILDS {
        let own = format!(
            "find /c -type f | wc -l && rm -r /c/0 && echo {number} > /c/own-{number} && \
             echo {number} > /u/{number}"
        );
        let seen = "ls /c | grep own; ls /u";
        let command = house.gated("all", [&own, &format!("{{ {seen}; }}")])?;
        builds.push((number, house.begin(&mounts, &command)?));
    }
    for (_, running) in &builds {
        running.build.wait_for(" now holding")?;
    }
    // All hold it at once now.
    assert_eq!(house.owner().inspect("big")?.leases.len(), BUILDS);
    let above = taken()?.saturating_sub(one_tree);
    assert!(above < 20_000_000, "no copies: {above} bytes above the one tree");
    for _ in 0..BUILDS {
        house.open("all")?;
    }
    for (number, running) in builds {
        let build = running.succeed()?;
        assert!(!build.output.contains(WAITING), "{}", build.output);
        let own = [FILES.to_string(), "now holding".to_owned(), format!("own-{number}")];
        let expected = [&own[..], &[number.to_string()]].concat();
        assert_eq!(build.step("] RUN")?.lines, expected, "warm, and nothing of the others");
    }

    let said =
        house.run(&at_c("big", ",readonly"), "ls /c | grep -c own; find /c -type f | wc -l")?;
    let whole = [1, FILES - FILES / 10 + 1].map(|number| number.to_string());
    assert_eq!(said, whole, "the head is what one of them left");
    let all = house.run(&at_c("union", ",readonly"), "ls /c | wc -l")?;
    assert_eq!(all, [BUILDS.to_string()], "nobody's is lost where they are united");
    let versions = house.owner().inspect("big")?.versions.len();
    assert!(versions <= 3, "{versions} versions are kept");
    let above = taken()?.saturating_sub(one_tree);
    assert!(above < 20_000_000, "one tree and what is new: {above} bytes above it");
    house.owner().assert_sizes(volumes)
}
