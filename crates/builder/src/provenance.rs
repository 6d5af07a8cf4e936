//! Where a result comes from, as a statement about it (SLSA provenance).
//!
//! The client asks with `attest:provenance` (protocol page `gateway.md` §6); the statement names what
//! the build was asked to do, and every image it was built from, by digest.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use bridge::{BuildError, Kind};
use exporter::Statement;
use llb::{Definition, Op};
use oci::{Reference, Time};
use serde_json::{Map, Value, json};

/// Predicate type and build type of the two versions that clients know.
const V1: &str = "https://slsa.dev/provenance/v1";
const V02: &str = "https://slsa.dev/provenance/v0.2";
const BUILD_TYPE_V1: &str =
    "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
const BUILD_TYPE_V02: &str = "https://mobyproject.org/buildkit@v1";

/// What the client wants of the statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProvenanceOptions {
    max: bool,
    inline_only: bool,
    v02: bool,
    builder_id: String,
}

impl ProvenanceOptions {
    /// Reads what the options of a build ask for; none if no statement is wanted.
    ///
    /// # Errors
    /// Returns an error for an attestation of another type, or a mode that does not exist.
    pub(crate) fn of(options: &BTreeMap<String, String>) -> Result<Option<Self>, BuildError> {
        for key in options.keys().filter_map(|key| key.strip_prefix("attest:")) {
            if key != "provenance" && key != "sbom" {
                let text = format!("unknown attestation type \"{key}\"");
                return Err(BuildError::new(Kind::InvalidRequest, text));
            }
        }
        let asked = options
            .get("attest:provenance")
            .or_else(|| options.get("build-arg:BUILDKIT_ATTEST_PROVENANCE"));
        asked.map(|text| Self::parse(text)).transpose()
    }

    /// Returns what the record of a build keeps when its client asked for nothing.
    pub(crate) fn for_the_record() -> Self {
        Self { max: true, inline_only: false, v02: false, builder_id: String::new() }
    }

    fn parse(text: &str) -> Result<Self, BuildError> {
        let mut options = Self::for_the_record();
        for field in text.split(',').filter(|field| !field.is_empty()) {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            let truth = matches!(value, "" | "1" | "t" | "T" | "true" | "TRUE" | "True");
            match key {
                "mode" if matches!(value, "min") => options.max = false,
                "mode" if matches!(value, "max" | "full") => options.max = true,
                "mode" => {
                    let text = format!("invalid mode {value:?} for provenance: use min or max");
                    return Err(BuildError::new(Kind::InvalidRequest, text));
                }
                "inline-only" => options.inline_only = truth,
                "version" => options.v02 = value == "v0.2",
                "builder-id" => value.clone_into(&mut options.builder_id),
                _ => {}
            }
        }
        Ok(options)
    }
}

/// What a statement is made from.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) reference: &'a str,
    pub(crate) options: &'a BTreeMap<String, String>,
    pub(crate) definition: Option<&'a Definition>,
    pub(crate) platform: &'a str,
    pub(crate) started: SystemTime,
    pub(crate) finished: SystemTime,
}

/// Returns the statement about one result.
pub(crate) fn statement(options: &ProvenanceOptions, facts: &Facts<'_>) -> Statement {
    let predicate = if options.v02 { v02(options, facts) } else { v1(options, facts) };
    Statement {
        predicate_type: if options.v02 { V02 } else { V1 }.to_owned(),
        predicate: predicate.to_string().into(),
        path: "provenance.json".to_owned(),
        inline_only: options.inline_only,
        subjects: Vec::new(),
    }
}

fn v1(options: &ProvenanceOptions, facts: &Facts<'_>) -> Value {
    let request = request(options, facts);
    let mut metadata = json!({
        "invocationId": facts.reference,
        "startedOn": Time::from(facts.started).to_string(),
        "finishedOn": Time::from(facts.finished).to_string(),
        "buildkit_completeness": { "request": is_whole(options, facts), "resolvedDependencies": false },
        "buildkit_metadata": {},
    });
    if let Some(source) = facts.options.get("vcs:source") {
        metadata["buildkit_metadata"] = json!({ "vcs": {
            "source": source,
            "revision": facts.options.get("vcs:revision").cloned().unwrap_or_default(),
        }});
    }
    json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE_V1,
            "externalParameters": {
                "configSource": { "path": filename(facts) },
                "request": request,
            },
            "internalParameters": { "builderPlatform": facts.platform },
            "resolvedDependencies": materials(facts),
        },
        "runDetails": {
            "builder": { "id": options.builder_id },
            "metadata": metadata,
        },
    })
}

fn v02(options: &ProvenanceOptions, facts: &Facts<'_>) -> Value {
    json!({
        "builder": { "id": options.builder_id },
        "buildType": BUILD_TYPE_V02,
        "materials": materials(facts),
        "invocation": {
            "configSource": { "entryPoint": filename(facts) },
            "parameters": request(options, facts),
            "environment": { "platform": facts.platform },
        },
        "metadata": {
            "buildInvocationID": facts.reference,
            "buildStartedOn": Time::from(facts.started).to_string(),
            "buildFinishedOn": Time::from(facts.finished).to_string(),
            "completeness": {
                "parameters": is_whole(options, facts),
                "environment": true,
                "materials": false,
            },
            "reproducible": false,
        },
    })
}

fn filename(facts: &Facts<'_>) -> String {
    facts.options.get("filename").cloned().unwrap_or_else(|| "Dockerfile".to_owned())
}

