//! Several processes with one root: two daemons, or a daemon and the command line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Child;

use volumes::{Outcome, Sharing, Unobserved, VolumeError, VolumeSettings};

use crate::world::{self, Told, World, key, mounted, request};

/// Another process that holds a volume until it is told how to end.
struct Second {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Second {
    /// Starts a process that asks for the volume `v`; does not wait until it has it.
    fn start(root: &Path, sharing: Sharing) -> Self {
        let test = "processes::second_process_with_a_lease";
        let mut child = world::second(test, root, &sharing.to_string());
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Starts a process that has the volume `v`, and has written a file named after its sharing.
    fn holding(root: &Path, sharing: Sharing) -> Self {
        let mut second = Self::start(root, sharing);
        second.expect("held");
        second
    }

    fn expect(&mut self, word: &str) {
        let mut line = String::new();
        while self.lines.read_line(&mut line).unwrap() > 0 {
            if line.trim_end().ends_with(word) {
                return;
            }
            line.clear();
        }
        panic!("the second process ended without saying `{word}`");
    }

    fn finish(mut self) {
        self.child.stdin.take().unwrap().write_all(b"finish\n").unwrap();
        assert!(self.child.wait().unwrap().success());
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn sharing(text: &str) -> Sharing {
    let all = [Sharing::Shared, Sharing::Locked, Sharing::Private, Sharing::ReadOnly];
    all.into_iter().find(|sharing| sharing.to_string() == text).unwrap()
}

#[tokio::test]
#[ignore = "started by the other tests, as their second process"]
async fn second_process_with_a_lease() {
    struct Aloud;
    impl volumes::WaitObserver for Aloud {
        fn waiting(&self, _: &volumes::Waiting) {
            println!("\nwaiting");
        }
        fn acquired(&self, _: &volumes::VolumeName, _: std::time::Duration) {}
    }
    let Some((root, errand)) = world::errand() else { return };
    let manager = world::open(root, VolumeSettings::default()).await;
    let lease = manager.acquire(request("v", sharing(&errand)), &Aloud).await.unwrap();
    let mount = lease.mount(0).unwrap();
    if !mount.readonly {
        mounted(&mount).write(&errand, "");
    }
    println!("\nheld");
    let end = tasks::blocking("stdin", || {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    assert_eq!(end.await.unwrap().unwrap(), "finish\n");
    lease.finish(Outcome::Succeeded).await.unwrap();
}

#[tokio::test]
async fn a_lock_held_by_another_process_is_waited_for_by_name() {
    for ending in [Second::finish, Second::kill] {
        let world = World::new().await;
        let second = Second::holding(world.root.path(), Sharing::Locked);
        let pid = second.child.id();
        let told = Told::default();
        let waiting = world.spawn_take("v", Sharing::Locked, &told);
        let waited = told.waiting().await;
        assert_eq!(waited.holders[0].pid, pid);
        assert_eq!(world.record("v").await.leases.len(), 1);
        ending(second);
        let lease = waiting.await.unwrap().unwrap();
        assert_eq!(mounted(&lease.mount(0).unwrap()).names(), ["locked"], "written in place");
    }
}

#[tokio::test]
async fn what_was_used_last_here_does_not_hide_who_uses_it_now() {
    for theirs in [Sharing::Locked, Sharing::Shared] {
        let world = World::new().await;
        world.fill("v", &[("base", "")]).await;
        let second = Second::holding(world.root.path(), theirs);
        let pid = second.child.id();
        let told = Told::default();
        let mut waiting = world.spawn_take("v", Sharing::Locked, &told);
        tokio::select! {
            waited = told.waiting() => assert_eq!(waited.holders[0].pid, pid, "{theirs}"),
            _ = &mut waiting => panic!("did not wait for {theirs}"),
        }
        second.finish();
        waiting.await.unwrap().unwrap().finish(Outcome::Succeeded).await.unwrap();
    }
}

#[tokio::test]
async fn the_queue_is_one_queue_for_all_processes() {
    let world = World::new().await;
    let holder = world.take("v", Sharing::Locked).await;
    let mut second = Second::start(world.root.path(), Sharing::Locked);
    second.expect("waiting");
    let told = Told::default();
    let third = world.spawn_take("v", Sharing::Locked, &told);
    assert_eq!(told.waiting().await.ahead, 1);
    holder.finish(Outcome::Succeeded).await.unwrap();
    second.expect("held");
    let pid = second.child.id();
    while told.waiting().await.holders.first().is_none_or(|holder| holder.pid != pid) {}
    second.finish();
    third.await.unwrap().unwrap().finish(Outcome::Succeeded).await.unwrap();
}

#[tokio::test]
async fn a_waiter_that_dies_is_not_waited_for() {
    let world = World::new().await;
    let holder = world.take("v", Sharing::Locked).await;
    let mut second = Second::start(world.root.path(), Sharing::Locked);
    second.expect("waiting");
    let told = Told::default();
    let third = world.spawn_take("v", Sharing::Locked, &told);
    assert_eq!(told.waiting().await.ahead, 1);
    second.kill();
    assert_eq!(told.waiting().await.ahead, 0);
    holder.finish(Outcome::Succeeded).await.unwrap();
    third.await.unwrap().unwrap().finish(Outcome::Succeeded).await.unwrap();
}

#[tokio::test]
async fn what_a_killed_process_wrote_is_thrown_away_or_kept_as_documented() {
    for (sharing, kept) in [
        (Sharing::Private, false),
        (Sharing::Locked, false),
        (Sharing::Shared, true),
        (Sharing::ReadOnly, false),
    ] {
        let world = World::new().await;
        world.fill("v", &[("base", "")]).await;
        world.take("v", Sharing::ReadOnly).await.finish(Outcome::Succeeded).await.unwrap();
        Second::holding(world.root.path(), sharing).kill();
        world.manager.sweep().await.unwrap();
        let mut expected = vec!["base".to_owned()];
        expected.extend(kept.then(|| sharing.to_string()));
        assert_eq!(world.head("v").await, expected, "{sharing}");
        assert_eq!(world.layers("v").await, expected.len(), "{sharing}: no layer is left over");
        assert!(!world.record("v").await.in_use());
    }
}

#[tokio::test]
async fn one_process_does_not_sweep_or_remove_what_another_uses() {
    let world = World::new().await;
    world.fill("v", &[("base", "")]).await;
    world.take("v", Sharing::ReadOnly).await.finish(Outcome::Succeeded).await.unwrap();
    let second = Second::holding(world.root.path(), Sharing::Private);
    world.manager.sweep().await.unwrap();
    let refused = world.manager.remove(key("v")).await.unwrap_err();
    assert!(matches!(refused, VolumeError::InUse { .. }));
    assert!(refused.to_string().contains(&second.child.id().to_string()), "{refused}");
    let request = volumes::PruneRequest { all: true, ..Default::default() };
    assert!(world.manager.prune(request, |_| true).await.unwrap().is_empty());
    second.finish();
    assert_eq!(world.head("v").await, ["base", "private"]);
    world.manager.remove(key("v")).await.unwrap();
    assert!(world.manager.list().await.unwrap().is_empty());
}

#[tokio::test]
#[ignore = "started by the test below, as its second process"]
async fn second_process_that_counts() {
    let Some((root, rounds)) = world::errand() else { return };
    let manager = world::open(root, VolumeSettings::default()).await;
    for _ in 0..rounds.parse().unwrap() {
        let lease = manager.acquire(request("v", Sharing::Locked), &Unobserved).await.unwrap();
        let tree = mounted(&lease.mount(0).unwrap());
        let count: u64 = tree.read("count").map_or(0, |text| text.parse().unwrap());
        tree.write("count", &(count + 1).to_string());
        drop(tree);
        lease.finish(Outcome::Succeeded).await.unwrap();
    }
}

#[tokio::test]
async fn locked_is_exclusive_among_many_processes() {
    for versioned in [false, true] {
        let world = World::new().await;
        if versioned {
            world.take("v", Sharing::ReadOnly).await.finish(Outcome::Succeeded).await.unwrap();
        }
        let test = "processes::second_process_that_counts";
        let processes: Vec<_> =
            (0..4).map(|_| world::second(test, world.root.path(), "15")).collect();
        for mut process in processes {
            assert!(process.wait().unwrap().success());
        }
        let lease = world.take("v", Sharing::ReadOnly).await;
        assert_eq!(mounted(&lease.mount(0).unwrap()).read("count").as_deref(), Some("60"));
    }
}
