//! Questions of a frontend, and their answers (protocol page `gateway.md` §2).

use std::time::{SystemTime, UNIX_EPOCH};

use bridge::{
    BuildError, CacheImport, FileRange, FileStat, Kind, ResolveMode, SolveRequest, SourceMeta,
    SourceMetaRequest, Warning,
};
use bytes::Bytes;
use proto::{fsutil, gateway, pb};

use super::{definition, definitions, excerpt_from_wire, invalid, platform_from_wire};

/// Returns what is to be solved.
pub fn to_solve(wire: gateway::SolveRequest) -> Result<SolveRequest, BuildError> {
    if wire.source_policies.iter().any(|policy| !policy.rules.is_empty()) {
        let text = "source policies are not enforced yet: build without one";
        return Err(BuildError::new(Kind::Unsupported, text));
    }
    let imports = wire.cache_imports.into_iter();
    let import =
        |one: gateway::CacheOptionsEntry| CacheImport { kind: one.r#type, attributes: one.attrs };
    Ok(SolveRequest {
        definition: wire.definition.map(definition).transpose()?,
        frontend: wire.frontend,
        options: wire.frontend_opt,
        inputs: definitions(wire.frontend_inputs)?,
        cache_imports: imports.map(import).collect(),
        evaluate: wire.evaluate,
    })
}

/// Returns the part of a file that is asked for.
pub fn file_range(wire: gateway::FileRange) -> Result<FileRange, BuildError> {
    let number = |count: i64| {
        u64::try_from(count).map_err(|_| invalid(format!("a file has no byte {count}")))
    };
    Ok(FileRange { offset: number(wire.offset)?, length: number(wire.length)? })
}

/// Returns what is known of a file.
pub fn stat(file: FileStat) -> fsutil::Stat {
    fsutil::Stat {
        path: file.name,
        mode: go_mode(file.mode),
        uid: file.uid,
        gid: file.gid,
        size: i64::try_from(file.size).unwrap_or(i64::MAX),
        mod_time: nanoseconds(file.modified),
        linkname: file.link_target,
        devmajor: i64::try_from(file.device.0).unwrap_or_default(),
        devminor: i64::try_from(file.device.1).unwrap_or_default(),
        xattrs: Default::default(),
    }
}

/// Returns what is known of the files of a directory.
pub fn directory(files: Vec<FileStat>) -> gateway::ReadDirResponse {
    gateway::ReadDirResponse { entries: files.into_iter().map(stat).collect() }
}

/// Returns nanoseconds since 1970.
fn nanoseconds(time: SystemTime) -> i64 {
    let (length, sign) = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => (after, 1),
        Err(before) => (before.duration(), -1),
    };
    i64::try_from(length.as_nanos()).unwrap_or(i64::MAX) * sign
}

/// Returns a file's mode with the bits that Go has for types and special permissions.
fn go_mode(mode: u32) -> u32 {
    let kind = match mode & 0o170_000 {
        0o040_000 => 1 << 31,
        0o120_000 => 1 << 27,
        0o060_000 => 1 << 26,
        0o020_000 => 1 << 26 | 1 << 21,
        0o010_000 => 1 << 25,
        0o140_000 => 1 << 24,
        _ => 0,
    };
    let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    let special = special.iter().filter(|(bit, _)| mode & bit != 0);
    special.fold(kind, |bits, (_, go)| bits | go) | mode & 0o777
}

fn mode(text: &str) -> Result<ResolveMode, BuildError> {
    match text {
        "" | "default" => Ok(ResolveMode::Default),
        "pull" => Ok(ResolveMode::Pull),
        "local" => Ok(ResolveMode::Local),
        other => Err(invalid(format!("invalid resolveMode: {other}"))),
    }
}

