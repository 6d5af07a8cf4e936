//! Small Dockerfiles and the graphs they become.

use crate::fake::Fake;

/// Checks the graph of a Dockerfile against the snapshot of this name.
macro_rules! graph {
    ($name:ident, $dockerfile:expr $(, $key:expr => $value:expr)* $(,)?) => {
        #[tokio::test]
        async fn $name() {
            let fake = Fake::new($dockerfile)$(.option($key, $value))*;
            insta::assert_snapshot!(stringify!($name), fake.graph().await);
        }
    };
}

graph!(a_stage_from_nothing, "FROM scratch\nCOPY a /b\n");
graph!(nothing_at_all, "FROM scratch\n");
graph!(a_plain_build, "FROM alpine\nWORKDIR /src\nCOPY . .\nRUN make\nCMD [\"a\"]\n");
graph!(
    several_stages,
    "FROM golang:1 AS build\nENV A=1\nRUN go build\nFROM build AS unused\nRUN false\n\
     FROM alpine\nCOPY --from=build /out /bin/\nCOPY --from=0 --chown=app:2 /x /y\n\
     COPY --from=busybox:1 /bin/sh /sh\n",
);
graph!(
    only_what_the_target_needs_is_built,
    "FROM alpine AS a\nRUN a\nFROM alpine AS b\nRUN b\nFROM a AS c\nRUN c\n",
    "target" => "c",
);
graph!(
    every_kind_of_mount,
    "FROM alpine AS base\nFROM alpine\nWORKDIR /w\n\
     RUN --mount=target=/ctx,source=sub --mount=type=bind,from=base,target=rel,rw \\\n\
     --mount=type=cache,target=/c --mount=type=cache,id=x,target=/d,sharing=locked,uid=1,gid=2,mode=0700 \\\n\
     --mount=type=cache,target=/e,from=base,source=/seed,ro --mount=type=tmpfs,target=/t,size=1k \\\n\
     --mount=type=secret,id=s --mount=type=secret,id=e,env=TOKEN,required --mount=type=secret,source=f,target=/f,uid=5 \\\n\
     --mount=type=ssh --mount=type=ssh,id=k,target=/k.sock,mode=0777 \\\n\
     make $TOKEN\n",
    "build-arg:BUILDKIT_CACHE_MOUNT_NS" => "ns",
);
graph!(
    surroundings_of_commands,
    "FROM alpine\nARG V=1\nUSER me\nRUN --network=none --security=insecure --device=vendor.com/d=a a\nRUN b\n",
    "build-arg:HTTP_PROXY" => "http://p",
    "build-arg:V" => "2",
    "add-hosts" => "db=10.0.0.1",
    "hostname" => "h",
    "ulimit" => "nofile=1:2",
    "shm-size" => "1024",
    "cgroup-parent" => "cg",
    "memory" => "4096",
    "force-network-mode" => "host",
);
graph!(
    heredocs_of_commands,
    "FROM alpine\nRUN <<EOF\necho $A\necho b\nEOF\nRUN <<-X\n\t#!/bin/sh\n\techo\n\tX\nRUN cat <<A >x && cat <<B\na\nA\nb\nB\n",
);
graph!(
    heredocs_of_copies,
    "FROM alpine\nENV A=1\nCOPY <<one <<\"two\" f /d/\n\"$A\"\none\n$A\ntwo\nADD <<x /y\nx\n",
);
graph!(
    copies_with_all_their_flags,
    "FROM alpine\nCOPY --chmod=u+x --exclude=*.md --exclude=x a* b/ /c/\nCOPY --parents src/./lib/*.c /p/\n\
     COPY --parents a/b /p\nADD --chmod=0644 a.tar /\nADD --unpack=false b.tar .\nCOPY [\"a b\", \"c d\"]\n",
);
graph!(linked_copies, "FROM alpine\nCOPY --link a /a\nCOPY --link --chmod=1 b /b\nRUN c\n",);
graph!(
    sources_that_are_addresses,
    "FROM scratch\nADD https://example.com/a/b.tar /x/\n\
     ADD --checksum=sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 https://example.com/c /c\n\
     ADD --keep-git-dir https://example.com/r.git?ref=v1&subdir=d /r\nADD git@example.com:a/b.git#main /s\n",
);
graph!(
    words_are_expanded,
    "ARG TAG=latest\nFROM alpine:${TAG}\nARG D=/d\nENV E=${D}/e F=\"a $E\"\nWORKDIR $D\n\
     COPY --chown=${D#/} $E \"$D\"\nRUN --mount=type=cache,target=$D/c echo $D ${NONE}\nUSER ${D%d}u\n",
);
graph!(
    triggers_of_a_stage,
    "FROM alpine AS base\nONBUILD COPY a /a\nONBUILD ENV X=1\nFROM base\nRUN b\n",
);
graph!(
    no_cache_for_some_stages,
    "FROM alpine AS a\nRUN a\nFROM a AS b\nRUN b\n",
    "no-cache" => "B",
);
graph!(
    several_platforms,
    "FROM --platform=$BUILDPLATFORM alpine AS build\nARG TARGETARCH\nRUN cross $TARGETARCH\n\
     FROM alpine\nCOPY --from=build /o /o\nRUN x\n",
    "platform" => "linux/amd64,linux/arm64",
);
graph!(
    a_time_for_everything,
    "FROM alpine\nWORKDIR /a\n",
    "build-arg:SOURCE_DATE_EPOCH" => "1700000000",
);
graph!(
    many_steps_are_counted_with_padding,
    "FROM alpine\nRUN 1\nRUN 2\nRUN 3\nRUN 4\nRUN 5\nRUN 6\nRUN 7\nRUN 8\nRUN 9\nWORKDIR /\n",
);
