//! Pushing, against servers that take things in all the ways that servers do.

use std::sync::Arc;

use bytes::Bytes;
use digests::Digest;
use oci::{Descriptor, media};
use parking_lot::Mutex;
use registry::{Access, BlobPush, BlobSource, Pushed, Registry, RegistryError};

use crate::scripted::{Answer, Asked, Server, answer, plain, registry, status};

fn blob(size: usize) -> (Bytes, Descriptor) {
    let blob: Bytes = (0..size).map(|index| (index % 249) as u8).collect();
    let descriptor = Descriptor::of(media::OCI_LAYER_GZIP, &blob);
    (blob, descriptor)
}

fn push(blob: &Bytes) -> BlobPush {
    BlobPush::new(BlobSource::Bytes(blob.clone()))
}

/// Answers as a registry that has nothing and takes everything whole.
fn takes(asked: &Asked) -> Answer {
    match asked.method.as_str() {
        "HEAD" => status(404),
        "POST" => answer(202, &[("location", "/v2/a/blobs/uploads/1?state=a%2Fb")], ""),
        "PUT" => status(201),
        _ => status(405),
    }
}

async fn pushed(
    server: &Server,
    descriptor: &Descriptor,
    push: BlobPush,
) -> Result<Pushed, RegistryError> {
    let registry = registry(server.plain());
    registry.push_blob(&server.reference("a"), descriptor, push, &Access::anonymous()).await
}

#[tokio::test]
async fn a_blob_is_sent_whole_from_a_file_and_its_progress_is_told() {
    let (blob, descriptor) = blob(600_000);
    let server = Server::start(|asked, _| takes(asked)).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &blob).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = told.clone();
    let push = BlobPush::new(BlobSource::path(file.path()))
        .reporting_to(Arc::new(move |sent| sink.lock().push(sent)));
    assert_eq!(pushed(&server, &descriptor, push).await.unwrap(), Pushed::Uploaded);
    let digest = descriptor.digest;
    assert_eq!(
        server.lines(),
        [
            format!("HEAD /v2/a/blobs/{digest}"),
            "POST /v2/a/blobs/uploads/".to_owned(),
            format!("PUT /v2/a/blobs/uploads/1?state=a%2Fb&digest=sha256%3A{}", digest.hex()),
        ]
    );
    let put = server.asked().pop().unwrap();
    assert_eq!((put.body, put.headers["content-length"].to_str().unwrap()), (blob, "600000"));
    let told = told.lock();
    assert!(told.len() > 1 && told.is_sorted() && told.last() == Some(&600_000), "{told:?}");
}

