//! What the daemon costs, against floors that are measured in the same run. Nothing here passes or fails.
//!
//! `cargo build --release -p daemon -p cli && cargo bench -p integration`, as root, on a machine that does
//! nothing else.

mod context;
mod floor;
mod graph;
mod life;
mod report;
mod steps;

fn main() -> anyhow::Result<()> {
    // Before anything else: the floor is measured by a process that has one thread.
    let floor = floor::Floor::measure()?;
    let report = report::Report::begin();
    life::run(&report)?;
    steps::run(&report, &floor)?;
    graph::run(&report)?;
    context::run(&report)
}
