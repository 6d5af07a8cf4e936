//! `locked`: one at a time, in the order of coming, and told to those who wait.

use integration::house::{GOT, HOLDING, House, WAITING, at_c};
use rustix::process::Signal;

const LOCKED: &str = ",sharing=locked";

/// Returns the lines of `shown` that tell of waits.
fn told(shown: &str) -> Vec<String> {
    let lines = shown.lines().filter_map(|line| line.find(WAITING).map(|at| line[at..].to_owned()));
    lines.collect()
}

#[test]
fn who_waits_is_told_for_what_for_whom_how_long_and_where_in_the_queue() -> anyhow::Result<()> {
    let house = House::start("")?;
    let mount = at_c("the-volume", LOCKED);
    let first = house.hold("a", &mount, ["echo first >> /c/log", "true"])?;
    let second = house.begin(&mount, &house.gated("b", ["echo second >> /c/log", "true"])?)?;
    second.build.wait_for("next in the queue")?;
    let third = house.begin(&mount, "echo third >> /c/log && cat /c/log")?;
    third.build.wait_for("1 step is ahead in the queue")?;

    house.open("a")?;
    second.build.wait_for(HOLDING)?;
    // The place of the third is told anew, and by whom the volume is held now.
    third.build.wait_for("; next in the queue")?;
    house.open("b")?;
    let (first, second, third) = (first.succeed()?, second.succeed()?, third.succeed()?);

    assert!(
        !first.output.contains(WAITING),
        "the first had nothing to wait for:\n{}",
        first.output
    );
    let waits = told(&second.output);
    let wait = waits.first().expect("a wait was shown");
    assert!(wait.starts_with("waiting for cache volume `the-volume`, held by step `"), "{wait}");
    assert!(wait.contains("echo first >> /c/log"), "the step that holds it is named: {wait}");
    assert!(wait.contains("of build `"), "its build is named: {wait}");
    let (_, since) = wait.rsplit_once(" for ").expect("since when");
    let (since, place) = since.split_once("; ").expect("the place");
    assert!(since.strip_suffix('s').is_some_and(|n| n.parse::<f64>().is_ok()), "{wait}");
    assert_eq!(place, "next in the queue");
    let waits = told(&third.output);
    assert!(waits[0].contains("echo first") && waits[0].ends_with("1 step is ahead in the queue"));
    assert!(waits.iter().any(|wait| wait.contains("echo second")), "{waits:#?}");
    for build in [&second, &third] {
        let step = build.step("] RUN")?;
        assert!(step.says(&format!("{GOT} `the-volume` after ")), "{step:#?}");
    }
    assert!(third.step("] RUN")?.lines.ends_with(&["first", "second", "third"].map(Into::into)));
    Ok(())
}

#[test]
fn a_waiter_whose_client_goes_leaves_the_queue_at_once() -> anyhow::Result<()> {
    for signal in [Signal::INT, Signal::KILL] {
        let house = House::start("")?;
        let mount = at_c("v", LOCKED);
        let first = house.hold("a", &mount, ["echo first > /c/first", "true"])?;
        let second = house.begin(&mount, "echo second > /c/second")?;
        second.build.wait_for("next in the queue")?;
        let third = house.begin(&mount, "ls /c")?;
        third.build.wait_for("1 step is ahead in the queue")?;
        second.build.signal(signal)?;
        // The third moves up while the first still holds.
        third.build.wait_for("; next in the queue")?;
        second.fail()?;
        house.open("a")?;
        first.succeed()?;
        let third = third.succeed()?;
        let said = &third.step("] RUN")?.lines;
        assert_eq!(said.last().map(String::as_str), Some("first"), "{signal:?}: {said:#?}");
        let volume = house.owner().inspect("v")?;
        assert!(volume.leases.is_empty() && volume.waiting.is_empty(), "{volume:#?}");
    }
    Ok(())
}

#[test]
fn several_volumes_are_taken_in_one_order_whatever_the_order_of_the_mounts() -> anyhow::Result<()> {
    let house = House::start("")?;
    let one = |id: &str| format!("--mount=type=cache,id={id},target=/{id},sharing=locked");
    house.run(&format!("{} {}", one("x"), one("y")), "true")?;
    // The list has the order of the keys, which is the order in which they are taken.
    let ids = house.owner().list()?.into_iter().filter_map(|volume| volume.name);
    let ids: Vec<_> =
        ids.map(|name| String::from_utf8(name.id.to_vec())).collect::<Result<_, _>>()?;
    let (low, high) = (one(&ids[0]), one(&ids[1]));

    let holder = house.hold("a", &low, ["true", "true"])?;
    let up = house.begin(&format!("{low} {high}"), &format!("echo up >> /{}/log", ids[1]))?;
    up.build.wait_for(&format!("{WAITING} `{}`", ids[0]))?;
    let down = house.begin(&format!("{high} {low}"), &format!("echo down >> /{}/log", ids[1]))?;
    down.build.wait_for(&format!("{WAITING} `{}`", ids[0]))?;
    // Neither has the other volume while it waits for this one.
    let free = house.run(&high, &format!("echo free >> /{}/log", ids[1]))?;
    assert!(free.is_empty(), "it had to wait: {free:#?}");
    house.open("a")?;
    holder.succeed()?;
    up.succeed()?;
    down.succeed()?;
    assert_eq!(house.run(&high, &format!("cat /{}/log", ids[1]))?, ["free", "up", "down"]);
    Ok(())
}
