//! What steps see of volumes: each way of sharing, alone and in company.

use crate::world::{Told, World, mounted};
use volumes::{Merge, Outcome, PolicyPatch, RootAttributes, Salvage, Sharing, VolumeSettings};

#[tokio::test]
async fn an_uncontended_shared_or_locked_volume_is_a_plain_directory_written_in_place() {
    let world = World::new().await;
    for sharing in [Sharing::Shared, Sharing::Locked] {
        let name = format!("{sharing}");
        let lease = world.take(&name, sharing).await;
        let mount = lease.mount(0).unwrap();
        assert!(matches!(mount.source, mount::MountSource::Bind(_)) && !mount.readonly);
        let tree = mounted(&mount);
        tree.write("a", "1");
        lease.finish(Outcome::Succeeded).await.unwrap();
        let again = world.take(&name, sharing).await;
        assert_eq!(again.mount(0).unwrap(), mount);
        assert_eq!(mounted(&again.mount(0).unwrap()).read("a").as_deref(), Some("1"));
        again.finish(Outcome::Succeeded).await.unwrap();
        assert_eq!(world.record(&name).await.form, volumes::Form::Plain);
    }
}

#[tokio::test]
async fn concurrent_shared_holders_see_one_live_tree() {
    let world = World::new().await;
    for versioned in [false, true] {
        if versioned {
            world.take("v", Sharing::ReadOnly).await.finish(Outcome::Succeeded).await.unwrap();
        }
        let one = world.take("v", Sharing::Shared).await;
        let two = world.take("v", Sharing::Shared).await;
        mounted(&one.mount(0).unwrap()).write("seen", "by both");
        assert_eq!(mounted(&two.mount(0).unwrap()).read("seen").as_deref(), Some("by both"));
        one.finish(Outcome::Succeeded).await.unwrap();
        mounted(&two.mount(0).unwrap()).write("late", "1");
        two.finish(Outcome::Succeeded).await.unwrap();
        assert_eq!(world.head("v").await, ["late", "seen"]);
        assert_eq!(world.record("v").await.form == volumes::Form::Versioned, versioned);
    }
}

#[tokio::test]
async fn a_locked_volume_goes_to_one_at_a_time_in_the_order_of_coming() {
    let world = World::new().await;
    let first = world.take("v", Sharing::Locked).await;
    let mut queue = Vec::new();
    for place in 0..3 {
        let told = Told::default();
        let waiting = world.spawn_take("v", Sharing::Locked, &told);
        let waited = told.waiting().await;
        assert_eq!(waited.ahead, place);
        assert_eq!(waited.holders.len(), 1);
        assert_eq!(waited.holders[0].label.step, "RUN make");
        assert_eq!(waited.holders[0].pid, std::process::id());
        queue.push((waiting, told));
    }
    let mut holder = first;
    for (waiting, told) in queue {
        assert!(!told.is_acquired());
        holder.finish(Outcome::Succeeded).await.unwrap();
        holder = waiting.await.unwrap().unwrap();
        assert!(told.is_acquired());
    }
    holder.finish(Outcome::Succeeded).await.unwrap();
}

#[tokio::test]
async fn shared_waits_for_locked_and_locked_for_shared() {
    let world = World::new().await;
    for (first, second) in [(Sharing::Locked, Sharing::Shared), (Sharing::Shared, Sharing::Locked)]
    {
        let holder = world.take("v", first).await;
        let told = Told::default();
        let waiting = world.spawn_take("v", second, &told);
        assert_eq!(told.waiting().await.holders.len(), 1);
        holder.finish(Outcome::Succeeded).await.unwrap();
        waiting.await.unwrap().unwrap().finish(Outcome::Succeeded).await.unwrap();
    }
}

#[tokio::test]
async fn a_cancelled_waiter_leaves_the_queue_at_once() {
    let world = World::new().await;
    let holder = world.take("v", Sharing::Locked).await;
    let told = Told::default();
    let gone = world.spawn_take("v", Sharing::Locked, &told);
    told.waiting().await;
    let next = Told::default();
    let waiting = world.spawn_take("v", Sharing::Locked, &next);
    assert_eq!(next.waiting().await.ahead, 1);
    drop(gone);
    assert_eq!(next.waiting().await.ahead, 0);
    assert_eq!(world.record("v").await.waiting.len(), 1);
    holder.finish(Outcome::Succeeded).await.unwrap();
    waiting.await.unwrap().unwrap().finish(Outcome::Succeeded).await.unwrap();
}

