//! What goes wrong around a build: registries that misbehave, disks that are full, clients that are gone,
//! paths that climb out. Each gets an error that names the thing, and the daemon serves the next build.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use integration::{Answer, Asked, Launch, Program, Project, Scripted, Wire, World};
use proto::control::{CacheOptions, SolveRequest};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Builds from an image of a scripted registry, which must fail, and then something else, which must not.
fn fails_from(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> anyhow::Result<String> {
    let world = World::start()?;
    let server = Scripted::start(script)?;
    let image = format!("{}/some/image:tag", server.host());
    let project = Project::new(&format!("FROM {image}\nRUN true\n"))?;
    let build = world.build(&project).fail()?;
    build.assert_shows(&image);
    assert!(!server.asked().is_empty(), "nobody asked");
    works(&world)?;
    Ok(build.output)
}

/// Builds something that works.
fn works(world: &World) -> anyhow::Result<()> {
    world.build(&world.project("FROM {busybox}\nRUN echo still here\n")?).succeed()?;
    Ok(())
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Serves an image of one layer; `layer` is what is answered when the layer is asked for.
fn serve(layer: Vec<u8>, answer: impl Fn(&[u8]) -> Answer) -> impl Fn(&Asked) -> Answer {
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest(&config), "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": digest(&layer), "size": layer.len(),
        }],
    });
    let manifest = manifest.to_string().into_bytes();
    move |asked| {
        if asked.path == "/v2/" {
            Answer::status(200)
        } else if asked.path.contains("/manifests/") {
            Answer::document(MANIFEST, manifest.clone())
                .header("Docker-Content-Digest", &digest(&manifest))
        } else if asked.path.ends_with(&digest(&config)) {
            Answer::document("application/octet-stream", config.clone())
        } else if asked.path.ends_with(&digest(&layer)) {
            answer(&layer)
        } else {
            Answer::status(404)
        }
    }
}

/// Returns an archive of one regular file of this name.
fn archive(name: &str, contents: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    // The library refuses names that climb; bytes do not.
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(contents.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, contents)?;
    Ok(builder.into_inner()?)
}

#[test]
fn a_registry_that_does_not_know_the_image() -> anyhow::Result<()> {
    let output = fails_from(|_| Answer::status(404))?;
    assert!(output.contains("not found"), "{output}");
    Ok(())
}

#[test]
fn a_registry_that_refuses() -> anyhow::Result<()> {
    let output = fails_from(|_| Answer::status(401))?;
    let told = ["401", "nauthorized", "authori", "credential"].iter().any(|t| output.contains(t));
    assert!(told, "{output}");
    Ok(())
}

#[test]
fn a_registry_that_is_broken() -> anyhow::Result<()> {
    let output = fails_from(|_| Answer::status(500))?;
    assert!(output.contains("500"), "{output}");
    Ok(())
}

#[test]
fn a_registry_that_speaks_no_http() -> anyhow::Result<()> {
    fails_from(|_| Answer::garbage("SSH-2.0-OpenSSH_9.2\r\n"))?;
    Ok(())
}

#[test]
fn a_registry_whose_documents_are_none() -> anyhow::Result<()> {
    fails_from(|asked| match asked.path.as_str() {
        "/v2/" => Answer::status(200),
        _ => Answer::document(MANIFEST, "{\"schemaVersion\": 2, \"layers\": 7"),
    })?;
    Ok(())
}

#[test]
fn a_registry_that_stops_in_the_middle_of_a_layer() -> anyhow::Result<()> {
    let layer = archive("file", &[7; 300_000])?;
    fails_from(serve(layer, |layer| {
        Answer::document("application/octet-stream", layer).cut_after(100_000)
    }))?;
    Ok(())
}

#[test]
fn a_registry_whose_layer_is_another_one() -> anyhow::Result<()> {
    let layer = archive("file", b"as promised")?;
    let output = fails_from(serve(layer, |layer| {
        let mut other = layer.to_vec();
        other[600] ^= 1;
        Answer::document("application/octet-stream", other)
    }))?;
    assert!(output.contains("expected a blob `sha256:"), "{output}");
    Ok(())
}

