//! What the owner of the volumes can see and do, and what happens to what is not right on disk.

use std::fs;
use std::time::{Duration, SystemTime};

use volumes::{
    Form, Merge, Notice, Origin, Outcome, PolicyPatch, PolicyRule, PruneRequest, Quota, Sharing,
    Space, Unobserved, VolumeError, VolumeManager, VolumeRecord, VolumeSettings, prune_candidates,
};

use crate::world::{self, Told, World, key, label, mounted, name, request, view};

#[tokio::test]
async fn a_record_tells_all_there_is_to_know() {
    let world = World::new().await;
    world.fill("v", &[("a", "1")]).await;
    let lease = world.take("v", Sharing::ReadOnly).await;
    let record = world.record("v").await;
    assert_eq!((record.key, &record.name), (key("v"), &name("v")));
    assert_eq!((record.form, record.head, record.uses), (Form::Versioned, 1, 1));
    assert!(record.last_used.unwrap() >= record.created);
    assert_eq!(record.leases[0].sharing, Sharing::ReadOnly);
    assert_eq!(record.leases[0].holder.as_ref().unwrap().label, label());
    lease.finish(Outcome::Succeeded).await.unwrap();
    let fork = world.take("v", Sharing::Private).await;
    mounted(&fork.mount(0).unwrap()).write("b", "");
    fork.finish(Outcome::Succeeded).await.unwrap();
    let record = world.record("v").await;
    assert_eq!((record.head, record.uses, record.in_use()), (2, 3, false));
    let [first, second] = &record.versions[..] else { panic!("{record:?}") };
    assert_eq!(
        (first.origin, second.origin, second.parent),
        (Origin::Created, Origin::Published, Some(1))
    );
    assert_eq!(second.by, Some(label()));
    // A layer above the first version, or a snapshot of it.
    let depth = world.manager.path(key("v")).await.unwrap().head.len();
    assert_eq!((second.depth, first.depth), (depth, 1));
    assert_eq!(world.manager.space().await.unwrap(), record.space);
    let unknown = world.manager.inspect(key("w")).await.unwrap_err();
    assert!(matches!(&unknown, VolumeError::Unknown(id) if *id == key("w").to_string()));
}

#[tokio::test]
async fn a_reset_empties_the_volume_under_nobody_and_is_not_undone_by_those_before() {
    let world = World::new().await;
    for in_place in [true, false] {
        let id = format!("v-{in_place}");
        world.fill(&id, &[("old", "")]).await;
        if !in_place {
            world.take(&id, Sharing::ReadOnly).await.finish(Outcome::Succeeded).await.unwrap();
        }
        let user = world.take(&id, Sharing::Locked).await;
        let tree = mounted(&user.mount(0).unwrap());
        world.manager.reset(key(&id), label()).await.unwrap();
        assert_eq!(tree.names(), ["old"]);
        tree.write("late", "");
        drop(tree);
        user.finish(Outcome::Succeeded).await.unwrap();
        assert!(world.head(&id).await.is_empty(), "in place: {in_place}");
        world.fill(&id, &[("new", "")]).await;
        assert_eq!(world.head(&id).await, ["new"]);
    }
}

#[tokio::test]
async fn nobody_joins_a_tree_from_before_a_reset() {
    let world = World::new().await;
    for in_place in [true, false] {
        let id = format!("v-{in_place}");
        world.fill(&id, &[("old", "")]).await;
        if !in_place {
            world.take(&id, Sharing::ReadOnly).await.finish(Outcome::Succeeded).await.unwrap();
        }
        let before = world.take(&id, Sharing::Shared).await;
        world.manager.reset(key(&id), label()).await.unwrap();
        let after = world.take(&id, Sharing::Shared).await;
        let together = world.take(&id, Sharing::Shared).await;
        assert!(mounted(&after.mount(0).unwrap()).names().is_empty());
        mounted(&after.mount(0).unwrap()).write("new", "");
        assert_eq!(mounted(&together.mount(0).unwrap()).names(), ["new"]);
        for lease in [after, together, before] {
            lease.finish(Outcome::Succeeded).await.unwrap();
        }
        assert_eq!(world.head(&id).await, ["new"]);
    }
}

