//! Where a result comes from, as a statement about it (SLSA provenance).
//!
//! The client asks with `attest:provenance` (protocol page `gateway.md` §6); the statement names what
//! the build was asked to do, and every image it was built from, by digest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
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
/// Where the older version has what only this kind of builder knows.
const METADATA_V02: &str = "https://mobyproject.org/buildkit@v1#metadata";

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
    /// The graph of the result.
    pub(crate) definition: Option<&'a Definition>,
    /// What else was read on the way to it, such as the Dockerfile.
    pub(crate) beside: &'a [&'a Definition],
    /// What this machine is.
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
    let (config, metadata) = graph(options, facts);
    let mut internal = json!({ "builderPlatform": facts.platform });
    if let Some(config) = config {
        internal["buildConfig"] = config;
    }
    json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE_V1,
            "externalParameters": {
                "configSource": config_source(facts, "path"),
                "request": request(options, facts),
            },
            "internalParameters": internal,
            "resolvedDependencies": materials(facts),
        },
        "runDetails": {
            "builder": { "id": options.builder_id },
            "metadata": {
                "invocationId": facts.reference,
                "startedOn": Time::from(facts.started).to_string(),
                "finishedOn": Time::from(facts.finished).to_string(),
                "buildkit_completeness": {
                    "request": is_whole(options, facts),
                    "resolvedDependencies": false,
                },
                "buildkit_metadata": metadata,
            },
        },
    })
}

fn v02(options: &ProvenanceOptions, facts: &Facts<'_>) -> Value {
    let (config, metadata) = graph(options, facts);
    let mut predicate = json!({
        "builder": { "id": options.builder_id },
        "buildType": BUILD_TYPE_V02,
        "materials": materials(facts),
        "invocation": {
            "configSource": config_source(facts, "entryPoint"),
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
            METADATA_V02: metadata,
        },
    });
    if let Some(config) = config {
        predicate["buildConfig"] = config;
    }
    predicate
}

/// Returns the graph that the result was made by, unless the short form is wanted, and what is known of where it
/// comes from.
fn graph(options: &ProvenanceOptions, facts: &Facts<'_>) -> (Option<Value>, Value) {
    let mut metadata = Map::new();
    let said = |key: &str| facts.options.get(key).filter(|value| !value.is_empty());
    let vcs = ["source", "revision"].into_iter().filter_map(|key| {
        let value = said(&format!("vcs:{key}"))?;
        let value = if key == "source" { redacted(value) } else { value.clone() };
        Some((key.to_owned(), Value::String(value)))
    });
    let vcs: Map<String, Value> = vcs.collect();
    if !vcs.is_empty() {
        metadata.insert("vcs".to_owned(), Value::Object(vcs));
    }
    let document = facts.definition.filter(|_| options.max).map(Definition::document);
    let config = document.map(|document| {
        if !document.source.is_null() {
            metadata.insert("source".to_owned(), document.source);
        }
        json!({ "llbDefinition": document.steps, "digestMapping": document.names })
    });
    (config, Value::Object(metadata))
}

/// Returns where the Dockerfile is from; `file` is what its name is called.
fn config_source(facts: &Facts<'_>, file: &str) -> Value {
    let mut source = Map::new();
    for (key, name) in [(context_key(facts), "uri"), ("filename", file)] {
        if let Some(value) = facts.options.get(key).filter(|value| !value.is_empty()) {
            source.insert(name.to_owned(), Value::String(redacted(value)));
        }
    }
    Value::Object(source)
}

fn context_key<'a>(facts: &Facts<'a>) -> &'a str {
    facts.options.get("contextkey").map_or("context", String::as_str)
}

/// Returns an address without the name and the password in it.
fn redacted(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let Some((user, host)) = authority.rsplit_once('@') else { return address.to_owned() };
    let user = if user.contains(':') { "xxxxx:xxxxx" } else { "xxxxx" };
    format!("{scheme}://{user}@{host}{path}")
}

/// Options that say something of the machine, not of the build.
const OF_THE_HOST: [&str; 4] = ["cgroup-parent", "image-resolve-mode", "platform", "cache-imports"];

