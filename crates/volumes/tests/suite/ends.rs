//! How leases end, and leases of one volume at several places of a step.

use volumes::{Leases, MountRequest, Outcome, Sharing, Unobserved};

use crate::world::{Told, World, mounted};

/// Makes a volume with versions, and one file in it.
async fn versioned(world: &World) {
    world.fill("v", &[("base", "")]).await;
    world.take("v", Sharing::ReadOnly).await.finish(Outcome::Succeeded).await.unwrap();
}

async fn write(world: &World, sharing: Sharing, file: &str) -> Leases {
    let lease = world.take("v", sharing).await;
    mounted(&lease.mount(0).unwrap()).write(file, "");
    lease
}

#[tokio::test]
async fn a_lease_that_is_dropped_ends_as_if_its_step_had_been_killed() {
    let world = World::new().await;
    versioned(&world).await;
    for (sharing, kept) in
        [(Sharing::Private, false), (Sharing::Locked, false), (Sharing::Shared, true)]
    {
        drop(write(&world, sharing, &sharing.to_string()).await);
        // It ends in the background; who has the volume alone comes after that.
        while world.record("v").await.in_use() {
            tokio::task::yield_now().await;
        }
        let names = world.head("v").await;
        assert_eq!(names.contains(&sharing.to_string()), kept, "{sharing}: {names:?}");
    }
}

#[tokio::test]
async fn what_is_published_or_discarded_by_word_is_so_whatever_the_policy() {
    let world = World::new().await;
    versioned(&world).await;
    for sharing in [Sharing::Private, Sharing::Locked, Sharing::Shared] {
        write(&world, sharing, "gone").await.discard().await.unwrap();
        assert_eq!(world.head("v").await, ["base"], "{sharing}");
    }
    write(&world, Sharing::Private, "kept").await.publish().await.unwrap();
    assert_eq!(world.head("v").await, ["base", "kept"]);
}

#[tokio::test]
async fn of_two_ways_of_sharing_one_volume_the_stricter_holds_for_the_step() {
    let world = World::new().await;
    versioned(&world).await;
    let take = async |ways: [Sharing; 2]| {
        let mut request = world.request("v", ways[0]);
        request.mounts.push(MountRequest { sharing: ways[1], ..request.mounts[0].clone() });
        world.manager.acquire(request, &Unobserved).await.unwrap()
    };
    for ways in [[Sharing::Shared, Sharing::Locked], [Sharing::Locked, Sharing::Private]] {
        let lease = take(ways).await;
        let told = Told::default();
        let waiting = world.spawn_take("v", Sharing::Shared, &told);
        assert_eq!(told.waiting().await.holders.len(), 1, "{ways:?}: it is locked");
        lease.finish(Outcome::Succeeded).await.unwrap();
        waiting.await.unwrap().unwrap().finish(Outcome::Succeeded).await.unwrap();
    }
    let lease = take([Sharing::ReadOnly, Sharing::Private]).await;
    let [reader, writer] = [lease.mount(0).unwrap(), lease.mount(1).unwrap()];
    assert!(reader.readonly && !writer.readonly);
    mounted(&writer).write("new", "");
    assert_eq!(mounted(&reader).names(), ["base", "new"], "one tree");
    let beside = world.take("v", Sharing::Locked).await;
    assert_eq!(mounted(&beside.mount(0).unwrap()).names(), ["base"], "a fork");
    beside.finish(Outcome::Succeeded).await.unwrap();
    lease.finish(Outcome::Succeeded).await.unwrap();
    assert_eq!(world.head("v").await, ["base", "new"]);
}
