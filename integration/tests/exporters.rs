//! Results in every form that a client asks for, read by somebody else's tool.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use integration::{Archive, Image, Project, Registry, World};
use serde_json::{Value, json};
use tempfile::TempDir;

const DOCKERFILE: &str =
    "FROM {busybox}\nRUN echo one > /one\nCOPY file /file\nENV A=1\nRUN rm /etc/group\n";

fn project(world: &World) -> anyhow::Result<Project> {
    world.project(DOCKERFILE)?.with("file", "from the context\n")
}

/// Asserts that an image is the one of [`DOCKERFILE`].
#[track_caller]
fn assert_whole(image: &Image) {
    assert_eq!(image.text("one").ok().as_deref(), Some("one\n"));
    assert_eq!(image.text("file").ok().as_deref(), Some("from the context\n"));
    assert!(image.file("etc/.wh.group").is_some(), "what was removed is told");
    let layers = image.layers.len();
    assert_eq!(image.config["rootfs"]["diff_ids"].as_array().map(Vec::len), Some(layers));
    let history = image.config["history"].as_array().cloned().unwrap_or_default();
    let full = history.iter().filter(|entry| entry["empty_layer"] != json!(true)).count();
    assert_eq!(full, layers, "one entry of the history for each layer: {history:#?}");
    assert_eq!(layers, 4);
}

#[test]
fn files_are_written_into_a_directory_and_an_archive() -> anyhow::Result<()> {
    let world = World::start()?;
    let project = world.project(
        "FROM {busybox} AS make\nRUN mkdir /out && echo x > /out/x && chmod 750 /out/x && \
         ln -s x /out/link && mkdir /out/empty\nFROM scratch\nCOPY --from=make /out /\n",
    )?;
    let out = TempDir::new()?;
    let archive = out.path().join("out.tar");
    let files = out.path().join("files");
    // Both at once: two exporters of one build.
    world
        .build(&project)
        .arg("--output")
        .arg(format!("type=tar,dest={}", archive.display()))
        .arg("--output")
        .arg(format!("type=local,dest={}", files.display()))
        .succeed()?;
    assert_eq!(fs::read_to_string(files.join("x"))?, "x\n");
    assert_eq!(fs::read_link(files.join("link"))?, Path::new("x"));
    assert!(files.join("empty").is_dir());
    let archive = Archive::open(&archive)?;
    assert_eq!(archive.text("x")?, "x\n");
    assert_eq!(archive.entries["x"].mode & 0o777, 0o750);
    assert_eq!(archive.entries["link"].link.as_deref(), Some("x"));
    Ok(())
}

#[test]
fn an_archive_of_an_image_is_read_by_others() -> anyhow::Result<()> {
    let world = World::start()?;
    let project = project(&world)?;
    let out = TempDir::new()?;
    for kind in ["oci", "docker"] {
        let path = out.path().join(kind);
        let build = world
            .build(&project)
            .args(["--tag", "example.org/app:1", "--provenance=false", "--output"])
            .arg(format!("type={kind},dest={}", path.display()))
            .succeed()?;
        let image = Image::read(&format!("{kind}-archive:{}", path.display()))?;
        assert_whole(&image);
        let metadata = &build.metadata;
        assert_eq!(metadata["image.name"], "example.org/app:1");
        let descriptor = &metadata["containerimage.descriptor"];
        assert_eq!(descriptor["digest"], metadata["containerimage.digest"]);
        assert!(metadata["containerimage.config.digest"].is_string(), "{metadata:#}");
        assert!(metadata["buildx.build.ref"].is_string(), "{metadata:#}");
    }
    Ok(())
}

#[test]
fn a_layout_is_written_into_a_directory() -> anyhow::Result<()> {
    let world = World::start()?;
    let out = TempDir::new()?;
    world
        .build(&project(&world)?)
        .args(["--tag", "example.org/app:1", "--provenance=false", "--output"])
        .arg(format!("type=oci,tar=false,dest={}", out.path().display()))
        .succeed()?;
    let index: Value = serde_json::from_slice(&fs::read(out.path().join("index.json"))?)?;
    let name = &index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"];
    let name = name.as_str().context("the layout has no name in it")?;
    assert_whole(&Image::read(&format!("oci:{}:{name}", out.path().display()))?);
    Ok(())
}

