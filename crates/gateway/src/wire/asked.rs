//! The same questions and answers, as the one who asks sees them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bridge::{
    BuildError, FileRange, FileStat, Kind, ResolveMode, ResolvedImage, SolveRequest, SourceMeta,
    SourceMetaRequest, Warning,
};
use proto::{fsutil, gateway, pb};

use super::questions::{IMAGE, LAYOUT};
use super::{excerpt_to_wire, invalid, platform_to_wire};

/// Returns what is to be solved, for the wire.
pub fn solve_message(request: SolveRequest) -> gateway::SolveRequest {
    let inputs = request.inputs.iter();
    let imports = request.cache_imports.into_iter();
    gateway::SolveRequest {
        definition: request.definition.map(|graph| graph.to_wire()),
        frontend: request.frontend,
        frontend_opt: request.options,
        allow_result_return: true,
        allow_result_array_ref: true,
        cache_imports: imports
            .map(|one| gateway::CacheOptionsEntry { r#type: one.kind, attrs: one.attributes })
            .collect(),
        frontend_inputs: inputs.map(|(name, graph)| (name.clone(), graph.to_wire())).collect(),
        evaluate: request.evaluate,
        ..Default::default()
    }
}

/// Returns a part of a file, for the wire.
pub fn range_message(range: FileRange) -> gateway::FileRange {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    gateway::FileRange { offset: number(range.offset), length: number(range.length) }
}

const fn mode_text(mode: ResolveMode) -> &'static str {
    match mode {
        ResolveMode::Default => "default",
        ResolveMode::Pull => "pull",
        ResolveMode::Local => "local",
    }
}

/// Returns a question about a source.
pub fn source_message(request: SourceMetaRequest) -> gateway::ResolveSourceMetaRequest {
    let image = gateway::ResolveSourceImageRequest {
        no_config: !request.with_config,
        ..Default::default()
    };
    gateway::ResolveSourceMetaRequest {
        source: Some(pb::SourceOp { identifier: request.identifier, attrs: request.attributes }),
        platform: request.platform.map(platform_to_wire),
        log_name: request.log_name,
        resolve_mode: mode_text(request.mode).to_owned(),
        image: Some(image),
        ..Default::default()
    }
}

/// Returns what a source is now.
pub fn source_meta(wire: gateway::ResolveSourceMetaResponse) -> Result<SourceMeta, BuildError> {
    let source = wire.source.unwrap_or_default();
    let digest =
        |text: &str| text.parse().map_err(|error: digests::DigestError| invalid(error.to_string()));
    let image = wire.image.map(|image| {
        Ok::<_, BuildError>(ResolvedImage { digest: digest(&image.digest)?, config: image.config })
    });
    let file = wire.http.map(|file| Ok::<_, BuildError>((digest(&file.checksum)?, file.filename)));
    Ok(SourceMeta {
        identifier: source.identifier,
        attributes: source.attrs,
        image: image.transpose()?,
        commit: wire.git.map(|git| git.checksum),
        file: file.transpose()?,
    })
}

/// Returns the older form of a question about an image; none for what is no image.
pub fn image_message(request: SourceMetaRequest) -> Option<gateway::ResolveImageConfigRequest> {
    let (name, resolver_type) = match request.identifier.strip_prefix(IMAGE) {
        Some(name) => (name, 0),
        None => (request.identifier.strip_prefix(LAYOUT)?, 1),
    };
    let attribute = |key: &str| request.attributes.get(key).cloned().unwrap_or_default();
    Some(gateway::ResolveImageConfigRequest {
        r#ref: name.to_owned(),
        session_id: attribute("oci.session"),
        store_id: attribute("oci.store"),
        resolver_type,
        platform: request.platform.map(platform_to_wire),
        resolve_mode: mode_text(request.mode).to_owned(),
        log_name: request.log_name,
        ..Default::default()
    })
}

/// Returns the answer to the older form of a question about an image.
pub fn image_meta(
    asked: &SourceMetaRequest,
    wire: gateway::ResolveImageConfigResponse,
) -> Result<SourceMeta, BuildError> {
    let digest = wire.digest.parse();
    let digest = digest.map_err(|error: digests::DigestError| invalid(error.to_string()))?;
    let scheme = if asked.identifier.starts_with(LAYOUT) { LAYOUT } else { IMAGE };
    // Daemons that know no policies leave the name out.
    let identifier = match &*wire.r#ref {
        "" => asked.identifier.clone(),
        name => format!("{scheme}{name}"),
    };
    Ok(SourceMeta {
        identifier,
        attributes: asked.attributes.clone(),
        image: Some(ResolvedImage { digest, config: wire.config }),
        commit: None,
        file: None,
    })
}

/// Returns a warning for the wire.
pub fn warn_message(warning: Warning) -> gateway::WarnRequest {
    let (info, ranges) = warning.source.map(excerpt_to_wire).unzip();
    gateway::WarnRequest {
        digest: warning.vertex.to_string(),
        level: warning.level,
        short: warning.short.into(),
        detail: warning.detail.into_iter().map(Into::into).collect(),
        url: warning.url,
        info,
        ranges: ranges.unwrap_or_default(),
    }
}

/// Returns what is known of a file.
pub fn file_stat(wire: fsutil::Stat) -> FileStat {
    let number = |count: i64| u64::try_from(count).unwrap_or_default();
    let age = Duration::from_nanos(wire.mod_time.unsigned_abs());
    let modified = match wire.mod_time {
        0.. => UNIX_EPOCH.checked_add(age),
        _ => UNIX_EPOCH.checked_sub(age),
    };
    FileStat {
        name: wire.path,
        mode: posix_mode(wire.mode),
        uid: wire.uid,
        gid: wire.gid,
        size: number(wire.size),
        modified: modified.unwrap_or(SystemTime::UNIX_EPOCH),
        link_target: wire.linkname,
        device: (number(wire.devmajor), number(wire.devminor)),
    }
}

/// Returns a mode of Go's as `st_mode` has it.
fn posix_mode(go: u32) -> u32 {
    let has = |bit: u32| go & (1 << bit) != 0;
    let kind = if has(31) {
        0o040_000
    } else if has(27) {
        0o120_000
    } else if has(26) {
        if has(21) { 0o020_000 } else { 0o060_000 }
    } else if has(25) {
        0o010_000
    } else if has(24) {
        0o140_000
    } else {
        0o100_000
    };
    let mut mode = kind | go & 0o777;
    if has(23) {
        mode |= 0o4000;
    }
    if has(22) {
        mode |= 0o2000;
    }
    if has(20) {
        mode |= 0o1000;
    }
    mode
}

/// Returns the error for an answer that does not say what it should.
pub fn silent(what: &str) -> BuildError {
    BuildError::new(Kind::Internal, format!("the daemon's answer has no {what}"))
}
