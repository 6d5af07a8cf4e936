//! The language, end to end: what each instruction leaves in an image, what each mount gives a step, and
//! what is said about a wrong line.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::Duration;

use integration::{Archive, Build, Image, Program, Project, World};
use serde_json::json;
use tempfile::TempDir;

/// Builds the project of a Dockerfile and its files, pushes it, and returns the image.
fn image(world: &World, dockerfile: &str, files: &[(&str, &str)]) -> anyhow::Result<Image> {
    let project = project(world, dockerfile, files)?;
    let name = world.registry.image("result:latest");
    world.build(&project).push(&name).succeed()?;
    Image::read(&format!("docker://{name}"))
}

fn project(world: &World, dockerfile: &str, files: &[(&str, &str)]) -> anyhow::Result<Project> {
    let project = world.project(dockerfile)?;
    for (path, contents) in files {
        project.write(path, contents)?;
    }
    Ok(project)
}

/// Builds a Dockerfile alone, which must succeed.
fn build(world: &World, dockerfile: &str) -> anyhow::Result<Build> {
    world.build(&world.project(dockerfile)?).succeed()
}

/// Builds a Dockerfile alone, which must fail.
fn fails(world: &World, dockerfile: &str) -> anyhow::Result<Build> {
    world.build(&world.project(dockerfile)?).fail()
}