#[tokio::test]
async fn private_forks_start_warm_while_others_hold_and_do_not_see_each_other() {
    let world = World::new().await;
    world.fill("v", &[("warm", "yes")]).await;
    let mut forks = Vec::new();
    for number in 0..16 {
        let fork = world.take("v", Sharing::Private).await;
        let tree = mounted(&fork.mount(0).unwrap());
        assert_eq!(tree.names(), ["warm"]);
        tree.write(&format!("own-{number}"), "x");
        forks.push(fork);
    }
    for fork in forks {
        fork.finish(Outcome::Succeeded).await.unwrap();
    }
    assert_eq!(world.head("v").await, ["own-15", "warm"], "the last writer's whole tree");
    let layers = world.layers("v").await;
    assert!(layers <= 1 + 3, "one for each version that is kept, and what they stand on: {layers}");
}

#[tokio::test]
async fn a_reader_sees_the_head_and_never_an_unpublished_write() {
    let world = World::new().await;
    world.fill("v", &[("a", "old")]).await;
    let reader = world.take("v", Sharing::ReadOnly).await;
    let writer = world.take("v", Sharing::Locked).await;
    mounted(&writer.mount(0).unwrap()).write("a", "new");
    for mount in [&reader, &world.take("v", Sharing::ReadOnly).await].map(|l| l.mount(0).unwrap()) {
        assert!(mount.readonly);
        assert_eq!(mounted(&mount).read("a").as_deref(), Some("old"));
    }
    writer.finish(Outcome::Succeeded).await.unwrap();
    assert_eq!(mounted(&reader.mount(0).unwrap()).read("a").as_deref(), Some("old"));
    let late = world.take("v", Sharing::ReadOnly).await;
    assert_eq!(mounted(&late.mount(0).unwrap()).read("a").as_deref(), Some("new"));
}

#[tokio::test]
async fn the_first_fork_of_a_volume_written_in_place_waits_that_once() {
    let world = World::new().await;
    let writer = world.take("v", Sharing::Shared).await;
    mounted(&writer.mount(0).unwrap()).write("a", "1");
    let told = Told::default();
    let fork = world.spawn_take("v", Sharing::Private, &told);
    told.waiting().await;
    writer.finish(Outcome::Succeeded).await.unwrap();
    let fork = fork.await.unwrap().unwrap();
    assert_eq!(mounted(&fork.mount(0).unwrap()).names(), ["a"]);
    // From now on nobody waits: the writer has a layer of its own.
    let writer = world.take("v", Sharing::Locked).await;
    let second = world.take("v", Sharing::Private).await;
    assert_eq!(mounted(&second.mount(0).unwrap()).names(), ["a"]);
    drop((writer, fork, second));
}

#[tokio::test]
async fn a_failed_step_is_kept_and_a_killed_fork_thrown_away_by_default() {
    let world = World::new().await;
    world.fill("v", &[("base", "")]).await;
    for (outcome, kept) in [(Outcome::Failed, true), (Outcome::Killed, false)] {
        let fork = world.take("v", Sharing::Private).await;
        mounted(&fork.mount(0).unwrap()).write(&format!("{outcome:?}"), "");
        fork.finish(outcome).await.unwrap();
        assert_eq!(world.head("v").await.contains(&format!("{outcome:?}")), kept);
    }
}

#[tokio::test]
async fn under_discard_no_way_of_failing_leaves_a_trace() {
    let defaults = PolicyPatch { on_failure: Some(Salvage::Discard), ..Default::default() };
    let world = World::with(VolumeSettings { defaults, ..Default::default() }).await;
    world.fill("v", &[("good", "")]).await;
    for sharing in [Sharing::Shared, Sharing::Locked, Sharing::Private] {
        for outcome in [Outcome::Failed, Outcome::Killed] {
            let lease = world.take("v", sharing).await;
            let tree = mounted(&lease.mount(0).unwrap());
            tree.write("poison", "");
            tree.remove("good");
            lease.finish(outcome).await.unwrap();
            assert_eq!(world.head("v").await, ["good"], "{sharing} {outcome:?}");
        }
    }
    // One bad member spoils a group, whoever leaves last.
    let (bad, good) =
        (world.take("v", Sharing::Shared).await, world.take("v", Sharing::Shared).await);
    mounted(&bad.mount(0).unwrap()).write("poison", "");
    bad.finish(Outcome::Failed).await.unwrap();
    good.finish(Outcome::Succeeded).await.unwrap();
    assert_eq!(world.head("v").await, ["good"]);
}

#[tokio::test]
async fn a_step_without_cache_starts_empty_and_its_tree_becomes_the_head() {
    let world = World::new().await;
    for sharing in [Sharing::Shared, Sharing::Locked, Sharing::Private] {
        let id = format!("v-{sharing}");
        world.fill(&id, &[("old", "")]).await;
        let fresh = world.take_with(&id, sharing, |mount| mount.fresh = true).await;
        let tree = mounted(&fresh.mount(0).unwrap());
        assert!(tree.names().is_empty(), "{sharing}");
        tree.write("new", "");
        assert_eq!(world.head(&id).await, ["old"], "nothing is emptied under anyone");
        fresh.finish(Outcome::Succeeded).await.unwrap();
        assert_eq!(world.head(&id).await, ["new"], "{sharing}");
    }
}

