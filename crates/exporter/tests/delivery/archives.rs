//! Images as archives, and in the client's content store.

use std::collections::BTreeMap;
use std::io::Read as _;

use bytes::Bytes;
use digests::Digest;
use exporter::ExportResult;
use oci::{Index, Manifest, Raw};
use serde_json::{Value, json};
use session::testing::{ConnectedClient, FakeClient};

use crate::registry_program::{inspect, skopeo};
use crate::workbench::{Workbench, by_platform, descriptor, digest_at, single, with_statement};

async fn client(bench: &Workbench) -> ConnectedClient {
    FakeClient::new().with_output_file(0).connect(&bench.sessions, "s").await.unwrap()
}

/// Exports and returns the archive that the client got, and what it was told before.
async fn archive(
    bench: &Workbench,
    client: &ConnectedClient,
    kind: &str,
    attributes: &[(&str, &str)],
    result: &ExportResult,
) -> (Bytes, BTreeMap<String, String>) {
    let response = bench.export(kind, attributes, result).await.unwrap();
    let record = client.take_record();
    for (key, value) in &response {
        let told = (format!("exporter-md-{key}"), value.clone());
        assert!(record.sends[0].contains(&told), "{told:?}");
    }
    (record.files[&0].clone(), response)
}

/// Returns the files of an archive, by name, in its order.
fn files(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(archive);
    let mut found = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        assert_eq!(entry.header().mtime().unwrap(), 0);
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        found.push((entry.path().unwrap().to_string_lossy().into_owned(), content));
    }
    found
}

fn json_of(files: &[(String, Vec<u8>)], name: &str) -> Value {
    let (_, content) = files.iter().find(|(other, _)| other == name).unwrap();
    serde_json::from_slice(content).unwrap()
}

#[tokio::test]
async fn an_oci_archive_is_a_layout() {
    let bench = Workbench::new().await;
    let client = client(&bench).await;
    let result = ExportResult { source_date_epoch: Some(5), ..single(bench.two_layers().await) };
    let attributes = [("name", "app,r.example/app:v1")];
    let (sent, response) = archive(&bench, &client, "oci", &attributes, &result).await;
    assert_eq!(response["image.name"], "docker.io/library/app:latest,r.example/app:v1");
    let files = files(&sent);
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.is_sorted(), "{names:?}");
    assert_eq!(names[..2], ["blobs/", "blobs/sha256/"]);
    assert_eq!(names[names.len() - 2..], ["index.json", "oci-layout"]);
    for (name, content) in &files {
        if let Some(hex) = name.strip_prefix("blobs/sha256/").filter(|hex| !hex.is_empty()) {
            assert_eq!(Digest::of(content).hex(), hex);
        }
    }
    let index = json_of(&files, "index.json");
    let told = descriptor(&response);
    assert_eq!(
        told["annotations"],
        json!({ "org.opencontainers.image.created": "1970-01-01T00:00:05Z" })
    );
    for (number, name, tag) in
        [(0, "docker.io/library/app:latest", "latest"), (1, "r.example/app:v1", "v1")]
    {
        let entry = &index["manifests"][number];
        assert_eq!(entry["digest"], told["digest"]);
        assert_eq!(entry["annotations"]["io.containerd.image.name"], name);
        assert_eq!(entry["annotations"]["org.opencontainers.image.ref.name"], tag);
    }
    let counters = bench.counters();
    assert_eq!(counters.first().unwrap(), "exporting layers");
    assert_eq!(counters.last().unwrap(), "sending tarball");

    let (again, _) = archive(&bench, &client, "oci", &attributes, &result).await;
    assert_eq!(again, sent, "the same image is the same archive");
}

#[tokio::test]
async fn other_programs_read_the_archives() {
    let bench = Workbench::new().await;
    let client = client(&bench).await;
    let directory = tempfile::tempdir().unwrap();
    let result = single(bench.two_layers().await);
    for (kind, attributes) in [
        ("oci", &[("name", "app:v1")][..]),
        ("oci", &[("name", "app:v1"), ("compression", "zstd"), ("force-compression", "1")]),
        ("docker", &[("name", "app:v1"), ("force-compression", "1")]),
        (
            "docker",
            &[("name", "app:v1"), ("compression", "uncompressed"), ("force-compression", "1")],
        ),
    ] {
        let (sent, response) = archive(&bench, &client, kind, attributes, &result).await;
        let path = directory.path().join("image.tar");
        std::fs::write(&path, &sent).unwrap();
        let image = format!("{kind}-archive:{}", path.display());
        let arguments = ["--override-os=linux", "--override-arch=amd64", &image];
        let Some(seen) = inspect(&arguments).await else { return };
        assert_eq!(seen["Layers"].as_array().unwrap().len(), 2);
        if kind == "oci" {
            assert_eq!(seen["Digest"], response["containerimage.digest"]);
        }
        let copy = format!("dir:{}", directory.path().join("copy").display());
        let copied = skopeo(&["--insecure-policy", "copy", &image, &copy]).await.unwrap();
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    }
}