/// Returns a question about a source.
pub fn source_question(
    wire: gateway::ResolveSourceMetaRequest,
) -> Result<SourceMetaRequest, BuildError> {
    let source = wire.source.ok_or_else(|| invalid("the question names no source"))?;
    let image = wire.image.unwrap_or_default();
    if image.attestation_chain || !image.resolve_attestations.is_empty() {
        let text = "attestations of images cannot be resolved yet";
        return Err(BuildError::new(Kind::Unsupported, text));
    }
    if wire.http.is_some_and(|http| http.checksum_request.is_some()) {
        let text = "checksums of files with a suffix or of another kind cannot be resolved yet";
        return Err(BuildError::new(Kind::Unsupported, text));
    }
    Ok(SourceMetaRequest {
        identifier: source.identifier,
        attributes: source.attrs,
        platform: wire.platform.map(platform_from_wire),
        log_name: wire.log_name,
        mode: mode(&wire.resolve_mode)?,
        with_config: !image.no_config,
    })
}

/// Returns what a source is now.
pub fn source_answer(meta: SourceMeta) -> gateway::ResolveSourceMetaResponse {
    let image = meta.image.map(|image| gateway::ResolveSourceImageResponse {
        digest: image.digest.to_string(),
        config: image.config,
        attestation_chain: None,
    });
    let git = meta.commit.map(|checksum| gateway::ResolveSourceGitResponse {
        commit_checksum: checksum.clone(),
        checksum,
        ..Default::default()
    });
    let http = meta.file.map(|(digest, filename)| gateway::ResolveSourceHttpResponse {
        checksum: digest.to_string(),
        filename,
        ..Default::default()
    });
    let source = pb::SourceOp { identifier: meta.identifier, attrs: meta.attributes };
    gateway::ResolveSourceMetaResponse { source: Some(source), image, git, http }
}

pub(super) const IMAGE: &str = "docker-image://";
pub(super) const LAYOUT: &str = "oci-layout://";