#[test]
fn the_usual_syntax_line_is_understood() -> anyhow::Result<()> {
    let world = World::start()?;
    build(&world, "# syntax=docker/dockerfile:1\nFROM {busybox}\nRUN true\n")?;
    Ok(())
}

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
fn a_run_has_its_shell_environment_directory_and_user() -> anyhow::Result<()> {
    let world = World::start()?;
    let build = build(
        &world,
        r#"FROM {busybox}
ENV GREETING=hello
WORKDIR /work
RUN echo "shell $GREETING $(pwd) $(id -u)"
RUN ["echo", "exec $GREETING"]
USER guest
RUN echo "user $(id -u) $(id -g) $HOME"
USER 12:34
RUN echo "ids $(id -u) $(id -g)"
USER root
SHELL ["/bin/sh", "-ec"]
RUN echo "set $-"
RUN echo a && \
    # a comment between the lines
    echo b

RUN <<END
echo "first of two lines"
echo "second"
END
RUN <<"RAW" cat
not $expanded
RAW
RUN <<END
#!/bin/sh
echo "by itself $0"
END
"#,
    )?;
    for line in [
        "shell hello /work 0",
        "exec $GREETING",
        "user 1000 1000",
        "ids 12 34",
        "first of two lines",
        "second",
        "not $expanded",
        "by itself",
    ] {
        build.assert_shows(line);
    }
    assert_eq!(build.step("RUN echo a &&")?.lines, ["a", "b"]);
    assert!(build.step("RUN echo \"set")?.lines.iter().any(|line| line.contains('e')));
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
fn stages_targets_and_arguments_choose_what_is_built() -> anyhow::Result<()> {
    let world = World::start()?;
    let project = world.project(
        r#"ARG BASE={busybox}
ARG KIND=plain
FROM ${BASE} AS one
ARG KIND
ARG UNSET
ARG LATE=${KIND:-none}-${UNSET:-default}-${UNSET:+set}${KIND#pl}
RUN echo "$KIND $LATE" > /kind
FROM one AS two
RUN echo two > /two
FROM scratch AS result
COPY --from=one /kind /kind
COPY --from=0 /etc/group /group
FROM scratch AS unused
COPY missing /
FROM result
"#,
    )?;
    let out = TempDir::new()?;
    let build = world.build(&project).into_directory(out.path()).succeed()?;
    assert_eq!(fs::read_to_string(out.path().join("kind"))?, "plain plain-default-ain\n");
    assert!(build.plain.find("two").is_none(), "a stage that nobody needs is not built");
    world
        .build(&project)
        .args(["--build-arg", "KIND=fancy"])
        .into_directory(out.path())
        .succeed()?;
    assert_eq!(fs::read_to_string(out.path().join("kind"))?, "fancy fancy-default-fancy\n");
    let target = world.build(&project).args(["--target", "two"]).succeed()?;
    target.assert_shows("RUN echo two");
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
fn a_bind_mount_shows_files_and_forgets_writes() -> anyhow::Result<()> {
    let world = World::start()?;
    let project = project(
        &world,
        "FROM {busybox} AS tools\nRUN echo tool > /tool\nFROM {busybox}\n\
         RUN --mount=target=/src cat /src/file && ! touch /src/new 2>/dev/null\n\
         RUN --mount=type=bind,source=sub,target=/sub,rw touch /sub/new && ls /sub\n\
         RUN --mount=type=bind,from=tools,source=/tool,target=/the-tool cat /the-tool\n\
         RUN --mount=type=bind,source=sub,target=/sub ls /sub\n",
        &[("file", "bound\n"), ("sub/old", "")],
    )?;
    let build = world.build(&project).succeed()?;
    assert_eq!(build.step("target=/src")?.lines, ["bound"]);
    assert_eq!(build.step("rw touch")?.lines, ["new", "old"]);
    assert_eq!(build.step("from=tools")?.lines, ["tool"]);
    assert_eq!(build.step("target=/sub ls")?.lines, ["old"]);
    Ok(())
}

#[test]
fn a_tmpfs_mount_is_of_its_size_and_not_in_the_image() -> anyhow::Result<()> {
    let world = World::start()?;
    let image = image(
        &world,
        "FROM {busybox}\n\
         RUN --mount=type=tmpfs,target=/scratch,size=1m stat -c %a /scratch > /mode && \
         ! dd if=/dev/zero of=/scratch/big bs=1k count=2048 2>/dev/null && echo full > /state\n",
        &[],
    )?;
    assert_eq!(image.text("mode")?, "1777\n");
    assert_eq!(image.text("state")?, "full\n");
    assert!(image.file("scratch/big").is_none(), "what was in the mount is not in the image");
    Ok(())
}

#[test]
fn secrets_reach_a_step_and_nothing_else() -> anyhow::Result<()> {
    let world = World::start()?;
    let project = world.project(
        "FROM {busybox}\n\
         RUN --mount=type=secret,id=key echo \"key $(wc -c < /run/secrets/key)\"\n\
         RUN --mount=type=secret,id=key,target=/etc/key,mode=0440,uid=5,gid=6 stat -c '%a %u %g' /etc/key\n\
         RUN --mount=type=secret,id=token,env=TOKEN echo \"token ${#TOKEN}\"\n\
         RUN --mount=type=secret,id=absent ls /run/secrets 2>/dev/null | wc -l\n",
    )?;
    project.write("key-file", "12345")?;
    let name = world.registry.image("secret:latest");
    let build = world
        .build(&project)
        .env("TOKEN_OF_TEST", "1234567")
        .args(["--secret", "id=token,env=TOKEN_OF_TEST", "--secret"])
        .arg(format!("id=key,src={}", project.path("key-file").display()))
        .push(&name)
        .succeed()?;
    assert_eq!(build.step("echo \"key")?.lines, ["key 5"]);
    assert_eq!(build.step("target=/etc/key")?.lines, ["440 5 6"]);
    assert_eq!(build.step("env=TOKEN")?.lines, ["token 7"]);
    let image = Image::read(&format!("docker://{name}"))?;
    let entries = image.layers.iter().flat_map(|layer| layer.entries.values());
    // The program in the base image may have these digits in it; a small file may not.
    let small = entries.filter(|entry| entry.contents.len() < 1000);
    let leaked = small.filter(|entry| entry.contents.windows(5).any(|part| part == b"12345"));
    assert_eq!(leaked.count(), 0);
    let missing = fails(
        &world,
        "FROM {busybox}\nRUN --mount=type=secret,id=wanted,required cat /run/secrets/wanted\n",
    )?;
    missing.assert_shows("wanted");
    Ok(())
}

#[test]
fn an_agent_of_the_client_is_forwarded() -> anyhow::Result<()> {
    let world = World::start()?;
    let keys = TempDir::new()?;
    let socket = keys.path().join("agent");
    let agent = Program::new("ssh-agent").args(["-D", "-a"]).arg(&socket).spawn()?;
    agent.stdout.wait_for(Duration::from_secs(30), |line| line.contains("SSH_AUTH_SOCK"));
    let key = keys.path().join("key");
    Program::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "of-the-test", "-f"])
        .arg(&key)
        .succeed()?;
    Program::new("ssh-add").env("SSH_AUTH_SOCK", &socket).arg(&key).succeed()?;
    // The agent's protocol by hand: a request for the identities, and the comment of the only one.
    let project = world.project(
        "FROM {debian}\nRUN --mount=type=ssh perl -MIO::Socket::UNIX -e \
         'my $s = IO::Socket::UNIX->new(Peer => $ENV{SSH_AUTH_SOCK}) or die \"no agent: $!\"; \
         syswrite $s, pack(\"NC\", 1, 11); my $answer = \"\"; \
         while ($answer !~ /of-the-test/) { sysread $s, $answer, 4096, length $answer or last; } \
         print $answer =~ /of-the-test/ ? \"the key is there\\n\" : \"no key\\n\"'\n\
         RUN --mount=type=ssh,id=default,target=/agent,uid=5,gid=6,mode=0660 stat -c '%a %u %g' /agent\n",
    )?;
    let build = world
        .build(&project)
        .arg("--ssh")
        .arg(format!("default={}", socket.display()))
        .succeed()?;
    assert_eq!(build.step("perl")?.lines, ["the key is there"]);
    assert_eq!(build.step("target=/agent")?.lines, ["660 5 6"]);
    let without = fails(&world, "FROM {busybox}\nRUN --mount=type=ssh,required true\n")?;
    without.assert_shows("ssh");
    Ok(())
}

#[test]
fn a_step_without_network_has_none() -> anyhow::Result<()> {
    let world = World::start()?;
    let build = build(
        &world,
        "FROM {busybox}\nRUN --network=none grep -c : /proc/net/dev\n\
         RUN grep -c : /proc/net/dev\n",
    )?;
    assert_eq!(build.step("--network=none")?.lines, ["1"]);
    let host = fs::read_to_string("/proc/net/dev")?;
    let host = host.lines().filter(|line| line.contains(':')).count().to_string();
    assert_eq!(build.step("RUN grep")?.lines, [host], "the default is the machine's network");
    Ok(())
}

#[test]
fn a_step_sees_a_container() -> anyhow::Result<()> {
    let world = World::start()?;
    let build = build(
        &world,
        "FROM {busybox}\nRUN echo \"pid $$\"\nRUN cat /etc/hosts && test -s /etc/resolv.conf\n\
         RUN ls /dev && test -c /dev/null && test -d /dev/shm && test -L /dev/fd\n\
         RUN ! echo x > /proc/sys/kernel/hostname && ! mkdir /sys/new && echo read-only\n\
         RUN ! mount -t tmpfs none /mnt && echo refused\n",
    )?;
    assert_eq!(build.step("echo \"pid")?.lines, ["pid 1"]);
    assert!(build.step("/etc/hosts")?.says("localhost"));
    assert!(!build.step("ls /dev")?.says("vda"), "no device of the machine");
    assert!(build.step("read-only")?.says("read-only"));
    assert!(build.step("refused")?.says("refused"));
    Ok(())
}

#[test]
fn what_a_step_writes_is_shown_and_its_failure_told() -> anyhow::Result<()> {
    let world = World::start()?;
    let build = fails(
        &world,
        "FROM {busybox}\nRUN echo to stdout && echo to stderr >&2 && \\\n    exit 42\n",
    )?;
    build.assert_shows("to stdout");
    build.assert_shows("to stderr");
    build.assert_shows("did not complete successfully: exit code: 42");
    build.assert_shows("Dockerfile:2");
    build.assert_shows(">>> RUN echo to stdout");
    build.assert_shows(">>>     exit 42");
    Ok(())
}

#[test]
fn a_wrong_line_is_shown_with_what_was_meant() -> anyhow::Result<()> {
    let world = World::start()?;
    let unknown = fails(&world, "FROM {busybox}\nENV A=1\nRUM echo hello\n")?;
    unknown.assert_shows("unknown instruction: RUM");
    unknown.assert_shows("did you mean RUN?");
    unknown.assert_shows("Dockerfile:3");
    unknown.assert_shows(">>> RUM echo hello");
    let flag = fails(&world, "FROM {busybox}\nCOPY --form=x a b\n")?;
    flag.assert_shows("unknown flag: --form");
    flag.assert_shows("did you mean from?");
    let mount = fails(&world, "FROM {busybox}\nRUN --mount=type=cash,target=/x true\n")?;
    mount.assert_shows("unsupported mount type \"cash\"");
    let stage = fails(&world, "FROM {busybox} AS build\nFROM scratch\nCOPY --from=biuld /a /\n")?;
    stage.assert_shows("biuld");
    let missing = fails(&world, "FROM {busybox}\nCOPY absent.txt /\n")?;
    missing.assert_shows("\"/absent.txt\": not found");
    missing.assert_shows(">>> COPY absent.txt /");
    let base = fails(&world, &format!("FROM {}\n", world.registry.image("no/such:tag")))?;
    base.assert_shows("no/such:tag: not found");
    Ok(())
}

#[test]
fn a_dockerfile_comes_from_wherever_the_client_has_it() -> anyhow::Result<()> {
    let world = World::start()?;
    let project = Project::empty()?;
    project.write("sub/other.Dockerfile", world.fill("FROM {busybox}\nRUN echo other\n"))?;
    let named = world.build(&project).arg("-f").arg(project.path("sub/other.Dockerfile"));
    named.succeed()?.assert_shows("RUN echo other");
    let typed = world.build(&project).args(["-f", "-"]);
    let typed = typed.input(world.fill("FROM {busybox}\nRUN echo typed\n")).succeed()?;
    typed.assert_shows("RUN echo typed");
    Ok(())
}

#[test]
fn other_contexts_have_names() -> anyhow::Result<()> {
    let world = World::start()?;
    let other = Project::empty()?.with("file", "of the other\n")?;
    let project = world.project(
        "FROM base\nCOPY --from=other file /file\nRUN --mount=from=other,target=/o cat /o/file\n",
    )?;
    let build = world
        .build(&project)
        .arg("--build-context")
        .arg(format!("other={}", other.root().display()))
        .arg("--build-context")
        .arg(world.fill("base=docker-image://{busybox}"))
        .succeed()?;
    assert_eq!(build.step("cat /o/file")?.lines, ["of the other"]);
    Ok(())
}

#[test]
fn a_context_may_be_a_layout_of_the_client() -> anyhow::Result<()> {
    let world = World::start()?;
    let base = Project::empty()?;
    world
        .build(&world.project("FROM {busybox}\nENV FROM_LAYOUT=yes\nRUN echo layout > /layout\n")?)
        .args(["--provenance=false", "--tag", "base:latest", "--output"])
        .arg(format!("type=oci,tar=false,dest={}", base.root().display()))
        .succeed()?;
    let project = world.project("FROM base\nRUN cat /layout && echo $FROM_LAYOUT\n")?;
    let build = world
        .another_client()?
        .build(&project)
        .arg("--build-context")
        .arg(format!("base=oci-layout://{}:latest", base.root().display()))
        .succeed()?;
    assert_eq!(build.step("cat /layout")?.lines, ["layout", "yes"]);
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

#[test]
fn a_build_can_be_told_not_to_use_the_cache() -> anyhow::Result<()> {
    let world = World::start()?;
    let project = world.project("FROM {busybox}\nRUN cat /proc/sys/kernel/random/uuid\n")?;
    let first = world.build(&project).succeed()?;
    let again = world.build(&project).arg("--no-cache").succeed()?;
    again.assert_cached("RUN cat", false);
    assert_ne!(first.step("RUN cat")?.lines, again.step("RUN cat")?.lines);
    world.build(&project).succeed()?.assert_all_cached();
    Ok(())
}
