//! Finding and fetching, against servers that behave in all the ways that servers do.

use std::error::Error;
use std::time::Duration;

use crate::scripted::{
    Answer, Asked, Server, answer, broken, plain, quick, registry, silent, status,
};
use bytes::Bytes;
use digests::Digest;
use futures::TryStreamExt as _;
use oci::{Descriptor, Reference, media};
use registry::{Access, HostConfig, MANIFEST_LIMIT, Registry, RegistryConfig, RegistryError};

const MANIFEST: &str = r#"{"schemaVersion":2,"manifests":[]}"#;

fn manifest_answer(body: &'static str) -> Answer {
    let digest = Digest::of(MANIFEST).to_string();
    answer(200, &[("content-type", media::OCI_INDEX), ("docker-content-digest", &digest)], body)
}

fn descriptor() -> Descriptor {
    Descriptor::of(media::OCI_INDEX, MANIFEST.as_bytes())
}

async fn fetch(
    config: RegistryConfig,
    reference: &Reference,
    descriptor: &Descriptor,
) -> Result<Vec<u8>, RegistryError> {
    let registry = registry(config);
    let stream = registry.blob(reference, descriptor, &Access::anonymous()).await?;
    let chunks: Vec<Bytes> = stream.try_collect().await?;
    Ok(chunks.concat())
}

fn blob(size: usize) -> (Bytes, Descriptor) {
    let blob: Bytes = (0..size).map(|index| (index % 251) as u8).collect();
    let descriptor = Descriptor::of(media::OCI_LAYER, &blob);
    (blob, descriptor)
}

#[tokio::test]
async fn headers_alone_resolve_a_tag() {
    let server = Server::start(|_, _| manifest_answer(MANIFEST)).await;
    let registry = registry(server.plain());
    let reference = server.reference("a/b:v1");
    let resolved = registry.resolve(&reference, &Access::anonymous()).await.unwrap();
    assert_eq!((&resolved.descriptor, resolved.manifest), (&descriptor(), None));
    let found = registry.manifest(&reference, &resolved.descriptor, &Access::anonymous()).await;
    assert_eq!(found.unwrap(), MANIFEST);
    let digest = Digest::of(MANIFEST);
    assert_eq!(
        server.lines(),
        ["HEAD /v2/a/b/manifests/v1".to_owned(), format!("GET /v2/a/b/manifests/{digest}")]
    );
    assert!(server.asked()[0].header("accept").contains(media::DOCKER_INDEX));
}

#[tokio::test]
async fn a_registry_that_says_little_is_asked_for_the_whole() {
    let server = Server::start(|asked, _| match asked.method.as_str() {
        "HEAD" => status(405),
        _ => answer(200, &[("content-type", "text/plain")], MANIFEST),
    })
    .await;
    let registry = registry(server.plain());
    let resolved = registry.resolve(&server.reference("a"), &Access::anonymous()).await.unwrap();
    assert_eq!(resolved.descriptor, descriptor());
    assert_eq!(resolved.manifest.unwrap(), MANIFEST);
}

#[tokio::test]
async fn garbage_in_place_of_a_manifest_is_an_error_that_says_so() {
    let long = MANIFEST_LIMIT as usize + 1;
    type Script = fn() -> Answer;
    let answers: [(Script, &str); 4] = [
        (|| answer(200, &[("content-type", "text/html")], "<html>hello"), "`text/html`"),
        (|| answer(200, &[("content-type", media::OCI_INDEX)], "{\"a\""), "not JSON"),
        (|| manifest_answer("{\"schemaVersion\":2}"), "digest"),
        (|| answer(200, &[], vec![b' '; MANIFEST_LIMIT as usize + 1]), "bytes"),
    ];
    for (script, word) in answers {
        let server = Server::start(move |asked, _| match asked.method.as_str() {
            "HEAD" => status(404),
            _ => script(),
        })
        .await;
        let registry = registry(server.plain());
        let reference = server.reference("a:b");
        let error = registry.resolve(&reference, &Access::anonymous()).await.unwrap_err();
        assert!(matches!(error, RegistryError::Garbage { .. }), "{error:?}");
        assert!(error.to_string().contains(word), "{error}");
        assert!(error.to_string().contains(&server.host()), "{error}");
    }
    let server = Server::start(move |_, _| broken(200, &[], long, Bytes::new())).await;
    let found = registry(server.plain())
        .manifest(&server.reference("a"), &descriptor(), &Access::anonymous())
        .await;
    assert!(matches!(found, Err(RegistryError::Garbage { .. })));
}