#[tokio::test]
async fn the_policy_can_keep_caches_without_cache() {
    let defaults = PolicyPatch { no_cache: Some(volumes::NoCache::Keep), ..Default::default() };
    let world = World::with(VolumeSettings { defaults, ..Default::default() }).await;
    world.fill("v", &[("old", "")]).await;
    let lease = world.take_with("v", Sharing::Private, |mount| mount.fresh = true).await;
    assert_eq!(mounted(&lease.mount(0).unwrap()).names(), ["old"]);
}

#[tokio::test]
async fn the_merge_policy_decides_when_the_head_has_moved() {
    for (merge, expected) in [
        (Merge::LastWriter, vec!["base=0", "both=two", "two="]),
        (Merge::FirstWriter, vec!["base=0", "both=one", "one="]),
        (Merge::Union, vec!["base=0", "both=one", "one=", "two="]),
    ] {
        let defaults = PolicyPatch { merge: Some(merge), ..Default::default() };
        let world = World::with(VolumeSettings { defaults, ..Default::default() }).await;
        world.fill("v", &[("base", "0"), ("both", "0")]).await;
        let one = world.take("v", Sharing::Private).await;
        let two = world.take("v", Sharing::Private).await;
        for (lease, name) in [(&one, "one"), (&two, "two")] {
            let tree = mounted(&lease.mount(0).unwrap());
            tree.write(name, "");
            tree.write("both", name);
        }
        one.finish(Outcome::Succeeded).await.unwrap();
        two.finish(Outcome::Succeeded).await.unwrap();
        let head = world.take("v", Sharing::ReadOnly).await;
        assert_eq!(mounted(&head.mount(0).unwrap()).listing(), expected, "{merge:?}");
    }
}

