//! Results as files in the client's directory.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use cache::ImmutableRef;
use digests::Digest;
use serde_json::{Value, json};
use session::testing::FakeClient;

use crate::workbench::{FILE_TIME, Workbench, by_platform, single, with_metadata, with_statement};

/// Returns the files below a directory with their content, by path.
fn contents(directory: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![directory.to_path_buf()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(directory).unwrap().to_string_lossy().into_owned();
            if path.is_symlink() {
                found.insert(name, format!("-> {}", fs::read_link(&path).unwrap().display()));
            } else if path.is_dir() {
                left.push(path);
            } else {
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn files_arrive_as_they_are_seen() {
    let bench = Workbench::on_overlay().await;
    let output = tempfile::tempdir().unwrap();
    let client = FakeClient::new().with_output_directory(0, output.path());
    let client = client.connect(&bench.sessions, "s").await.unwrap();
    fs::write(output.path().join("mine"), "stays").unwrap();
    let base = bench.two_layers().await;
    let tree = bench.layer(&base, "RUN rm", |root| {
        fs::remove_file(root.join("app")).unwrap();
        symlink("etc/name", root.join("link")).unwrap();
    });
    let result = single(tree.await);
    let response = bench.export("local", &[("dest", "ignored")], &result).await.unwrap();
    assert!(response.is_empty());
    let expected = [("etc/name", "base"), ("link", "-> etc/name"), ("mine", "stays")];
    assert_eq!(contents(output.path()), map(&expected));
    let time = fs::metadata(output.path().join("etc/name")).unwrap().mtime();
    assert_eq!(time, FILE_TIME as i64);
    assert_eq!(bench.counters(), ["copying files"]);
    assert_eq!(
        client.record().sends[0],
        [("buildkit-attachable-exporter-id".to_owned(), "0".to_owned())]
    );
}

#[tokio::test]
async fn all_files_may_have_one_time() {
    let bench = Workbench::new().await;
    let tree = bench.two_layers().await;
    let from_frontend = with_metadata(single(tree.clone()), "source.date.epoch", json!("6"));
    for (attributes, result, expected) in [
        (&[("source-date-epoch", "5")][..], single(tree), 5),
        (&[], from_frontend.clone(), 6),
        (&[("source-date-epoch", "")], from_frontend, FILE_TIME as i64),
    ] {
        let output = tempfile::tempdir().unwrap();
        let client = FakeClient::new().with_output_directory(0, output.path());
        let _client = client.connect(&bench.sessions, "s").await.unwrap();
        bench.export("local", attributes, &result).await.unwrap();
        assert_eq!(fs::metadata(output.path().join("app")).unwrap().mtime(), expected);
    }
}

#[tokio::test]
async fn each_platform_has_a_directory() {
    let bench = Workbench::new().await;
    let (tree, arm) = (bench.two_layers().await, bench.two_layers().await);
    let result = by_platform(&[("linux/amd64", tree), ("linux/arm/v7", arm)]);
    let expected = map(&[
        ("linux_amd64/etc/name", "base"),
        ("linux_amd64/app", "app"),
        ("linux_arm_v7/etc/name", "base"),
        ("linux_arm_v7/app", "app"),
    ]);
    for mirrors in [false, true] {
        let bench = &bench;
        let output = tempfile::tempdir().unwrap();
        fs::write(output.path().join("old"), "old").unwrap();
        let (client, mode) = match mirrors {
            true => (FakeClient::new().with_mirror(0, output.path()), "delete"),
            false => (FakeClient::new().with_output_directory(0, output.path()), "copy"),
        };
        let client = client.connect(&bench.sessions, "s").await.unwrap();
        bench.export("local", &[("mode", mode)], &result).await.unwrap();
        let mut found = contents(output.path());
        assert_eq!(found.remove("old").is_none(), mirrors);
        assert_eq!(found, expected, "{mode}");
        assert_eq!(client.record().sends.len(), if mirrors { 1 } else { 2 });
    }
    let mut counters = bench.counters();
    counters.sort();
    assert_eq!(
        counters,
        ["copying files", "copying files linux/amd64", "copying files linux/arm/v7"]
    );
}

#[tokio::test]
async fn platforms_share_a_directory_only_if_nothing_is_overwritten() {
    let bench = Workbench::new().await;
    let file = |name: &'static str| {
        let bench = &bench;
        let write = move |root: &Path| fs::write(root.join(name), name).unwrap();
        async move { bench.first_layer("COPY", write).await }
    };
    let (one, two) = (file("one").await, file("two").await);
    let output = tempfile::tempdir().unwrap();
    let client = FakeClient::new().with_output_directory(0, output.path());
    let _client = client.connect(&bench.sessions, "s").await.unwrap();
    let together = [("platform-split", "false")];
    let result = by_platform(&[("linux/amd64", one.clone()), ("linux/arm64", two.clone())]);
    let result = with_statement(result, "linux/amd64", false);
    bench.export("local", &together, &result).await.unwrap();
    let mut found = contents(output.path());
    assert!(found.remove("provenance.linux_amd64.json").is_some());
    assert_eq!(found, map(&[("one", "one"), ("two", "two")]));

    let result = by_platform(&[("linux/amd64", one.clone()), ("linux/arm64", one)]);
    let error = bench.export("local", &together, &result).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot overwrite one from linux/amd64 with linux/arm64 when split option is disabled"
    );
    let both = [together[0], ("mode", "delete")];
    let error = bench.export("local", &both, &result).await.unwrap_err();
    assert!(error.to_string().contains("leave out platform-split=false"), "{error}");
}

#[tokio::test]
async fn statements_lie_beside_the_files_they_are_about() {
    let bench = Workbench::new().await;
    let result = with_statement(single(bench.two_layers().await), "linux/amd64", false);
    let output = tempfile::tempdir().unwrap();
    let client = FakeClient::new().with_output_directory(0, output.path());
    let _client = client.connect(&bench.sessions, "s").await.unwrap();
    let attributes = [("attestation-prefix", "app-"), ("platform-split", "true")];
    bench.export("local", &attributes, &result).await.unwrap();
    let found = contents(output.path());
    let text = &found["linux_amd64/app-provenance.json"];
    assert!(text.starts_with("{\n  \"_type\": "), "{text}");
    let statement: Value = serde_json::from_str(text).unwrap();
    assert_eq!(
        statement["subject"],
        json!([
            { "name": "app", "digest": { "sha256": Digest::of("app").hex() } },
            { "name": "etc/name", "digest": { "sha256": Digest::of("base").hex() } },
        ])
    );
    assert_eq!(statement["predicate"]["buildDefinition"]["buildType"], "test");
}

#[tokio::test]
async fn statements_for_images_only_are_no_files() {
    let bench = Workbench::new().await;
    let result = with_statement(single(ImmutableRef::default()), "linux/amd64", true);
    let output = tempfile::tempdir().unwrap();
    let client = FakeClient::new().with_output_directory(0, output.path());
    let _client = client.connect(&bench.sessions, "s").await.unwrap();
    bench.export("local", &[], &result).await.unwrap();
    assert!(contents(output.path()).is_empty());
}
