//! The daemon itself: how soon it answers, what it holds when it does nothing, how large it is.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use integration::{Daemon, Launch, Settings, Wire};
use proto::control::ListWorkersRequest;

use crate::graph::runtime;
use crate::report::{Report, median};

pub(crate) fn run(report: &Report) -> anyhow::Result<()> {
    let settings = Settings::read()?;
    let mut starts = Vec::new();
    let mut daemon = Daemon::start(&settings, Launch::default())?;
    for _ in 0..10 {
        daemon.stop()?;
        fs::remove_dir_all(daemon.root())?;
        fs::create_dir(daemon.root())?;
        starts.push(up(&mut daemon)?);
    }
    let limit = Duration::from_millis(50);
    report.within("start to first answer, empty root", median(starts), limit);
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.id()?))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    report.bytes("resident memory, idle", resident.context("no VmRSS")? * 1024, 20_000_000);
    let size = fs::metadata(settings.built("larderd")?)?.len();
    report.bytes("the program's size", size, 30_000_000);
    Ok(())
}

/// Starts a daemon, and returns how long it took until it answered.
pub(crate) fn up(daemon: &mut Daemon) -> anyhow::Result<Duration> {
    let runtime = runtime()?;
    let start = Instant::now();
    daemon.up()?;
    runtime.block_on(async {
        let wire = Wire::connect(&daemon.address()).await?;
        wire.control().list_workers(ListWorkersRequest::default()).await?;
        anyhow::Ok(())
    })?;
    Ok(start.elapsed())
}
