//! Operations, and graphs of them, as the JSON of their messages, in the form that clients read back (protojson).
//!
//! It is what documents of graphs have, but for what these take from the code of somebody's: fields of which
//! a message has only one are in the message itself, numbers of 64 bits are texts, and choices have names.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use digests::Digest;
use prost::Message as _;
use proto::pb;
use serde_json::{Map, Value, json};

use crate::Definition;
use crate::document::{fields, operation, places};

/// Fields of documents that stand for a choice of fields.
const CHOICES: [&str; 3] = ["Op", "Action", "User"];
/// Fields that are numbers of 64 bits.
const LONG: [&str; 8] =
    ["builder", "input", "secondaryInput", "output", "timestamp", "size", "Soft", "Hard"];

/// A graph as messages, each under the digest of its operation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GraphMessages {
    /// The operations.
    pub operations: BTreeMap<String, Value>,
    /// What is said of each beside it. Its fields have the names that other builders' code has for them.
    pub metadata: BTreeMap<String, Value>,
    /// The files it was made from, and the places in them.
    pub source: Value,
}

impl Definition {
    /// Returns the graph as messages.
    pub fn messages(&self) -> GraphMessages {
        let wire = self.to_wire();
        let operations = wire.def.iter();
        let metadata = wire.metadata.iter();
        GraphMessages {
            operations: operations
                .filter_map(|bytes| Some((Digest::of(bytes).to_string(), operation_json(bytes)?)))
                .collect(),
            metadata: metadata
                .map(|(digest, said)| (digest.clone(), self::metadata(said)))
                .collect(),
            source: wire.source.as_ref().map_or_else(|| json!({}), source_json),
        }
    }
}

/// Returns an operation, as it was received, as JSON; none if it cannot be read.
pub fn operation_json(bytes: &[u8]) -> Option<Value> {
    let op = pb::Op::decode(bytes).ok()?;
    let mut message = message(operation(&op));
    if let (false, Some(fields)) = (op.inputs.is_empty(), message.as_object_mut()) {
        let input = |input: &pb::Input| match input.index {
            0 => json!({ "digest": input.digest }),
            index => json!({ "digest": input.digest, "index": index.to_string() }),
        };
        fields.insert("inputs".to_owned(), op.inputs.iter().map(input).collect());
    }
    Some(message)
}

fn message(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(fields.into_iter().fold(Map::new(), with)),
        Value::Array(list) => list.into_iter().map(message).collect(),
        other => other,
    }
}

/// Adds a field of a document to a message.
fn with(mut fields: Map<String, Value>, (name, value): (String, Value)) -> Map<String, Value> {
    match value {
        // Names and texts of whoever made the operation.
        value if name == "attrs" => drop(fields.insert(name, value)),
        Value::Object(chosen) if CHOICES.contains(&name.as_str()) => {
            // The first of all users is one who is chosen, too, and not told by documents.
            if name == "User" && chosen.is_empty() {
                fields.insert("byID".to_owned(), json!(0));
            }
            fields.extend(chosen.into_iter().fold(Map::new(), with));
        }
        Value::Number(number) if LONG.contains(&name.as_str()) => {
            if number.as_i64() != Some(0) {
                fields.insert(name, json!(number.to_string()));
            }
        }
        Value::Array(numbers) if name == "outputs" => {
            let texts = numbers.iter().map(|number| json!(number.to_string()));
            fields.insert(name, texts.collect());
        }
        value if name == "byId" => drop(fields.insert("byID".to_owned(), value)),
        value => {
            let value = choice(&name, &value).map_or_else(|| message(value), Value::from);
            fields.insert(camel_case(&name), value);
        }
    }
    fields
}

/// Returns the name of what is chosen by a number in this field, if it has one.
fn choice(field: &str, value: &Value) -> Option<&'static str> {
    let number = i32::try_from(value.as_i64()?).ok()?;
    match field {
        "network" => pb::NetMode::try_from(number).ok().map(|mode| mode.as_str_name()),
        "security" => pb::SecurityMode::try_from(number).ok().map(|mode| mode.as_str_name()),
        "mountType" => pb::MountType::try_from(number).ok().map(|kind| kind.as_str_name()),
        "sharing" => pb::CacheSharingOpt::try_from(number).ok().map(|kind| kind.as_str_name()),
        "contentCache" => {
            pb::MountContentCache::try_from(number).ok().map(|kind| kind.as_str_name())
        }
        _ => None,
    }
}

/// Returns a field's name without the underlines that it has in its definition.
fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let mut letters = word.chars();
        let capital = letters.next().map(|letter| letter.to_ascii_uppercase());
        name + &capital.into_iter().chain(letters).collect::<String>()
    })
}

fn source_json(source: &pb::Source) -> Value {
    let locations = source.locations.iter();
    let locations: Map<String, Value> =
        locations.map(|(digest, locations)| (digest.clone(), places(locations))).collect();
    let info = |info: &pb::SourceInfo| {
        fields([
            ("filename", json!(info.filename)),
            ("data", json!(BASE64.encode(&info.data))),
            ("definition", info.definition.as_ref().map_or(Value::Null, definition)),
            ("language", json!(info.language)),
        ])
    };
    let infos: Vec<_> = source.infos.iter().map(info).collect();
    fields([("locations", unless_empty(locations)), ("infos", json!(infos))])
}

