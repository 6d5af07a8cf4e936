//! apt, which does not lock what it shares: its caches are used by one build after the other.

use anyhow::Context as _;
use integration::house::{GOT, House, WAITING};

use crate::{APT, BUILDS, INSTALL, build};

#[test]
fn sixteen_builds_take_turns_on_what_one_downloaded() -> anyhow::Result<()> {
    let house = House::start("")?;
    let head = |list: &str| format!("FROM {{debian}}\nRUN echo '{list}' > /list\n");
    let install = format!("xargs -a /list {INSTALL} && tree --version");
    let cold = house.step(APT, &format!("apt-get update -qq && {install}"));
    build(&house, &house.world.project(&(head("tree hostname") + &cold))?)?;
    let cut = format!("--network=none {APT}");
    let second = house.world.project(&(head("tree") + &house.step(&cut, &install)))?;
    let second = build(&house, &second)?;
    assert!(second.step("--network=none")?.says("tree v"), "{}", second.output);

    let holder = house.hold("apt", APT, ["echo 0 > /var/cache/apt/turn", "true"])?;
    let turn = "cd /var/cache/apt && turn=$(cat turn)";
    let next = "echo had turn $turn && echo $((turn + 1)) > turn";
    let projects = (0..BUILDS).map(|number| {
        // Equal steps would be one step.
        let command = format!("echo build {number} && {turn} && {install} && {next}");
        let step = house.step(&cut, &command);
        house.world.project(&(head("tree") + &step))
    });
    let projects: Vec<_> = projects.collect::<anyhow::Result<_>>()?;
    let builds =
        projects.iter().map(|project| house.world.another_client()?.build(project).spawn());
    let builds: Vec<_> = builds.collect::<anyhow::Result<_>>()?;
    for build in &builds {
        build.wait_for(WAITING)?;
    }
    house.open("apt")?;
    holder.succeed()?;
    let mut turns = Vec::new();
    for build in builds {
        let build = build.wait()?;
        assert!(build.status.success(), "{}", build.output);
        let step = build.step("--network=none")?;
        assert!(step.says("tree v") && step.says(GOT), "{}", build.output);
        let had = step.lines.iter().find_map(|line| line.strip_prefix("had turn "));
        turns.push(had.context("a turn")?.parse::<usize>()?);
    }
    turns.sort_unstable();
    assert_eq!(turns, (0..BUILDS).collect::<Vec<_>>(), "one after the other");
    house.owner().assert_sizes(house.volumes())
}
