//! Images in stores of clients.

use std::io::Write as _;

use bytes::Bytes;
use digests::Digest;
use llb::{OciLayoutOptions, OpOptions, State};
use serde_json::json;
use session::testing::FakeClient;

use crate::world::World;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image of one layer with the file `hello`.
struct Layout {
    manifest: Bytes,
    config: Bytes,
    layer: Bytes,
}

impl Layout {
    fn new() -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(5);
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_data(&mut header, "hello", &b"there"[..]).unwrap();
        let archive = archive.into_inner().unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&archive).unwrap();
        let layer = Bytes::from(gzip.finish().unwrap());
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(&archive).to_string()]},
        });
        let config = Bytes::from(config.to_string());
        let describe = |kind: &str, blob: &Bytes| {
            let (digest, size) = (Digest::of(blob).to_string(), blob.len());
            json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": size})
        };
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": describe("config.v1+json", &config),
            "layers": [describe("layer.v1.tar+gzip", &layer)],
        });
        Self { manifest: manifest.to_string().into(), config, layer }
    }

    fn blobs(&self) -> [Bytes; 3] {
        [self.manifest.clone(), self.config.clone(), self.layer.clone()]
    }

    fn state(&self, session: &str) -> State {
        let options = OciLayoutOptions {
            session: session.to_owned(),
            store: "abc".to_owned(),
            ..OciLayoutOptions::default()
        };
        let name = format!("abc:latest@{}", Digest::of(&self.manifest));
        State::oci_layout(&name, options, OpOptions::named("image"))
    }
}

#[tokio::test]
async fn an_image_of_a_layout_is_like_any_other() {
    let (world, layout) = (World::new().await, Layout::new());
    let one = FakeClient::new().connect(&world.sessions, "one").await.unwrap();
    let two = FakeClient::new().with_store("oci:abc", layout.blobs());
    let two = two.connect(&world.sessions, "two").await.unwrap();
    for session in ["two", ""] {
        let built = world.build_for(&layout.state(session), ["one", "two"]).await.unwrap();
        assert_eq!(world.list(&built.tree).await, ["/hello"]);
        assert_eq!(world.read(&built.tree, "/hello").await, "there");
    }
    drop((one, two));
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let (world, layout) = (World::new().await, Layout::new());
    let client = FakeClient::new().with_store("oci:abc", [layout.manifest.clone()]);
    let _client = client.connect(&world.sessions, "one").await.unwrap();
    let result = world.build_for(&layout.state("one"), ["one"]).await;
    let text = result.map(|built| built.tree.keys()).unwrap_err().source.full_text();
    let missing = Digest::of(&layout.config).to_string();
    assert!(text.contains(&missing) && text.contains("store `abc`"), "{text}");
}
