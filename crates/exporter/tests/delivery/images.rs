//! Images of one platform: their documents, what the client is told, what is shown.

use std::fs;
use std::io::Read as _;

use cache::ImmutableRef;
use digests::Digest;
use exporter::ExportResult;
use serde_json::{Value, json};

use crate::workbench::{
    FILE_TIME, Workbench, descriptor, digest_at, single, with_metadata, with_statement,
};

/// Returns the result of a small Dockerfile build.
async fn built(bench: &Workbench) -> ExportResult {
    let result = single(bench.two_layers().await);
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Cmd": ["/app"], "Env": ["A=1"], "X-Unknown": true },
        "history": [
            { "created": "2020-02-02T02:02:02Z", "created_by": "ADD base" },
            { "created_by": "ENV A=1", "empty_layer": true },
            { "created_by": "RUN make", "comment": "buildkit.dockerfile.v0" },
        ],
        "x-unknown": { "z": 1 },
    });
    with_metadata(result, "containerimage.config", config)
}

const PLAIN: [(&str, &str); 2] =
    [("compression", "uncompressed"), ("source-date-epoch", "1700000000")];

#[tokio::test]
async fn an_image_has_a_manifest_and_a_completed_config() {
    let bench = Workbench::new().await;
    let result = built(&bench).await;
    let attributes = [&PLAIN[..], &[("name", "team/app:v1,app")]].concat();
    let response = bench.export("image", &attributes, &result).await.unwrap();

    assert_eq!(response["image.name"], "team/app:v1,app");
    let manifest = bench.root(&response).await;
    let digest = response["containerimage.digest"].parse().unwrap();
    insta::assert_snapshot!("manifest", bench.text(digest).await);
    let config = digest_at(&manifest, "/config");
    assert_eq!(response["containerimage.config.digest"], config.to_string());
    insta::assert_snapshot!("config", bench.text(config).await);
    let told = descriptor(&response);
    assert_eq!(told["digest"], response["containerimage.digest"]);
    assert_eq!(told["platform"], json!({ "architecture": "amd64", "os": "linux" }));
    assert!(told.get("annotations").is_none());
    assert_eq!(response.len(), 4, "{response:?}");
    assert_eq!(
        bench.counters(),
        [
            "exporting layers".to_owned(),
            format!("exporting manifest {}", response["containerimage.digest"]),
            format!("exporting config {}", response["containerimage.config.digest"]),
            "naming to team/app:v1".to_owned(),
            "naming to app".to_owned(),
        ]
    );
}

#[tokio::test]
async fn the_same_files_make_the_same_image() {
    let mut digests = Vec::new();
    for compression in ["gzip", "gzip", "zstd", "zstd"] {
        let bench = Workbench::new().await;
        let result = ExportResult { source_date_epoch: Some(1), ..built(&bench).await };
        let attributes = [("compression", compression)];
        let response = bench.export("image", &attributes, &result).await.unwrap();
        digests.push(response["containerimage.digest"].clone());
    }
    assert_eq!(digests[0], digests[1]);
    assert_eq!(digests[2], digests[3]);
    assert_ne!(digests[1], digests[2]);
}

#[tokio::test]
async fn an_image_that_nobody_described_gets_a_config() {
    let bench = Workbench::new().await;
    let result = single(bench.two_layers().await);
    let response = bench.export("image", &[], &result).await.unwrap();
    let manifest = bench.root(&response).await;
    let config = bench.json(digest_at(&manifest, "/config")).await;
    assert_eq!(config["architecture"], "amd64");
    assert_eq!(config["config"]["WorkingDir"], "/");
    let history: Vec<_> =
        config["history"].as_array().unwrap().iter().map(|entry| &entry["created_by"]).collect();
    assert_eq!(history, ["base", "RUN make"]);
    assert_eq!(config["created"], config["history"][1]["created"]);
    assert!(!response.contains_key("image.name"));
}