#[test]
fn a_registry_whose_manifest_is_another_one() -> anyhow::Result<()> {
    let world = World::start()?;
    let layer = archive("file", b"x")?;
    let server =
        Scripted::start(serve(layer, |layer| Answer::document("application/octet-stream", layer)))?;
    let named = digest(b"what was asked for");
    let image = format!("{}/some/image@{named}", server.host());
    let build = world.build(&Project::new(&format!("FROM {image}\nRUN true\n"))?).fail()?;
    build.assert_shows(&image);
    build.assert_shows(&format!("and should have `{named}`"));
    works(&world)
}

#[test]
fn a_layer_that_climbs_out_stays_inside() -> anyhow::Result<()> {
    let world = World::start()?;
    for name in ["../../../../../../tmp/climbed-out", "/../../tmp/climbed-out"] {
        let server = Scripted::start(serve(archive(name, b"out")?, |layer| {
            Answer::document("application/octet-stream", layer)
        }))?;
        let project =
            Project::new(&format!("FROM {}/evil:latest\nCOPY file /file\n", server.host()))?
                .with("file", "x")?;
        // Refused, or unpacked inside: both are right.
        world.build(&project).run()?;
        assert!(!std::env::temp_dir().join("climbed-out").exists(), "{name} climbed out");
    }
    works(&world)
}

#[test]
fn an_archive_that_climbs_out_stays_inside() -> anyhow::Result<()> {
    let world = World::start()?;
    let project = world.project("FROM {busybox}\nADD evil.tar /in/\n")?;
    project.write("evil.tar", archive("../../../../../../tmp/climbed-by-add", b"out")?)?;
    world.build(&project).run()?;
    assert!(!std::env::temp_dir().join("climbed-by-add").exists());
    works(&world)
}

#[test]
fn a_link_that_leads_out_leads_nowhere() -> anyhow::Result<()> {
    let world = World::start()?;
    let outside = TempDir::new()?;
    fs::write(outside.path().join("secret"), "of the machine")?;
    let target = outside.path().display().to_string();
    // Reading through a link of the context, and of a stage; writing through one.
    let project = world.project("FROM {busybox}\nCOPY out/secret /secret\n")?;
    project.link("out", &target)?;
    world.build(&project).fail()?.assert_shows("not found");
    let project = world.project(&format!(
        "FROM {{busybox}} AS a\nRUN ln -s {target} /out\nFROM {{busybox}}\n\
         COPY --from=a /out/secret /secret\n"
    ))?;
    world.build(&project).fail()?;
    let project = world.project(&format!(
        "FROM {{busybox}}\nRUN ln -s {target} /out\nCOPY file /out/written\n\
         RUN --mount=type=bind,target=/out/mounted ls /out/mounted\n"
    ))?;
    project.write("file", "x")?;
    world.build(&project).run()?;
    assert_eq!(fs::read_dir(outside.path())?.count(), 1, "nothing was written out there");
    works(&world)
}

#[test]
fn a_path_of_a_copy_that_climbs_stays_inside() -> anyhow::Result<()> {
    let world = World::start()?;
    let project = world.project(
        "FROM {busybox}\nCOPY ../../../../../etc/hostname* /found/\nCOPY file ../../../../tmp/copied-out\n",
    )?;
    project.write("file", "x")?;
    let build = world.build(&project).run()?;
    assert!(!std::env::temp_dir().join("copied-out").exists(), "{}", build.output);
    works(&world)
}

#[test]
fn a_full_disk_fails_the_build_and_not_the_daemon() -> anyhow::Result<()> {
    let mut world = World::launch(Launch { disk: Some(48 << 20), ..Launch::default() })?;
    // What could not be kept for want of space is told to the operator as well.
    for told in ["space", "was not kept", "metadata cannot be written"] {
        world.allow_log(told);
    }
    works(&world)?;
    let fill = world.project(
        "FROM {busybox}\nRUN dd if=/dev/zero of=/big bs=1048576 count=100 && echo written\n",
    )?;
    let build = world.build(&fill).fail()?;
    build.assert_shows("No space left on device");
    works(&world)?;
    let small = world.project("FROM {busybox}\nRUN echo enough > /file\n")?;
    world.build(&small).succeed()?;
    let daemon = world.daemon()?;
    daemon.stop()?;
    daemon.up()?;
    world.build(&small).succeed()?.assert_cached("echo enough", true);
    Ok(())
}