#[tokio::test]
async fn owner_and_mode_are_applied_to_a_warm_volume_and_kept_for_each_asking() {
    let world = World::new().await;
    let asking = RootAttributes { uid: Some(1000), gid: None, mode: Some(0o700) };
    for versioned in [false, true] {
        let id = format!("v-{versioned}");
        world.fill(&id, &[("warm", "")]).await;
        if versioned {
            world.take(&id, Sharing::ReadOnly).await.finish(Outcome::Succeeded).await.unwrap();
        }
        let lease = world.take_with(&id, Sharing::Locked, |mount| mount.root = asking).await;
        let tree = mounted(&lease.mount(0).unwrap());
        assert_eq!((tree.root(), tree.names()), ((1000, 0, 0o700), vec!["warm".to_owned()]));
        lease.finish(Outcome::Succeeded).await.unwrap();

        let plain = world.take(&id, Sharing::Locked).await;
        let tree = mounted(&plain.mount(0).unwrap());
        assert_eq!(tree.root(), (0, 0, 0o755));
        tree.set_root(0, 7, 0o1777);
        plain.finish(Outcome::Succeeded).await.unwrap();

        for (root, found) in
            [(asking, (1000, 0, 0o700)), (RootAttributes::default(), (0, 7, 0o1777))]
        {
            for sharing in [Sharing::Locked, Sharing::ReadOnly, Sharing::Private] {
                let lease = world.take_with(&id, sharing, |mount| mount.root = root).await;
                assert_eq!(mounted(&lease.mount(0).unwrap()).root(), found, "{sharing}");
                lease.finish(Outcome::Succeeded).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_variant_begins_with_its_seed_once() {
    let world = World::new().await;
    let seed = world.seed(&[("seeded", "1")]);
    let first =
        world.take_with("v", Sharing::Private, |mount| mount.variant = Some(seed.clone())).await;
    let tree = mounted(&first.mount(0).unwrap());
    assert_eq!(tree.listing(), ["seeded=1"]);
    tree.write("more", "");
    first.finish(Outcome::Succeeded).await.unwrap();
    let again =
        world.take_with("v", Sharing::Private, |mount| mount.variant = Some(seed.clone())).await;
    assert_eq!(mounted(&again.mount(0).unwrap()).names(), ["more", "seeded"]);
    let other = world.take("v", Sharing::Private).await;
    assert!(mounted(&other.mount(0).unwrap()).names().is_empty(), "another volume");
}

#[tokio::test]
async fn one_volume_at_two_places_of_a_step_is_one_tree() {
    let world = World::new().await;
    for sharing in [Sharing::Shared, Sharing::Locked, Sharing::Private] {
        let id = format!("v-{sharing}");
        world.fill(&id, &[("a", "")]).await;
        world.take(&id, Sharing::ReadOnly).await.finish(Outcome::Succeeded).await.unwrap();
        let mut request = world.request(&id, sharing);
        request.mounts.push(volumes::MountRequest { readonly: true, ..request.mounts[0].clone() });
        let lease = world.manager.acquire(request, &volumes::Unobserved).await.unwrap();
        let (writer, reader) = (lease.mount(0).unwrap(), lease.mount(1).unwrap());
        assert!(!writer.readonly && reader.readonly);
        mounted(&writer).write("b", "");
        assert_eq!(mounted(&reader).names(), ["a", "b"], "{sharing}");
        lease.finish(Outcome::Succeeded).await.unwrap();
        assert_eq!(world.head(&id).await, ["a", "b"]);
    }
}

#[tokio::test]
async fn steps_that_want_the_same_volumes_in_any_order_never_wait_for_each_other() {
    let world = World::new().await;
    let mut steps = Vec::new();
    for number in 0..24 {
        let mut request = world.request("a", Sharing::Locked);
        for id in ["b", "c"] {
            request.mounts.extend(world.request(id, Sharing::Locked).mounts);
        }
        request.mounts.rotate_left(number % 3);
        let manager = world.manager.clone();
        steps.push(tasks::spawn("step", async move {
            let lease = manager.acquire(request, &volumes::Unobserved).await.unwrap();
            lease.finish(Outcome::Succeeded).await.unwrap();
        }));
    }
    for step in steps {
        step.await.unwrap();
    }
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_an_error_that_names_the_holder() {
    let defaults =
        PolicyPatch { wait_limit: Some(std::time::Duration::ZERO), ..Default::default() };
    let world = World::with(VolumeSettings { defaults, ..Default::default() }).await;
    let _holder = world.take("v", Sharing::Locked).await;
    let request = world.request("v", Sharing::Locked);
    let error = world.manager.acquire(request, &volumes::Unobserved).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("`default/v`") && text.contains("step `RUN make` of build `b1`"),
        "{text}"
    );
    assert!(world.record("v").await.waiting.is_empty());
}

#[tokio::test]
async fn hostile_ids_are_just_names() {
    let world = World::new().await;
    let long = "x".repeat(4096);
    let ids = ["../x", "/", "..", "", "🦀", "a\nb", long.as_str()];
    for id in ids {
        world.fill(id, &[("mine", id)]).await;
    }
    for id in ids {
        let lease = world.take(id, Sharing::ReadOnly).await;
        assert_eq!(mounted(&lease.mount(0).unwrap()).read("mine").as_deref(), Some(id));
    }
    assert_eq!(world.manager.list().await.unwrap().len(), ids.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_concurrent_forks_leave_one_tree_and_what_is_new() {
    for (merge, own) in [(Merge::LastWriter, 1), (Merge::FirstWriter, 1), (Merge::Union, 16)] {
        let defaults = PolicyPatch { merge: Some(merge), versions: Some(1), ..Default::default() };
        let world = World::with(VolumeSettings { defaults, ..Default::default() }).await;
        let lease = world.take("v", Sharing::Locked).await;
        let tree = mounted(&lease.mount(0).unwrap());
        (0..500).for_each(|file| tree.write(&format!("warm-{file}"), &"x".repeat(10_000)));
        lease.finish(Outcome::Succeeded).await.unwrap();
        let before = world.record("v").await.space;

        let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(16));
        let steps: Vec<_> = (0..16)
            .map(|step| {
                let (manager, barrier) = (world.manager.clone(), barrier.clone());
                let request = world.request("v", Sharing::Private);
                tasks::spawn("step", async move {
                    let lease = manager.acquire(request, &volumes::Unobserved).await.unwrap();
                    let tree = mounted(&lease.mount(0).unwrap());
                    assert_eq!(tree.names().len(), 500, "warm, and nothing of the others");
                    tree.write(&format!("own-{step}"), "x");
                    drop(tree);
                    // All sixteen hold at once before the first one ends.
                    barrier.wait().await;
                    lease.finish(Outcome::Succeeded).await.unwrap();
                })
            })
            .collect();
        for step in steps {
            step.await.unwrap();
        }
        world.manager.sweep().await.unwrap();
        assert_eq!(world.head("v").await.len(), 500 + own, "{merge:?}");
        let after = world.record("v").await.space;
        let new = volumes::Space { bytes: 200_000, inodes: 60 };
        assert!(after.bytes <= before.bytes + new.bytes, "{merge:?}: {before:?} {after:?}");
        assert!(after.inodes <= before.inodes + new.inodes, "{merge:?}: {before:?} {after:?}");
    }
}
