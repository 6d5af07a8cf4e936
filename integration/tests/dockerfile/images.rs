//! What each instruction leaves in an image.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use integration::{Archive, Image, Program, Project, World};
use serde_json::json;
use tempfile::TempDir;

use super::{image, project};

#[test]
fn instructions_of_the_configuration_are_in_the_image() -> anyhow::Result<()> {
    let world = World::start()?;
    let image = image(
        &world,
        r#"FROM {busybox}
ENV A=1 B="two words"
LABEL org.example.a=x org.example.b="y z"
EXPOSE 80 53/udp
VOLUME ["/data", "/more"]
WORKDIR /work
WORKDIR inside
USER guest:staff
SHELL ["/bin/sh", "-ec"]
STOPSIGNAL SIGUSR1
HEALTHCHECK --interval=5s --timeout=3s --retries=2 CMD true
ENTRYPOINT ["/bin/entry", "$A"]
CMD echo "$B"
MAINTAINER somebody
ONBUILD RUN echo later
"#,
        &[],
    )?;
    let config = &image.config["config"];
    let env = config["Env"].as_array().cloned().unwrap_or_default();
    assert!(env.contains(&json!("A=1")) && env.contains(&json!("B=two words")), "{env:?}");
    assert_eq!(config["Labels"], json!({"org.example.a": "x", "org.example.b": "y z"}));
    assert_eq!(config["ExposedPorts"], json!({"80/tcp": {}, "53/udp": {}}));
    assert_eq!(config["Volumes"], json!({"/data": {}, "/more": {}}));
    assert_eq!(config["WorkingDir"], "/work/inside");
    assert_eq!(config["User"], "guest:staff");
    assert_eq!(config["Shell"], json!(["/bin/sh", "-ec"]));
    assert_eq!(config["StopSignal"], "SIGUSR1");
    assert_eq!(config["Healthcheck"]["Test"], json!(["CMD-SHELL", "true"]));
    assert_eq!(config["Healthcheck"]["Interval"], 5_000_000_000_u64);
    assert_eq!(config["Entrypoint"], json!(["/bin/entry", "$A"]));
    assert_eq!(config["Cmd"], json!(["/bin/sh", "-ec", "echo \"$B\""]));
    assert_eq!(config["OnBuild"], json!(["RUN echo later"]));
    assert_eq!(image.config["author"], "somebody");
    let history = image.config["history"].as_array().cloned().unwrap_or_default();
    assert!(history.iter().any(|h| h["created_by"].as_str().is_some_and(|c| c.contains("LABEL"))));
    Ok(())
}

#[test]
fn files_of_the_context_are_copied() -> anyhow::Result<()> {
    let world = World::start()?;
    let project = project(
        &world,
        r#"FROM scratch
COPY a.txt b.txt /both/
COPY *.md /notes/
COPY dir /dir
COPY --chown=1000:50 --chmod=600 a.txt /owned
COPY --link a.txt /linked/deep/a
COPY dir/*/leaf /leaves/
COPY <<EOF /written
made of $WORDS
EOF
COPY --exclude=*.md --exclude=a.txt . /rest/
ADD a.txt /added
"#,
        &[
            ("a.txt", "a"),
            ("b.txt", "b"),
            ("x.md", "x"),
            ("y.md", "y"),
            ("dir/one/leaf", "1"),
            ("dir/top", "top"),
        ],
    )?;
    project.link("dir/to-top", "top")?;
    project.chmod("b.txt", 0o750)?;
    let out = TempDir::new()?;
    let path = out.path().join("out.tar");
    world
        .build(&project)
        .arg("--output")
        .arg(format!("type=tar,dest={}", path.display()))
        .succeed()?;
    let archive = Archive::open(&path)?;
    for (path, text) in [
        ("both/a.txt", "a"),
        ("both/b.txt", "b"),
        ("notes/x.md", "x"),
        ("notes/y.md", "y"),
        ("dir/one/leaf", "1"),
        ("dir/top", "top"),
        ("owned", "a"),
        ("linked/deep/a", "a"),
        ("leaves/leaf", "1"),
        ("written", "made of \n"),
        ("added", "a"),
        ("rest/b.txt", "b"),
    ] {
        assert_eq!(archive.text(path)?, text, "{path}");
    }
    assert!(!archive.entries.contains_key("rest/a.txt"), "what is excluded is not copied");
    assert!(!archive.entries.contains_key("rest/x.md"), "what is excluded is not copied");
    let owned = &archive.entries["owned"];
    assert_eq!((owned.uid, owned.gid, owned.mode & 0o777), (1000, 50, 0o600));
    let copied = &archive.entries["both/b.txt"];
    assert_eq!((copied.uid, copied.gid, copied.mode & 0o777), (0, 0, 0o750));
    assert_eq!(archive.entries["dir/to-top"].link.as_deref(), Some("top"));
    Ok(())
}

#[test]
fn archives_are_unpacked_by_add_and_kept_by_copy() -> anyhow::Result<()> {
    let world = World::start()?;
    let project =
        world.project("FROM scratch\nADD files.tar.gz /in/\nCOPY files.tar.gz /kept/\n")?;
    project.write("inside/file", "packed")?;
    Program::new("tar")
        .directory(project.root())
        .args(["-czf", "files.tar.gz", "inside"])
        .succeed()?;
    let out = TempDir::new()?;
    world.build(&project).into_directory(out.path()).succeed()?;
    assert_eq!(fs::read_to_string(out.path().join("in/inside/file"))?, "packed");
    assert!(out.path().join("kept/files.tar.gz").is_file());
    Ok(())
}

#[test]
fn the_ignore_file_is_obeyed() -> anyhow::Result<()> {
    let world = World::start()?;
    let project = project(
        &world,
        "FROM scratch\nCOPY . /\n",
        &[
            (".dockerignore", "# comment\n*.log\n!keep.log\n**/target\nDockerfile\n"),
            ("a.log", ""),
            ("keep.log", "kept"),
            ("sub/target/x", ""),
            ("sub/file", "sub"),
        ],
    )?;
    let out = TempDir::new()?;
    world.build(&project).into_directory(out.path()).succeed()?;
    assert!(out.path().join("keep.log").is_file() && out.path().join("sub/file").is_file());
    for gone in ["a.log", "sub/target", "Dockerfile"] {
        assert!(!out.path().join(gone).exists(), "{gone}");
    }
    Ok(())
}