#[tokio::test]
async fn what_is_there_is_not_sent() {
    let (blob, descriptor) = blob(10);
    let server = Server::start(|_, _| status(200)).await;
    assert_eq!(pushed(&server, &descriptor, push(&blob)).await.unwrap(), Pushed::AlreadyThere);
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn an_empty_blob_can_be_pushed() {
    let (blob, descriptor) = blob(0);
    let server = Server::start(|asked, _| takes(asked)).await;
    assert_eq!(pushed(&server, &descriptor, push(&blob)).await.unwrap(), Pushed::Uploaded);
    assert_eq!(server.asked().pop().unwrap().header("content-length"), "0");
}

#[tokio::test]
async fn a_blob_of_another_repository_is_mounted() {
    let (blob, descriptor) = blob(10);
    let server = Server::start(|asked, _| match asked.method.as_str() {
        "POST" => status(201),
        _ => takes(asked),
    })
    .await;
    let push = push(&blob).mounting_from("base/image");
    assert_eq!(pushed(&server, &descriptor, push).await.unwrap(), Pushed::Mounted);
    let digest = descriptor.digest.hex();
    let expected = format!("POST /v2/a/blobs/uploads/?mount=sha256%3A{digest}&from=base%2Fimage");
    assert_eq!(server.lines()[1], expected);
}

#[tokio::test]
async fn a_blob_that_cannot_be_mounted_is_sent() {
    let (blob, descriptor) = blob(10);
    // The registry may begin an upload at once, or refuse: then one is asked for.
    for (refusal, requests) in [(202, 3), (401, 4), (404, 4)] {
        let server = Server::start(move |asked, _| match asked.query.contains("mount=") {
            true if refusal != 202 => status(refusal),
            _ => takes(asked),
        })
        .await;
        let push = push(&blob).mounting_from("base");
        assert_eq!(pushed(&server, &descriptor, push).await.unwrap(), Pushed::Uploaded);
        assert_eq!(server.asked().len(), requests, "{:?}", server.lines());
        assert_eq!(server.asked().pop().unwrap().body, blob);
    }
}

#[tokio::test]
async fn a_mount_is_asked_for_with_the_right_to_read_the_other_repository() {
    let (blob, descriptor) = blob(10);
    let desk = Server::start(|_, _| answer(200, &[], r#"{"token":"t"}"#)).await;
    let realm = desk.url("/t");
    let server = Server::start(move |asked, _| {
        if asked.header("authorization") != "Bearer t" {
            let challenge = format!(r#"Bearer realm="{realm}""#);
            return answer(401, &[("www-authenticate", &challenge)], "");
        }
        takes(asked)
    })
    .await;
    pushed(&server, &descriptor, push(&blob).mounting_from("base")).await.unwrap();
    assert_eq!(
        desk.lines(),
        [
            "GET /t?scope=repository%3Aa%3Apull%2Cpush",
            "GET /t?scope=repository%3Aa%3Apull%2Cpush&scope=repository%3Abase%3Apull",
        ]
    );
}

#[tokio::test]
async fn an_upload_that_fails_is_begun_anew() {
    let (blob, descriptor) = blob(100_000);
    for trouble in [404, 500, 503] {
        let server = Server::start(move |asked, before| match asked.method.as_str() {
            "PUT" if before < 4 => status(trouble),
            _ => takes(asked),
        })
        .await;
        assert_eq!(pushed(&server, &descriptor, push(&blob)).await.unwrap(), Pushed::Uploaded);
        let methods: Vec<_> = server.asked().iter().map(|asked| asked.method.to_string()).collect();
        assert_eq!(methods, ["HEAD", "POST", "PUT", "POST", "PUT"]);
        assert_eq!(server.asked().pop().unwrap().body, blob);
    }
}

#[tokio::test]
async fn a_refused_blob_is_not_sent_again() {
    let (blob, descriptor) = blob(10);
    let body =
        r#"{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match"}]}"#;
    let server = Server::start(move |asked, _| match asked.method.as_str() {
        "PUT" => answer(400, &[], body),
        _ => takes(asked),
    })
    .await;
    let error = pushed(&server, &descriptor, push(&blob)).await.unwrap_err();
    assert!(matches!(error, RegistryError::Status { status: 400, .. }), "{error:?}");
    assert!(error.to_string().ends_with("provided digest did not match"), "{error}");
    assert_eq!(server.asked().len(), 3);
    let server = Server::start(move |asked, _| match asked.method.as_str() {
        "POST" => answer(403, &[], ""),
        _ => takes(asked),
    })
    .await;
    let error = pushed(&server, &descriptor, push(&blob)).await.unwrap_err();
    assert!(error.to_string().starts_with("push access denied"), "{error}");
}

#[tokio::test]
async fn a_blob_too_large_to_be_taken_whole_is_sent_in_pieces() {
    let (blob, descriptor) = blob((9 << 20) + 5);
    let taken = Arc::new(Mutex::new(Vec::new()));
    let store = taken.clone();
    let server = Server::start(move |asked, _| match asked.method.as_str() {
        "PUT" if !asked.body.is_empty() => status(413),
        "PATCH" => {
            let mut store = store.lock();
            let end = store.len() + asked.body.len() - 1;
            assert_eq!(asked.header("content-range"), format!("{}-{end}", store.len()));
            store.extend_from_slice(&asked.body);
            answer(202, &[("location", &format!("/upload/{}", store.len()))], "")
        }
        _ => takes(asked),
    })
    .await;
    assert_eq!(pushed(&server, &descriptor, push(&blob)).await.unwrap(), Pushed::Uploaded);
    assert_eq!(*taken.lock(), blob);
    let sizes: Vec<_> = server.asked().iter().map(|asked| asked.body.len()).collect();
    assert_eq!(sizes[4..], [4 << 20, 4 << 20, (1 << 20) + 5, 0]);
    assert!(
        server.lines().pop().unwrap().starts_with(&format!("PUT /upload/{}?digest=", blob.len()))
    );
}

#[tokio::test]
async fn an_upload_elsewhere_is_not_told_who_asks() {
    let (blob, descriptor) = blob(10);
    let store = Server::start(|_, _| status(201)).await;
    let desk = Server::start(|_, _| answer(200, &[], r#"{"token":"t"}"#)).await;
    let (realm, location) = (desk.url("/t"), store.url("/put?signed=1"));
    let server = Server::start(move |asked, _| match asked.header("authorization") {
        "Bearer t" if asked.method == "POST" => answer(202, &[("location", &location)], ""),
        "Bearer t" => takes(asked),
        _ => answer(401, &[("www-authenticate", &format!(r#"Bearer realm="{realm}""#))], ""),
    })
    .await;
    let registry = registry(plain(&[&server, &store]));
    let access = Access::anonymous();
    registry.push_blob(&server.reference("a"), &descriptor, push(&blob), &access).await.unwrap();
    let put = store.asked().pop().unwrap();
    assert_eq!((put.body.as_ref(), put.header("authorization")), (blob.as_ref(), ""));
}

#[tokio::test]
async fn a_source_that_cannot_be_read_is_named_and_not_tried_again() {
    let (blob, descriptor) = blob(1000);
    let server = Server::start(|asked, _| takes(asked)).await;
    let missing = BlobPush::new(BlobSource::path("/nonexistent/blob"));
    let short = push(&blob.slice(..500));
    for push in [missing, short] {
        let error = pushed(&server, &descriptor, push).await.unwrap_err();
        assert!(matches!(error, RegistryError::Source { .. }), "{error:?}");
        assert!(error.to_string().contains(&descriptor.digest.to_string()), "{error}");
    }
    let posts = server.asked().iter().filter(|asked| asked.method == "POST").count();
    assert_eq!(posts, 2);
}

#[tokio::test]
async fn a_manifest_is_pushed_under_its_tag_or_its_digest() {
    let server = Server::start(|_, _| status(201)).await;
    let registry = registry(server.plain());
    let access = Access::anonymous();
    let manifest = Bytes::from_static(b"{}");
    let digest = Digest::of(&manifest);
    let tagged = server.reference("a:v1");
    registry.push_manifest(&tagged, media::OCI_MANIFEST, manifest.clone(), &access).await.unwrap();
    let pinned = tagged.with_digest(digest);
    registry.push_manifest(&pinned, media::OCI_MANIFEST, manifest.clone(), &access).await.unwrap();
    assert_eq!(
        server.lines(),
        ["PUT /v2/a/manifests/v1".to_owned(), format!("PUT /v2/a/manifests/{digest}")]
    );
    let asked = server.asked().pop().unwrap();
    assert_eq!(asked.header("content-type"), media::OCI_MANIFEST);
    assert_eq!(asked.body, manifest);

    let other = tagged.with_digest(Digest::of("other"));
    let error = registry.push_manifest(&other, media::OCI_MANIFEST, manifest, &access).await;
    assert!(matches!(error, Err(RegistryError::Garbage { .. })), "{error:?}");
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn a_manifest_that_arrives_as_another_is_an_error() {
    let wrong = Digest::of("wrong").to_string();
    let server =
        Server::start(move |_, _| answer(201, &[("docker-content-digest", &wrong)], "")).await;
    let registry = registry(server.plain());
    let error = registry
        .push_manifest(
            &server.reference("a"),
            media::OCI_MANIFEST,
            Bytes::from_static(b"{}"),
            &Access::anonymous(),
        )
        .await
        .unwrap_err();
    assert!(matches!(error, RegistryError::Garbage { .. }), "{error:?}");
}
