//! What the daemon costs, against floors that are measured in the same run. Nothing here passes or fails.
//!
//! `cargo build --release -p daemon -p cli && cargo bench -p integration`, as root, on a machine that does
//! nothing else. Names of parts after `--` (`life`, `steps`, `graph`, `context`) measure only those.

mod context;
mod floor;
mod graph;
mod ground;
mod life;
mod report;
mod steps;

fn main() -> anyhow::Result<()> {
    if let Some(status) = ground::prepare()? {
        std::process::exit(status);
    }
    // Before anything else: the floor is measured by a process that has one thread.
    let floor = floor::Floor::measure()?;
    let report = report::Report::begin();
    let asked: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let wanted = |name: &str| asked.is_empty() || asked.iter().any(|asked| asked == name);
    if wanted("life") {
        life::run(&report)?;
    }
    if wanted("steps") {
        steps::run(&report, &floor)?;
    }
    if wanted("graph") {
        graph::run(&report)?;
    }
    if wanted("context") {
        context::run(&report)?;
    }
    Ok(())
}
