//! Machines that are not like the one this was written on: control groups of version 2 alone, file systems that
//! overlays do not work on, a daemon that may do one thing at a time.

use integration::{Graph, Image, Launch, Wire, World};
use prost::Message as _;
use proto::control::{CacheOptions, SolveRequest};
use proto::pb;

/// Shows the program that follows nothing but version 2, where machines have it.
const VERSION_TWO: [&str; 7] = [
    "unshare",
    "--mount",
    "--propagation=private",
    "sh",
    "-c",
    "umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec \"$@\"",
    "sh",
];

#[test]
fn control_groups_of_version_two_are_enough() -> anyhow::Result<()> {
    let under = VERSION_TWO.map(str::to_owned).to_vec();
    let mut world = World::launch(Launch { under, ..Launch::default() })?;
    let project = world.project(
        "FROM {busybox}\nRUN grep ^0: /proc/self/cgroup && grep -q . /sys/fs/cgroup/cgroup.procs && \
         mount | grep -c ' on /sys/fs/cgroup' && ! mkdir /sys/fs/cgroup/own 2>/dev/null\n",
    )?;
    let build = world.build(&project).succeed()?;
    // A step sees its own group as the root, its own processes in it, and cannot change it.
    assert_eq!(build.step("RUN grep")?.lines, ["0::/", "1"]);

    // A step whose client goes ends with all its processes, and its group too.
    let project = world.project(
        "FROM {busybox}\nRUN (setsid tail -f /dev/null &); echo now running; tail -f /dev/null\n",
    )?;
    let build = world.build(&project).spawn()?;
    build.wait_for(" now running")?;
    build.signal(rustix::process::Signal::INT)?;
    build.wait()?;
    let daemon = world.daemon()?;
    daemon.stop()?;
    assert!(daemon.leftovers().is_empty(), "{:?}", daemon.leftovers());
    Ok(())
}

#[test]
fn layers_that_are_kept_as_copies_make_the_same_image() -> anyhow::Result<()> {
    let flags = vec!["--oci-worker-snapshotter=native".to_owned()];
    let world = World::launch(Launch { flags, ..Launch::default() })?;
    let project = world.project(
        "FROM {busybox}\nRUN rm /etc/group && echo new > /etc/passwd && mkdir /d && echo x > /d/x\n\
         RUN rm -r /d && mkdir /d && echo y > /d/y\nRUN ls /d /etc\n",
    )?;
    let name = world.registry.image("app:copies");
    let build = world.build(&project).push(&name).succeed()?;
    assert!(!build.step("RUN ls")?.says("group"), "{}", build.output);
    let image = Image::read(&format!("docker://{name}"))?;
    let has = |layer: usize, path: &str| image.layers[layer].entries.contains_key(path);
    assert!(has(1, "etc/.wh.group") && has(1, "d/x"), "{:?}", image.layers[1]);
    // What was removed and made again: either all below is hidden, or what went is.
    assert!(
        has(2, "d/y") && (has(2, "d/.wh.x") || has(2, "d/.wh..wh..opq")),
        "{:?}",
        image.layers[2]
    );
    world.build(&project).succeed()?.assert_all_cached();
    Ok(())
}

#[test]
fn one_thing_at_a_time_is_enough_for_builds_in_builds() -> anyhow::Result<()> {
    let flags = vec!["--oci-max-parallelism=1".to_owned()];
    let world = World::launch(Launch { flags, ..Launch::default() })?;
    let image = world.fill("docker-image://{busybox}:latest");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let wire = Wire::connect(&world.backend.address()).await?;
        let mut inner = Graph::default();
        let base = inner.source(&image);
        let step = inner.run(&base, "echo built inside > /inside");
        let definition = inner.finish(&step).encode_to_vec();
        let mut graph = Graph::default();
        let file = graph.file(None, "/definition", &definition);
        let build = pb::BuildOp {
            builder: -1,
            inputs: [("buildkit.llb.definition".to_owned(), pb::BuildInput { input: 0 })].into(),
            attrs: [("llbbuild.filename".to_owned(), "/definition".to_owned())].into(),
            ..pb::BuildOp::default()
        };
        let built = graph.add(pb::op::Op::Build(build), &[&file]);
        let checked = graph.run(&built, "grep 'built inside' /inside");
        let request = SolveRequest {
            r#ref: "outer".to_owned(),
            definition: Some(graph.finish(&checked)),
            cache: Some(CacheOptions::default()),
            ..SolveRequest::default()
        };
        wire.control().solve(request).await?;
        anyhow::Ok(())
    })
}
