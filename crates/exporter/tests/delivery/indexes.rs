//! Images that are an index: several platforms, attestations.

use std::fs;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::workbench::{
    Workbench, by_platform, descriptor, digest_at, single, with_metadata, with_statement,
};

const PLAIN: [(&str, &str); 2] =
    [("compression", "uncompressed"), ("source-date-epoch", "1700000000")];

#[tokio::test]
async fn an_attestation_makes_an_index() {
    let bench = Workbench::new().await;
    let result = with_statement(single(bench.two_layers().await), "linux/amd64", false);
    let attributes = [&PLAIN[..], &[("name", "localhost:5000/app:v1,busybox")]].concat();
    let response = bench.export("image", &attributes, &result).await.unwrap();
    assert!(!response.contains_key("containerimage.config.digest"));
    let index = bench.root(&response).await;
    let digest = response["containerimage.digest"].parse().unwrap();
    insta::assert_snapshot!("index", bench.text(digest).await);
    let attestation = digest_at(&index, "/manifests/1");
    let manifest = bench.json(attestation).await;
    insta::assert_snapshot!("attestation", bench.text(attestation).await);
    assert_eq!(&bench.document(digest_at(&manifest, "/config")).await[..], b"{}");
    let statement = bench.text(digest_at(&manifest, "/layers/0")).await;
    insta::assert_snapshot!("statement", statement);

    let image = digest_at(&index, "/manifests/0");
    let config = digest_at(&bench.json(image).await, "/config");
    assert_eq!(
        bench.counters(),
        [
            "exporting layers".to_owned(),
            format!("exporting manifest {image}"),
            format!("exporting config {config}"),
            format!("exporting attestation manifest {attestation}"),
            format!("exporting manifest list {}", response["containerimage.digest"]),
            "naming to localhost:5000/app:v1".to_owned(),
            "naming to busybox".to_owned(),
        ]
    );
}

#[tokio::test]
async fn attestations_may_look_like_an_image() {
    let bench = Workbench::new().await;
    let result = with_statement(single(bench.two_layers().await), "linux/amd64", false);
    let response = bench.export("image", &[("oci-artifact", "false")], &result).await.unwrap();
    let index = bench.root(&response).await;
    let manifest = bench.json(digest_at(&index, "/manifests/1")).await;
    assert!(manifest.get("artifactType").is_none() && manifest.get("subject").is_none());
    let statement = digest_at(&manifest, "/layers/0");
    let config = bench.document(digest_at(&manifest, "/config")).await;
    let expected = format!(
        concat!(
            r#"{{"architecture":"unknown","os":"unknown","config":{{}},"#,
            r#""rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#
        ),
        statement
    );
    assert_eq!(String::from_utf8_lossy(&config), expected);
}

#[tokio::test]
async fn platforms_stand_in_the_order_of_the_frontend() {
    let bench = Workbench::new().await;
    let tree = bench.two_layers().await;
    let trees =
        [("linux/riscv64", tree.clone()), ("linux/amd64", tree.clone()), ("linux/arm/v7", tree)];
    let mut result = by_platform(&trees);
    for (id, ..) in &trees {
        let config = json!({ "os": "linux", "architecture": id, "config": { "Env": [id] } });
        result = with_metadata(result, &format!("containerimage.config/{id}"), config);
        result = with_statement(result, id, true);
    }
    let attributes = [
        ("annotation-index.on", "index"),
        ("annotation-index-descriptor.told", "to client"),
        ("annotation-manifest-descriptor[linux/arm/v7].on", "arm"),
    ];
    let response = bench.export("image", &attributes, &result).await.unwrap();
    let index = bench.root(&response).await;
    assert_eq!(index["annotations"], json!({ "on": "index" }));
    assert_eq!(descriptor(&response)["annotations"], json!({ "told": "to client" }));
    let manifests = index["manifests"].as_array().unwrap();
    let architecture =
        |entry: &Value| entry["platform"]["architecture"].as_str().unwrap().to_owned();
    let found: Vec<_> = manifests.iter().map(architecture).collect();
    assert_eq!(found, ["riscv64", "amd64", "arm", "unknown", "unknown", "unknown"]);
    assert_eq!(manifests[2]["annotations"], json!({ "on": "arm" }));
    for (number, (id, ..)) in trees.iter().enumerate() {
        let manifest = bench.json(digest_at(&index, &format!("/manifests/{number}"))).await;
        let config = bench.json(digest_at(&manifest, "/config")).await;
        assert_eq!(config["config"]["Env"], json!([id]), "each platform has its own config");
        let about = &manifests[number + 3]["annotations"]["vnd.docker.reference.digest"];
        assert_eq!(about, &manifests[number]["digest"]);
    }
}