#[test]
fn a_context_that_does_not_fit_fails_the_build() -> anyhow::Result<()> {
    let world = World::launch(Launch { disk: Some(32 << 20), ..Launch::default() })?;
    // What could not be kept for want of space is told to the operator as well.
    for told in ["space", "was not kept", "metadata cannot be written"] {
        world.allow_log(told);
    }
    let project = world.project("FROM {busybox}\nCOPY . /all\n")?;
    project.write("big", vec![1; 64 << 20])?;
    let build = world.build(&project).fail()?;
    assert!(build.output.to_lowercase().contains("no space left"), "{}", build.output);
    fs::remove_file(project.path("big"))?;
    world.build(&project).succeed()?;
    Ok(())
}

#[test]
fn a_client_that_dies_takes_its_steps_along() -> anyhow::Result<()> {
    let mut world = World::start()?;
    let project = world.project("FROM {busybox}\nRUN echo now running; tail -f /dev/null\n")?;
    let build = world.another_client()?.build(&project).spawn()?;
    build.wait_for(" now running")?;
    build.signal(rustix::process::Signal::KILL)?;
    build.wait()?;
    works(&world)?;
    let daemon = world.daemon()?;
    daemon.stop()?;
    assert!(daemon.leftovers().is_empty(), "{:?}", daemon.leftovers());
    Ok(())
}

#[test]
fn the_daemon_finishes_what_runs_before_it_stops() -> anyhow::Result<()> {
    let mut world = World::start()?;
    let may_end = Arc::new(AtomicBool::new(false));
    let asked = may_end.clone();
    let server = Scripted::start(move |_| {
        Answer::status(if asked.load(Ordering::SeqCst) { 200 } else { 404 })
    })?;
    let project = world.project(&format!(
        "FROM {{busybox}}\nRUN echo now running; \
         until wget -q -O /dev/null http://{}/; do usleep 10000; done; echo finished\n",
        server.host()
    ))?;
    let running = world.build(&project).spawn()?;
    running.wait_for(" now running")?;
    world.daemon()?.signal(rustix::process::Signal::TERM)?;
    // A build that comes now is turned away, however long the other one takes.
    let late = world.another_client()?;
    let late = late.build(&world.project("FROM {busybox}\nRUN echo late\n")?).run()?;
    assert!(!late.status.success(), "{}", late.output);
    may_end.store(true, Ordering::SeqCst);
    let build = running.wait()?;
    assert!(build.status.success(), "{}", build.output);
    assert!(build.step("RUN echo now running")?.says("finished"));
    world.daemon()?.stop().ok();
    Ok(())
}

#[test]
fn a_session_that_never_comes_is_not_waited_for_long() -> anyhow::Result<()> {
    let world = World::start()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let wire = Wire::connect(&world.backend.address()).await?;
        let mut graph = integration::Graph::default();
        let context = graph.source("local://context");
        let build = SolveRequest {
            r#ref: "alone".to_owned(),
            session: "nobodys-session".to_owned(),
            definition: Some(graph.finish(&context)),
            cache: Some(CacheOptions::default()),
            ..SolveRequest::default()
        };
        let error = wire.control().solve(build).await.unwrap_err();
        assert!(error.message().contains("nobodys-session"), "{error:?}");
        anyhow::Ok(())
    })?;
    works(&world)
}

#[test]
fn a_configuration_with_a_wrong_word_is_refused_with_the_right_one() -> anyhow::Result<()> {
    let settings = integration::Settings::read()?;
    let folder = TempDir::new()?;
    let config = folder.path().join("config.toml");
    fs::write(&config, "[worker.oci]\nmax-paralelism = 4\n")?;
    let run = |flags: &[&str]| {
        Program::new(settings.built("larderd")?)
            .arg(format!("--config={}", config.display()))
            .arg(format!("--root={}", folder.path().join("root").display()))
            .arg(format!("--addr=unix://{}", folder.path().join("socket").display()))
            .args(flags)
            .run()
    };
    let finished = run(&[])?;
    assert!(!finished.status.success());
    assert!(finished.stderr.contains("max-paralelism"), "{}", finished.stderr);
    assert!(finished.stderr.contains("max-parallelism"), "{}", finished.stderr);
    fs::write(&config, "")?;
    let finished = run(&["--oci-worker-snapshoter=auto"])?;
    assert!(!finished.status.success());
    assert!(finished.stderr.contains("--oci-worker-snapshotter"), "{}", finished.stderr);
    Ok(())
}