#[tokio::test]
async fn a_docker_archive_says_what_to_load() {
    let bench = Workbench::new().await;
    let client = client(&bench).await;
    let result = with_statement(single(bench.two_layers().await), "linux/amd64", true);
    let attributes = [("name", "app,r.example/app:v1")];
    let (sent, response) = archive(&bench, &client, "docker", &attributes, &result).await;
    let files = files(&sent);
    let images = json_of(&files, "manifest.json");
    let manifest = bench.root(&response).await;
    let path = |pointer: &str| format!("blobs/sha256/{}", digest_at(&manifest, pointer).hex());
    let expected = json!([{
        "Config": path("/config"),
        "RepoTags": ["app:latest", "r.example/app:v1"],
        "Layers": [path("/layers/0"), path("/layers/1")],
    }]);
    assert_eq!(images, expected);
    assert!(json_of(&files, "index.json")["manifests"].as_array().unwrap().len() == 2);

    let (sent, response) = archive(&bench, &client, "docker", &[], &result).await;
    assert_eq!(json_of(&self::files(&sent), "manifest.json")[0]["RepoTags"], Value::Null);
    assert!(!response.contains_key("image.name"));
}

#[tokio::test]
async fn docker_archives_hold_no_index() {
    let bench = Workbench::new().await;
    let tree = bench.two_layers().await;
    let attested = with_statement(single(tree.clone()), "linux/amd64", false);
    for result in [by_platform(&[("linux/amd64", tree)]), attested] {
        let error = bench.export("docker", &[], &result).await.unwrap_err();
        let expected = "docker exporter does not currently support exporting manifest lists";
        assert_eq!(error.to_string(), expected);
        assert!(bench.counters().is_empty(), "it is known before any work");
    }
}

#[tokio::test]
async fn an_index_goes_into_an_oci_archive() {
    let bench = Workbench::new().await;
    let client = client(&bench).await;
    let tree = bench.two_layers().await;
    let result = by_platform(&[("linux/amd64", tree.clone()), ("linux/arm64", tree)]);
    let result = with_statement(result, "linux/amd64", false);
    let (sent, response) = archive(&bench, &client, "oci", &[], &result).await;
    let files: BTreeMap<_, _> = files(&sent).into_iter().collect();
    let content =
        |digest: Digest| Bytes::from(files[&format!("blobs/sha256/{}", digest.hex())].clone());
    let root = response["containerimage.digest"].parse().unwrap();
    let index = Raw::<Index>::parse(content(root)).unwrap();
    assert_eq!(index.manifests.len(), 3);
    for entry in &index.manifests {
        let manifest = Raw::<Manifest>::parse(content(entry.digest)).unwrap();
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            assert_eq!(Digest::of(content(blob.digest)), blob.digest);
        }
    }
}

#[tokio::test]
async fn an_image_goes_into_the_client_s_store() {
    let bench = Workbench::new().await;
    let seed = Bytes::from_static(b"a store that is there");
    let client = FakeClient::new().with_store("export", [seed]);
    let client = client.connect(&bench.sessions, "s").await.unwrap();
    let result = with_statement(single(bench.two_layers().await), "linux/amd64", false);
    let attributes = [("name", "app"), ("tar", "false")];
    // The second time everything is there already.
    for _ in 0..2 {
        let response = bench.export("oci", &attributes, &result).await.unwrap();
        assert_eq!(response["image.name"], "docker.io/library/app:latest");
        let blobs = client.blobs("export");
        let root = &blobs[&response["containerimage.digest"].parse().unwrap()];
        let index = Raw::<Index>::parse(root.clone()).unwrap();
        for entry in &index.manifests {
            let manifest = Raw::<Manifest>::parse(blobs[&entry.digest].clone()).unwrap();
            for blob in manifest.layers.iter().chain([&manifest.config]) {
                assert_eq!(blobs[&blob.digest].len() as u64, blob.size);
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_has_the_archive_need_not_take_it() {
    let bench = Workbench::new().await;
    let client = FakeClient::new().with_existing_output(0);
    let _client = client.connect(&bench.sessions, "s").await.unwrap();
    let result = single(bench.two_layers().await);
    let response = bench.export("oci", &[], &result).await.unwrap();
    assert!(response.contains_key("containerimage.digest"));
}