/// Returns the graph that a file comes from. Here all are fields of messages.
fn definition(definition: &pb::Definition) -> Value {
    let ops: Vec<_> = definition.def.iter().map(|bytes| BASE64.encode(bytes)).collect();
    let long = |value: Value| match value {
        Value::Number(number) => json!(number.to_string()),
        other => other,
    };
    let in_message = |(name, value): (String, Value)| match value {
        Value::Object(resources) if name == "linux_resources" => {
            let texts = resources.into_iter().map(|(name, value)| (name, long(value)));
            (camel_case(&name), Value::Object(texts.collect()))
        }
        value => (camel_case(&name), value),
    };
    let said = |(digest, said): (&String, &pb::OpMetadata)| {
        let fields = match metadata(said) {
            Value::Object(fields) => fields.into_iter().map(in_message).collect(),
            _ => Map::new(),
        };
        (digest.clone(), Value::Object(fields))
    };
    fields([
        ("def", json!(ops)),
        ("metadata", unless_empty(definition.metadata.iter().map(said).collect())),
        ("Source", definition.source.as_ref().map_or(Value::Null, source_json)),
    ])
}

fn metadata(said: &pb::OpMetadata) -> Value {
    let group = |group: &pb::ProgressGroup| {
        fields([("id", json!(group.id)), ("name", json!(group.name)), ("weak", json!(group.weak))])
    };
    let resources = |resources: &pb::LinuxResources| {
        fields([
            ("memory", json!(resources.memory)),
            ("memorySwap", json!(resources.memory_swap)),
            ("cpuShares", json!(resources.cpu_shares)),
            ("cpuPeriod", json!(resources.cpu_period)),
            ("cpuQuota", json!(resources.cpu_quota)),
            ("cpusetCpus", json!(resources.cpuset_cpus)),
            ("cpusetMems", json!(resources.cpuset_mems)),
        ])
    };
    let export = |export: &pb::ExportCache| fields([("Value", json!(export.value))]);
    let texts = said.description.iter().map(|(name, text)| (name.clone(), json!(text)));
    let caps = said.caps.iter().map(|(name, needed)| (name.clone(), json!(needed)));
    fields([
        ("ignore_cache", json!(said.ignore_cache)),
        ("description", unless_empty(texts.collect())),
        ("export_cache", said.export_cache.as_ref().map_or(Value::Null, export)),
        ("caps", unless_empty(caps.collect())),
        ("progress_group", said.progress_group.as_ref().map_or(Value::Null, group)),
        ("linux_resources", said.linux_resources.as_ref().map_or(Value::Null, resources)),
    ])
}

