//! What a step sees of its container, and what each mount gives it.

use std::fs;
use std::path::Path;

use integration::{Image, SshAgent, World};

use super::{build, fails, image, project};

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
    let agent = SshAgent::start("of-the-test")?;
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
        .arg(format!("default={}", agent.socket().display()))
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
fn a_step_for_a_machine_that_is_not_there_says_what_to_install() -> anyhow::Result<()> {
    let world = World::start()?;
    if Path::new("/proc/sys/fs/binfmt_misc/qemu-s390x").exists() {
        eprintln!("skipped: this machine runs programs for s390x");
        return Ok(());
    }
    let project = world.project("FROM {busybox}\nRUN true\n")?;
    let build = world.build(&project).arg("--platform=linux/s390x").fail()?;
    build.assert_shows("programs for `linux/s390x` cannot run on this machine");
    build.assert_shows("install an emulator (package qemu-user-static with binfmt support)");
    build.assert_shows(">>> RUN true");
    // What is only copied needs no machine.
    let copied = "FROM --platform=linux/s390x {busybox}\nCOPY Dockerfile /\nWORKDIR /work\n";
    world.build(&world.project(copied)?).succeed()?;
    Ok(())
}
