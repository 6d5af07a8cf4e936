//! Two thousand small file operations: a thousand side by side, ten chains of a hundred. Prints what
//! one costs when it is done, when it is found in memory, and after a restart.

#[path = "../tests/suite/world.rs"]
mod world;

use std::time::Instant;

use futures::future::join_all;
use llb::{FileActions, MakeFile, OpOptions, State};
use world::World;

const WIDE: usize = 1000;
const CHAINS: usize = 10;
const HEIGHT: usize = 100;

fn make(base: &State, name: String) -> State {
    let file = MakeFile { path: format!("/{name}"), mode: 0o644, ..MakeFile::default() };
    base.file(FileActions::new().make_file(file), OpOptions::named(name))
}

fn states() -> Vec<State> {
    let mut all: Vec<State> =
        (0..WIDE).map(|number| make(&State::scratch(), format!("wide-{number}"))).collect();
    for chain in 0..CHAINS {
        let mut state = State::scratch();
        for number in 0..HEIGHT {
            state = make(&state, format!("chain-{chain}-{number}"));
        }
        all.push(state);
    }
    all
}

async fn build(world: &World, states: &[State]) -> std::time::Duration {
    let edges: Vec<_> = states.iter().filter_map(world::edge).collect();
    let (job, _feed) = world.job("bench");
    let begun = Instant::now();
    for result in join_all(edges.into_iter().map(|edge| job.build(edge))).await {
        result.expect("the graph builds");
    }
    begun.elapsed()
}

fn report(what: &str, took: std::time::Duration) {
    let each = took / u32::try_from(WIDE + CHAINS * HEIGHT).expect("few operations");
    println!("{what:<24}{took:>12.1?}{each:>12.1?} each");
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let world = World::new().await;
        let states = states();
        report("done", build(&world, &states).await);
        report("found", build(&world, &states).await);
        let begun = Instant::now();
        let world = world.reopen().await;
        report("reopened", begun.elapsed());
        report("found after restart", build(&world, &states).await);
        let collector = world.collector();
        let begun = Instant::now();
        let records = collector.usage();
        report("listed", begun.elapsed());
        let begun = Instant::now();
        let request = cache::PruneRequest::default();
        for index in cache::plan(&records, &request, std::time::SystemTime::now(), 0) {
            collector.remove(&records[index].id).await.expect("a removal");
        }
        report("removed", begun.elapsed());
    });
}
