//! A large graph of small file operations: built, built again, shown, pruned.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use integration::{Backend, Graph, Launch, Settings, Wire};
use proto::control::{CacheOptions, DiskUsageRequest, PruneRequest, SolveRequest};
use proto::pb;

use crate::report::Report;

const STAGES: usize = 40;
const FILES: usize = 50;

pub(crate) fn run(report: &Report) -> anyhow::Result<()> {
    let settings = Settings::read()?;
    let mut backend = Backend::start(&settings, Launch::default())?;
    let mut graph = Graph::default();
    // Forty independent chains, which is what several stages look like, and one tree of all.
    let ends: Vec<String> = (0..STAGES).map(|stage| chain(&mut graph, stage)).collect();
    let inputs = (0..STAGES as i64).map(|input| pb::MergeInput { input }).collect();
    let merge = pb::op::Op::Merge(pb::MergeOp { inputs });
    let merged = graph.add(merge, &ends.iter().map(String::as_str).collect::<Vec<_>>());
    let definition = graph.finish(&merged);
    let seconds = Duration::from_secs_f64;
    let took = solve(&backend, definition.clone())?;
    report.within("2,000 file operations", took, seconds(2.0));
    let took = solve(&backend, definition)?;
    report.within("2,000 file operations again", took, seconds(0.3));
    restart(report, &mut backend)?;
    let runtime = runtime()?;
    let wire = runtime.block_on(Wire::connect(&backend.address()))?;
    let start = Instant::now();
    let usage = runtime.block_on(wire.control().disk_usage(DiskUsageRequest::default()))?;
    let records = usage.into_inner().record.len();
    report.within(&format!("`du` of {records} records"), start.elapsed(), seconds(0.2));
    let start = Instant::now();
    runtime.block_on(async {
        let all = PruneRequest { all: true, ..PruneRequest::default() };
        let mut pruned = wire.control().prune(all).await?;
        while pruned.get_mut().message().await?.is_some() {}
        anyhow::Ok(())
    })?;
    report.within(&format!("`prune` of {records} records"), start.elapsed(), seconds(0.2));
    Ok(())
}

/// Adds one file after the other, and returns the last one.
fn chain(graph: &mut Graph, stage: usize) -> String {
    let first = graph.file(None, &format!("/{stage}-0"), b"x");
    (1..FILES).fold(first, |last, file| graph.file(Some(&last), &format!("/{stage}-{file}"), b"x"))
}

fn restart(report: &Report, backend: &mut Backend) -> anyhow::Result<()> {
    let Backend::Larder(daemon) = backend else { return Ok(()) };
    daemon.stop()?;
    let took = crate::life::up(daemon)?;
    report.within("start to first answer, 2,000 records", took, Duration::from_millis(50));
    Ok(())
}

/// Builds a definition, and returns how long that took.
pub(crate) fn solve(backend: &Backend, definition: pb::Definition) -> anyhow::Result<Duration> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let wire = Wire::connect(&backend.address()).await?;
        let start = Instant::now();
        let build = SolveRequest {
            r#ref: format!("bench-{}", now()),
            definition: Some(definition),
            cache: Some(CacheOptions::default()),
            internal: true,
            ..SolveRequest::default()
        };
        wire.control().solve(build).await?;
        Ok(start.elapsed())
    })
}

/// Returns a number that no earlier build had.
fn now() -> u128 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map(|now| now.as_nanos()).unwrap_or_default()
}

pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Returns the processor time that a process has used.
pub(crate) fn cpu(process: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields = stat.rsplit_once(')').context("no name")?.1;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    let ticks = ticks(11).context("no user time")? + ticks(12).context("no system time")?;
    // The unit of these fields is a hundredth of a second wherever Linux runs today.
    Ok(Duration::from_millis(ticks * 10))
}
