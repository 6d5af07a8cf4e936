//! The registry in memory refuses what a real one may happen to allow.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use digests::Digest;
use futures::TryStreamExt as _;
use oci::{Descriptor, Manifest, Raw, Reference, media};
use registry::testing::FakeRegistry;
use registry::{
    Access, Action, BlobPush, BlobSource, Credentials, CredentialsError, Login, Pushed, Registry,
    RegistryError, Token, TokenRequest,
};

fn reference(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

fn push(bytes: &'static [u8]) -> BlobPush {
    BlobPush::new(BlobSource::Bytes(Bytes::from_static(bytes)))
}

#[derive(Debug)]
struct Me;

#[async_trait]
impl Credentials for Me {
    fn identity(&self) -> &'static str {
        "me"
    }

    async fn token(&self, _request: &TokenRequest) -> Result<Option<Token>, CredentialsError> {
        Ok(None)
    }

    async fn login(&self, _host: &str) -> Result<Option<Login>, CredentialsError> {
        Ok(None)
    }
}

#[tokio::test]
async fn an_image_makes_the_round_trip() {
    let registry = FakeRegistry::new();
    let access = Access::anonymous();
    let app = reference("a.example/app:v1");
    let (config, layer) =
        (Descriptor::of(media::OCI_CONFIG, b"{}"), Descriptor::of(media::OCI_LAYER, b"layer"));
    let manifest = Manifest::new(media::OCI_MANIFEST, config.clone(), vec![layer.clone()]);
    let manifest = Raw::encode(manifest).unwrap();
    let send =
        || registry.push_manifest(&app, media::OCI_MANIFEST, manifest.bytes().clone(), &access);
    let error = send().await.unwrap_err();
    assert!(error.to_string().contains("is not there"), "{error}");

    registry.push_blob(&app, &config, push(b"{}"), &access).await.unwrap();
    let pushed = registry.push_blob(&app, &layer, push(b"layer"), &access).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded);
    let other = reference("a.example/other");
    let pushed =
        registry.push_blob(&other, &layer, push(b"").mounting_from("app"), &access).await.unwrap();
    assert_eq!(pushed, Pushed::Mounted);
    send().await.unwrap();

    let resolved = registry.resolve(&app, &access).await.unwrap();
    assert_eq!(resolved.descriptor, manifest.descriptor(media::OCI_MANIFEST));
    let bytes = registry.manifest(&app, &resolved.descriptor, &access).await.unwrap();
    assert_eq!(bytes, manifest.bytes());
    let stream = registry.blob(&app, &layer, &access).await.unwrap();
    assert_eq!(stream.try_collect::<Vec<_>>().await.unwrap().concat(), b"layer");
    assert_eq!(registry.content(&app, layer.digest).unwrap(), "layer");
    assert!(
        registry.resolve(&reference("a.example/none"), &access).await.unwrap_err().is_not_found()
    );
}

#[tokio::test]
async fn it_takes_no_other_bytes_and_no_other_size() {
    let registry = FakeRegistry::new();
    let access = Access::anonymous();
    let app = reference("a.example/app");
    let layer = Descriptor::of(media::OCI_LAYER, b"layer");
    for (descriptor, bytes) in
        [(layer.clone(), &b"other"[..]), (Descriptor { size: 6, ..layer.clone() }, b"layer")]
    {
        let error = registry.push_blob(&app, &descriptor, push(bytes), &access).await.unwrap_err();
        assert!(matches!(error, RegistryError::Garbage { .. }), "{error:?}");
    }
    let pinned = app.with_digest(Digest::of("other"));
    let document = Bytes::from_static(b"{}");
    assert!(registry.push_manifest(&pinned, media::OCI_INDEX, document, &access).await.is_err());
}

#[tokio::test]
async fn it_fails_when_told_to_and_admits_whom_it_is_told_to() {
    let registry = FakeRegistry::new();
    let app = reference("a.example/app");
    registry.add_manifest(&app, media::OCI_INDEX, Bytes::from_static(b"{}"));
    registry.admit("a.example", "me");
    let me = Access::new(Arc::new(Me));
    assert!(registry.resolve(&app, &Access::anonymous()).await.unwrap_err().is_denied());
    registry.fail_next(Action::Resolve);
    let error = registry.resolve(&app, &me).await.unwrap_err();
    assert!(matches!(error, RegistryError::Connection { .. }), "{error:?}");
    registry.resolve(&app, &me).await.unwrap();
    assert_eq!(registry.calls().len(), 3);
}
