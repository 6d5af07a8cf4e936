//! Every durable step of every operation fails, or is the last thing its process does: afterwards the
//! head is the old version or the new one, and nothing else is left.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mount::HostPath;
use volumes::{
    Driver, Faults, Merge, Outcome, PolicyPatch, Sharing, Step, Unobserved, VolumeManager,
    VolumeSettings,
};

use crate::world::{self, Mounted, World, key, label, mounted, request};

/// What happens at the step that is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    /// It fails as on a full disk; later ones do not.
    Full,
    /// It fails, and so do all later ones.
    Dead,
    /// The process ends, without any of its clean-up.
    Killed,
}

/// Lets a number of durable steps pass.
#[derive(Debug)]
struct After {
    left: AtomicUsize,
    fate: Fate,
}

impl Faults for After {
    fn before(&self, _: Step, _: &Path) -> std::io::Result<()> {
        let full = || Err(rustix::io::Errno::NOSPC.into());
        match self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
        {
            Ok(1) if self.fate == Fate::Killed => std::process::abort(),
            Ok(1) => full(),
            Ok(_) => Ok(()),
            Err(_) if self.fate == Fate::Dead => full(),
            Err(_) => Ok(()),
        }
    }
}

/// What is done while steps fail.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Deed {
    Create,
    Publish,
    /// As `Publish`, by a step that shares the volume: what it wrote outlives it.
    Group,
    Merge,
    Fresh,
    Reset,
    Rollback,
    Settle,
    Fork,
    /// A fork of a tree while somebody writes it in place: where that needs no wait.
    Beside,
}

const DEEDS: [Deed; 9] = [
    Deed::Create,
    Deed::Publish,
    Deed::Group,
    Deed::Merge,
    Deed::Fresh,
    Deed::Reset,
    Deed::Rollback,
    Deed::Settle,
    Deed::Fork,
];

/// Snapshots are for roots on btrfs, and shared blocks for those on xfs.
fn settings(deed: Deed, root: &Path) -> VolumeSettings {
    let snapshots = world::is_on_btrfs(root).then_some(Driver::Subvolume);
    let driver = snapshots.or(world::is_on_xfs(root).then_some(Driver::Reflink));
    let versions = if deed == Deed::Settle { 1 } else { 3 };
    let merge = if deed == Deed::Beside { Merge::LastWriter } else { Merge::Union };
    let (merge, versions) = (Some(merge), Some(versions));
    let defaults = PolicyPatch { merge, versions, driver, ..Default::default() };
    let depth = if deed == Deed::Settle { 1 } else { 8 };
    VolumeSettings { defaults, depth, ..Default::default() }
}

/// The heads that may be found after `deed`, done or not.
fn outcomes(deed: Deed) -> [Vec<&'static str>; 2] {
    let old = vec!["a=1", "b=1"];
    match deed {
        Deed::Create => [vec![], vec!["n=1"]],
        Deed::Publish | Deed::Group => [old, vec!["a=2", "n=1"]],
        Deed::Merge => [vec!["a=0", "b=1"], vec!["a=0", "n=1"]],
        Deed::Fresh => [old, vec!["n=1"]],
        Deed::Reset => [old, vec![]],
        Deed::Rollback => [vec!["a=2", "b=1"], old],
        Deed::Settle => [vec!["a=9", "d1=1", "d2=1", "d3=1"], vec!["a=9", "d1=1", "d2=1", "d3=1"]],
        Deed::Fork => [old.clone(), old],
        Deed::Beside => [old, vec!["a=1", "b=1", "n=1"]],
    }
}

