//! Where a result comes from, as a statement about it (SLSA provenance).
//!
//! The client asks with `attest:provenance` (protocol page `gateway.md` §6); the statement names what
//! the build was asked to do, everything it was built from, by digest, and what each step made.

mod layers;
mod materials;
mod options;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use exporter::{Predicate, Statement};
use futures::FutureExt as _;
use llb::{Definition, GraphDocument, NetMode, Op};
use oci::Time;
use serde_json::{Map, Value, json};

use layers::StepLayers;
pub(crate) use layers::{Made, MadeBy};
pub(crate) use materials::Pins;
use materials::{Materials, redacted};
pub(crate) use options::ProvenanceOptions;

/// Predicate type and build type of the two versions that clients know.
const V1: &str = "https://slsa.dev/provenance/v1";
const V02: &str = "https://slsa.dev/provenance/v0.2";
const BUILD_TYPE_V1: &str =
    "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
const BUILD_TYPE_V02: &str = "https://mobyproject.org/buildkit@v1";
/// Where the older version has what only this kind of builder knows.
const METADATA_V02: &str = "https://mobyproject.org/buildkit@v1#metadata";
const HERMETIC_V02: &str = "https://mobyproject.org/buildkit@v1#hermetic";

/// What a statement is made from.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) reference: &'a str,
    pub(crate) options: &'a BTreeMap<String, String>,
    /// The graph of the result.
    pub(crate) definition: Option<&'a Definition>,
    /// What else was read on the way to it, such as the Dockerfile.
    pub(crate) beside: &'a [&'a Definition],
    /// What was found of sources.
    pub(crate) pins: &'a Pins,
    /// What the steps made, if it is known.
    pub(crate) made: Option<Made<'a>>,
    /// What this machine is.
    pub(crate) platform: &'a str,
    pub(crate) started: SystemTime,
    pub(crate) finished: SystemTime,
}

/// What is found out for a statement.
struct Findings {
    /// The operations of the result and of what was read beside it.
    vertices: Vec<Arc<llb::Vertex>>,
    materials: Materials,
    /// The graph, unless the short form is wanted.
    document: Option<GraphDocument>,
    /// Whether no step could reach anything outside.
    is_hermetic: bool,
}

/// Returns the statement about one result. The layers of its steps are told as they are when somebody reads
/// the statement.
pub(crate) fn statement(options: &ProvenanceOptions, facts: &Facts<'_>) -> Statement {
    let vertices = vertices(facts);
    let materials = Materials::of(&vertices, facts.pins);
    let reaches_out = |op: &Op| matches!(op, Op::Exec(exec) if exec.network != NetMode::None);
    let is_hermetic =
        materials.are_complete() && !vertices.iter().any(|vertex| reaches_out(&vertex.op));
    let document = facts.definition.filter(|_| options.max).map(Definition::document);
    let made = document.as_ref().zip(facts.made).map(|(document, made)| made.by(document));
    let found = Findings { vertices, materials, document, is_hermetic };
    let predicate =
        if options.v02 { v02(options, facts, found) } else { v1(options, facts, found) };
    Statement {
        predicate_type: if options.v02 { V02 } else { V1 }.to_owned(),
        predicate: match made {
            Some(made) => late(predicate, options.v02, made),
            None => bytes::Bytes::from(predicate.to_string()).into(),
        },
        path: "provenance.json".to_owned(),
        inline_only: options.inline_only,
        is_list: false,
        subjects: Vec::new(),
    }
}

/// Returns the predicate with the layers of the steps, which get their archives while the result is exported.
fn late(predicate: Value, is_v02: bool, made: StepLayers) -> Predicate {
    let (predicate, made) = (Arc::new(predicate), Arc::new(made));
    Predicate::late(move || {
        let (predicate, made) = (predicate.clone(), made.clone());
        let read = async move {
            let layers = made.read().await;
            if layers.is_empty() {
                return predicate.to_string().into();
            }
            let mut predicate = Value::clone(&predicate);
            let metadata = match is_v02 {
                true => &mut predicate["metadata"][METADATA_V02],
                false => &mut predicate["runDetails"]["metadata"]["buildkit_metadata"],
            };
            metadata["layers"] = Value::Object(layers);
            predicate.to_string().into()
        };
        read.boxed()
    })
}