#[test]
fn layers_are_compressed_as_asked() -> anyhow::Result<()> {
    let world = World::start()?;
    let project = project(&world)?;
    for (compression, media_type) in [
        ("gzip", "application/vnd.oci.image.layer.v1.tar+gzip"),
        ("zstd", "application/vnd.oci.image.layer.v1.tar+zstd"),
        ("uncompressed", "application/vnd.oci.image.layer.v1.tar"),
    ] {
        let name = world.registry.image(&format!("app:{compression}"));
        let output = format!(
            "type=image,name={name},push=true,compression={compression},force-compression=true,\
             oci-mediatypes=true"
        );
        world.build(&project).args(["--provenance=false", "--output", &output]).succeed()?;
        let image = Image::read(&format!("docker://{name}"))?;
        assert_whole(&image);
        assert_eq!(image.layer_types(), [media_type; 4]);
    }
    Ok(())
}

#[test]
fn an_image_is_pushed_with_its_provenance() -> anyhow::Result<()> {
    let world = World::start()?;
    let name = world.registry.image("app:signed");
    let build = world.build(&project(&world)?).push(&name).succeed()?;
    let image = Image::read(&format!("docker://{name}"))?;
    assert_whole(&image);
    let manifests = image.top["manifests"].as_array().context("the image is no index")?;
    assert_eq!(manifests.len(), 2, "the image, and what attests to it");
    let annotations = &manifests[1]["annotations"];
    assert_eq!(annotations["vnd.docker.reference.type"], "attestation-manifest");
    assert_eq!(annotations["vnd.docker.reference.digest"], manifests[0]["digest"]);
    assert_eq!(manifests[1]["platform"], json!({"architecture": "unknown", "os": "unknown"}));
    let provenance = &build.metadata["buildx.build.provenance"];
    assert!(provenance.is_object(), "{:#}", build.metadata);
    assert!(provenance.to_string().contains("busybox"), "the base image is a material");
    Ok(())
}

#[test]
fn the_same_sources_make_the_same_image() -> anyhow::Result<()> {
    let mut digests = Vec::new();
    for _ in 0..2 {
        let world = World::start()?;
        let out = TempDir::new()?;
        let project = world.project("FROM scratch\nCOPY file /file\n")?.with("file", "x")?;
        let build = world
            .build(&project)
            .args(["--provenance=false", "--build-arg", "SOURCE_DATE_EPOCH=1700000000"])
            .arg("--output")
            .arg(format!(
                "type=oci,rewrite-timestamp=true,dest={}",
                out.path().join("image").display()
            ))
            .succeed()?;
        digests.push(build.metadata["containerimage.digest"].clone());
    }
    assert!(digests[0].is_string());
    assert_eq!(digests[0], digests[1]);
    Ok(())
}

#[test]
fn a_registry_that_asks_is_told_who_pushes() -> anyhow::Result<()> {
    let world = World::start()?;
    let registry = Registry::guarded("user", "secret word")?;
    let project = project(&world)?;
    let name = registry.image("private/app:1");
    let refused = world.build(&project).push(&name).fail()?;
    refused.assert_shows(registry.host());
    world.client.log_in(registry.host(), "user", "secret word")?;
    world.build(&project).push(&name).succeed()?;
    let from = Project::new(&format!("FROM {name}\nRUN cat /one\n"))?;
    let build = world.build(&from).succeed()?;
    assert_eq!(build.step("RUN cat /one")?.lines, ["one"]);
    Ok(())
}

#[test]
fn names_and_annotations_are_as_asked() -> anyhow::Result<()> {
    let world = World::start()?;
    let (one, two) = (world.registry.image("app:one"), world.registry.image("other:two"));
    world
        .build(&project(&world)?)
        .args(["--tag", &two, "--provenance=false"])
        .args(["--annotation", "org.example.kind=test", "--label", "org.example.label=yes"])
        .push(&one)
        .succeed()?;
    let image = Image::read(&format!("docker://{one}"))?;
    assert_eq!(image.manifest["annotations"]["org.example.kind"], "test");
    assert_eq!(image.config["config"]["Labels"]["org.example.label"], "yes");
    assert_eq!(Image::read(&format!("docker://{two}"))?.manifest, image.manifest);
    Ok(())
}

#[test]
fn a_failed_export_says_why() -> anyhow::Result<()> {
    let world = World::start()?;
    let project = project(&world)?;
    let unknown = world.build(&project).args(["--output", "type=parchment"]).fail()?;
    unknown.assert_shows("parchment");
    let nobody = world.build(&project).push("127.0.0.1:1/app:1").fail()?;
    nobody.assert_shows("127.0.0.1:1");
    world.build(&project).succeed()?.assert_all_cached();
    Ok(())
}