#[tokio::test]
async fn an_image_may_have_no_layers() {
    let bench = Workbench::new().await;
    let response = bench.export("image", &[], &single(ImmutableRef::default())).await.unwrap();
    let manifest = bench.root(&response).await;
    assert_eq!(manifest["layers"], json!([]));
    let config = bench.json(digest_at(&manifest, "/config")).await;
    assert_eq!(config["rootfs"], json!({ "type": "layers", "diff_ids": [] }));
}

#[tokio::test]
async fn layers_are_compressed_as_asked() {
    let bench = Workbench::new().await;
    let result = single(bench.two_layers().await);
    let oci = "application/vnd.oci.image.layer.v1.tar";
    let docker = "application/vnd.docker.image.rootfs.diff.tar";
    for (attributes, expected) in [
        (&[("compression", "zstd")][..], format!("{oci}+zstd")),
        // Archives that are there are used, unless they must not be.
        (&[], format!("{oci}+zstd")),
        (&[("compression", "gzip"), ("force-compression", "")], format!("{oci}+gzip")),
        (&[("oci-mediatypes", "false")], format!("{docker}.gzip")),
        (
            &[("compression", "uncompressed"), ("force-compression", "1"), ("oci-mediatypes", "0")],
            docker.to_owned(),
        ),
    ] {
        let response = bench.export("image", attributes, &result).await.unwrap();
        let manifest = bench.root(&response).await;
        for layer in manifest["layers"].as_array().unwrap() {
            assert_eq!(layer["mediaType"], expected, "{attributes:?}");
        }
        let is_docker = expected.starts_with(docker);
        let suffix = if is_docker { "docker.distribution" } else { "oci.image" };
        let kind = manifest["mediaType"].as_str().unwrap();
        assert!(kind.starts_with(&format!("application/vnd.{suffix}.manifest")), "{kind}");
    }
}

/// Returns the times of the files in a layer's archive, by path.
async fn times(bench: &Workbench, layer: Digest) -> Vec<(String, u64)> {
    let archive = bench.document(layer).await;
    let mut archive = tar::Archive::new(&archive[..]);
    let entry = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        (path, entry.header().mtime().unwrap())
    };
    archive.entries().unwrap().map(entry).collect()
}

#[tokio::test]
async fn times_in_new_layers_are_capped_if_asked() {
    let bench = Workbench::new().await;
    let tree = bench.two_layers().await;
    let plain = [("compression", "uncompressed")];
    let first = bench.export("image", &plain, &single(tree.clone())).await.unwrap();
    let first = bench.root(&first).await;
    let base = bench.json(digest_at(&first, "/config")).await;
    let base_layer = base["rootfs"]["diff_ids"][0].clone();

    let base = json!({
        "os": "linux",
        "architecture": "amd64",
        "rootfs": { "type": "layers", "diff_ids": [base_layer] },
        "history": [],
    });
    let result = with_metadata(single(tree), "containerimage.base.config", base);
    let attributes = [&plain[..], &[("rewrite-timestamp", "true"), ("source-date-epoch", "77")]];
    let response = bench.export("image", &attributes.concat(), &result).await.unwrap();
    let manifest = bench.root(&response).await;
    assert_eq!(manifest["layers"][0], first["layers"][0], "the base image's stays");
    assert_ne!(manifest["layers"][1], first["layers"][1]);
    assert_eq!(times(&bench, digest_at(&manifest, "/layers/1")).await, [("app".to_owned(), 77)]);
    let untouched = times(&bench, digest_at(&first, "/layers/1")).await;
    assert_eq!(untouched, [("app".to_owned(), FILE_TIME)]);
    let config = bench.json(digest_at(&manifest, "/config")).await;
    assert_eq!(config["rootfs"]["diff_ids"][1], manifest["layers"][1]["digest"]);
    let rewriting = "rewriting layers with source-date-epoch 77 (1970-01-01 00:01:17 +0000 UTC)";
    assert!(bench.counters().contains(&rewriting.to_owned()));
}

