//! What is wrong is said in the words that users know, with the lines it is about.

use bridge::{BuildError, Detail};

use crate::fake::Fake;

fn lines(error: &BuildError) -> Vec<i32> {
    let ranges = error.details().iter().filter_map(|detail| match detail {
        Detail::Source(excerpt) => {
            assert_eq!(excerpt.filename, "Dockerfile");
            assert!(!excerpt.data.is_empty());
            Some(excerpt.ranges.iter().map(|range| range.start.line))
        }
        _ => None,
    });
    ranges.flatten().collect()
}

/// A Dockerfile, what is said about it, and the lines that are meant.
const MISTAKES: &[(&str, &str, &[i32])] = &[
    (
        "FROM alpine\n\nRNU x\n",
        "dockerfile parse error on line 3: unknown instruction: RNU (did you mean RUN?)",
        &[3],
    ),
    (
        "FROM alpine\nCOPY --form=x \\\n a b\n",
        "dockerfile parse error on line 2: unknown flag: --form (did you mean from?)",
        &[2, 3],
    ),
    (
        "FROM alpine\nFROM alpine AS \"\"\n",
        "dockerfile parse error on line 2: invalid name for build stage: \"\\\"\\\"\", name can't start with a number or contain symbols",
        &[2],
    ),
    ("# just a comment\n", "file with no instructions", &[1]),
    ("ARG A=1\n", "dockerfile contains no stages to build", &[]),
    ("RUN x\n", "no build stage in current context", &[1]),
    ("FROM alpine\nRUN <<E\nx\n", "unterminated heredoc", &[2, 3]),
    ("FROM $NONE\n", "base name ($NONE) should not be blank", &[1]),
    (
        "FROM --platform=$TARGETPLATFROM alpine\n",
        "empty platform value from expression $TARGETPLATFROM (did you mean TARGETPLATFORM?)",
        &[1],
    ),
    (
        "FROM Upper\n",
        "failed to parse stage name \"Upper\": invalid reference format: repository name (library/Upper) must be lowercase",
        &[1],
    ),
    (
        "FROM alpin\n",
        "alpin: failed to resolve source metadata for docker.io/library/alpin:latest: docker.io/library/alpin:latest: not found (did you mean alpine?)",
        &[1],
    ),
    (
        "FROM alpin:latest\n",
        "alpin:latest: failed to resolve source metadata for docker.io/library/alpin:latest: docker.io/library/alpin:latest: not found (did you mean alpine:latest?)",
        &[1],
    ),
    (
        "FROM alpine AS first\nCOPY --from=later a b\nFROM alpine AS later\n",
        "cannot copy from stage \"later\", it needs to be defined before current stage \"first\"",
        &[2],
    ),
    ("FROM alpine\nCOPY --from=7 a b\n", "invalid stage index 7", &[2]),
    (
        "FROM alpine\nCOPY --from=$X a b\n",
        "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround",
        &[2],
    ),
    ("FROM alpine AS a\nCOPY --from=a a b\n", "circular dependency detected on stage: a", &[2]),
    (
        "FROM alpine\nRUN --mount=type=cahce,target=/x y\n",
        "unsupported mount type \"cahce\" (did you mean cache?)",
        &[2],
    ),
    ("FROM alpine\nRUN --mount=type=cache,target=/ y\n", "invalid mount target \"/\"", &[2]),
    (
        "FROM alpine AS first\nRUN --mount=from=late,target=/x y\nFROM alpine AS late\n",
        "cannot mount from stage \"late\" to \"/x\", stage needs to be defined before current command",
        &[2],
    ),
    (
        "FROM alpine\nCOPY --chmod=999 a b\n",
        "invalid chmod parameter: '999'. it should be octal string and between 0 and 07777",
        &[2],
    ),
    ("FROM alpine\nCOPY https://x/y b\n", "source can't be a URL for COPY", &[2]),
    ("FROM alpine\nADD --checksum=x a b\n", "checksum requires HTTP(S) or Git sources", &[2]),
    ("FROM alpine\nENV A=${B:?tell}\n", "failed to process \"${B:?tell}\": B: tell", &[2]),
    ("FROM alpine\nSTOPSIGNAL FOO\n", "invalid signal: FOO", &[2]),
    ("FROM alpine\nEXPOSE 80/foo\n", "invalid port: \"80/foo\": invalid proto: foo", &[2]),
    ("FROM alpine\nRUN []\n", "failed to marshal LLB definition: arguments are required", &[2]),
];

#[tokio::test]
async fn mistakes_are_told_with_their_lines() {
    for (dockerfile, message, expected) in MISTAKES {
        let target = if dockerfile.contains("AS first") { "first" } else { "" };
        let error = Fake::new(dockerfile).option("target", target).error().await;
        assert_eq!(error.message(), *message, "{dockerfile}");
        assert_eq!(lines(&error), *expected, "{dockerfile}");
        let frontend = error.details().last();
        assert!(matches!(frontend, Some(Detail::Frontend { name, .. }) if name == "dockerfile.v0"));
    }
}

#[tokio::test]
async fn the_wanted_stage_must_exist() {
    let fake = Fake::new("FROM alpine AS build\nFROM alpine AS test\n").option("target", "biuld");
    let error = fake.error().await;
    assert_eq!(error.message(), "target stage \"biuld\" could not be found (did you mean build?)");
}

#[tokio::test]
async fn a_missing_dockerfile_is_told() {
    let error = Fake::new("FROM x").option("filename", "sub/Other").error().await;
    assert_eq!(
        error.message(),
        "failed to read dockerfile: open sub/Other: no such file or directory"
    );
}

#[tokio::test]
async fn unknown_capabilities_are_refused() {
    let error = Fake::new("FROM scratch").option("frontend.caps", "foo").error().await;
    assert_eq!(error.message(), "unsupported frontend capability foo");
    let error = Fake::new("FROM scratch").option("requestid", "foo").error().await;
    assert_eq!(error.message(), "unsupported request foo");
    assert!(error.details().contains(&Detail::Subrequest("foo".to_owned())));
}
