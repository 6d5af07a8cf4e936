//! Images on their way to registries.

use std::sync::Arc;

use cache::{CacheError, ImageLayer, LayerInfo, LayerPhase, LayerSource};
use digests::{DiffId, Digest};
use exporter::{ExportError, InsecureRegistries};
use oci::{Descriptor, Index, Manifest, Raw, annotations, media};
use registry::testing::FakeRegistry;
use registry::{Action, Registry as _};
use session::testing::FakeClient;

use crate::workbench::{Workbench, digest_at, reference, request, single, with_statement};

#[tokio::test]
async fn an_image_is_pushed_under_all_its_names() {
    let bench = Workbench::new().await;
    let result = with_statement(single(bench.two_layers().await), "linux/amd64", true);
    let attributes =
        [("name", "r.example/a:v1,r.example/b"), ("push", "true"), ("unpack", "false")];
    let response = bench.export("image", &attributes, &result).await.unwrap();
    let digest = response["containerimage.digest"].clone();
    let last = bench.registry.calls().pop().unwrap();
    assert_eq!((last.action, last.object.as_str()), (Action::PushManifest, "r.example/b:latest"));
    let access = registry::Access::anonymous();
    for name in ["r.example/a:v1", "r.example/b:latest"] {
        let name = reference(name);
        let found = bench.registry.resolve(&name, &access).await.unwrap();
        assert_eq!(found.descriptor.digest.to_string(), digest);
        let index = bench.registry.content(&name, found.descriptor.digest).unwrap();
        let index = Raw::<Index>::parse(index).unwrap();
        assert_eq!(index.manifests.len(), 2);
        for entry in &index.manifests {
            let manifest = bench.registry.content(&name, entry.digest).unwrap();
            let manifest = Raw::<Manifest>::parse(manifest).unwrap();
            for blob in manifest.layers.iter().chain([&manifest.config]) {
                assert!(bench.registry.content(&name, blob.digest).is_some());
            }
        }
    }
    let counters = bench.counters();
    let pushing: Vec<_> = counters.iter().filter(|id| id.starts_with("pushing")).collect();
    assert_eq!(
        pushing,
        [
            "pushing layers",
            &format!("pushing manifest for r.example/a:v1@{digest}"),
            &format!("pushing manifest for r.example/b:latest@{digest}"),
        ]
    );
}

#[tokio::test]
async fn an_image_may_be_pushed_by_its_digest_only() {
    let bench = Workbench::new().await;
    let result = single(bench.two_layers().await);
    let attributes = [("name", "r.example/a"), ("push", ""), ("push-by-digest", "")];
    let response = bench.export("image", &attributes, &result).await.unwrap();
    let digest = response["containerimage.digest"].parse().unwrap();
    let name = reference("r.example/a");
    assert!(bench.registry.content(&name, digest).is_some());
    let tagged = bench.registry.resolve(&name, &registry::Access::anonymous()).await;
    assert!(tagged.unwrap_err().is_not_found());
    assert!(bench.counters().contains(&"pushing manifest for r.example/a".to_owned()));
}

#[tokio::test]
async fn the_client_lets_us_in() {
    let bench = Workbench::new().await;
    let client = FakeClient::new().with_credentials("r.example", "me", "secret");
    let _client = client.connect(&bench.sessions, "s").await.unwrap();
    bench.registry.admit("r.example", "s");
    let result = single(bench.two_layers().await);
    let attributes = [("name", "r.example/a"), ("push", "true")];
    bench.export("image", &attributes, &result).await.unwrap();
}

#[tokio::test]
async fn a_push_that_fails_names_the_image() {
    for action in [Action::PushBlob, Action::PushManifest] {
        let bench = Workbench::new().await;
        bench.registry.fail_next(action);
        let result = single(bench.two_layers().await);
        let attributes = [("name", "r.example/a"), ("push", "true")];
        let error = bench.export("image", &attributes, &result).await.unwrap_err();
        assert_eq!(error.to_string(), "failed to push `r.example/a:latest`");
        assert!(matches!(error, ExportError::Push { .. }));
        // What was begun is not shown as going on.
        assert!(bench.counters().iter().any(|id| id == "pushing layers"));
        let access = registry::Access::anonymous();
        let found = bench.registry.resolve(&reference("r.example/a"), &access).await;
        assert!(found.unwrap_err().is_not_found());
    }
}

