//! A context of 20,000 small files (100 MB): sent, and sent again unchanged.

use std::fs;
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
    // An empty context costs what every build costs; the rest is for the files.
    let empty = world.project("FROM scratch\nCOPY Dockerfile /src\n")?;
    let nothing = Cost::of(|| world.build(&empty).succeed().map(drop))?;
    let unchanged = Cost::of(|| world.build(&project).succeed().map(drop))?;
    // What the client does by itself, whoever listens: it looks at each file and says what it sees.
    let walk = unchanged.client.saturating_sub(nothing.client);
    let wait = unchanged.wait.saturating_sub(nothing.wait);
    report.against("20,000 files, unchanged: the wait against the client's walk", wait, walk);
    Ok(())
}

/// What a build costs, each the least of several.
struct Cost {
    /// How long it takes.
    wait: Duration,
    /// The processor time of the client.
    client: Duration,
}

impl Cost {
    fn of(mut build: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Self> {
        let mut least = Self { wait: Duration::MAX, client: Duration::MAX };
        for _ in 0..9 {
            let (start, before) = (Instant::now(), children()?);
            build()?;
            least.wait = least.wait.min(start.elapsed());
            least.client = least.client.min(children()?.saturating_sub(before));
        }
        Ok(least)
    }
}

/// Returns the processor time of programs that ended: the client's.
fn children() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
    let ticks: u64 =
        fields.split_whitespace().skip(13).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}