/// Does `deed` on the volume `v`, as far as it gets.
async fn perform(manager: &VolumeManager, deed: Deed) -> Result<(), volumes::VolumeError> {
    let write = |lease: &volumes::Leases| {
        let tree = mounted(&lease.mount(0).unwrap());
        tree.write("n", "1");
        if matches!(deed, Deed::Publish | Deed::Group | Deed::Merge) {
            tree.write("a", "2");
            tree.remove("b");
        }
    };
    let mut wanted = request("v", Sharing::Private);
    match deed {
        Deed::Create | Deed::Publish | Deed::Group => {
            if deed == Deed::Group {
                wanted.mounts[0].sharing = Sharing::Shared;
            }
            let lease = manager.acquire(wanted, &Unobserved).await?;
            write(&lease);
            lease.finish(Outcome::Succeeded).await
        }
        Deed::Merge => {
            let lease = manager.acquire(wanted.clone(), &Unobserved).await?;
            write(&lease);
            let other = async {
                let other = manager.acquire(wanted, &Unobserved).await?;
                mounted(&other.mount(0).unwrap()).write("a", "0");
                other.finish(Outcome::Succeeded).await
            };
            let other = other.await;
            let merged = lease.finish(Outcome::Succeeded).await;
            other.and(merged)
        }
        Deed::Fresh => {
            wanted.mounts[0].fresh = true;
            let lease = manager.acquire(wanted, &Unobserved).await?;
            write(&lease);
            lease.finish(Outcome::Succeeded).await
        }
        Deed::Beside => {
            let shared = manager.acquire(request("v", Sharing::Shared), &Unobserved).await?;
            let lease = manager.acquire(wanted, &Unobserved).await;
            lease.iter().for_each(write);
            let shared = shared.finish(Outcome::Succeeded).await;
            // Ended, not dropped: that would go on in the background.
            shared.and(lease?.finish(Outcome::Succeeded).await)
        }
        Deed::Reset => manager.reset(key("v"), label()).await,
        Deed::Rollback => {
            let version = manager.inspect(key("v")).await?.versions[0].number;
            manager.rollback(key("v"), version, label()).await
        }
        Deed::Settle => manager.sweep().await,
        Deed::Fork => manager.fork(key("v"), world::name("w"), label()).await.map(|_| ()),
    }
}

/// Makes the volume that `deed` is done on.
async fn prepare(root: &Path, deed: Deed) {
    let calm = VolumeSettings { depth: 64, ..settings(deed, root) };
    let manager = world::open(root.into(), calm).await;
    let fill = async |files: &[(&str, &str)], gone: &[&str]| {
        let lease = manager.acquire(request("v", Sharing::Locked), &Unobserved).await.unwrap();
        let tree = mounted(&lease.mount(0).unwrap());
        files.iter().for_each(|(name, content)| tree.write(name, content));
        gone.iter().for_each(|name| tree.remove(name));
        drop(tree);
        lease.finish(Outcome::Succeeded).await.unwrap();
    };
    if deed == Deed::Create {
        return;
    }
    fill(&[("a", "1"), ("b", "1")], &[]).await;
    if deed == Deed::Beside {
        return;
    }
    // Ended, not dropped: that would go on in the background.
    let reader = manager.acquire(request("v", Sharing::ReadOnly), &Unobserved).await.unwrap();
    reader.finish(Outcome::Succeeded).await.unwrap();
    match deed {
        Deed::Rollback => fill(&[("a", "2")], &[]).await,
        Deed::Settle => {
            fill(&[("d1", "1")], &["b"]).await;
            fill(&[("d2", "1"), ("a", "8")], &[]).await;
            fill(&[("d3", "1"), ("a", "9")], &[]).await;
        }
        _ => {}
    }
}

