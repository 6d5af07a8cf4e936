//! A round trip through a real registry, where its program is installed.

use std::io::ErrorKind;
use std::process::Stdio;

use bytes::Bytes;
use digests::DiffId;
use futures::TryStreamExt as _;
use oci::{Descriptor, ImageConfig, Index, Manifest, Platform, Raw, Reference, media};
use registry::{Access, BlobPush, BlobSource, Pushed, Registry};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::scripted::{quick, registry};

/// A registry program that runs until this is dropped.
struct Program {
    host: String,
    _child: Child,
    _directory: TempDir,
}

impl Program {
    /// Starts the program; none if it is not installed.
    async fn start() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.yml");
        let root = directory.path().join("content");
        let text = format!(
            "version: 0.1\nlog: {{level: info, formatter: text}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n",
            root.display()
        );
        std::fs::write(&config, text).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut child = match child {
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            child => child.unwrap(),
        };
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut seen = String::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some((_, rest)) = line.split_once("listening on ") {
                let host = rest.split(['"', ' ', ',']).next().unwrap().to_owned();
                // Nobody else reads the rest of the log, and a full pipe would stop the program.
                tasks::spawn("read log", async move {
                    while let Ok(Some(_)) = lines.next_line().await {}
                })
                .detach();
                return Some(Self { host, _child: child, _directory: directory });
            }
            seen.push_str(&line);
        }
        panic!("the registry did not start: {seen}");
    }

    fn reference(&self, rest: &str) -> Reference {
        Reference::parse(&format!("{}/{rest}", self.host)).unwrap()
    }
}

#[tokio::test]
async fn an_image_makes_the_round_trip() {
    let Some(program) = Program::start().await else {
        eprintln!("skipped: `docker-registry` is not installed");
        return;
    };
    let registry = registry(quick());
    let access = Access::anonymous();
    let reference = program.reference("team/app:v1");
    let missing = registry.resolve(&reference, &access).await.unwrap_err();
    assert_eq!(missing.to_string(), format!("{reference}: not found"));

    let layer = Bytes::from((0..3_000_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &layer).unwrap();
    let layer_descriptor = Descriptor::of(media::OCI_LAYER, &layer);
    let platform = Platform::new("linux", "amd64");
    let mut config = ImageConfig::for_platform(&platform);
    config.rootfs.diff_ids.push(DiffId::new(layer_descriptor.digest));
    let config = Raw::encode(config).unwrap();
    let config_descriptor = config.descriptor(media::OCI_CONFIG);

    let push = || BlobPush::new(BlobSource::path(file.path()));
    let send = |reference: &Reference, push| {
        let (registry, reference, access) = (registry.clone(), reference.clone(), access.clone());
        let descriptor = layer_descriptor.clone();
        async move { registry.push_blob(&reference, &descriptor, push, &access).await.unwrap() }
    };
    assert_eq!(send(&reference, push()).await, Pushed::Uploaded);
    assert_eq!(send(&reference, push()).await, Pushed::AlreadyThere);
    let other = program.reference("team/other:v1");
    assert_eq!(send(&other, push().mounting_from("team/app")).await, Pushed::Mounted);
    let third = program.reference("third");
    assert_eq!(send(&third, push().mounting_from("no/such")).await, Pushed::Uploaded);
    let source = BlobPush::new(BlobSource::Bytes(config.bytes().clone()));
    registry.push_blob(&reference, &config_descriptor, source, &access).await.unwrap();

    let manifest = Manifest::new(
        media::OCI_MANIFEST,
        config_descriptor.clone(),
        vec![layer_descriptor.clone()],
    );
    let manifest = Raw::encode_indented(manifest).unwrap();
    let pinned = reference.with_digest(manifest.digest());
    let bytes = manifest.bytes().clone();
    registry.push_manifest(&pinned, media::OCI_MANIFEST, bytes, &access).await.unwrap();
    let entry = manifest.descriptor(media::OCI_MANIFEST).with_platform(platform.clone());
    let index = Raw::encode_indented(Index::new(media::OCI_INDEX, vec![entry])).unwrap();
    let bytes = index.bytes().clone();
    registry.push_manifest(&reference, media::OCI_INDEX, bytes, &access).await.unwrap();

    let resolved = registry.resolve(&reference, &access).await.unwrap();
    assert_eq!(resolved.descriptor, index.descriptor(media::OCI_INDEX));
    let bytes = registry.manifest(&reference, &resolved.descriptor, &access).await.unwrap();
    let found = Raw::<Index>::parse(bytes).unwrap();
    let best = platform.matcher().best(&found.manifests).unwrap().clone();
    let bytes = registry.manifest(&reference, &best, &access).await.unwrap();
    let found = Raw::<Manifest>::parse(bytes).unwrap();
    assert_eq!(found, manifest);
    for (descriptor, expected) in [(&found.config, config.bytes()), (&found.layers[0], &layer)] {
        let stream = registry.blob(&reference, descriptor, &access).await.unwrap();
        let chunks: Vec<Bytes> = stream.try_collect().await.unwrap();
        assert!(chunks.concat() == *expected);
    }

    // A registry does not take bytes for others.
    let wrong = Descriptor::of(media::OCI_LAYER, b"12345");
    let push = BlobPush::new(BlobSource::Bytes(Bytes::from_static(b"54321")));
    let error = registry.push_blob(&reference, &wrong, push, &access).await.unwrap_err();
    assert!(error.to_string().contains("digest"), "{error}");
}