#[tokio::test]
async fn the_result_may_bring_the_name_and_annotations() {
    let bench = Workbench::new().await;
    let result = single(bench.two_layers().await);
    let result = with_metadata(result, "image.name", json!("from/frontend"));
    let result = with_metadata(result, "annotation.from", json!("frontend"));
    let attributes = [
        ("name", "*"),
        ("annotation.by", "client"),
        ("annotation[linux/amd64].here", "yes"),
        ("annotation-manifest-descriptor.told", "to client"),
    ];
    let response = bench.export("image", &attributes, &result).await.unwrap();
    assert_eq!(response["image.name"], "from/frontend");
    let expected = json!({ "by": "client", "from": "frontend", "here": "yes" });
    assert_eq!(bench.root(&response).await["annotations"], expected);
    assert_eq!(descriptor(&response)["annotations"], json!({ "told": "to client" }));
}

#[tokio::test]
async fn unnamed_images_may_be_named_by_their_digest() {
    let bench = Workbench::new().await;
    let result = single(bench.two_layers().await);
    let prefix = ("dangling-name-prefix", "none");
    let named = |attributes: &[(&'static str, &'static str)]| {
        let attributes = [attributes, &[prefix]].concat();
        let (bench, result) = (&bench, &result);
        async move { bench.export("image", &attributes, result).await.unwrap() }
    };
    let response = named(&[]).await;
    let digest = &response["containerimage.digest"];
    assert_eq!(response["image.name"], format!("none@{digest}"));
    let response = named(&[("name", "a")]).await;
    assert_eq!(response["image.name"], format!("a,none@{digest}"));
    let response = named(&[("name", "a"), ("danging-name-empty-only", "true")]).await;
    assert_eq!(response["image.name"], "a");
}

#[tokio::test]
async fn cache_keys_travel_in_the_config() {
    let bench = Workbench::new().await;
    let result = single(bench.two_layers().await);
    let result = with_metadata(result, "containerimage.inlinecache", json!("[]"));
    let response = bench.export("image", &[], &result).await.unwrap();
    let config = bench.json(response["containerimage.config.digest"].parse().unwrap()).await;
    assert_eq!(config["moby.buildkit.cache.v0"], "W10=");
}

#[tokio::test]
async fn the_archive_of_a_layer_has_its_files() {
    let bench = Workbench::on_overlay().await;
    let base = bench.two_layers().await;
    let top = bench.layer(&base, "RUN rm", |root| fs::remove_file(root.join("app")).unwrap()).await;
    let attributes = [("compression", "gzip")];
    let response = bench.export("image", &attributes, &single(top)).await.unwrap();
    let manifest = bench.root(&response).await;
    let mut names = Vec::new();
    for number in 0..3 {
        let layer = bench.document(digest_at(&manifest, &format!("/layers/{number}"))).await;
        let mut plain = Vec::new();
        snapshot::decompress(&layer[..]).unwrap().read_to_end(&mut plain).unwrap();
        let mut archive = tar::Archive::new(&plain[..]);
        for entry in archive.entries().unwrap() {
            names.push(entry.unwrap().path().unwrap().to_string_lossy().into_owned());
        }
    }
    assert_eq!(names, ["etc/", "etc/name", "app", ".wh.app"]);
}

#[tokio::test]
async fn statements_for_images_only_need_no_index_elsewhere() {
    let bench = Workbench::new().await;
    let result = with_statement(single(bench.two_layers().await), "linux/amd64", true);
    let manifests = |response: Value| response.get("manifests").is_some();
    let response = bench.export("image", &[], &result).await.unwrap();
    assert!(manifests(bench.root(&response).await));
    let response =
        bench.export("image", &[("attestation-inline", "false")], &result).await.unwrap();
    assert!(!manifests(bench.root(&response).await));
}