fn unless_empty(entries: Map<String, Value>) -> Value {
    if entries.is_empty() { Value::Null } else { Value::Object(entries) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ExecOptions, FileActions, ImageOptions, LinuxResources, LocalOptions, MakeDir, OpOptions,
        Owner, Platform, Position, Range, SourceLocation, State,
    };

    fn last(state: &State) -> Value {
        let platform = Platform { os: "linux".into(), ..Platform::default() };
        let definition = state.marshal(&platform).unwrap();
        // The very last only names the result.
        let ops = definition.ops();
        operation_json(&ops[ops.len() - 2]).unwrap()
    }

    #[test]
    fn a_message_has_its_choices_in_itself() {
        let base = State::image("app", ImageOptions::default(), OpOptions::default());
        let args = vec!["true".to_owned()];
        let run = ExecOptions { args, cwd: "/w".to_owned(), ..ExecOptions::default() };
        let message = last(&base.run(run, OpOptions::default()).root());
        assert_eq!(message["exec"]["meta"]["args"], json!(["true"]));
        assert_eq!(message["exec"]["mounts"][0]["dest"], "/");
        assert_eq!(message["platform"]["OS"], "linux");
        let digest = message["inputs"][0]["digest"].as_str().unwrap();
        assert!(digest.starts_with("sha256:"), "{message}");
        let make =
            MakeDir { path: "/d".to_owned(), owner: Some(Owner::parse("7")), ..MakeDir::default() };
        let message = last(&base.file(FileActions::new().make_dir(make), OpOptions::default()));
        let action = &message["file"]["actions"][0];
        assert_eq!(action["mkdir"]["path"], "/d");
        assert_eq!(action["mkdir"]["owner"]["user"], json!({ "byID": 7 }));
        assert!(operation_json(b"\xff").is_none());
    }

    #[test]
    fn long_numbers_are_texts_and_choices_have_names() {
        let limit = pb::Ulimit { name: "nofile".to_owned(), soft: 5, hard: -1 };
        let proxy = pb::ProxyEnv { http_proxy: "http://p".to_owned(), ..Default::default() };
        let meta = pb::Meta { ulimit: vec![limit], proxy_env: Some(proxy), ..pb::Meta::default() };
        let cache = pb::CacheOpt { id: "c".to_owned(), sharing: 2 };
        let size = Some(pb::TmpfsOpt { size: 64 });
        let mounts = vec![
            pb::Mount { output: -1, mount_type: 3, cache_opt: Some(cache), ..Default::default() },
            pb::Mount {
                input: 1,
                mount_type: 4,
                tmpfs_opt: size,
                content_cache: 2,
                ..Default::default()
            },
        ];
        let exec =
            pb::ExecOp { meta: Some(meta), mounts, network: 2, security: 1, ..Default::default() };
        let op = pb::Op { op: Some(pb::op::Op::Exec(exec)), ..pb::Op::default() };
        let expected = json!({ "exec": {
            "meta": {
                "ulimit": [{ "Name": "nofile", "Soft": "5", "Hard": "-1" }],
                "proxyEnv": { "httpProxy": "http://p" },
            },
            "mounts": [
                { "output": "-1", "mountType": "CACHE", "cacheOpt": { "ID": "c", "sharing": "LOCKED" } },
                { "input": "1", "mountType": "TMPFS", "TmpfsOpt": { "size": "64" }, "contentCache": "OFF" },
            ],
            "network": "NONE",
            "security": "INSECURE",
        } });
        assert_eq!(operation_json(&op.encode_to_vec()), Some(expected));
    }

    #[test]
    fn what_says_nothing_is_left_out_but_for_what_was_chosen() {
        let user = Some(pb::UserOpt { user: Some(pb::user_opt::User::ById(0)) });
        let copy = pb::FileActionCopy {
            src: "/a".to_owned(),
            owner: Some(pb::ChownOpt { user, group: None }),
            include_patterns: vec!["x".to_owned()],
            timestamp: -1,
            ..Default::default()
        };
        let action = Some(pb::file_action::Action::Copy(copy));
        let action = pb::FileAction { secondary_input: 1, action, ..Default::default() };
        let file = pb::FileOp { actions: vec![action] };
        let op = pb::Op { op: Some(pb::op::Op::File(file)), ..pb::Op::default() };
        let expected = json!({ "file": { "actions": [{
            "secondaryInput": "1",
            "copy": {
                "src": "/a",
                "owner": { "user": { "byID": 0 } },
                "includePatterns": ["x"],
                "timestamp": "-1",
            },
        }] } });
        assert_eq!(operation_json(&op.encode_to_vec()), Some(expected));
    }

    #[test]
    fn a_graph_is_told_by_digest_with_what_its_client_alone_knows() {
        let place = SourceLocation {
            filename: "Dockerfile".to_owned(),
            language: "Dockerfile".to_owned(),
            data: "FROM a".into(),
            ranges: vec![Range {
                start: Position { line: 1, character: 0 },
                end: Position { line: 1, character: 0 },
            }],
        };
        let options = OpOptions {
            sources: vec![place],
            ignore_cache: true,
            export_cache: Some(false),
            linux_resources: Some(LinuxResources { memory: 7, ..Default::default() }),
            ..OpOptions::named("the files")
        };
        let local = LocalOptions { session: "abc".to_owned(), ..LocalOptions::default() };
        let state = State::local("context", local, options);
        let definition = state.marshal(&Platform::default()).unwrap();
        let messages = definition.messages();
        let digest = Digest::of(&definition.ops()[0]).to_string();
        let source = &messages.operations[&digest]["source"];
        assert_eq!(source["identifier"], "local://context");
        assert_eq!(source["attrs"]["local.session"], "abc");
        let said = &messages.metadata[&digest];
        assert_eq!(said["ignore_cache"], true);
        assert_eq!(said["description"], json!({ "llb.customname": "the files" }));
        assert_eq!(said["export_cache"], json!({}));
        assert_eq!(said["linux_resources"], json!({ "memory": 7 }));
        assert_eq!(said["caps"]["source.local"], true);
        let expected = json!({
            "locations": { &digest: { "locations": [
                { "ranges": [{ "start": { "line": 1 }, "end": { "line": 1 } }] },
            ] } },
            "infos": [{ "filename": "Dockerfile", "data": "RlJPTSBh", "language": "Dockerfile" }],
        });
        assert_eq!(messages.source, expected);
        // A graph that a file comes from is a message through and through.
        let info = pb::SourceInfo { definition: Some(definition.to_wire()), ..Default::default() };
        let nested = source_json(&pb::Source { infos: vec![info], ..Default::default() });
        let nested = &nested["infos"][0]["definition"];
        assert_eq!(nested["def"][0], BASE64.encode(&definition.ops()[0]));
        let said = &nested["metadata"][&digest];
        assert_eq!(
            (&said["ignoreCache"], &said["linuxResources"]["memory"]),
            (&json!(true), &json!("7"))
        );
        assert_eq!(nested["Source"], expected);
        let nothing = Definition::empty().messages();
        assert_eq!(nothing, GraphMessages { source: json!({}), ..GraphMessages::default() });
    }
}
