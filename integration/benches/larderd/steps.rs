//! Steps: one after the other, side by side, and from the cache.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use integration::{Backend, Graph, World};
use proto::pb;

use crate::floor::Floor;
use crate::graph::{cpu, solve};
use crate::report::Report;

const CHAIN: u32 = 100;
const STAGES: u32 = 40;
const REBUILDS: u32 = 20;

pub(crate) fn run(report: &Report, floor: &Floor) -> anyhow::Result<()> {
    let world = World::start()?;
    let image = world.fill("docker-image://{busybox}:latest");
    let mut base = Graph::default();
    let pulled = base.source(&image);
    solve(&world.backend, base.clone().finish(&pulled))?;

    let mut chain = base.clone();
    let mut last = pulled.clone();
    for number in 0..CHAIN {
        last = chain.run_words(&last, &["/bin/true", &number.to_string()]);
    }
    let took = solve(&world.backend, chain.finish(&last))?;
    report.against("a `RUN true` step (of 100 in a row)", took / CHAIN, floor.step);

    let mut wide = base;
    let stages: Vec<String> = (0..STAGES)
        .map(|number| wide.run_words(&pulled, &["/bin/true", &format!("stage {number}")]))
        .collect();
    let inputs = (0..i64::from(STAGES)).map(|input| pb::MergeInput { input });
    let merge = pb::op::Op::Merge(pb::MergeOp { inputs: inputs.collect() });
    let merged = wide.add(merge, &stages.iter().map(String::as_str).collect::<Vec<_>>());
    let took = solve(&world.backend, wide.finish(&merged))?;
    let cores = std::thread::available_parallelism()?.get().min(STAGES as usize);
    let floors = floor.step * STAGES / u32::try_from(cores)?;
    report.against("40 independent steps, in all", took, floors);
    rebuild(report, &world)
}

/// Builds 20 cached steps again, as a user does.
fn rebuild(report: &Report, world: &World) -> anyhow::Result<()> {
    let mut dockerfile = "FROM {busybox}\nCOPY file /file\n".to_owned();
    for number in 0..18 {
        writeln!(dockerfile, "RUN echo {number} > /n{number}")?;
    }
    let project = world.project(&dockerfile)?.with("file", "x")?;
    world.build(&project).succeed()?;
    let Backend::Larder(daemon) = &world.backend else { return Ok(()) };
    let before = cpu(daemon.id()?)?;
    let start = Instant::now();
    for _ in 0..REBUILDS {
        world.build(&project).succeed()?.assert_all_cached();
    }
    let wall = start.elapsed() / REBUILDS;
    let spent = (cpu(daemon.id()?)? - before) / REBUILDS;
    report.within("20 cached steps again: the daemon's CPU", spent, Duration::from_millis(20));
    report.against("20 cached steps again: the client's wait, with all it does", wall, spent);
    Ok(())
}
