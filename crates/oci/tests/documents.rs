//! Documents: what survives being read, and how ours are written.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use digests::{DiffId, Digest};
use oci::json::{self, RawObject};
use oci::{
    Descriptor, DocumentError, Healthcheck, History, ImageConfig, Index, Manifest, Platform, Raw,
    Time, annotations, media,
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A config as Docker writes it, with members of its own and nulls.
const DOCKER_CONFIG: &str = r#"{"architecture":"amd64","config":{"Hostname":"","User":"app","ExposedPorts":{"80/tcp":{}},"Env":["PATH=/bin"],"Cmd":null,"Image":"sha256:0","Volumes":null,"WorkingDir":"/","Entrypoint":["/a"],"OnBuild":null,"Labels":{"a":"b"},"Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":30000000000}},"container_config":{"Tty":false},"created":"2020-01-02T03:04:05.1234Z","docker_version":"20.10","history":[{"created":"2020-01-02T03:04:05+02:00","created_by":"/bin/sh"},{"empty_layer":true}],"os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}}"#;

#[test]
fn a_config_is_read_with_nulls_and_unknown_members() {
    let raw = Raw::<ImageConfig>::parse(Bytes::from_static(DOCKER_CONFIG.as_bytes())).unwrap();
    assert_eq!(raw.digest(), Digest::of(DOCKER_CONFIG));
    assert_eq!(raw.platform().to_string(), "linux/amd64");
    assert_eq!(raw.config.exposed_ports, BTreeSet::from(["80/tcp".to_owned()]));
    assert_eq!((raw.config.cmd.len(), raw.config.entrypoint.len()), (0, 1));
    let healthcheck = raw.config.healthcheck.as_ref().unwrap();
    assert_eq!(healthcheck.interval, Duration::from_secs(30));
    assert_eq!(raw.unknown["docker_version"], "20.10");
    assert_eq!(raw.config.unknown["Image"], "sha256:0");
    assert_eq!(raw.history.len(), 2);
    assert_eq!(raw.chain_id().unwrap().digest(), Digest::of(""));

    let mut value = raw.value().clone();
    let again: Value = serde_json::from_slice(&json::encode(&value).unwrap()).unwrap();
    assert_eq!(again["container_config"], json!({"Tty": false}));
    value.forget_unknown();
    let text = String::from_utf8(json::encode(&value).unwrap()).unwrap();
    assert!(!text.contains("docker_version") && !text.contains("Image\""), "{text}");
}

#[test]
fn a_config_is_written_in_the_order_of_gos_types() {
    let mut config = ImageConfig::for_platform(&Platform::parse("linux/arm/v7").unwrap());
    config.created = Some(Time::from_unix(1));
    config.author = "someone".to_owned();
    config.rootfs.diff_ids.push(DiffId::new(Digest::of("")));
    config.history.push(History {
        created_by: "RUN a && b <c".to_owned(),
        comment: "buildkit.dockerfile.v0".to_owned(),
        empty_layer: true,
        ..History::default()
    });
    let run = &mut config.config;
    run.user = "1".to_owned();
    run.exposed_ports.insert("1/udp".to_owned());
    run.env.push("A=\u{2028}".to_owned());
    run.entrypoint.push("e".to_owned());
    run.cmd.push("c".to_owned());
    run.volumes.insert("/v".to_owned());
    run.working_dir = "/w".to_owned();
    run.labels.insert("l".to_owned(), "é\u{7f}\u{1}".to_owned());
    run.stop_signal = "TERM".to_owned();
    run.args_escaped = true;
    run.healthcheck = Some(Healthcheck {
        test: vec!["NONE".to_owned()],
        interval: Duration::from_nanos(1),
        timeout: Duration::from_secs(1),
        start_period: Duration::from_secs(2),
        start_interval: Duration::from_secs(3),
        retries: 4,
        unknown: BTreeMap::new(),
    });
    run.on_build.push("RUN x".to_owned());
    run.shell.push("sh".to_owned());
    let expected = concat!(
        r#"{"created":"1970-01-01T00:00:01Z","author":"someone","architecture":"arm","os":"linux","variant":"v7","#,
        r#""rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},"#,
        r#""history":[{"created_by":"RUN a \u0026\u0026 b \u003cc","comment":"buildkit.dockerfile.v0","empty_layer":true}],"#,
        r#""config":{"User":"1","ExposedPorts":{"1/udp":{}},"Env":["A=\u2028"],"Entrypoint":["e"],"Cmd":["c"],"Volumes":{"/v":{}},"#,
        r#""WorkingDir":"/w","Labels":{"l":"é"#,
        "\u{7f}",
        r#"\u0001"},"StopSignal":"TERM","ArgsEscaped":true,"#,
        r#""Healthcheck":{"Test":["NONE"],"Interval":1,"Timeout":1000000000,"StartPeriod":2000000000,"StartInterval":3000000000,"Retries":4},"#,
        r#""OnBuild":["RUN x"],"Shell":["sh"]}}"#
    );
    let raw = Raw::encode(config).unwrap();
    assert_eq!(std::str::from_utf8(raw.bytes()).unwrap(), expected);
    assert_eq!(raw.digest(), Digest::of(expected));
    assert_eq!(&Raw::<ImageConfig>::parse(raw.bytes().clone()).unwrap(), &raw);
}

#[test]
fn an_empty_config_has_what_go_never_omits() {
    let bytes = json::encode(&ImageConfig::default()).unwrap();
    let expected =
        r#"{"architecture":"","os":"","rootfs":{"type":"layers","diff_ids":[]},"config":{}}"#;
    assert_eq!(std::str::from_utf8(&bytes).unwrap(), expected);
}

#[test]
fn a_manifest_is_written_indented_in_the_order_of_gos_types() {
    let config = Descriptor::of(media::OCI_CONFIG, b"{}");
    let layer = Descriptor::of(media::OCI_LAYER_GZIP, b"").with_annotation("k", "<v>");
    let manifest = Manifest::new(media::OCI_MANIFEST, config, vec![layer]);
    let expected = r#"{
  "schemaVersion": 2,
  "mediaType": "application/vnd.oci.image.manifest.v1+json",
  "config": {
    "mediaType": "application/vnd.oci.image.config.v1+json",
    "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    "size": 2
  },
  "layers": [
    {
      "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
      "digest": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
      "size": 0,
      "annotations": {
        "k": "\u003cv\u003e"
      }
    }
  ]
}"#;
    let raw = Raw::encode_indented(manifest).unwrap();
    assert_eq!(std::str::from_utf8(raw.bytes()).unwrap(), expected);
    assert_eq!(raw.descriptor(media::OCI_MANIFEST).size, expected.len() as u64);
}

