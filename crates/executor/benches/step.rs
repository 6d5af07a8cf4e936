//! What a step that does nothing costs, against the least it could cost on this machine, now.
//!
//! `cargo bench -p executor --features testing`, as root, with a static busybox.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use executor::{
    ContainerId, Executor, ExecutorConfig, Floor, LinuxExecutor, Network, ProcessIo, ProcessSpec,
};
use mount::{HostPath, Mount, MountSource, OverlayUpper, Syncing};

const ROUNDS: usize = 200;
const WARM_UP: usize = 20;

fn main() -> anyhow::Result<()> {
    executor::run_if_helper();
    let directory = tempfile::tempdir()?;
    let host = |name: &str| HostPath::new(directory.path().join(name));
    make_image(directory.path())?;
    let (upper, work) = (host("upper")?, host("work")?);
    let upper = OverlayUpper { upper, work, syncing: Syncing::Owner };
    for network in [Network::Host, Network::None] {
        let (lower, place) = (host("image")?, host("place")?);
        let floor = Floor { lower: lower.clone(), upper: upper.clone(), place, network };
        let mut bare = Vec::new();
        let mut ours = Vec::new();
        // Alternating, so that what else the machine does falls on both.
        for _ in 0..4 {
            for _ in 0..ROUNDS / 4 + WARM_UP {
                bare.push(floor.run("/bin/true")?);
            }
            let source =
                MountSource::Overlay { lower: vec![lower.clone()], upper: Some(upper.clone()) };
            let root = Mount { source, readonly: false };
            ours.extend(steps(host("state")?, &root, network, ROUNDS / 4 + WARM_UP)?);
        }
        report(network, &mut bare, &mut ours);
    }
    Ok(())
}

fn make_image(directory: &Path) -> anyhow::Result<()> {
    for name in ["image/bin", "image/etc", "upper", "work", "place"] {
        fs::create_dir_all(directory.join(name))?;
    }
    for name in ["proc", "sys", "dev", "etc"] {
        fs::create_dir_all(directory.join("image").join(name))?;
    }
    for name in ["passwd", "group", "hosts", "resolv.conf"] {
        fs::write(directory.join("image/etc").join(name), "")?;
    }
    fs::copy("/bin/busybox", directory.join("image/bin/busybox"))?;
    std::os::unix::fs::symlink("busybox", directory.join("image/bin/true"))?;
    Ok(())
}

/// Runs steps one after the other, in a runtime of their own that is gone afterwards.
fn steps(
    state: HostPath,
    root: &Mount,
    network: Network,
    count: usize,
) -> anyhow::Result<Vec<Duration>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let all = runtime.block_on(async {
        let executor = LinuxExecutor::open(ExecutorConfig::new(state)).await?;
        let mut all = Vec::new();
        for _ in 0..count {
            let id = ContainerId::new("bench")?;
            let mut spec = ProcessSpec::new(id, root.clone(), vec!["/bin/true".to_owned()]);
            spec.network = network;
            let start = Instant::now();
            let running = executor.start(spec, ProcessIo::null()).await?;
            let status = running.wait().await?;
            all.push(start.elapsed());
            anyhow::ensure!(status.success(), "{status}");
        }
        Ok(all)
    })?;
    drop(runtime);
    Ok(all)
}

fn report(network: Network, bare: &mut [Duration], ours: &mut [Duration]) {
    bare.sort();
    ours.sort();
    let at = |times: &[Duration], percent: usize| times[times.len() * percent / 100];
    for percent in [50, 90] {
        let (bare, ours) = (at(bare, percent), at(ours, percent));
        println!(
            "network {network:?}, {percent} %: floor {bare:?}, step {ours:?}, ratio {:.2}",
            ours.as_secs_f64() / bare.as_secs_f64()
        );
    }
}