#[test]
fn triggers_run_in_the_next_build() -> anyhow::Result<()> {
    let world = World::start()?;
    let base = world.registry.image("trigger:latest");
    let project =
        world.project("FROM {busybox}\nONBUILD COPY given /given\nONBUILD RUN cat /given\n")?;
    world.build(&project).push(&base).succeed()?;
    let project =
        Project::new(&format!("FROM {base}\nRUN echo then\n"))?.with("given", "late\n")?;
    let build = world.build(&project).succeed()?;
    assert!(build.step("RUN cat /given")?.says("late"));
    Ok(())
}

#[test]
fn a_platform_can_be_asked_for() -> anyhow::Result<()> {
    let world = World::start()?;
    let project = world.project(
        "FROM --platform=linux/s390x {busybox} AS far\nFROM {busybox} AS near\nFROM scratch\n\
         COPY --from=far /etc/architecture /far\nCOPY --from=near /etc/architecture /near\n",
    )?;
    let out = TempDir::new()?;
    world.build(&project).into_directory(out.path()).succeed()?;
    assert_eq!(fs::read_to_string(out.path().join("far"))?, "s390x");
    assert_ne!(fs::read_to_string(out.path().join("near"))?, "s390x");
    Ok(())
}

#[test]
fn several_platforms_make_an_index() -> anyhow::Result<()> {
    let world = World::start()?;
    let project =
        world.project("FROM {busybox}\nARG TARGETARCH\nENV ARCH=$TARGETARCH\nCOPY file /file\n")?;
    project.write("file", "x")?;
    let name = world.registry.image("many:latest");
    world
        .build(&project)
        .args(["--platform", "linux/amd64,linux/s390x", "--provenance=false"])
        .push(&name)
        .succeed()?;
    let image = Image::read(&format!("docker://{name}"))?;
    let platforms: Vec<_> = image.top["manifests"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|manifest| manifest["platform"]["architecture"].as_str())
        .collect();
    assert_eq!(platforms, ["amd64", "s390x"]);
    Ok(())
}

#[test]
fn directories_and_modes_arrive_as_they_were() -> anyhow::Result<()> {
    let world = World::start()?;
    let project = world.project(
        "FROM {busybox} AS a\nRUN mkdir -p /x/d && chmod 2750 /x/d && echo x > /x/d/f && \
         chmod 640 /x/d/f && ln /x/d/f /x/d/hard\nFROM scratch\nCOPY --from=a /x /\n",
    )?;
    let out = TempDir::new()?;
    world.build(&project).into_directory(out.path()).succeed()?;
    let directory = fs::metadata(out.path().join("d"))?;
    assert_eq!(directory.permissions().mode() & 0o7777, 0o2750);
    let file = fs::metadata(out.path().join("d/f"))?;
    assert_eq!(file.permissions().mode() & 0o7777, 0o640);
    assert_eq!(file.ino(), fs::metadata(out.path().join("d/hard"))?.ino(), "a hard link");
    Ok(())
}

#[test]
fn what_a_step_removes_is_gone_in_the_image() -> anyhow::Result<()> {
    let world = World::start()?;
    let image =
        image(&world, "FROM {busybox}\nRUN mkdir /d && touch /d/a /d/b\nRUN rm /d/a\n", &[])?;
    let last = image.layers.last().map(|layer| layer.entries.keys().cloned().collect::<Vec<_>>());
    assert!(last.is_some_and(|paths| paths.contains(&"d/.wh.a".to_owned())));
    Ok(())
}