#[tokio::test]
async fn a_rollback_brings_an_earlier_version_back() {
    let world = World::new().await;
    world.fill("v", &[("a", "1")]).await;
    world.take("v", Sharing::ReadOnly).await.finish(Outcome::Succeeded).await.unwrap();
    world.fill("v", &[("b", "1")]).await;
    let late = world.take("v", Sharing::Private).await;
    mounted(&late.mount(0).unwrap()).write("late", "");
    world.manager.rollback(key("v"), 1, label()).await.unwrap();
    late.finish(Outcome::Succeeded).await.unwrap();
    assert_eq!(world.head("v").await, ["a"]);
    assert_eq!(world.record("v").await.versions.last().unwrap().origin, Origin::RolledBack);
    let error = world.manager.rollback(key("v"), 77, label()).await.unwrap_err();
    assert!(error.to_string().contains("no version 77; it has 1, 2, 3"), "{error}");
}

#[tokio::test]
async fn a_forked_volume_goes_its_own_way() {
    let world = World::new().await;
    world.fill("v", &[("a", "1")]).await;
    let writer = world.take("v", Sharing::Locked).await;
    let refused = world.manager.fork(key("v"), name("w"), label()).await.unwrap_err();
    assert!(matches!(refused, VolumeError::InUse { .. }));
    writer.finish(Outcome::Succeeded).await.unwrap();
    let fork = world.manager.fork(key("v"), name("w"), label()).await.unwrap();
    assert_eq!(fork, key("w"));
    world.fill("w", &[("a", "2"), ("b", "2")]).await;
    world.fill("v", &[("c", "1")]).await;
    assert_eq!(
        (world.head("v").await, world.head("w").await),
        (vec!["a".to_owned(), "c".to_owned()], vec!["a".to_owned(), "b".to_owned()],)
    );
    let head = |id: &str| world.manager.path(key(id));
    assert_eq!(mounted(&view(head("v").await.unwrap().head)).read("a").as_deref(), Some("1"));
    let exists = world.manager.fork(key("v"), name("w"), label()).await.unwrap_err();
    assert!(matches!(exists, VolumeError::Exists(_)));
}