#[tokio::test]
async fn a_manifest_is_never_other_bytes_than_those_asked_for() {
    let server = Server::start(|_, _| answer(200, &[], "{}")).await;
    let registry = registry(server.plain());
    let access = Access::anonymous();
    let error =
        registry.manifest(&server.reference("a"), &descriptor(), &access).await.unwrap_err();
    assert!(error.to_string().contains("digest"), "{error}");
    let pinned = server.reference("a").with_digest(Digest::of(MANIFEST));
    let error = registry.resolve(&pinned, &access).await.unwrap_err();
    assert!(error.to_string().contains("digest"), "{error}");
    let longer = Descriptor { size: 3, ..Descriptor::of(media::OCI_INDEX, b"{}") };
    let error = registry.manifest(&server.reference("a"), &longer, &access).await.unwrap_err();
    assert!(error.to_string().contains("should have 3"), "{error}");
}

#[tokio::test]
async fn what_is_not_there_is_said_with_its_full_name() {
    let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
    let server = Server::start(move |_, _| answer(404, &[], body)).await;
    let registry = registry(server.plain());
    let reference = server.reference("a/b:c");
    let error = registry.resolve(&reference, &Access::anonymous()).await.unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(error.to_string(), format!("{reference}: not found"));
    let (_, layer) = blob(10);
    let error = fetch(server.plain(), &reference, &layer).await.unwrap_err();
    assert!(error.to_string().ends_with(": not found") && error.is_not_found(), "{error}");
}

#[tokio::test]
async fn a_refusal_has_what_the_registry_says() {
    let body = r#"{"errors":[{"code":"DENIED","message":"requested access is denied"}]}"#;
    let server = Server::start(move |asked, _| match asked.method.as_str() {
        "HEAD" => status(403),
        _ => answer(403, &[], body),
    })
    .await;
    let registry = registry(server.plain());
    let error = registry.resolve(&server.reference("a"), &Access::anonymous()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "pull access denied, repository does not exist or may require authorization: requested access is denied"
    );
    assert!(error.is_denied());
}

#[tokio::test]
async fn a_registry_in_trouble_is_asked_again_and_not_for_ever() {
    for trouble in [429, 500, 503] {
        let server = Server::start(move |_, before| match before {
            0 | 1 => answer(trouble, &[("retry-after", "0")], ""),
            _ => manifest_answer(MANIFEST),
        })
        .await;
        let registry = registry(server.plain());
        registry.resolve(&server.reference("a"), &Access::anonymous()).await.unwrap();
        assert_eq!(server.asked().len(), 3);
    }
    let body = r#"{"errors":[{"code":"UNKNOWN","message":"database is down"}]}"#;
    let server = Server::start(move |_, _| answer(500, &[], body)).await;
    let error = registry(server.plain())
        .manifest(&server.reference("a"), &descriptor(), &Access::anonymous())
        .await
        .unwrap_err();
    assert!(matches!(error, RegistryError::Status { status: 500, .. }), "{error:?}");
    assert!(error.to_string().ends_with("unexpected status 500: database is down"), "{error}");
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn nobody_at_the_address_is_an_error_at_once() {
    let server = Server::start(|_, _| status(200)).await;
    let (config, reference) = (server.plain(), server.reference("a"));
    drop(server);
    let error = registry(config).resolve(&reference, &Access::anonymous()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Connection { .. }), "{error:?}");
    assert!(error.to_string().contains(reference.host()), "{error}");
    let chain = std::iter::successors(error.source(), |error: &&dyn Error| (*error).source());
    let texts: Vec<_> = chain.map(ToString::to_string).collect();
    assert!(texts.iter().any(|text| text.contains("refused")), "{texts:?}");
}

/// Answers a request for a blob as servers do that know ranges; breaks off after `most` bytes.
fn ranged(blob: &Bytes, most: usize, asked: &Asked) -> Answer {
    let start =
        asked.header("range").strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
    let start: usize = start.map_or(0, |start| start.parse().unwrap());
    let rest = blob.slice(start..);
    let range = format!("bytes {start}-{}/{}", blob.len() - 1, blob.len());
    let (code, headers) =
        if start == 0 { (200, vec![]) } else { (206, vec![("content-range", range.as_str())]) };
    if rest.len() > most {
        return broken(code, &headers, rest.len(), rest.slice(..most));
    }
    answer(code, &headers, rest)
}

#[tokio::test]
async fn a_broken_transfer_goes_on_where_it_broke() {
    let (blob, descriptor) = blob(100_000);
    let content = blob.clone();
    let server = Server::start(move |asked, _| ranged(&content, 30_000, asked)).await;
    let found = fetch(server.plain(), &server.reference("a"), &descriptor).await.unwrap();
    assert_eq!(found, blob);
    let ranges: Vec<_> =
        server.asked().iter().map(|asked| asked.header("range").to_owned()).collect();
    assert_eq!(ranges, ["", "bytes=30000-", "bytes=60000-", "bytes=90000-"]);
}