/// Returns the older form of a question about an image.
pub fn image_question(
    wire: gateway::ResolveImageConfigRequest,
) -> Result<SourceMetaRequest, BuildError> {
    let scheme = if wire.resolver_type == 1 { LAYOUT } else { IMAGE };
    let layout = [("oci.session", wire.session_id), ("oci.store", wire.store_id)];
    let given = layout.into_iter().filter(|(_, value)| scheme == LAYOUT && !value.is_empty());
    Ok(SourceMetaRequest {
        identifier: format!("{scheme}{}", wire.r#ref),
        attributes: given.map(|(key, value)| (key.to_owned(), value)).collect(),
        platform: wire.platform.map(platform_from_wire),
        log_name: wire.log_name,
        mode: mode(&wire.resolve_mode)?,
        with_config: true,
    })
}

/// Returns the answer to the older form of a question about an image.
pub fn image_reference(
    meta: SourceMeta,
) -> Result<gateway::ResolveImageConfigResponse, BuildError> {
    let image = meta.image.ok_or_else(|| {
        BuildError::new(Kind::User, format!("`{}` is not an image", meta.identifier))
    })?;
    let name = [IMAGE, LAYOUT].iter().find_map(|scheme| meta.identifier.strip_prefix(scheme));
    Ok(gateway::ResolveImageConfigResponse {
        digest: image.digest.to_string(),
        config: image.config,
        r#ref: name.unwrap_or(&meta.identifier).to_owned(),
    })
}

/// Returns a warning of a frontend.
pub fn warning(wire: gateway::WarnRequest) -> Result<Warning, BuildError> {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let vertex = wire.digest.parse();
    Ok(Warning {
        vertex: vertex.map_err(|error: digests::DigestError| invalid(error.to_string()))?,
        level: wire.level,
        short: text(&wire.short),
        detail: wire.detail.iter().map(text).collect(),
        url: wire.url,
        source: wire.info.map(|info| excerpt_from_wire(info, &wire.ranges)),
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use bridge::ResolvedImage;
    use digests::Digest;
    use oci::Platform;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{file_stat, image_message, solve_message, source_message, source_meta};

    #[test]
    fn modes_are_those_of_go() {
        for (posix, go) in [
            (0o100_644, 0o644),
            (0o040_755, 1 << 31 | 0o755),
            (0o041_777, 1 << 31 | 1 << 20 | 0o777),
            (0o120_777, 1 << 27 | 0o777),
            (0o020_600, 1 << 26 | 1 << 21 | 0o600),
            (0o060_600, 1 << 26 | 0o600),
            (0o010_600, 1 << 25 | 0o600),
            (0o140_600, 1 << 24 | 0o600),
            (0o106_755, 1 << 23 | 1 << 22 | 0o755),
        ] {
            assert_eq!(go_mode(posix), go, "{posix:o}");
        }
    }

    #[test]
    fn a_file_is_told_whole() {
        let wire = stat(FileStat {
            name: "x".to_owned(),
            mode: 0o100_644,
            uid: 1,
            gid: 2,
            size: 3,
            modified: UNIX_EPOCH + Duration::from_nanos(4),
            link_target: "t".to_owned(),
            device: (5, 6),
        });
        assert_eq!((&*wire.path, wire.uid, wire.gid, wire.size), ("x", 1, 2, 3));
        assert_eq!((wire.mod_time, &*wire.linkname), (4, "t"));
        assert_eq!((wire.devmajor, wire.devminor), (5, 6));
    }

    #[test]
    fn a_range_is_not_negative() {
        let range = file_range(gateway::FileRange { offset: 1, length: 2 }).unwrap();
        assert_eq!((range.offset, range.length), (1, 2));
        assert!(file_range(gateway::FileRange { offset: -1, length: 2 }).is_err());
    }

    #[test]
    fn a_question_about_an_image_has_two_forms() {
        let source = pb::SourceOp {
            identifier: "docker-image://docker.io/library/busybox:latest".to_owned(),
            ..Default::default()
        };
        let newer = source_question(gateway::ResolveSourceMetaRequest {
            source: Some(source),
            resolve_mode: "pull".to_owned(),
            ..Default::default()
        })
        .unwrap();
        let older = image_question(gateway::ResolveImageConfigRequest {
            r#ref: "docker.io/library/busybox:latest".to_owned(),
            resolve_mode: "pull".to_owned(),
            store_id: "ignored".to_owned(),
            ..Default::default()
        })
        .unwrap();
        assert_eq!(newer.identifier, older.identifier);
        assert_eq!((newer.mode, older.mode), (ResolveMode::Pull, ResolveMode::Pull));
        assert!(newer.with_config && older.with_config && older.attributes.is_empty());
    }

    #[test]
    fn an_image_of_a_layout_is_asked_for_in_its_store() {
        let question = image_question(gateway::ResolveImageConfigRequest {
            r#ref: "a@sha256:x".to_owned(),
            resolver_type: 1,
            session_id: "s".to_owned(),
            store_id: "t".to_owned(),
            ..Default::default()
        })
        .unwrap();
        assert_eq!(question.identifier, "oci-layout://a@sha256:x");
        assert_eq!(
            (&*question.attributes["oci.session"], &*question.attributes["oci.store"]),
            ("s", "t")
        );
    }

    #[test]
    fn an_answer_has_the_digest_and_the_name() {
        let meta = SourceMeta {
            identifier: "docker-image://a/b:c".to_owned(),
            attributes: Default::default(),
            image: Some(ResolvedImage {
                digest: Digest::of("m"),
                config: Bytes::from_static(b"{}"),
            }),
            commit: None,
            file: None,
        };
        let newer = source_answer(meta.clone());
        assert_eq!(newer.source.unwrap().identifier, "docker-image://a/b:c");
        assert_eq!(newer.image.unwrap().digest, Digest::of("m").to_string());
        let older = image_reference(meta.clone()).unwrap();
        assert_eq!((&*older.r#ref, &older.config[..]), ("a/b:c", &b"{}"[..]));
        assert!(image_reference(SourceMeta { image: None, ..meta }).is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(source_question(Default::default()).is_err());
        let http = gateway::ResolveSourceHttpRequest { checksum_request: Some(Default::default()) };
        let unknown = gateway::ResolveSourceMetaRequest {
            source: Some(Default::default()),
            http: Some(http),
            ..Default::default()
        };
        assert_eq!(source_question(unknown).unwrap_err().kind(), Kind::Unsupported);
        let odd = gateway::ResolveImageConfigRequest {
            resolve_mode: "maybe".to_owned(),
            ..Default::default()
        };
        assert_eq!(image_question(odd).unwrap_err().message(), "invalid resolveMode: maybe");
        assert!(warning(gateway::WarnRequest::default()).is_err());
        let damaged = pb::Definition { def: vec![vec![0xff].into()], ..Default::default() };
        assert!(
            to_solve(gateway::SolveRequest { definition: Some(damaged), ..Default::default() })
                .is_err()
        );
    }

    #[test]
    fn what_is_asked_is_what_is_understood() {
        let asked = SourceMetaRequest {
            identifier: "oci-layout://a@sha256:x".to_owned(),
            attributes: [("oci.store".to_owned(), "t".to_owned())].into(),
            platform: Some(Platform::new("linux", "arm64")),
            log_name: "looking".to_owned(),
            mode: ResolveMode::Local,
            with_config: true,
        };
        let newer = source_question(source_message(asked.clone())).unwrap();
        let older = image_question(image_message(asked.clone()).unwrap()).unwrap();
        for understood in [newer, older] {
            assert_eq!(understood.identifier, asked.identifier);
            assert_eq!(understood.attributes, asked.attributes);
            assert_eq!(understood.platform, asked.platform);
            assert_eq!((&*understood.log_name, understood.mode), ("looking", ResolveMode::Local));
        }
        let git = SourceMetaRequest { identifier: "git://x".to_owned(), ..asked };
        assert!(image_message(git).is_none());
    }

    #[test]
    fn answers_round_trip() {
        let meta = SourceMeta {
            identifier: "docker-image://a/b:c".to_owned(),
            attributes: [("k".to_owned(), "v".to_owned())].into(),
            image: Some(ResolvedImage {
                digest: Digest::of("m"),
                config: Bytes::from_static(b"{}"),
            }),
            commit: Some("abc".to_owned()),
            file: Some((Digest::of("f"), "name".to_owned())),
        };
        let told = source_meta(source_answer(meta.clone())).unwrap();
        assert_eq!((&told.identifier, &told.attributes), (&meta.identifier, &meta.attributes));
        assert_eq!(told.image.unwrap().digest, Digest::of("m"));
        assert_eq!((told.commit, told.file), (meta.commit, meta.file));
    }

    proptest! {
        #[test]
        fn files_round_trip(
            kind in prop::sample::select(vec![4u32, 12, 6, 2, 1, 14, 10]),
            bits in 0u32..0o10000,
            nanoseconds in -1_000_000_000_000_000i64..1_000_000_000_000_000_000,
            size in 0u64..1 << 40,
        ) {
            let kind = if kind == 14 { 0o100_000 } else { kind << 12 };
            let age = Duration::from_nanos(nanoseconds.unsigned_abs());
            let modified =
                if nanoseconds < 0 { UNIX_EPOCH - age } else { UNIX_EPOCH + age };
            let file = FileStat {
                name: "x".to_owned(),
                mode: kind | bits,
                uid: 1,
                gid: 2,
                size,
                modified,
                link_target: "t".to_owned(),
                device: (5, 6),
            };
            prop_assert_eq!(file_stat(stat(file.clone())), file);
        }

        #[test]
        fn requests_round_trip(evaluate: bool, options in prop::collection::btree_map("[a-z]{1,4}", "[a-z]*", 0..4)) {
            let asked = SolveRequest {
                definition: None,
                frontend: "f".to_owned(),
                options,
                inputs: [("i".to_owned(), llb::Definition::empty())].into(),
                cache_imports: vec![CacheImport {
                    kind: "registry".to_owned(),
                    attributes: [("ref".to_owned(), "x".to_owned())].into(),
                }],
                evaluate,
            };
            let understood = to_solve(solve_message(asked.clone())).unwrap();
            prop_assert_eq!(understood.options, asked.options);
            prop_assert_eq!(understood.inputs, asked.inputs);
            prop_assert_eq!(understood.cache_imports, asked.cache_imports);
            prop_assert_eq!((understood.evaluate, understood.frontend), (evaluate, asked.frontend));
        }
    }
}
