//! A context of 20,000 small files (100 MB): sent, and sent again unchanged.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use integration::{Backend, World};

use crate::graph::cpu;
use crate::report::Report;

pub(crate) fn run(report: &Report) -> anyhow::Result<()> {
    let world = World::start()?;
    let project = world.project("FROM scratch\nCOPY . /src\n")?;
    for folder in 0..100 {
        for file in 0..200 {
            let text = format!("{folder:03} {file:03} ").repeat(640);
            project.write(&format!("{folder}/{file}"), text)?;
        }
    }
    let Backend::Larder(daemon) = &world.backend else { return Ok(()) };
    let before = (cpu(daemon.id()?)?, children()?);
    world.build(&project).succeed()?;
    let (ours, client) = (cpu(daemon.id()?)? - before.0, children()? - before.1);
    report.against("20,000 files, sent: our CPU against the client's", ours, client);
    walk(project.root())?;
    let start = Instant::now();
    walk(project.root())?;
    let floor = start.elapsed();
    // An empty context costs what every build costs; the rest is for the files.
    let empty = world.project("FROM scratch\nCOPY Dockerfile /src\n")?;
    let nothing = least(|| world.build(&empty).succeed().map(drop))?;
    let unchanged = least(|| world.build(&project).succeed().map(drop))?;
    report.against("20,000 files, unchanged", unchanged.saturating_sub(nothing), floor);
    Ok(())
}

/// Returns the processor time of programs that ended: the client's.
fn children() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
    let ticks: u64 =
        fields.split_whitespace().skip(13).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// Returns the least time of five runs.
fn least(mut run: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    let mut least = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        run()?;
        least = least.min(start.elapsed());
    }
    Ok(least)
}

fn walk(directory: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += metadata.len();
        if metadata.is_dir() {
            bytes += walk(&entry.path())?;
        }
    }
    Ok(bytes)
}