/// Checks what a new process finds.
async fn check(root: &Path, deed: Deed, done: bool, what: &str) {
    let manager = world::open(root.into(), settings(deed, root)).await;
    let records = manager.list().await.unwrap();
    let [old, new] = outcomes(deed);
    // Of a merge, the other publish may be the one that is missing.
    let more = [vec!["a=1", "b=1"], vec!["a=2", "n=1"]];
    if let Some(record) = records.iter().find(|record| record.key == key("v")) {
        let lease = manager.acquire(request("v", Sharing::ReadOnly), &Unobserved).await.unwrap();
        let found = mounted(&lease.mount(0).unwrap()).listing();
        let allowed = if done { found == new } else { found == old || found == new };
        let merging = deed == Deed::Merge && !done && more.iter().any(|other| found == *other);
        assert!(allowed || merging, "{what}: {found:?}");
        lease.finish(Outcome::Succeeded).await.unwrap();
        assert!(record.versions.len() <= 3, "{what}: published more than once");
        assert!(record.leases.is_empty() && record.waiting.is_empty(), "{what}: {record:?}");
    } else {
        assert!(deed == Deed::Create && !done, "{what}: the volume is lost");
    }
    if let Some(fork) = records.iter().find(|record| record.key == key("w")) {
        let head = manager.path(fork.key).await.unwrap().head;
        assert_eq!(mounted(&world::view(head)).listing(), new, "{what}");
    }
    manager.sweep().await.unwrap();
    no_orphans(root, &manager, what).await;
}

/// Everything on disk is part of a volume.
async fn no_orphans(root: &Path, manager: &VolumeManager, what: &str) {
    for place in ["limbo", "trash"] {
        let left = std::fs::read_dir(root.join("v1").join(place)).unwrap().count();
        assert_eq!(left, 0, "{what}: {place}");
    }
    for record in manager.list().await.unwrap() {
        let location = manager.path(record.key).await.unwrap();
        let on_disk = std::fs::read_dir(location.layers.as_path()).unwrap().count();
        assert!(on_disk <= record.versions.len() + location.head.len(), "{what}: {on_disk} layers");
        let beside = location.directory.join("state.new");
        assert!(!beside.as_path().exists() || what.contains("Killed"), "{what}");
    }
}