fn v1(options: &ProvenanceOptions, facts: &Facts<'_>, found: Findings) -> Value {
    let Findings { vertices, materials, document, is_hermetic } = found;
    let (config, metadata) = graph(facts, document);
    let mut internal = json!({ "builderPlatform": facts.platform });
    if let Some(config) = config {
        internal["buildConfig"] = config;
    }
    let mut predicate = json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE_V1,
            "externalParameters": {
                "configSource": config_source(facts, "path", &materials),
                "request": request(options, facts, &materials, &vertices),
            },
            "internalParameters": internal,
            "resolvedDependencies": materials.list(),
        },
        "runDetails": {
            "builder": { "id": options.builder_id },
            "metadata": {
                "invocationId": facts.reference,
                "startedOn": Time::from(facts.started).to_string(),
                "finishedOn": Time::from(facts.finished).to_string(),
                "buildkit_completeness": {
                    "request": is_whole(options, facts),
                    "resolvedDependencies": materials.are_complete(),
                },
                "buildkit_metadata": metadata,
            },
        },
    });
    if is_hermetic {
        predicate["runDetails"]["metadata"]["buildkit_hermetic"] = Value::Bool(true);
    }
    predicate
}

fn v02(options: &ProvenanceOptions, facts: &Facts<'_>, found: Findings) -> Value {
    let Findings { vertices, materials, document, is_hermetic } = found;
    let (config, metadata) = graph(facts, document);
    let mut predicate = json!({
        "builder": { "id": options.builder_id },
        "buildType": BUILD_TYPE_V02,
        "materials": materials.list(),
        "invocation": {
            "configSource": config_source(facts, "entryPoint", &materials),
            "parameters": request(options, facts, &materials, &vertices),
            "environment": { "platform": facts.platform },
        },
        "metadata": {
            "buildInvocationID": facts.reference,
            "buildStartedOn": Time::from(facts.started).to_string(),
            "buildFinishedOn": Time::from(facts.finished).to_string(),
            "completeness": {
                "parameters": is_whole(options, facts),
                "environment": true,
                "materials": materials.are_complete(),
            },
            "reproducible": false,
            METADATA_V02: metadata,
        },
    });
    if let Some(config) = config {
        predicate["buildConfig"] = config;
    }
    if is_hermetic {
        predicate["metadata"][HERMETIC_V02] = Value::Bool(true);
    }
    predicate
}

/// Returns the graph that the result was made by, if it is told, and what is known of where it comes from.
fn graph(facts: &Facts<'_>, document: Option<GraphDocument>) -> (Option<Value>, Value) {
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
    let config = document.map(|document| {
        if !document.source.is_null() {
            metadata.insert("source".to_owned(), document.source);
        }
        json!({ "llbDefinition": document.steps, "digestMapping": document.names })
    });
    (config, Value::Object(metadata))
}

/// Returns where the Dockerfile is from; `file` is what its name is called.
fn config_source(facts: &Facts<'_>, file: &str, materials: &Materials) -> Value {
    let mut source = Map::new();
    for (key, name) in [(context_key(facts), "uri"), ("filename", file)] {
        if let Some(value) = facts.options.get(key).filter(|value| !value.is_empty()) {
            source.insert(name.to_owned(), Value::String(redacted(value)));
        }
    }
    let context = facts.options.get(context_key(facts));
    if let Some(digests) = context.and_then(|address| materials.digests_at(address)) {
        source.insert("digest".to_owned(), digests.clone());
    }
    Value::Object(source)
}

fn context_key<'a>(facts: &Facts<'a>) -> &'a str {
    facts.options.get("contextkey").map_or("context", String::as_str)
}

/// Options that say something of the machine, not of the build.
const OF_THE_HOST: [&str; 4] = ["cgroup-parent", "image-resolve-mode", "platform", "cache-imports"];

