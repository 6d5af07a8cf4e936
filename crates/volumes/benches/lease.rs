//! What a lease costs, as ratios to floors measured in the same run: a bare bind mount, a bare
//! overlay mount. Needs root. Run with `cargo bench -p volumes`.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use mount::{HostPath, Mount, MountSource};
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use volumes::{
    Label, LeaseRequest, MountRequest, Outcome, Sharing, Unobserved, VolumeManager, VolumeName,
    VolumeSettings,
};

/// So many that most leases find the volume as it was a moment before, as in life.
const ROUNDS: usize = 4000;
const FILES: usize = 100_000;
const VOLUMES: usize = 10_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(run());
}

async fn run() {
    let root = tempfile::tempdir().expect("a directory");
    let target = root.path().join("target");
    fs::create_dir(&target).expect("a directory");
    let volumes = HostPath::new(root.path().join("volumes")).expect("an absolute path");
    let manager = VolumeManager::open(volumes, VolumeSettings::default()).await.expect("volumes");

    let lease = take(&manager, "big", Sharing::Locked).await;
    let mount = lease.mount(0).expect("a mount");
    let MountSource::Bind(tree) = mount.source.clone() else { panic!("written in place") };
    fill(tree.as_path());
    lease.finish(Outcome::Succeeded).await.expect("an end");

    let bind = median(ROUNDS, || perform(&mount, &target));
    let (lease, all) = lease_and_mount(&manager, "big", Sharing::Locked, &target).await;
    report("lease and release, 100,000 files in place", lease, "bind mount", bind, 2.0);
    report("  with its own mount and unmount", all, "bind mount", bind, 3.0);

    drop(take(&manager, "big", Sharing::ReadOnly).await);
    let fork = take(&manager, "big", Sharing::Private).await;
    let mount = fork.mount(0).expect("a mount");
    let overlay = median(ROUNDS, || perform(&mount, &target));
    fork.discard().await.expect("an end");
    let (fork, all) = lease_and_mount(&manager, "big", Sharing::Private, &target).await;
    report("fork and release, 100,000 files", fork, "overlay mount", overlay, 3.0);
    report("  with its own mount and unmount", all, "overlay mount", overlay, 4.0);

    println!("hand-over of a locked volume: {:?}", hand_over(&manager).await);

    let alone = lease_only(&manager, "lonely").await;
    for number in 0..VOLUMES {
        let lease = take(&manager, &format!("crowd-{number}"), Sharing::Shared).await;
        lease.finish(Outcome::Succeeded).await.expect("an end");
    }
    let crowded = lease_only(&manager, "lonely").await;
    report("lease among 10,000 volumes", crowded, "lease among 3", alone, 1.5);
}

fn fill(tree: &Path) {
    for directory in 0..FILES / 1000 {
        let directory = tree.join(directory.to_string());
        fs::create_dir(&directory).expect("a directory");
        for file in 0..1000 {
            fs::write(directory.join(file.to_string()), "").expect("a file");
        }
    }
}

async fn take(manager: &VolumeManager, id: &str, sharing: Sharing) -> volumes::Leases {
    let name = VolumeName::new("bench", id).expect("a name");
    let holder = Label { build: "bench".to_owned(), step: String::new() };
    let request = LeaseRequest { mounts: vec![MountRequest::new(name, sharing)], holder };
    manager.acquire(request, &Unobserved).await.expect("a lease")
}

/// Returns the time of the lease alone, and with the mount that a step makes of it.
async fn lease_and_mount(
    manager: &VolumeManager,
    id: &str,
    sharing: Sharing,
    target: &Path,
) -> (Duration, Duration) {
    let (mut leases, mut all) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let lease = take(manager, id, sharing).await;
        let taken = start.elapsed();
        perform(&lease.mount(0).expect("a mount"), target);
        let end = Instant::now();
        lease.finish(Outcome::Succeeded).await.expect("an end");
        leases.push(taken + end.elapsed());
        all.push(start.elapsed());
    }
    (middle(leases), middle(all))
}

async fn lease_only(manager: &VolumeManager, id: &str) -> Duration {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let lease = take(manager, id, Sharing::Shared).await;
        lease.finish(Outcome::Succeeded).await.expect("an end");
        times.push(start.elapsed());
    }
    middle(times)
}

/// The time from the end of one lease to the beginning of the next in the queue.
async fn hand_over(manager: &VolumeManager) -> Duration {
    struct Told(tokio::sync::Notify);
    impl volumes::WaitObserver for Told {
        fn waiting(&self, _: &volumes::Waiting) {
            self.0.notify_one();
        }
        fn acquired(&self, _: &VolumeName, _: Duration) {}
    }
    let mut times = Vec::new();
    for _ in 0..50 {
        let holder = take(manager, "handed", Sharing::Locked).await;
        let told = std::sync::Arc::new(Told(tokio::sync::Notify::new()));
        let waiting = tasks::spawn("waiter", {
            let (manager, told) = (manager.clone(), told.clone());
            async move {
                let name = VolumeName::new("bench", "handed").expect("a name");
                let holder = Label { build: "bench".to_owned(), step: String::new() };
                let mounts = vec![MountRequest::new(name, Sharing::Locked)];
                let request = LeaseRequest { mounts, holder };
                let lease = manager.acquire(request, &*told).await.expect("a lease");
                (lease, Instant::now())
            }
        });
        told.0.notified().await;
        let start = Instant::now();
        holder.finish(Outcome::Succeeded).await.expect("an end");
        let (lease, got) = waiting.await.expect("a waiter");
        times.push(got - start);
        lease.finish(Outcome::Succeeded).await.expect("an end");
    }
    middle(times)
}

/// Mounts and unmounts, as the floor does and as an executor would.
fn perform(mount: &Mount, target: &Path) {
    match &mount.source {
        MountSource::Bind(path) => mount_bind(path.as_path(), target).expect("a mount"),
        MountSource::Overlay { .. } => {
            let target = HostPath::new(target).expect("an absolute path");
            mount::detached::open(mount).expect("a mount").attach(&target).expect("a mount");
        }
        MountSource::Tmpfs { .. } => panic!("a volume is no tmpfs"),
    }
    unmount(target, UnmountFlags::empty()).expect("unmounted");
}

fn median(rounds: usize, mut work: impl FnMut()) -> Duration {
    let times = (0..rounds).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed()
    });
    middle(times.collect())
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn report(what: &str, time: Duration, floor_name: &str, floor: Duration, most: f64) {
    let ratio = time.as_secs_f64() / floor.as_secs_f64();
    let verdict = if ratio <= most { "ok" } else { "ABOVE" };
    println!(
        "{what}: {time:?} = {ratio:.2} x {floor_name} ({floor:?}), at most {most} x: {verdict}"
    );
}
