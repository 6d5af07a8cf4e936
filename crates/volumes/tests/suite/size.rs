//! A volume of very many files through all that is done with volumes. How many is said by
//! `VOLUMES_FILES`; how long each deed took is printed (`--nocapture`) and judged by nobody.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use mount::HostPath;
use volumes::{Faults, Outcome, PolicyPatch, Sharing, Step, VolumeManager};

use crate::trees;
use crate::world::{self, World, key, label, mounted, name};

/// Enough for mistakes that grow with the number of files, and soon done.
const USUAL: usize = 20_000;
const PER_DIRECTORY: usize = 1000;

fn count() -> usize {
    #[expect(clippy::disallowed_methods, reason = "how the full count is asked for")]
    let said = std::env::var("VOLUMES_FILES");
    said.map_or(USUAL, |text| text.parse().expect("`VOLUMES_FILES` is a number"))
}

/// Says how long something took.
async fn timed<T>(what: &str, deed: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let done = deed.await;
    println!("{what}: {:?}", began.elapsed());
    done
}

/// Makes `files` empty files in directories called after `name`.
fn fill(root: &Path, name: &str, files: usize) {
    for number in 0..files {
        let directory = root.join(format!("{name}{}", number / PER_DIRECTORY));
        if number % PER_DIRECTORY == 0 {
            fs::create_dir(&directory).unwrap();
        }
        fs::File::create(directory.join(number.to_string())).unwrap();
    }
}

/// How many files are in the directories of a tree.
fn files(root: &Path) -> usize {
    let directories = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let inside = directories.filter(|path| path.is_dir());
    inside.map(|path| fs::read_dir(path).unwrap().count()).sum()
}

/// How many files are in the head.
async fn head(manager: &VolumeManager) -> usize {
    let head = manager.path(key("v")).await.unwrap().head;
    files(&mounted(&world::view(head)).path)
}

/// Ends the process at some durable step.
#[derive(Debug)]
struct KilledAt(AtomicUsize);

impl Faults for KilledAt {
    fn before(&self, step: Step, _: &Path) -> std::io::Result<()> {
        let link = step == Step::Link;
        if link && self.0.fetch_sub(1, Ordering::SeqCst) == 1 {
            std::process::abort();
        }
        Ok(())
    }
}

#[tokio::test]
#[ignore = "started by the test below, as its second process"]
async fn second_process_that_is_killed_while_it_settles() {
    let Some((root, links)) = world::errand() else { return };
    let faults = Arc::new(KilledAt(AtomicUsize::new(links.parse().unwrap())));
    let root = HostPath::new(root).unwrap();
    let settings = trees::shallow(PolicyPatch::default());
    let manager = VolumeManager::open_with_faults(root, settings, faults).await.unwrap();
    manager.sweep().await.unwrap();
}

#[tokio::test]
async fn a_volume_of_very_many_files_is_forked_published_settled_and_survives_a_crash() {
    let count = count();
    // A file system in memory has no numbers for very many files.
    let world = if count > USUAL { World::new().await } else { World::on_memory(256 << 20).await };
    let calm = world.manager.clone();
    let lease = world.take("v", Sharing::Locked).await;
    let tree = mounted(&lease.mount(0).unwrap());
    timed("files made", async { fill(&tree.path, "a", count) }).await;
    drop(tree);
    timed("in place, ended", lease.finish(Outcome::Succeeded)).await.unwrap();

    let fork = timed("fork", world.take("v", Sharing::Private)).await;
    let tree = mounted(&fork.mount(0).unwrap());
    assert_eq!(files(&tree.path), count, "warm");
    fs::remove_dir_all(tree.path.join("a0")).unwrap();
    fs::write(tree.path.join("new"), "").unwrap();
    drop(tree);
    timed("fork published", fork.finish(Outcome::Succeeded)).await.unwrap();
    let kept = count - PER_DIRECTORY;
    assert_eq!(head(&calm).await, kept);

    // A layer as large as what is below it, from a reader's point of view kept apart.
    let reader = world.take("v", Sharing::ReadOnly).await;
    let lease = world.take("v", Sharing::Locked).await;
    let tree = mounted(&lease.mount(0).unwrap());
    timed("as many files made above", async { fill(&tree.path, "b", count) }).await;
    drop(tree);
    timed("large layer published", lease.finish(Outcome::Succeeded)).await.unwrap();
    reader.finish(Outcome::Succeeded).await.unwrap();
    let both = kept + count;
    assert_eq!(head(&calm).await, both);

    let mut killed = world::second(
        "size::second_process_that_is_killed_while_it_settles",
        world.root.path(),
        &(count / 2).to_string(),
    );
    assert!(!killed.wait().unwrap().success(), "it was killed in the middle");
    assert_eq!(head(&calm).await, both, "half settled is the same tree");
    let settings = trees::shallow(PolicyPatch::default());
    let manager =
        timed("opened, swept and settled", world::open(world.root.path().into(), settings)).await;
    let location = manager.path(key("v")).await.unwrap();
    assert_eq!((location.head.len(), files(location.head[0].as_path())), (1, both), "settled");

    let record = timed("measured", world.manager.inspect(key("v"))).await.unwrap();
    let directories = count.div_ceil(PER_DIRECTORY) * 2 - 1;
    let beside = record.space.inodes - (both + directories) as u64;
    assert!((1..20).contains(&beside), "every file is counted once: {record:?}");

    let copy = timed("forked by its owner", manager.fork(key("v"), name("w"), label())).await;
    assert_eq!(files(manager.path(copy.unwrap()).await.unwrap().head[0].as_path()), both);
    timed("reset", manager.reset(key("v"), label())).await.unwrap();
    assert_eq!(head(&manager).await, 0);
    timed("removed", manager.remove(key("w"))).await.unwrap();
    timed("deleted", manager.sweep()).await.unwrap();
    let trash = fs::read_dir(world.root.path().join("v1/trash")).unwrap().count();
    assert_eq!(trash, 0);
}