#[tokio::test]
async fn one_platform_of_many_is_an_index_all_the_same() {
    let bench = Workbench::new().await;
    let result = by_platform(&[("linux/arm64", bench.two_layers().await)]);
    let response = bench.export("image", &[("oci-mediatypes", "false")], &result).await.unwrap();
    let index = bench.root(&response).await;
    let kind = "application/vnd.docker.distribution.manifest.list.v2+json";
    assert_eq!(index["mediaType"], kind);
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(descriptor(&response)["mediaType"], kind);
}

/// Returns what an image says of itself, told this; the manifest of the image is beside it.
async fn listed(bench: &Workbench, said: &Value, is_list: bool) -> (Value, Value) {
    let base = bench.first_layer("base", |root| {
        fs::create_dir(root.join("etc")).unwrap();
        fs::write(root.join("etc/name"), "base").unwrap();
        fs::write(root.join("etc/gone"), "base").unwrap();
        fs::write(root.join("etc/same"), "base").unwrap();
    });
    let base = base.await;
    let top = bench.layer(&base, "RUN make", |root| {
        fs::write(root.join("app"), "app").unwrap();
        fs::write(root.join("etc/name"), "other").unwrap();
        fs::remove_file(root.join("etc/gone")).unwrap();
    });
    let mut result = with_statement(single(top.await), "linux/amd64", false);
    let statement = &mut result.attestations.get_mut("linux/amd64").unwrap()[0];
    statement.predicate = Bytes::from(said.to_string()).into();
    statement.is_list = is_list;
    let response = bench.export("image", &[], &result).await.unwrap();
    let index = bench.root(&response).await;
    let manifest = bench.json(digest_at(&index, "/manifests/1")).await;
    let statement = bench.json(digest_at(&manifest, "/layers/0")).await;
    (statement["predicate"].clone(), bench.json(digest_at(&index, "/manifests/0")).await)
}

#[tokio::test]
async fn a_list_of_an_image_says_in_which_layer_a_file_is() {
    let bench = Workbench::on_overlay().await;
    let paths = ["/etc/name", "./etc/same", "etc/gone", "app", "etc", "nowhere", "etc/.wh.gone"];
    let files: Vec<_> = paths.iter().map(|path| json!({ "fileName": path })).collect();
    let list = json!({ "spdxVersion": "SPDX-2.3", "files": files });
    let (said, manifest) = listed(&bench, &list, true).await;
    let layers: Vec<_> = manifest["layers"].as_array().unwrap().iter().collect();
    let comment =
        |layer: usize| json!(format!("layerID: {}", layers[layer]["digest"].as_str().unwrap()));
    let comments: Vec<_> =
        said["files"].as_array().unwrap().iter().map(|file| &file["comment"]).collect();
    let expected =
        [comment(1), comment(0), comment(0), comment(1), comment(1), Value::Null, Value::Null];
    assert_eq!(comments, expected.iter().collect::<Vec<_>>());
    let creator = said["creationInfo"]["creators"][0].as_str().unwrap();
    assert!(creator.starts_with("Tool: larder-"), "{creator}");
}

#[tokio::test]
async fn nothing_is_added_to_other_lists_and_to_what_is_none() {
    let bench = Workbench::on_overlay().await;
    let list = json!({ "files": [{ "fileName": "/app" }], "spdxVersion": "SPDX-2.3" });
    assert_eq!(listed(&bench, &list, false).await.0, list);
    let other = json!({ "files": "app" });
    assert_eq!(listed(&bench, &other, true).await.0, other);
}