async fn try_all(fate: Fate, place: &Path, deeds: &[Deed]) {
    for deed in deeds.iter().copied() {
        for step in 1.. {
            let root = tempfile::tempdir_in(place).unwrap();
            prepare(root.path(), deed).await;
            let what = format!("{deed:?} {fate:?} at step {step}");
            let done = {
                let faults = Arc::new(After { left: AtomicUsize::new(usize::MAX), fate });
                let path = HostPath::new(root.path()).unwrap();
                let settings = settings(deed, root.path());
                let opened = VolumeManager::open_with_faults(path, settings, faults.clone()).await;
                let manager = opened.unwrap();
                // The sweep of the opening is over before the faults begin.
                if deed != Deed::Settle {
                    manager.sweep().await.unwrap();
                }
                faults.left.store(step, Ordering::SeqCst);
                let done = perform(&manager, deed).await.is_ok();
                let unreached = faults.left.swap(usize::MAX, Ordering::SeqCst) > 0;
                if unreached {
                    assert!(done, "{what}: failed by itself");
                    assert!(step > 3, "{what}: the deed has lost its durable steps");
                }
                (done, unreached)
            };
            let (done, unreached) = done;
            check(root.path(), deed, unreached && done, &what).await;
            if unreached {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_full_disk_at_any_step_leaves_the_old_version_or_the_new() {
    try_all(Fate::Full, &std::env::temp_dir(), &DEEDS).await;
}

#[tokio::test]
async fn a_disk_that_dies_at_any_step_leaves_the_old_version_or_the_new() {
    try_all(Fate::Dead, &std::env::temp_dir(), &DEEDS).await;
}

/// The second process of the test below: does a deed and is killed in the middle.
#[tokio::test]
#[ignore = "started by another test, as its second process"]
async fn second_process_that_is_killed() {
    let Some((root, step)) = world::errand() else { return };
    let (deed, step) = step.split_once(' ').unwrap();
    let mut deeds = DEEDS.into_iter().chain([Deed::Beside]);
    let deed = deeds.find(|other| format!("{other:?}") == deed).unwrap();
    let faults = Arc::new(After { left: AtomicUsize::new(usize::MAX), fate: Fate::Killed });
    let path = HostPath::new(&root).unwrap();
    let settings = settings(deed, &root);
    let opened = VolumeManager::open_with_faults(path, settings, faults.clone()).await;
    let manager = opened.unwrap();
    if deed != Deed::Settle {
        manager.sweep().await.unwrap();
    }
    faults.left.store(step.parse().unwrap(), Ordering::SeqCst);
    perform(&manager, deed).await.unwrap();
}

#[tokio::test]
async fn a_process_killed_at_any_step_leaves_the_old_version_or_the_new() {
    kill_at_any_step(&std::env::temp_dir(), &DEEDS).await;
}

#[tokio::test]
async fn a_full_or_dying_disk_leaves_the_old_snapshot_or_the_new() {
    let Some(btrfs) = Mounted::new("btrfs") else { return };
    // Snapshots stand on nothing, so there is nothing to be settled.
    let mut deeds = [&DEEDS[..], &[Deed::Beside]].concat();
    deeds.retain(|deed| *deed != Deed::Settle);
    try_all(Fate::Full, &btrfs.path, &deeds).await;
    try_all(Fate::Dead, &btrfs.path, &deeds).await;
}

#[tokio::test]
async fn a_process_killed_at_any_step_leaves_the_old_snapshot_or_the_new() {
    let Some(btrfs) = Mounted::new("btrfs") else { return };
    kill_at_any_step(&btrfs.path, &[&DEEDS[..], &[Deed::Beside]].concat()).await;
}

#[tokio::test]
async fn a_full_or_dying_disk_leaves_the_old_version_or_the_new_where_blocks_are_shared() {
    let Some(xfs) = Mounted::new("xfs") else { return };
    let deeds = [&DEEDS[..], &[Deed::Beside]].concat();
    try_all(Fate::Full, &xfs.path, &deeds).await;
    try_all(Fate::Dead, &xfs.path, &deeds).await;
}

#[tokio::test]
async fn a_process_killed_at_any_step_leaves_the_old_version_or_the_new_where_blocks_are_shared() {
    let Some(xfs) = Mounted::new("xfs") else { return };
    kill_at_any_step(&xfs.path, &[&DEEDS[..], &[Deed::Beside]].concat()).await;
}

async fn kill_at_any_step(place: &Path, deeds: &[Deed]) {
    for deed in deeds.iter().copied() {
        for step in 1.. {
            let root = tempfile::tempdir_in(place).unwrap();
            prepare(root.path(), deed).await;
            let errand = format!("{deed:?} {step}");
            let ended = world::second("crash::second_process_that_is_killed", root.path(), &errand)
                .wait()
                .unwrap();
            let what = format!("{deed:?} Killed at step {step}");
            check(root.path(), deed, ended.success(), &what).await;
            if ended.success() {
                break;
            }
        }
    }
}

#[tokio::test]
async fn what_a_crash_left_is_swept_without_touching_what_is_used() {
    let world = World::new().await;
    world.fill("v", &[("a", "1")]).await;
    world.take("v", Sharing::ReadOnly).await.finish(Outcome::Succeeded).await.unwrap();
    let used = world.take("v", Sharing::Private).await;
    let layers = world.manager.path(key("v")).await.unwrap().layers;
    let orphan = layers.join("0123456789abcdef0123456789abcdef");
    std::fs::create_dir_all(orphan.join("fs").as_path()).unwrap();
    let other = world::open(world.root.path().into(), VolumeSettings::default()).await;
    assert!(!orphan.as_path().exists());
    mounted(&used.mount(0).unwrap()).write("b", "1");
    used.finish(Outcome::Succeeded).await.unwrap();
    let head = other.path(key("v")).await.unwrap().head;
    assert_eq!(mounted(&world::view(head)).listing(), ["a=1", "b=1"]);
}
