//! A request to build, checked (protocol page `control.md` §3).

use std::collections::BTreeMap;

use ::bridge::{BuildError, CacheImport, Kind};
use builder::BuildRequest;
use exporter::ExportRequest;
use gateway::wire::{definition, definitions, invalid};
use proto::control;

/// The versions of behaviour that a client may ask for; 0 stands for the newest.
const COMPATIBILITY: [i64; 4] = [0, 10, 20, 30];

/// Returns the build that a client asks for.
///
/// # Errors
/// Returns an error for what makes no sense, and for what would be ignored at the user's cost.
pub(crate) fn build_request(wire: control::SolveRequest) -> Result<BuildRequest, BuildError> {
    if wire.r#ref.is_empty() {
        return Err(invalid("the request has no build id"));
    }
    if !COMPATIBILITY.contains(&wire.compatibility_version) {
        let text = format!("unsupported compatibility version {}", wire.compatibility_version);
        return Err(invalid(text));
    }
    refuse_unsupported(&wire)?;
    let exporters = exporters(&wire);
    let cache = wire.cache.unwrap_or_default();
    let cache_exports = cache_exports(&cache)?;
    let cache_imports = cache_imports(&cache);
    Ok(BuildRequest {
        reference: wire.r#ref,
        definition: wire.definition.map(definition).transpose()?,
        session: wire.session,
        frontend: wire.frontend,
        options: wire.frontend_attrs,
        inputs: definitions(wire.frontend_inputs)?,
        entitlements: wire.entitlements,
        exporters,
        cache_exports,
        cache_imports,
        internal: wire.internal,
    })
}

/// Refuses what a build must not go on without.
fn refuse_unsupported(wire: &control::SolveRequest) -> Result<(), BuildError> {
    let rules = wire.source_policy.as_ref().is_some_and(|policy| !policy.rules.is_empty());
    let unsupported = [
        (rules, "source policies are not enforced yet: build without one"),
        (wire.proxy_network, "the recording proxy for steps is not supported"),
        (wire.enable_session_exporter, "exporters of the client are not supported"),
    ];
    match unsupported.iter().find(|(asked, _)| *asked) {
        Some((_, text)) => Err(BuildError::new(Kind::Unsupported, *text)),
        None => Ok(()),
    }
}

/// Clients fill in the older field too, with a copy of the first: it counts only when it is alone.
fn exporters(wire: &control::SolveRequest) -> Vec<ExportRequest> {
    if wire.exporters.is_empty() && !wire.exporter_deprecated.is_empty() {
        let (kind, attributes) =
            (wire.exporter_deprecated.clone(), wire.exporter_attrs_deprecated.clone());
        return vec![ExportRequest { kind, attributes }];
    }
    let exporters = wire.exporters.iter();
    let request = |one: &control::Exporter| ExportRequest {
        kind: one.r#type.clone(),
        attributes: one.attrs.clone(),
    };
    exporters.map(request).collect()
}