#[tokio::test]
async fn a_quota_keeps_a_layer_from_being_published_and_the_user_is_told() {
    let quota = Quota { bytes: Some(200_000), inodes: None };
    let rule = PolicyRule {
        namespace: None,
        pattern: "small-*".to_owned(),
        policy: PolicyPatch { quota: Some(quota), ..Default::default() },
    };
    let world = World::with(VolumeSettings { rules: vec![rule], ..Default::default() }).await;
    for (id, published) in [("small-v", false), ("large-v", true)] {
        world.take(id, Sharing::ReadOnly).await.finish(Outcome::Succeeded).await.unwrap();
        let fork = world.take(id, Sharing::Private).await;
        mounted(&fork.mount(0).unwrap()).write("big", &"x".repeat(300_000));
        let told = fork.conclude(Outcome::Succeeded).await.unwrap();
        assert_eq!(!world.head(id).await.is_empty(), published, "{id}");
        match &told[..] {
            [] => assert!(published),
            [Notice::OverQuota { volume, space, quota: limit }] => {
                assert_eq!((volume, *limit, published), (&name(id), quota, false));
                assert!((300_000..400_000).contains(&space.bytes), "{space:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_others_are_writing_does_not_take_a_fork_over_the_quota() {
    let quota = Some(Quota { bytes: Some(200_000), inodes: None });
    let defaults = PolicyPatch { quota, ..Default::default() };
    let world = World::with(VolumeSettings { defaults, ..Default::default() }).await;
    world.take("v", Sharing::ReadOnly).await.finish(Outcome::Succeeded).await.unwrap();
    let big = world.take("v", Sharing::Private).await;
    mounted(&big.mount(0).unwrap()).write("big", &"x".repeat(300_000));
    let small = world.take("v", Sharing::Private).await;
    mounted(&small.mount(0).unwrap()).write("small", "x");
    assert_eq!(small.conclude(Outcome::Succeeded).await.unwrap(), []);
    assert_eq!(world.head("v").await, ["small"]);
    assert!(matches!(
        big.conclude(Outcome::Succeeded).await.unwrap()[..],
        [Notice::OverQuota { .. }]
    ));
    assert_eq!(world.head("v").await, ["small"]);
}

#[tokio::test]
async fn a_user_whose_writes_are_dropped_for_others_is_told() {
    let defaults = PolicyPatch { merge: Some(Merge::FirstWriter), ..Default::default() };
    let world = World::with(VolumeSettings { defaults, ..Default::default() }).await;
    world.fill("v", &[]).await;
    let [first, second] =
        [world.take("v", Sharing::Private).await, world.take("v", Sharing::Private).await];
    mounted(&first.mount(0).unwrap()).write("first", "");
    mounted(&second.mount(0).unwrap()).write("second", "");
    assert_eq!(first.conclude(Outcome::Succeeded).await.unwrap(), []);
    let told = second.conclude(Outcome::Succeeded).await.unwrap();
    assert_eq!(told, [Notice::Overtaken { volume: name("v") }]);
    let late = world.take("v", Sharing::Private).await;
    mounted(&late.mount(0).unwrap()).write("late", "");
    world.manager.reset(key("v"), label()).await.unwrap();
    let told = late.conclude(Outcome::Succeeded).await.unwrap();
    assert_eq!(told, [Notice::CutOff { volume: name("v") }]);
}

#[tokio::test]
async fn the_user_of_a_step_that_fails_on_a_full_disk_is_told_so() {
    for sharing in [Sharing::Shared, Sharing::Private] {
        let world = World::on_memory(4 << 20).await;
        let lease = world.take("v", sharing).await;
        let tree = mounted(&lease.mount(0).unwrap());
        let full = fs::write(tree.path.join("big"), vec![1; 8 << 20]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        drop(tree);
        match lease.conclude(Outcome::Failed).await {
            Ok(told) => assert!(matches!(told[..], [Notice::DiskFull { .. }]), "{told:?}"),
            // There was no room even for what was written to be published.
            Err(error) => {
                assert_eq!(sharing, Sharing::Private, "{error}");
                let reason = std::error::Error::source(&error).unwrap().to_string();
                assert!(reason.contains("No space left"), "{error}: {reason}");
            }
        }
    }
    let world = World::on_memory(4 << 20).await;
    let fine = world.take("v", Sharing::Shared).await;
    assert_eq!(fine.conclude(Outcome::Failed).await.unwrap(), [], "it failed for another reason");
}

#[tokio::test]
async fn decisions_about_a_volume_outlive_the_process() {
    let world = World::new().await;
    world.fill("v", &[("a", "1")]).await;
    let patch = PolicyPatch { merge: Some(Merge::Union), ..Default::default() };
    world.manager.set_policy(key("v"), patch).await.unwrap();
    world.manager.pin(key("v"), true).await.unwrap();
    let other = world::open(world.root.path().into(), VolumeSettings::default()).await;
    let policy = other.inspect(key("v")).await.unwrap().policy;
    assert_eq!((policy.merge, policy.pinned), (Merge::Union, true));
    let all = PruneRequest { all: true, ..Default::default() };
    assert!(other.prune(all, |_| true).await.unwrap().is_empty());
    other.pin(key("v"), false).await.unwrap();
    assert_eq!(other.prune(all, |_| true).await.unwrap()[0].key, key("v"));
    assert!(other.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_others_did_is_seen_by_one_who_remembers_how_it_was() {
    let world = World::new().await;
    world.fill("v", &[("a", "1")]).await;
    let layers = world.manager.path(key("v")).await.unwrap().layers;
    let state = layers.as_path().with_file_name("state.json");
    // What changed just now is read each time; what did so long ago is remembered.
    let is_recent = || {
        let changed = state.metadata().unwrap().modified().unwrap();
        changed.elapsed().is_ok_and(|age| age < Duration::from_millis(100))
    };
    while is_recent() {
        world.fill("v", &[]).await;
    }
    let other = world::open(world.root.path().into(), VolumeSettings::default()).await;
    let held = other.acquire(world.request("v", Sharing::Locked), &Unobserved).await.unwrap();
    let told = Told::default();
    let waiting = world.spawn_take("v", Sharing::Locked, &told);
    assert_eq!(told.waiting().await.holders.len(), 1);
    mounted(&held.mount(0).unwrap()).write("b", "1");
    held.finish(Outcome::Succeeded).await.unwrap();
    waiting.await.unwrap().unwrap().finish(Outcome::Succeeded).await.unwrap();
    other.reset(key("v"), label()).await.unwrap();
    let fresh = world.take("v", Sharing::Locked).await;
    assert_eq!(mounted(&fresh.mount(0).unwrap()).names(), [""; 0]);
    fresh.finish(Outcome::Succeeded).await.unwrap();
    other.remove(key("v")).await.unwrap();
    world.fill("v", &[("c", "1")]).await;
    assert_eq!(world.head("v").await, ["c"]);
}

/// Records like a real one, used so many seconds ago and of such sizes.
async fn records(of: &[(u64, u64)]) -> (Vec<VolumeRecord>, SystemTime) {
    let world = World::new().await;
    world.fill("v", &[]).await;
    let (record, now) = (world.record("v").await, SystemTime::now());
    let make = |(index, (ago, bytes)): (usize, &(u64, u64))| VolumeRecord {
        key: key(&index.to_string()),
        last_used: Some(now - Duration::from_secs(*ago)),
        space: Space { bytes: *bytes, inodes: 1 },
        ..record.clone()
    };
    (of.iter().enumerate().map(make).collect(), now)
}

#[tokio::test]
async fn the_least_recently_used_go_first_and_only_as_many_as_must() {
    let (mut records, now) = records(&[(10, 100), (30, 100), (20, 100), (40, 100)]).await;
    let keys: Vec<_> = records.iter().map(|record| record.key).collect();
    let keep = |bytes| PruneRequest {
        keep: Some(Space { bytes, inodes: u64::MAX }),
        ..Default::default()
    };
    assert_eq!(prune_candidates(&records, &keep(400), now), []);
    assert_eq!(prune_candidates(&records, &keep(250), now), [keys[3], keys[1]]);
    let recent = PruneRequest { unused_for: Duration::from_secs(25), ..keep(0) };
    assert_eq!(prune_candidates(&records, &recent, now), [keys[3], keys[1]]);
    // Pinned, in use, below the floor: stay. Expired, above the quota: go, asked for or not.
    records[3].policy.pinned = true;
    records[1].policy.floor = 100;
    assert_eq!(prune_candidates(&records, &keep(0), now), [keys[2], keys[0]]);
    records[0].policy.quota.bytes = Some(99);
    records[2].policy.expiry = Some(Duration::from_secs(20));
    assert_eq!(prune_candidates(&records, &PruneRequest::default(), now), [keys[2], keys[0]]);
    assert_eq!(prune_candidates(&records, &keep(400), now), [keys[2], keys[0]]);
}

#[tokio::test]
async fn room_is_made_before_a_lease_or_the_lease_is_refused() {
    let world = World::new().await;
    world.fill("old", &[("a", "1")]).await;
    let free = world.manager.free().await.unwrap();
    assert!(free.bytes > 0 && free.inodes > 0);
    let reserve = Space { bytes: u64::MAX, inodes: 0 };
    let settings = VolumeSettings { reserve, ..Default::default() };
    let manager = world::open(world.root.path().into(), settings).await;
    let error = manager.acquire(request("v", Sharing::Shared), &Unobserved).await.unwrap_err();
    assert!(matches!(error, VolumeError::NoSpace { .. }), "{error}");
    assert!(manager.list().await.unwrap().is_empty(), "what nobody used was given up for it");
}

/// Keeps a file on the volumes' disk as long as nobody needs the space.
#[derive(Debug)]
struct Hoard(std::path::PathBuf);

impl volumes::Neighbour for Hoard {
    fn give_way(&self, bytes: u64) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        assert_eq!(bytes, 3 << 20);
        Box::pin(async { fs::remove_file(&self.0).unwrap() })
    }
}

#[tokio::test]
async fn others_give_way_before_a_volume_does() {
    let world = World::on_memory(4 << 20).await;
    world.fill("old", &[("a", "1")]).await;
    let hoard = world.root.path().join("hoard");
    fs::write(&hoard, vec![1; 2 << 20]).unwrap();
    let reserve = Space { bytes: 3 << 20, inodes: 0 };
    let settings = VolumeSettings { reserve, ..Default::default() };
    let manager = world::open(world.root.path().into(), settings).await;
    assert!(manager.ask_first(std::sync::Arc::new(Hoard(hoard))));
    let lease = manager.acquire(request("v", Sharing::Shared), &Unobserved).await.unwrap();
    lease.finish(Outcome::Succeeded).await.unwrap();
    assert_eq!(manager.list().await.unwrap().len(), 2, "there was room without it");
}

#[tokio::test]
async fn what_a_step_asks_for_is_the_last_to_give_way_for_it() {
    let world = World::on_memory(8 << 20).await;
    let large = "x".repeat(2 << 20);
    for id in ["wanted", "other"] {
        world.fill(id, &[("a", &large)]).await;
    }
    let reserve = Space { bytes: 5 << 20, inodes: 0 };
    let settings = VolumeSettings { reserve, ..Default::default() };
    let manager = world::open(world.root.path().into(), settings).await;
    let lease = manager.acquire(request("wanted", Sharing::Shared), &Unobserved).await.unwrap();
    assert_eq!(mounted(&lease.mount(0).unwrap()).names(), ["a"]);
    lease.finish(Outcome::Succeeded).await.unwrap();
    let left = manager.list().await.unwrap();
    assert_eq!(left.iter().map(|volume| volume.key).collect::<Vec<_>>(), [key("wanted")]);
}

#[tokio::test]
async fn what_is_wrong_on_disk_is_named_and_left_as_it_is() {
    let world = World::new().await;
    world.fill("v", &[("a", "1")]).await;
    let directory = world.manager.path(key("v")).await.unwrap().directory;
    let state = directory.join("state.json");
    let good = fs::read_to_string(state.as_path()).unwrap();
    let newer = {
        let body = good.lines().next().unwrap().replace("\"format\":1", "\"format\":9");
        let sum = digests::Digest::of(&body);
        format!("{body}\n{sum}\n")
    };
    for (text, expected) in [
        (good.replace("\"head\":1", "\"head\":7"), "is damaged: its digest"),
        (String::new(), "is damaged"),
        ("garbage\n".to_owned(), "is damaged"),
        (newer, "has format 9"),
    ] {
        fs::write(state.as_path(), &text).unwrap();
        let error =
            world.manager.acquire(request("v", Sharing::Shared), &Unobserved).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.to_string().contains("state.json"), "{error}");
        world.manager.sweep().await.unwrap();
        assert_eq!(fs::read_to_string(state.as_path()).unwrap(), text);
    }
    fs::remove_file(state.as_path()).unwrap();
    let error =
        world.manager.acquire(request("v", Sharing::Shared), &Unobserved).await.unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
    // Put right by hand it is all there again.
    fs::write(state.as_path(), &good).unwrap();
    assert_eq!(world.head("v").await, ["a"]);

    // Things that are not ours are left alone.
    for stranger in ["turns/notes.txt", "layers/lost+found", "README"] {
        fs::write(directory.join(stranger).as_path(), "").unwrap();
    }
    world.fill("v", &[("b", "1")]).await;
    world.manager.sweep().await.unwrap();
    assert!(directory.join("turns/notes.txt").as_path().exists());
    assert!(directory.join("layers/lost+found").as_path().exists());
}

#[tokio::test]
async fn a_file_in_the_place_of_a_directory_and_a_newer_root_are_named() {
    let world = World::new().await;
    let place = world.root.path().join("v1/volumes").join(key("v").to_string());
    fs::write(&place, "").unwrap();
    let error =
        world.manager.acquire(request("v", Sharing::Shared), &Unobserved).await.unwrap_err();
    assert!(error.to_string().contains("a file where a directory should be"), "{error}");
    assert!(error.to_string().contains(&key("v").to_string()), "{error}");

    let open = async |root: &std::path::Path| {
        let root = mount::HostPath::new(root).unwrap();
        VolumeManager::open(root, VolumeSettings::default()).await.unwrap_err()
    };
    let error = open(&place).await;
    assert!(error.to_string().contains("a file where a directory should be"), "{error}");
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("v2")).unwrap();
    assert!(matches!(open(root.path()).await, VolumeError::Newer { found: 2, known: 1, .. }));
    fs::remove_dir(root.path().join("v2")).unwrap();
    fs::write(root.path().join("v1"), "").unwrap();
    assert!(matches!(open(root.path()).await, VolumeError::Damaged { .. }));
}

#[tokio::test]
async fn a_head_that_is_never_left_alone_is_made_flat_before_it_is_too_deep() {
    let defaults = PolicyPatch { versions: Some(1), ..Default::default() };
    let settings = VolumeSettings { defaults, depth: 2, most_depth: 5, ..Default::default() };
    let world = World::with(settings).await;
    world.fill("v", &[("a", "1")]).await;
    let mut readers = Vec::new();
    for round in 0..12 {
        readers.push(world.take("v", Sharing::ReadOnly).await);
        world.fill("v", &[(&format!("n{round:02}"), "")]).await;
        assert!(world.manager.path(key("v")).await.unwrap().head.len() <= 5);
    }
    assert_eq!(world.head("v").await.len(), 13);
    for (round, reader) in readers.into_iter().enumerate() {
        assert_eq!(mounted(&reader.mount(0).unwrap()).names().len(), 1 + round);
        reader.finish(Outcome::Succeeded).await.unwrap();
    }
    world.manager.sweep().await.unwrap();
    assert!(world.layers("v").await <= 2);
}