#[tokio::test]
async fn a_server_without_ranges_begins_anew_and_nothing_comes_twice() {
    let (blob, descriptor) = blob(50_000);
    let content = blob.clone();
    let server = Server::start(move |_, before| match before {
        0 => broken(200, &[], content.len(), content.slice(..20_000)),
        _ => answer(200, &[], content.clone()),
    })
    .await;
    let found = fetch(server.plain(), &server.reference("a"), &descriptor).await.unwrap();
    assert_eq!(found, blob);
}

#[tokio::test]
async fn a_transfer_that_gets_nowhere_ends() {
    let (_, descriptor) = blob(1000);
    let server = Server::start(|_, _| broken(200, &[], 1000, Bytes::new())).await;
    let error = fetch(server.plain(), &server.reference("a"), &descriptor).await.unwrap_err();
    assert!(matches!(error, RegistryError::Connection { .. }), "{error:?}");
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let (content, descriptor) = blob(1000);
    let half = content.slice(..500);
    let server = Server::start(move |_, _| silent(1000, half.clone())).await;
    let mut config = server.plain();
    config.timing.stall = Duration::from_millis(20);
    config.timing.attempts = 1;
    let error = fetch(config, &server.reference("a"), &descriptor).await.unwrap_err();
    assert!(matches!(error, RegistryError::Stalled { .. }), "{error:?}");
}

#[tokio::test]
async fn a_blob_of_another_size_is_refused() {
    let (_, descriptor) = blob(1000);
    for size in [999, 1001] {
        let server = Server::start(move |_, _| answer(200, &[], vec![0; size])).await;
        let error = fetch(server.plain(), &server.reference("a"), &descriptor).await.unwrap_err();
        assert!(matches!(error, RegistryError::Garbage { .. }), "{error:?}");
        assert!(error.to_string().contains(&size.to_string()), "{error}");
    }
    let (empty, nothing) = blob(0);
    let server = Server::start(|_, _| status(200)).await;
    assert_eq!(fetch(server.plain(), &server.reference("a"), &nothing).await.unwrap(), empty);
}

#[tokio::test]
async fn a_part_that_was_not_asked_for_is_refused() {
    let (content, descriptor) = blob(1000);
    let server = Server::start(move |_, before| match before {
        0 => broken(200, &[], 1000, content.slice(..500)),
        _ => answer(206, &[("content-range", "bytes 400-999/1000")], content.slice(400..)),
    })
    .await;
    let error = fetch(server.plain(), &server.reference("a"), &descriptor).await.unwrap_err();
    assert!(error.to_string().contains("another part"), "{error}");
}

#[tokio::test]
async fn mirrors_are_asked_in_order_and_the_registry_last() {
    let (blob, layer) = blob(5000);
    let empty = Server::start(|_, _| status(404)).await;
    let sick = Server::start(|_, _| status(500)).await;
    let content = blob.clone();
    let good = Server::start(move |asked, _| match asked.path.contains("/blobs/") {
        true => broken(200, &[], content.len(), content.slice(..2000)),
        false => manifest_answer(MANIFEST),
    })
    .await;
    let content = blob.clone();
    let origin = Server::start(move |asked, _| ranged(&content, usize::MAX, asked)).await;
    let mut config = plain(&[&empty, &sick, &good, &origin]);
    let mirrors = vec![empty.host(), format!("{}/hub", sick.host()), good.host()];
    let settings = HostConfig { mirrors, http: Some(true), ..HostConfig::default() };
    config.hosts.insert(origin.host(), settings);

    let reference = origin.reference("a:b");
    let resolved =
        registry(config.clone()).resolve(&reference, &Access::anonymous()).await.unwrap();
    assert_eq!(resolved.descriptor, descriptor());
    let namespace = origin.host().replace(':', "%3A");
    assert_eq!(empty.lines()[0], format!("HEAD /v2/a/manifests/b?ns={namespace}"));
    assert_eq!(sick.lines()[0], format!("HEAD /v2/hub/a/manifests/b?ns={namespace}"));
    assert!(origin.asked().is_empty());

    // The good mirror breaks off for ever; the registry itself goes on from there.
    assert_eq!(fetch(config, &reference, &layer).await.unwrap(), blob);
    assert_eq!(origin.asked().last().unwrap().header("range"), "bytes=2000-");
}