fn entry(wire: &control::CacheOptionsEntry) -> CacheImport {
    CacheImport { kind: wire.r#type.clone(), attributes: wire.attrs.clone() }
}

fn registry_entry(reference: &str, attributes: &BTreeMap<String, String>) -> CacheImport {
    let mut attributes = attributes.clone();
    attributes.insert("ref".to_owned(), reference.to_owned());
    CacheImport { kind: "registry".to_owned(), attributes }
}

fn cache_exports(cache: &control::CacheOptions) -> Result<Vec<CacheImport>, BuildError> {
    let mut exports: Vec<CacheImport> = Vec::new();
    if cache.exports.is_empty() && !cache.export_ref_deprecated.is_empty() {
        let export = registry_entry(&cache.export_ref_deprecated, &cache.export_attrs_deprecated);
        exports.push(export);
    }
    for export in cache.exports.iter().map(entry) {
        let same = exports.iter().any(|other| is_same_place(&export, other));
        if !same {
            exports.push(export);
        } else if export.kind != "inline" {
            return Err(invalid(format!("duplicate cache exports [{}]", export.kind)));
        }
    }
    Ok(exports)
}

/// Returns true if two exports would write the same thing.
fn is_same_place(one: &CacheImport, other: &CacheImport) -> bool {
    one.kind == other.kind
        && match one.kind.as_str() {
            "inline" => true,
            "registry" => one.attributes.get("ref") == other.attributes.get("ref"),
            _ => one.attributes == other.attributes,
        }
}

fn cache_imports(cache: &control::CacheOptions) -> Vec<CacheImport> {
    if cache.imports.is_empty() {
        let references = cache.import_refs_deprecated.iter();
        return references.map(|reference| registry_entry(reference, &BTreeMap::new())).collect();
    }
    cache.imports.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> control::SolveRequest {
        control::SolveRequest { r#ref: "build".to_owned(), ..Default::default() }
    }

    fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn cache_entry(kind: &str, pairs: &[(&str, &str)]) -> control::CacheOptionsEntry {
        control::CacheOptionsEntry { r#type: kind.to_owned(), attrs: attributes(pairs) }
    }

    #[test]
    fn a_probe_is_an_empty_build() {
        let build = build_request(request()).unwrap();
        assert!(build.definition.is_none() && build.frontend.is_empty());
        assert!(build.exporters.is_empty() && build.cache_exports.is_empty());
    }

    #[test]
    fn the_older_exporter_counts_only_alone() {
        let mut wire = request();
        wire.exporter_deprecated = "local".to_owned();
        wire.exporter_attrs_deprecated = attributes(&[("a", "b")]);
        let alone = build_request(wire.clone()).unwrap().exporters;
        assert_eq!(alone.len(), 1);
        assert_eq!((&*alone[0].kind, &*alone[0].attributes["a"]), ("local", "b"));
        let tar = control::Exporter { r#type: "tar".to_owned(), ..Default::default() };
        wire.exporters.push(tar);
        let kinds = build_request(wire).unwrap().exporters;
        assert_eq!(kinds.iter().map(|one| &*one.kind).collect::<Vec<_>>(), ["tar"]);
    }

    #[test]
    fn older_cache_options_are_those_of_registries() {
        let mut wire = request();
        wire.cache = Some(control::CacheOptions {
            export_ref_deprecated: "host/to".to_owned(),
            export_attrs_deprecated: attributes(&[("mode", "max")]),
            import_refs_deprecated: vec!["host/from".to_owned()],
            ..Default::default()
        });
        let build = build_request(wire).unwrap();
        assert_eq!(build.cache_exports[0].attributes["ref"], "host/to");
        assert_eq!(build.cache_exports[0].attributes["mode"], "max");
        assert_eq!(build.cache_imports[0].kind, "registry");
        assert_eq!(build.cache_imports[0].attributes["ref"], "host/from");
    }

    #[test]
    fn the_same_cache_is_not_exported_twice() {
        let exports = |exports: &[control::CacheOptionsEntry]| {
            let mut wire = request();
            let exports = exports.to_vec();
            wire.cache = Some(control::CacheOptions { exports, ..Default::default() });
            build_request(wire).map(|build| build.cache_exports.len())
        };
        let inline = cache_entry("inline", &[]);
        assert_eq!(exports(&[inline.clone(), inline]).unwrap(), 1);
        let here = cache_entry("registry", &[("ref", "a"), ("mode", "max")]);
        let also_here = cache_entry("registry", &[("ref", "a")]);
        let there = cache_entry("registry", &[("ref", "b")]);
        let error = exports(&[here.clone(), also_here]).unwrap_err();
        assert_eq!(error.message(), "duplicate cache exports [registry]");
        assert_eq!(exports(&[here, there]).unwrap(), 2);
        let local = cache_entry("local", &[("dest", "x")]);
        assert!(exports(&[local.clone(), local]).is_err());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let rule = proto::sourcepolicy::Rule::default();
        let policy = proto::sourcepolicy::Policy { rules: vec![rule], ..Default::default() };
        let damaged = proto::pb::Definition { def: vec![vec![0xff].into()], ..Default::default() };
        for (wire, says) in [
            (control::SolveRequest::default(), "no build id"),
            (control::SolveRequest { compatibility_version: 99, ..request() }, "version 99"),
            (control::SolveRequest { proxy_network: true, ..request() }, "proxy"),
            (control::SolveRequest { enable_session_exporter: true, ..request() }, "exporters"),
            (control::SolveRequest { source_policy: Some(policy), ..request() }, "policies"),
            (control::SolveRequest { definition: Some(damaged), ..request() }, "op 0"),
        ] {
            let error = build_request(wire).unwrap_err();
            assert!(error.message().contains(says), "{error} should say {says}");
        }
    }
}
