//! Requests that make no sense, results that do not fit, and others that fail us.

use cache::ImmutableRef;
use content::testing::Call;
use exporter::ExportError;
use serde_json::json;
use session::testing::FakeClient;

use crate::workbench::{Workbench, by_platform, request, single, with_metadata, with_statement};

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_before_any_work() {
    let bench = Workbench::new().await;
    let exporters = bench.exporters();
    for (kind, attributes, expected) in [
        ("moby", &[][..], "exporter \"moby\" could not be found"),
        ("", &[], "exporter \"\" could not be found"),
        ("image", &[("push", "yes")], "attribute `push`"),
        ("image", &[("oci-mediatypes", "")], "attribute `oci-mediatypes`"),
        ("image", &[("rewrite-timestamp", "maybe")], "attribute `rewrite-timestamp`"),
        ("image", &[("compression", "estargz")], "attribute `compression`"),
        ("image", &[("compression-level", "11")], "attribute `compression-level`"),
        ("image", &[("source-date-epoch", "now")], "attribute `source-date-epoch`"),
        ("image", &[("annotation-layer.a", "b")], "attribute `annotation-layer.a`"),
        ("image", &[("name", "Upper"), ("push", "true")], "failed to parse `Upper`"),
        ("image", &[("name", "a:v1"), ("push", "1"), ("push-by-digest", "1")], "push-by-digest"),
        ("oci", &[("tar", "no")], "attribute `tar`"),
        ("docker", &[("name", "a b")], "failed to parse `a b`"),
        (
            "image",
            &[("compression", "zstd"), ("oci-mediatypes", "false")],
            "exporter option \"compression=zstd\" conflicts with \"oci-mediatypes=false\"",
        ),
        (
            "oci",
            &[("oci-artifact", "true"), ("oci-mediatypes", "false")],
            "exporter option \"oci-artifact=true\" conflicts with \"oci-mediatypes=false\"",
        ),
        ("local", &[("mode", "move")], "attribute `mode`"),
        ("local", &[("platform-split", "")], "attribute `platform-split`"),
        ("tar", &[("source-date-epoch", "-")], "attribute `source-date-epoch`"),
    ] {
        let error = exporters.resolve(0, &request(kind, attributes)).unwrap_err();
        assert!(error.is_request(), "{error}");
        assert!(error.to_string().contains(expected), "{kind} {attributes:?}: {error}");
    }
    let unknown = [("shiny-new-thing", "?"), ("mode", "DELETE "), ("platform-split", "T")];
    exporters.resolve(0, &request("local", &unknown)).unwrap();
}

#[tokio::test]
async fn results_that_do_not_fit_are_refused() {
    let bench = Workbench::new().await;
    let tree = bench.two_layers().await;
    let plain = single(tree.clone());
    let attested = with_statement(plain.clone(), "linux/amd64", false);
    let config = |value| with_metadata(plain.clone(), "containerimage.config", value);
    let base = with_metadata(plain.clone(), "containerimage.base.config", json!("{"));
    let epoch = with_metadata(plain.clone(), "source.date.epoch", json!("soon"));
    let mut broken = attested.clone();
    for statements in broken.attestations.values_mut() {
        statements[0].predicate = bytes::Bytes::from_static(b"{").into();
    }
    let docker = &[("oci-mediatypes", "false")][..];
    let docker_index = &[("oci-mediatypes", "false"), ("annotation-index.a", "b")][..];
    for (attributes, result, expected) in [
        (&[][..], config(json!("null")), "invalid image config"),
        (&[], config(json!({ "architecture": "amd64" })), "missing os"),
        (&[], base, "failed to read the config of the base image"),
        (&[], epoch, "invalid SOURCE_DATE_EPOCH `soon`"),
        (&[], broken, "invalid attestation of type `https://slsa.dev/provenance/v1`"),
        (docker, attested, "cannot export attestations with \"oci-mediatypes=false\""),
        (
            docker_index,
            by_platform(&[("linux/amd64", tree.clone())]),
            "cannot export annotations with \"oci-mediatypes=false\"",
        ),
        (
            &[("annotation-index.a", "b")],
            plain.clone(),
            "index annotations not supported for single platform export",
        ),
        (
            &[("annotation[linux/arm64].a", "b")],
            plain.clone(),
            "invalid annotation: no platform linux/arm64 found in source",
        ),
    ] {
        let error = bench.export("image", attributes, &result).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        bench.counters();
    }
}

#[tokio::test]
async fn a_full_disk_ends_the_export() {
    for call in [Call::Ingest, Call::Append, Call::Publish] {
        let bench = Workbench::new().await;
        let result = single(bench.two_layers().await);
        bench.content.fail_next(call);
        let error = bench.export("image", &[("name", "a")], &result).await.unwrap_err();
        assert!(matches!(error, ExportError::Part { .. }), "{error}");
        assert!(!bench.counters().contains(&"naming to a".to_owned()));
        bench.export("image", &[("name", "a")], &result).await.unwrap();
    }
}

#[tokio::test]
async fn a_damaged_layer_is_never_taken_for_whole() {
    let bench = Workbench::new().await;
    let client = FakeClient::new().with_output_file(0);
    let client = client.connect(&bench.sessions, "s").await.unwrap();
    let result = single(bench.two_layers().await);
    let response = bench.export("image", &[], &result).await.unwrap();
    let manifest = bench.root(&response).await;
    let layer = crate::workbench::digest_at(&manifest, "/layers/0");
    let size = manifest["layers"][0]["size"].as_u64().unwrap();
    bench.content.inner().corrupt(&layer, vec![b'x'; size as usize]);
    let error = bench.export("oci", &[], &result).await.unwrap_err();
    assert_eq!(error.to_string(), "failed to write the archive");
    assert!(client.record().files.is_empty());
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_an_error() {
    let bench = Workbench::new().await;
    let client = FakeClient::new().connect(&bench.sessions, "s").await.unwrap();
    let result = single(bench.two_layers().await);
    for kind in ["oci", "docker", "tar", "local"] {
        let error = bench.export(kind, &[], &result).await.unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("not supported by the client"), "{kind}: {source}");
    }
    bench.counters();
    drop(client);
}

#[tokio::test]
async fn a_client_that_refuses_says_why() {
    let bench = Workbench::new().await;
    // The output is of another exporter.
    let client = FakeClient::new().with_output_file(7);
    let _client = client.connect(&bench.sessions, "s").await.unwrap();
    let big = bench.first_layer("COPY", |root| {
        std::fs::write(root.join("big"), vec![b'x'; 8 << 20]).unwrap();
    });
    let result = single(big.await);
    for kind in ["oci", "tar"] {
        let attributes = [("compression", "uncompressed")];
        let error = bench.export(kind, &attributes, &result).await.unwrap_err();
        assert_eq!(error.to_string(), "failed to send the archive to the client");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("exporter 0 not found"), "{kind}: {source}");
    }
}

#[tokio::test]
async fn a_client_that_never_comes_is_an_error() {
    let bench = Workbench::new().await;
    tokio::time::pause();
    let result = single(ImmutableRef::default());
    let error = bench.export("tar", &[], &result).await.unwrap_err();
    assert_eq!(error.to_string(), "failed to find the client to send the result to");
    let mut source = std::error::Error::source(&error);
    assert!(source.take().unwrap().to_string().contains("no active session for s"));
}