/// Returns what the build was asked to do. The short form leaves out arguments, which may be secret, and the
/// names of secrets.
fn request(options: &ProvenanceOptions, facts: &Facts<'_>) -> Value {
    let mut args = Map::new();
    let quiet = |key: &str| {
        key.starts_with("attest:")
            || key.starts_with("vcs:")
            || key == "filename"
            || key == context_key(facts)
            || OF_THE_HOST.contains(&key)
    };
    for (key, value) in facts.options.iter().filter(|(key, _)| !quiet(key)) {
        if options.max || !is_argument(key) {
            let value = if key.starts_with("context:") { redacted(value) } else { value.clone() };
            args.insert(key.clone(), Value::String(value));
        }
    }
    let locals: Vec<Value> =
        locals(facts).into_iter().map(|name| json!({ "name": name })).collect();
    // An image that is a frontend is run by the gateway.
    let is_image = facts.options.contains_key("source");
    let frontend = if is_image { "gateway.v0" } else { "dockerfile.v0" };
    let mut request = json!({ "frontend": frontend, "locals": locals });
    if !args.is_empty() {
        request["args"] = Value::Object(args);
    }
    if options.max {
        let (secrets, agents) = secrets(facts);
        for (name, found) in [("secrets", secrets), ("ssh", agents)] {
            if !found.is_empty() {
                request[name] = Value::Array(found);
            }
        }
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

/// Returns the operations of the result and of what was read beside it.
fn vertices(facts: &Facts<'_>) -> Vec<Arc<llb::Vertex>> {
    let graphs = facts.definition.into_iter().chain(facts.beside.iter().copied());
    graphs
        .filter_map(|definition| definition.load().ok())
        .flat_map(|graph| graph.vertices)
        .collect()
}

fn sources(facts: &Facts<'_>) -> Vec<(String, Option<llb::Platform>)> {
    let vertices = vertices(facts);
    let sources = vertices.iter().filter_map(|vertex| match &vertex.op {
        Op::Source(source) => Some((source.identifier.clone(), vertex.platform.clone())),
        _ => None,
    });
    sources.collect()
}

fn locals(facts: &Facts<'_>) -> BTreeSet<String> {
    let names = sources(facts).into_iter();
    names.filter_map(|(id, _)| id.strip_prefix("local://").map(str::to_owned)).collect()
}

/// Returns the secrets and the agents that steps were given, by id. One that any step requires is not optional.
fn secrets(facts: &Facts<'_>) -> (Vec<Value>, Vec<Value>) {
    let (mut secrets, mut agents) = (BTreeMap::new(), BTreeMap::new());
    let mut note = |is_secret: bool, id: &str, optional: bool| {
        let found = if is_secret { &mut secrets } else { &mut agents };
        *found.entry(id.to_owned()).or_insert(true) &= optional;
    };
    for vertex in vertices(facts) {
        let Op::Exec(exec) = &vertex.op else { continue };
        for mount in &exec.mounts {
            match &mount.kind {
                llb::MountKind::Secret(secret) => note(true, &secret.id, secret.optional),
                llb::MountKind::Ssh(ssh) if ssh.id.is_empty() => {
                    note(false, "default", ssh.optional)
                }
                llb::MountKind::Ssh(ssh) => note(false, &ssh.id, ssh.optional),
                llb::MountKind::Bind | llb::MountKind::Cache(_) | llb::MountKind::Tmpfs { .. } => {}
            }
        }
        exec.secret_env.iter().for_each(|secret| note(true, &secret.id, secret.optional));
    }
    let told = |found: BTreeMap<String, bool>| {
        let one = |(id, optional)| match optional {
            true => json!({ "id": id, "optional": true }),
            false => json!({ "id": id }),
        };
        found.into_iter().map(one).collect()
    };
    (told(secrets), told(agents))
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
    use llb::{ExecOptions, LocalOptions, OpOptions, RunSecret, SecretMount, State};

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
            beside: &[],
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
    fn what_was_asked_is_told_without_what_is_of_the_machine_or_secret() {
        let client =
            LocalOptions { follow_paths: vec!["/a".to_owned()], ..LocalOptions::default() };
        let read = State::local("context", client, OpOptions::default());
        let mut run = ExecOptions {
            args: vec!["true".to_owned()],
            cwd: "/".to_owned(),
            ..ExecOptions::default()
        };
        let secret = SecretMount { id: "s".to_owned(), optional: true, ..SecretMount::default() };
        let dest = Some("/s".to_owned());
        run.secrets.push(RunSecret { secret, dest, ..RunSecret::default() });
        let made = read.run(run, OpOptions::default()).root();
        let dockerfile = State::local("dockerfile", LocalOptions::default(), OpOptions::default());
        let amd64 = llb::Platform {
            os: "linux".into(),
            architecture: "amd64".into(),
            ..Default::default()
        };
        let [made, dockerfile] = [made, dockerfile].map(|state| state.marshal(&amd64).unwrap());
        let mut options = options("mode=max");
        options.insert("platform".to_owned(), "linux/arm64".to_owned());
        options.insert("context".to_owned(), "https://me:token@host/x.git".to_owned());
        let facts = Facts {
            reference: "ref",
            options: &options,
            definition: Some(&made),
            beside: &[&dockerfile],
            platform: "linux/amd64",
            started: SystemTime::UNIX_EPOCH,
            finished: SystemTime::UNIX_EPOCH,
        };
        let asked = ProvenanceOptions::of(&options).unwrap().unwrap();
        let value: Value = serde_json::from_slice(&statement(&asked, &facts).predicate).unwrap();
        let external = &value["buildDefinition"]["externalParameters"];
        assert_eq!(external["configSource"], json!({ "uri": "https://xxxxx:xxxxx@host/x.git" }));
        assert_eq!(
            external["request"],
            json!({
                "frontend": "dockerfile.v0",
                "args": { "build-arg:TOKEN": "secret", "target": "app" },
                "locals": [{ "name": "context" }, { "name": "dockerfile" }],
                "secrets": [{ "id": "s", "optional": true }],
            })
        );
        let config = &value["buildDefinition"]["internalParameters"]["buildConfig"];
        assert_eq!(
            config["llbDefinition"][0]["op"]["Op"]["source"]["identifier"],
            "local://context"
        );
        assert_eq!(config["digestMapping"].as_object().unwrap().len(), 3);
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
