//! Images that are an index: several platforms, attestations.

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