#[test]
fn bytes_are_kept_as_they_came() {
    let odd = Bytes::from_static(b" {\"manifests\":null,\n\"x\":1.50,\"schemaVersion\":2 } ");
    let raw = Raw::<Index>::parse(odd.clone()).unwrap();
    assert_eq!((raw.bytes(), raw.digest()), (&odd, Digest::of(&odd)));
    assert!(raw.manifests.is_empty());
}

#[test]
fn a_document_that_could_be_two_things_is_refused() {
    let parse_manifest =
        |text: &str| Raw::<Manifest>::parse(Bytes::copy_from_slice(text.as_bytes()));
    let parse_index = |text: &str| Raw::<Index>::parse(Bytes::copy_from_slice(text.as_bytes()));
    let config = r#""config":{"mediaType":"m","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}"#;
    let both = format!(r#"{{"schemaVersion":2,{config},"layers":[],"manifests":[]}}"#);
    assert!(matches!(
        parse_manifest(&both),
        Err(DocumentError::Ambiguous { member: "manifests", .. })
    ));
    assert!(matches!(parse_index(&both), Err(DocumentError::Ambiguous { member: "config", .. })));
    let wrong = format!(r#"{{"schemaVersion":2,"mediaType":"{}",{config}}}"#, media::OCI_INDEX);
    assert!(matches!(parse_manifest(&wrong), Err(DocumentError::MediaType { .. })));
    let old = format!(r#"{{"schemaVersion":1,{config}}}"#);
    assert!(matches!(parse_manifest(&old), Err(DocumentError::Schema { version: 1, .. })));
    for bad in
        ["", "<html>", "[]", "{}", r#"{"schemaVersion":2,"config":{"digest":"sha256:0","size":1}}"#]
    {
        assert!(matches!(parse_manifest(bad), Err(DocumentError::Malformed { .. })), "{bad}");
    }
    assert!(parse_index(r#"{"schemaVersion":2,"manifests":[{"digest":"x","size":-1}]}"#).is_err());
}

#[test]
fn media_types_say_what_they_are() {
    use media::Compression::{Gzip, None as Plain, Zstd};
    for kind in [media::OCI_LAYER, media::OCI_LAYER_FOREIGN, media::DOCKER_LAYER] {
        assert_eq!(media::layer_compression(kind), Some(Plain));
    }
    for kind in [media::OCI_LAYER_GZIP, media::DOCKER_LAYER_GZIP, media::DOCKER_LAYER_FOREIGN_GZIP]
    {
        assert_eq!(media::layer_compression(kind), Some(Gzip));
    }
    assert_eq!(media::layer_compression(media::DOCKER_LAYER_ZSTD), Some(Zstd));
    assert_eq!(media::layer_compression(media::OCI_CONFIG), None);
    assert!(media::is_nondistributable(media::DOCKER_LAYER_FOREIGN_GZIP));
    assert!(!media::is_nondistributable(media::DOCKER_LAYER_GZIP));
    for compression in [Plain, Gzip, Zstd] {
        assert_eq!(media::layer_compression(compression.oci_layer()), Some(compression));
        assert_eq!(media::to_docker(compression.oci_layer()), compression.docker_layer());
        assert_eq!(media::to_oci(compression.docker_layer()), compression.oci_layer());
    }
    assert_eq!(media::Compression::detect(&[0x1f, 0x8b, 8, 0]), Gzip);
    assert_eq!(media::Compression::detect(&[0x28, 0xb5, 0x2f, 0xfd, 1]), Zstd);
    assert_eq!(media::Compression::detect(b"tar"), Plain);
    let stated = format!(r#"{{"mediaType":"{}","layers":[]}}"#, media::DOCKER_MANIFEST);
    assert_eq!(media::detect(stated.as_bytes()).as_deref(), Some(media::DOCKER_MANIFEST));
    assert_eq!(media::detect(br#"{"manifests":[]}"#).as_deref(), Some(media::OCI_INDEX));
    assert_eq!(media::detect(br#"{"config":{}}"#).as_deref(), Some(media::OCI_MANIFEST));
    for other in [&br#"{"manifests":[],"layers":[]}"#[..], b"{}", b"<html>", b""] {
        assert_eq!(media::detect(other), None);
    }
}

#[test]
fn members_of_an_object_are_sorted_and_otherwise_left_alone() {
    let text = r#"{"rootfs":{"z":1,"a":1.0},"architecture":"<"}"#;
    let mut object: RawObject = serde_json::from_str(text).unwrap();
    object.set("os", &"linux").unwrap();
    let written = String::from_utf8(json::encode(&object).unwrap()).unwrap();
    assert_eq!(written, r#"{"architecture":"\u003c","os":"linux","rootfs":{"z":1,"a":1.0}}"#);
}

#[test]
fn times_are_read_and_written_as_go_does() {
    for text in [
        "1970-01-01T00:00:00Z",
        "2000-02-29T23:59:59.999999999Z",
        "2024-02-29T12:00:00.1+05:30",
        "1969-12-31T23:59:59.5-00:30",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
    ] {
        assert_eq!(text.parse::<Time>().unwrap().to_string(), text);
    }
    assert_eq!(
        "2020-01-01T00:00:00.120000Z".parse::<Time>().unwrap().to_string(),
        "2020-01-01T00:00:00.12Z"
    );
    let (east, utc) = ("1970-01-01T02:00:00+02:00", "1970-01-01T00:00:00Z");
    let [east, utc] = [east, utc].map(|text| text.parse::<Time>().unwrap());
    assert_eq!(east.unix_seconds(), utc.unix_seconds());
    for bad in [
        "",
        "2020",
        "2020-01-01",
        "2020-01-01 00:00:00Z",
        "2020-13-01T00:00:00Z",
        "2021-02-29T00:00:00Z",
        "2020-01-01T24:00:00Z",
        "2020-01-01T00:00:60Z",
        "2020-01-01T00:00:00",
        "2020-01-01T00:00:00.Z",
        "2020-01-01T00:00:00+0200",
        "2020-00-01T00:00:00Z",
        "2020-01-00T00:00:00Z",
        "2020-01-01T00:00:00Zé",
        "éééééééééééé",
    ] {
        assert!(bad.parse::<Time>().unwrap_err().to_string().contains(bad), "{bad}");
    }
}

proptest! {
    #[test]
    fn times_round_trip(seconds in -62_167_219_200i64..=253_402_300_799, nanoseconds in 0u32..1_000_000_000) {
        let time = Time::from_unix(seconds).with_nanoseconds(nanoseconds);
        prop_assert_eq!(time.to_string().parse::<Time>().unwrap(), time);
        prop_assert_eq!(Time::from(SystemTime::from(time)), time);
    }

    #[test]
    fn parsing_a_time_never_panics(text in "[0-9TZ:.+-]{0,40}|.{0,30}") {
        if let Ok(time) = text.parse::<Time>() {
            prop_assert!(!time.to_string().is_empty());
        }
    }

    #[test]
    fn what_we_write_is_json_of_the_same_value(text: String) {
        let written = json::encode(&text).unwrap();
        prop_assert!(!written.iter().any(|byte| b"<>&".contains(byte)));
        prop_assert_eq!(serde_json::from_slice::<String>(&written).unwrap(), text);
    }

    #[test]
    fn others_read_our_documents_as_we_do(
        kinds in prop::collection::vec(prop::sample::select(vec![
            media::OCI_LAYER, media::OCI_LAYER_GZIP, media::OCI_LAYER_ZSTD, media::OCI_LAYER_FOREIGN_GZIP,
        ]), 0..4),
        notes in prop::collection::btree_map("[a-z.]{1,8}", ".{0,8}", 0..3),
        architecture in prop::sample::select(vec!["amd64", "arm", "riscv64"]),
        env in prop::collection::vec("[A-Z]{1,4}=.{0,8}", 0..3),
        seconds in 0i64..4_000_000_000,
    ) {
        let platform = Platform::new("linux", architecture);
        let layers: Vec<_> = kinds.iter().map(|kind| Descriptor::of(*kind, kind.as_bytes())).collect();
        let mut config = ImageConfig::for_platform(&platform);
        config.created = Some(Time::from_unix(seconds));
        config.config.env = env;
        config.rootfs.diff_ids = layers.iter().map(|layer| DiffId::new(layer.digest)).collect();
        let config = Raw::encode(config).unwrap();
        let mut manifest = Manifest::new(media::OCI_MANIFEST, config.descriptor(media::OCI_CONFIG), layers);
        manifest.annotations = notes;
        let manifest = Raw::encode_indented(manifest).unwrap();
        let entry = manifest.descriptor(media::OCI_MANIFEST).with_platform(platform)
            .with_annotation(annotations::REF_NAME, "latest");
        let index = Raw::encode_indented(Index::new(media::OCI_INDEX, vec![entry])).unwrap();

        same::<oci_spec::image::ImageConfiguration>(config.bytes())?;
        same::<oci_spec::image::ImageManifest>(manifest.bytes())?;
        same::<oci_spec::image::ImageIndex>(index.bytes())?;
    }

    #[test]
    fn reading_documents_never_panics(bytes: Vec<u8>, text in "[\\[\\]{}\":,a-z0-9]{0,60}") {
        for bytes in [Bytes::from(bytes), Bytes::from(text)] {
            let _ = Raw::<Manifest>::parse(bytes.clone());
            let _ = Raw::<Index>::parse(bytes.clone());
            let _ = Raw::<ImageConfig>::parse(bytes.clone());
            let _ = media::detect(&bytes);
        }
    }
}

/// Reads a document with an independent implementation, and checks that it found all that is there.
fn same<T: serde::Serialize + serde::de::DeserializeOwned>(
    bytes: &[u8],
) -> Result<(), TestCaseError> {
    let theirs: T =
        serde_json::from_slice(bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let ours: Value = serde_json::from_slice(bytes).unwrap();
    prop_assert_eq!(serde_json::to_value(theirs).unwrap(), ours);
    Ok(())
}