/// Returns what the build was asked to do. The short form leaves out arguments, which may be secret.
fn request(options: &ProvenanceOptions, facts: &Facts<'_>) -> Value {
    let mut args = Map::new();
    for (key, value) in facts.options {
        let quiet = key.starts_with("attest:") || key.starts_with("vcs:") || key == "filename";
        if !quiet && (options.max || !is_argument(key)) {
            args.insert(key.clone(), Value::String(value.clone()));
        }
    }
    let locals: Vec<Value> =
        locals(facts).into_iter().map(|name| json!({ "name": name })).collect();
    let mut request = json!({ "frontend": "dockerfile.v0", "locals": locals });
    if !args.is_empty() {
        request["args"] = Value::Object(args);
    }
    request
}

fn is_argument(key: &str) -> bool {
    key.starts_with("build-arg:") || key.starts_with("label:")
}

/// Returns whether nothing of what was asked is left out.
fn is_whole(options: &ProvenanceOptions, facts: &Facts<'_>) -> bool {
    options.max || !facts.options.keys().any(|key| is_argument(key))
}

fn sources<'a>(facts: &Facts<'a>) -> Vec<(String, Option<llb::Platform>)> {
    let Some(Ok(graph)) = facts.definition.map(Definition::load) else { return Vec::new() };
    let sources = graph.vertices.iter().filter_map(|vertex| match &vertex.op {
        Op::Source(source) => Some((source.identifier.clone(), vertex.platform.clone())),
        _ => None,
    });
    sources.collect()
}

fn locals(facts: &Facts<'_>) -> BTreeSet<String> {
    let names = sources(facts).into_iter();
    let names = names.filter_map(|(id, _)| id.strip_prefix("local://").map(str::to_owned));
    names.chain(["dockerfile".to_owned()]).collect()
}

/// Returns the images that the result was built from, as package URLs with digests.
fn materials(facts: &Facts<'_>) -> Vec<Value> {
    let mut found = BTreeMap::new();
    for (identifier, platform) in sources(facts) {
        let Some(name) = identifier.strip_prefix("docker-image://") else { continue };
        let Ok(reference) = Reference::parse(name) else { continue };
        let Some(digest) = reference.digest() else { continue };
        let platform = platform.map(|platform| {
            let mut text = format!("{}/{}", platform.os, platform.architecture);
            if !platform.variant.is_empty() {
                text = format!("{text}/{}", platform.variant);
            }
            text
        });
        let uri = package_url(&reference, platform.as_deref());
        found.insert(uri.clone(), json!({ "uri": uri, "digest": { "sha256": digest.hex() } }));
    }
    found.into_values().collect()
}

fn package_url(reference: &Reference, platform: Option<&str>) -> String {
    let name = reference.without_tag();
    let familiar = name.familiar();
    let name = familiar.split('@').next().unwrap_or_default();
    let mut url = format!("pkg:docker/{}", name.replace(':', "%3A"));
    if let Some(tag) = reference.tag() {
        url.push('@');
        url.push_str(tag);
    }
    let mut separator = '?';
    // A tag that was resolved is told as the tag; the digest stands beside the address.
    if let (None, Some(digest)) = (reference.tag(), reference.digest()) {
        url.push_str(&format!("{separator}digest={digest}"));
        separator = '&';
    }
    if let Some(platform) = platform {
        url.push_str(&format!("{separator}platform={}", platform.replace('/', "%2F")));
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("attest:provenance".to_owned(), text.to_owned()),
            ("build-arg:TOKEN".to_owned(), "secret".to_owned()),
            ("target".to_owned(), "app".to_owned()),
        ])
    }

    fn predicate(text: &str) -> (Statement, Value) {
        let options = options(text);
        let asked = ProvenanceOptions::of(&options).unwrap().unwrap();
        let facts = Facts {
            reference: "ref",
            options: &options,
            definition: None,
            platform: "linux/amd64",
            started: SystemTime::UNIX_EPOCH,
            finished: SystemTime::UNIX_EPOCH,
        };
        let statement = statement(&asked, &facts);
        let value = serde_json::from_slice(&statement.predicate).unwrap();
        (statement, value)
    }

    #[test]
    fn the_short_form_keeps_arguments_to_itself() {
        let (statement, value) = predicate("mode=min,inline-only=true");
        assert!(statement.inline_only);
        assert_eq!(statement.predicate_type, V1);
        assert!(!value.to_string().contains("secret"));
        let args = &value["buildDefinition"]["externalParameters"]["request"]["args"];
        assert_eq!(args["target"], "app");
        assert_eq!(value["runDetails"]["metadata"]["buildkit_completeness"]["request"], false);
        let (_, value) = predicate("mode=max");
        assert!(value.to_string().contains("secret"));
        let (statement, value) = predicate("mode=min,version=v0.2");
        assert_eq!(statement.predicate_type, V02);
        assert_eq!(value["metadata"]["buildInvocationID"], "ref");
    }

    #[test]
    fn an_image_is_told_by_its_tag_or_else_its_digest() {
        let digest = digests::Digest::of("image");
        let url = |name: &str| package_url(&Reference::parse(name).unwrap(), Some("linux/amd64"));
        assert_eq!(
            url(&format!("localhost:5000/app:1@{digest}")),
            "pkg:docker/localhost%3A5000/app@1?platform=linux%2Famd64"
        );
        let expected = format!("pkg:docker/app?digest={digest}&platform=linux%2Famd64");
        assert_eq!(url(&format!("app@{digest}")), expected);
    }

    #[test]
    fn what_cannot_be_made_is_refused() {
        assert!(ProvenanceOptions::of(&options("mode=medium")).is_err());
        let other = BTreeMap::from([("attest:magic".to_owned(), String::new())]);
        let error = ProvenanceOptions::of(&other).unwrap_err();
        assert_eq!(error.to_string(), "unknown attestation type \"magic\"");
        assert_eq!(ProvenanceOptions::of(&BTreeMap::new()).unwrap(), None);
    }
}
