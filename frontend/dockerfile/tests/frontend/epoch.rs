//! The time of a build by the name of something that has one.

use bridge::keys;
use serde_json::Value;

use crate::fake::Fake;

const ARGUMENT: &str = "build-arg:SOURCE_DATE_EPOCH";

/// Builds and returns the time of the result, and the history.
async fn built(fake: Fake) -> (String, Vec<(String, String)>) {
    let result = fake.build().await;
    let epoch = result.metadata.get(keys::SOURCE_DATE_EPOCH).cloned().unwrap_or_default();
    let config: Value = serde_json::from_slice(&result.metadata[keys::IMAGE_CONFIG]).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entry = |entry: &Value| (text(&entry["created"]), text(&entry["created_by"]));
    let history = config["history"].as_array().into_iter().flatten().map(entry).collect();
    (String::from_utf8(epoch.to_vec()).unwrap(), history)
}

#[tokio::test]
async fn a_repository_as_context_has_the_time_of_its_commit() {
    let (epoch, history) = built(
        Fake::new("")
            .file(
                "git:example.com/r.git#main",
                "Dockerfile",
                "FROM scratch\nARG SOURCE_DATE_EPOCH\nCOPY a /\n",
            )
            .option("context", "https://example.com/r.git#main")
            .option(ARGUMENT, "context")
            .time("git:example.com/r.git#main", "a", 1_600_000_000),
    )
    .await;
    assert_eq!(epoch, "1600000000");
    // Steps see the number, not the name.
    assert_eq!(history[0].1, "ARG SOURCE_DATE_EPOCH=1600000000");
    assert_eq!(history[1].0, "2020-09-13T12:26:40Z");
}

#[tokio::test]
async fn a_directory_has_no_time() {
    let fake = Fake::new("FROM scratch\nARG SOURCE_DATE_EPOCH=unset\nCOPY a /\n");
    let (epoch, history) = built(fake.option(ARGUMENT, "context")).await;
    assert_eq!((epoch.as_str(), history[1].0.as_str()), ("", ""));
    assert_eq!(history[0].1, "ARG SOURCE_DATE_EPOCH=unset");
}

#[tokio::test]
async fn a_context_by_name_and_a_stage_have_times() {
    let named = Fake::new("FROM scratch\nCOPY --from=src / /\n")
        .option("context:src", "https://example.com/f")
        .option(ARGUMENT, "src")
        .time("https:example.com/f", "context", 7);
    assert_eq!(built(named).await.0, "7");
    for (add, tree, file) in [
        ("ARG V=1\nADD https://example.com/$V.tar /", "https:example.com/1.tar", "1.tar"),
        ("ADD https://example.com/r.git#v1 /", "git:example.com/r.git#v1", "a"),
    ] {
        let dockerfile = format!(
            "ARG SOURCE_DATE_EPOCH=src\nFROM scratch AS src\n{add}\nFROM scratch\nCOPY a /\n"
        );
        assert_eq!(built(Fake::new(&dockerfile).time(tree, file, 8)).await.0, "8", "{add}");
    }
    // A server that tells no time.
    let silent = Fake::new("FROM scratch\nCOPY a /\n")
        .option("context:src", "https://example.com/f")
        .option(ARGUMENT, "src")
        .time("https:example.com/f", "context", 0);
    assert_eq!(built(silent).await.0, "");
}

#[tokio::test]
async fn an_archive_whose_server_tells_no_time_has_that_of_its_newest_file() {
    let tree = "https:example.com/a.tar";
    for (head, expected) in
        [(&[0x1f, 0x8b, 8, 0][..], "9"), (&[0x28, 0xb5, 0x2f, 0xfd], "9"), (b"text", "")]
    {
        let fake = Fake::new("FROM scratch\nCOPY a /\n")
            .option("context:src", "https://example.com/a.tar")
            .option(ARGUMENT, "src")
            .bytes(tree, "context", head)
            .time("unpacked:https:example.com/a.tar", "deep/down", 9);
        assert_eq!(built(fake).await.0, expected, "{head:?}");
    }
    // As the main context.
    let fake = Fake::new("")
        .bytes("https:example.com/a.tar", "context", &[0x1f, 0x8b, 8, 0])
        .file("unpacked:https:example.com/a.tar", "Dockerfile", "FROM scratch\nCOPY a /\n")
        .time("unpacked:https:example.com/a.tar", "a", 9)
        .option("context", "https://example.com/a.tar")
        .option(ARGUMENT, "context");
    assert_eq!(built(fake).await.0, "9");
}

#[tokio::test]
async fn what_has_no_time_is_told() {
    for (stage, expected) in [
        ("FROM scratch AS other", "invalid SOURCE_DATE_EPOCH: src"),
        ("FROM alpine AS src", "SOURCE_DATE_EPOCH stage must use FROM scratch"),
        ("FROM scratch AS src", "SOURCE_DATE_EPOCH stage must contain exactly one remote ADD"),
        (
            "FROM scratch AS src\nADD https://x/a https://x/b /",
            "SOURCE_DATE_EPOCH stage must contain exactly one remote ADD source",
        ),
        (
            "FROM scratch AS src\nADD https://x/a /\nADD https://x/b /",
            "SOURCE_DATE_EPOCH stage must contain exactly one remote ADD",
        ),
        (
            "FROM scratch AS src\nADD a /",
            "SOURCE_DATE_EPOCH stage source must be a single HTTP(S) or Git ADD",
        ),
        (
            "FROM scratch AS src\nENV A=1",
            "SOURCE_DATE_EPOCH stage does not meet source-only requirements: unsupported ENV instruction",
        ),
    ] {
        let error = Fake::new(&format!("{stage}\n")).option(ARGUMENT, "src").error().await;
        assert_eq!(error.message(), expected, "{stage}");
    }
}