/// Returns what the build was asked to do. The short form leaves out arguments, which may be secret, and the
/// names of secrets.
fn request(
    options: &ProvenanceOptions,
    facts: &Facts<'_>,
    materials: &Materials,
    vertices: &[Arc<llb::Vertex>],
) -> Value {
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
    let locals: Vec<Value> = materials.locals.iter().map(|name| json!({ "name": name })).collect();
    // An image that is a frontend is run by the gateway.
    let is_image = facts.options.contains_key("source");
    let frontend = if is_image { "gateway.v0" } else { "dockerfile.v0" };
    let mut request = json!({ "frontend": frontend, "locals": locals });
    if !args.is_empty() {
        request["args"] = Value::Object(args);
    }
    if options.max {
        let (secrets, agents) = secrets(vertices);
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

/// Returns the secrets and the agents that steps were given, by id. One that any step requires is not optional.
fn secrets(vertices: &[Arc<llb::Vertex>]) -> (Vec<Value>, Vec<Value>) {
    let (mut secrets, mut agents) = (BTreeMap::new(), BTreeMap::new());
    let mut note = |is_secret: bool, id: &str, optional: bool| {
        let found = if is_secret { &mut secrets } else { &mut agents };
        *found.entry(id.to_owned()).or_insert(true) &= optional;
    };
    for vertex in vertices {
        if let Op::Source(source) = &vertex.op {
            // Whoever fetches from a repository may have to prove who asks.
            let named = |key| source.attribute(key).filter(|id| !id.is_empty());
            named("git.authtokensecret").into_iter().for_each(|id| note(true, id, true));
            named("git.authheadersecret").into_iter().for_each(|id| note(true, id, true));
            named("git.mountsshsock").into_iter().for_each(|id| note(false, id, true));
        }
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

#[cfg(test)]
mod tests {
    use llb::{
        ExecOptions, GitOptions, HttpOptions, LocalOptions, OpOptions, RunSecret, SecretMount,
        State,
    };

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
            pins: &Pins::new(),
            made: None,
            platform: "linux/amd64",
            started: SystemTime::UNIX_EPOCH,
            finished: SystemTime::UNIX_EPOCH,
        };
        let statement = statement(&asked, &facts);
        let value = said(&statement);
        (statement, value)
    }

    fn said(statement: &Statement) -> Value {
        let said = statement.predicate.read().now_or_never();
        serde_json::from_slice(&said.expect("it is known")).unwrap()
    }

    #[test]
    fn what_was_made_from_digests_alone_is_complete() {
        let web = State::http("https://host/f", HttpOptions::default(), OpOptions::default());
        let run = |network| {
            let run = ExecOptions { args: vec!["a".to_owned()], network, ..ExecOptions::default() };
            let run = ExecOptions { cwd: "/".to_owned(), ..run };
            web.run(run, OpOptions::default()).root().marshal(&llb::Platform::default()).unwrap()
        };
        let told = |definition: &Definition, version: &str| {
            let options = options(&format!("mode=max,version={version}"));
            let graph = definition.load().unwrap();
            let digest = digests::Digest::of("f").to_string();
            let pins = graph.vertices.iter().map(|vertex| (vertex.digest, digest.clone()));
            let facts = Facts {
                reference: "ref",
                options: &options,
                definition: Some(definition),
                beside: &[],
                pins: &pins.collect(),
                made: None,
                platform: "linux/amd64",
                started: SystemTime::UNIX_EPOCH,
                finished: SystemTime::UNIX_EPOCH,
            };
            said(&statement(&ProvenanceOptions::of(&options).unwrap().unwrap(), &facts))
        };
        let alone = told(&run(NetMode::None), "v1");
        let metadata = &alone["runDetails"]["metadata"];
        assert_eq!(metadata["buildkit_completeness"]["resolvedDependencies"], true);
        assert_eq!(metadata["buildkit_hermetic"], true);
        let dependencies = &alone["buildDefinition"]["resolvedDependencies"];
        assert_eq!(dependencies[0]["uri"], "https://host/f");
        let reaching = &told(&run(NetMode::Sandbox), "v0.2")["metadata"];
        assert_eq!(reaching["completeness"]["materials"], true);
        assert_eq!(reaching[HERMETIC_V02], Value::Null);
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
        let git = GitOptions::default();
        let dockerfile = State::git("https://host/x.git", git, OpOptions::default());
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
            pins: &Pins::new(),
            made: None,
            platform: "linux/amd64",
            started: SystemTime::UNIX_EPOCH,
            finished: SystemTime::UNIX_EPOCH,
        };
        let asked = ProvenanceOptions::of(&options).unwrap().unwrap();
        let value = said(&statement(&asked, &facts));
        let external = &value["buildDefinition"]["externalParameters"];
        assert_eq!(external["configSource"], json!({ "uri": "https://xxxxx:xxxxx@host/x.git" }));
        assert_eq!(
            external["request"],
            json!({
                "frontend": "dockerfile.v0",
                "args": { "build-arg:TOKEN": "secret", "target": "app" },
                "locals": [{ "name": "context" }],
                "secrets": [
                    { "id": "GIT_AUTH_HEADER", "optional": true },
                    { "id": "GIT_AUTH_TOKEN", "optional": true },
                    { "id": "s", "optional": true },
                ],
            })
        );
        let config = &value["buildDefinition"]["internalParameters"]["buildConfig"];
        assert_eq!(
            config["llbDefinition"][0]["op"]["Op"]["source"]["identifier"],
            "local://context"
        );
        assert_eq!(config["digestMapping"].as_object().unwrap().len(), 3);
    }
}