/// Brings nothing: all archives are there.
#[derive(Debug)]
struct AllThere;

#[async_trait::async_trait]
impl LayerSource for AllThere {
    async fn fetch(&self, blob: &Descriptor) -> Result<(), CacheError> {
        panic!("{blob:?} is not there")
    }

    fn progress(&self, _blob: &Descriptor, _phase: LayerPhase) {}
}

#[tokio::test]
async fn layers_of_the_base_image_need_not_travel() {
    let maker = Workbench::new().await;
    let made = maker.export("image", &[], &single(maker.two_layers().await)).await.unwrap();
    let manifest = maker.root(&made).await;
    let config = maker.json(digest_at(&manifest, "/config")).await;
    let archive = maker.document(digest_at(&manifest, "/layers/0")).await;

    let bench = Workbench::new().await;
    bench.content.inner().insert(archive.clone());
    let blob = bench.registry.add_blob(
        &reference("r.example/base"),
        media::OCI_LAYER_GZIP,
        archive.clone(),
    );
    let key = format!("{}.r.example", annotations::DISTRIBUTION_SOURCE);
    let blob = blob.with_annotation(key, "team/app,base");
    let diff_id = config["rootfs"]["diff_ids"][0].as_str().unwrap().parse::<Digest>().unwrap();
    let layer = ImageLayer { diff_id: DiffId::new(diff_id), blob: blob.clone() };
    let source: Arc<dyn LayerSource> = Arc::new(AllThere);
    let info = LayerInfo::regular("pulled from r.example/base");
    let tree = bench.refs.image(&[layer], &source, &info).await.unwrap();
    // Whoever sends these bytes is refused.
    bench.content.inner().corrupt(&blob.digest, vec![b'x'; archive.len()]);
    let attributes = [("name", "r.example/team/app"), ("push", "true")];
    let response = bench.export("image", &attributes, &single(tree)).await.unwrap();
    let name = reference("r.example/team/app");
    assert_eq!(bench.registry.content(&name, blob.digest).unwrap(), archive);
    let layer = &bench.root(&response).await["layers"][0];
    assert!(layer.get("annotations").is_none(), "where it was found is nobody's business");
}

#[tokio::test]
async fn nothing_is_pushed_unasked() {
    let bench = Workbench::new().await;
    let result = single(bench.two_layers().await);
    for attributes in [&[("name", "r.example/a")][..], &[("name", "r.example/a"), ("push", "0")]] {
        bench.export("image", attributes, &result).await.unwrap();
    }
    let unnamed = bench.export("image", &[("push", "true")], &result).await.unwrap();
    assert!(!unnamed.contains_key("image.name"));
    assert!(bench.registry.calls().is_empty());
}

#[tokio::test]
async fn a_registry_may_be_reached_by_any_means_if_asked() {
    let bench = Workbench::new().await;
    let result = single(bench.two_layers().await);
    let lax = Arc::new(FakeRegistry::new());
    let registries: InsecureRegistries = {
        let lax = lax.clone();
        Arc::new(move |host| {
            assert_eq!(host, "r.example");
            lax.clone()
        })
    };
    let exporters = bench.exporters().with_insecure(registries);
    for (insecure, here, there) in [("false", true, false), ("", true, true)] {
        let attributes = [("name", "r.example/a"), ("push", "1"), ("registry.insecure", insecure)];
        let exporter = exporters.resolve(0, &request("image", &attributes)).unwrap();
        exporter.export(&result, &context()).await.unwrap();
        assert_eq!(bench.registry.calls().is_empty(), !here);
        assert_eq!(lax.calls().is_empty(), !there);
    }
}

fn context() -> exporter::ExportContext {
    exporter::ExportContext {
        sessions: Vec::new(),
        progress: Arc::new(progress::NullSink),
        vertex: Digest::of("line"),
    }
}