#[tokio::test]
async fn when_nobody_has_it_the_registry_has_the_last_word() {
    let sick = Server::start(|_, _| status(403)).await;
    let origin = Server::start(|_, _| status(404)).await;
    let mut config = plain(&[&sick, &origin]);
    let settings =
        HostConfig { mirrors: vec![sick.host()], http: Some(true), ..HostConfig::default() };
    config.hosts.insert(origin.host(), settings);
    let name = origin.reference("a");
    let error = registry(config).resolve(&name, &Access::anonymous()).await.unwrap_err();
    assert!(error.is_not_found());
    let mirror = error.to_string();
    assert!(mirror.starts_with(&format!("mirror `{}` was asked first (", sick.host())), "{mirror}");
    let registry = error.source().unwrap().to_string();
    assert_eq!(registry, format!("{name}: not found"));
}

#[tokio::test]
async fn a_mirror_that_has_it_not_is_told_of_when_the_registry_is_out_of_reach() {
    let mirror = Server::start(|_, _| status(404)).await;
    let mut config = plain(&[&mirror]);
    // Nobody listens on this port.
    let gone = "127.0.0.1:1".to_owned();
    let settings =
        HostConfig { mirrors: vec![mirror.host()], http: Some(true), ..HostConfig::default() };
    config.hosts.insert(gone.clone(), settings);
    let name: Reference = format!("{gone}/a:b").parse().unwrap();
    let registry = registry(config);
    let asked = format!("mirror `{}` was asked first ({name}: not found)", mirror.host());
    let access = Access::anonymous();
    for error in [
        registry.resolve(&name, &access).await.map(drop).unwrap_err(),
        registry.manifest(&name, &descriptor(), &access).await.map(drop).unwrap_err(),
    ] {
        assert!(error.to_string().starts_with("mirror `"), "{error}");
        let last = error.source().unwrap().to_string();
        assert!(last.ends_with("from `127.0.0.1:1`"), "{last}");
    }
    let error = registry.resolve(&name, &access).await.unwrap_err();
    assert_eq!(error.to_string(), asked);
}

#[tokio::test]
async fn a_loopback_registry_may_do_without_tls_unsaid() {
    let server = Server::start(|_, _| manifest_answer(MANIFEST)).await;
    let registry = registry(quick());
    let access = Access::anonymous();
    registry.resolve(&server.reference("a"), &access).await.unwrap();
    registry.resolve(&server.reference("a"), &access).await.unwrap();
    assert_eq!(server.lines(), ["HEAD /v2/a/manifests/latest"; 2]);
}

#[tokio::test]
async fn a_layer_that_registries_may_not_hand_out_is_fetched_elsewhere() {
    let (content, mut layer) = blob(1000);
    let body = content.clone();
    let elsewhere = Server::start(move |_, _| answer(200, &[], body.clone())).await;
    let origin = Server::start(|_, _| status(404)).await;
    layer.urls = vec!["ftp://a.example/x".to_owned(), elsewhere.url("/layer?signed=1")];
    let found = fetch(plain(&[&origin]), &origin.reference("a"), &layer).await.unwrap();
    assert_eq!(found, content);
    assert_eq!(elsewhere.lines(), ["GET /layer?signed=1"]);
}

#[tokio::test]
async fn redirects_end() {
    let server = Server::start(|asked, _| answer(307, &[("location", &asked.path)], "")).await;
    let (_, layer) = blob(10);
    let error = fetch(server.plain(), &server.reference("a"), &layer).await.unwrap_err();
    assert!(error.to_string().contains("redirects"), "{error}");
}

#[tokio::test]
async fn only_so_many_blobs_travel_at_once() {
    let (content, layer) = blob(1000);
    let server = Server::start(move |asked, _| match asked.path.contains("/blobs/") {
        true => answer(200, &[], content.clone()),
        false => manifest_answer(MANIFEST),
    })
    .await;
    let mut config = server.plain();
    config.transfers_per_host = 2;
    let registry = registry(config);
    let (reference, access) = (server.reference("a"), Access::anonymous());
    let blobs = || server.lines().iter().filter(|line| line.contains("/blobs/")).count();

    let first = registry.blob(&reference, &layer, &access).await.unwrap();
    let _second = registry.blob(&reference, &layer, &access).await.unwrap();
    let third = {
        let (registry, reference) = (registry.clone(), reference.clone());
        tasks::spawn("third", async move {
            registry.blob(&reference, &layer, &Access::anonymous()).await.map(|_| ())
        })
    };
    // What is not a blob passes by; by then the third would have been asked for, too.
    for _ in 0..5 {
        registry.resolve(&reference, &access).await.unwrap();
    }
    assert_eq!(blobs(), 2);
    drop(first);
    third.await.unwrap().unwrap();
    assert_eq!(blobs(), 3);
}
