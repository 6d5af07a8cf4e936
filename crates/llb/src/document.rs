//! A graph as a JSON document, in the form in which statements about builds have it.
//!
//! The words are those of the messages on the wire, whose fields are left out when they say nothing.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use digests::Digest;
use prost::Message as _;
use proto::pb;
use serde_json::{Map, Value, json};

use crate::Definition;

/// A graph in which each operation has a number: inputs before what they are inputs of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GraphDocument {
    /// The operations.
    pub steps: Vec<Value>,
    /// What each operation is called, by its digest: `step3`.
    pub names: BTreeMap<String, String>,
    /// The files it was made from, and the places in them; null if none is known.
    pub source: Value,
}

impl Definition {
    /// Returns the graph as a document; an empty one for the empty tree.
    pub fn document(&self) -> GraphDocument {
        let wire = self.to_wire();
        let (steps, names) = steps(&wire);
        let source =
            wire.source.as_ref().map_or(Value::Null, |source| self::source(source, &names));
        GraphDocument { steps, names, source }
    }
}

/// Settings of a source that belong to one client, and would make every document another one.
const PASSING: [&str; 2] = ["local.session", "local.unique"];

fn steps(definition: &pb::Definition) -> (Vec<Value>, BTreeMap<String, String>) {
    let mut ops = BTreeMap::new();
    let mut last = String::new();
    for bytes in &definition.def {
        let Ok(mut op) = pb::Op::decode(bytes.clone()) else { continue };
        if let Some(pb::op::Op::Source(source)) = &mut op.op {
            source.attrs.retain(|name, _| !PASSING.contains(&name.as_str()));
        }
        last = Digest::of(bytes).to_string();
        ops.insert(last.clone(), op);
    }
    let order = in_order(&ops, &last);
    let named = order.iter().enumerate();
    let names: BTreeMap<String, String> =
        named.map(|(number, digest)| (digest.clone(), format!("step{number}"))).collect();
    let step = |digest: &String| {
        let inputs = ops[digest].inputs.iter();
        let inputs = inputs
            .filter_map(|input| Some(format!("{}:{}", names.get(&input.digest)?, input.index)));
        fields([
            ("id", json!(names[digest])),
            ("op", operation(&ops[digest])),
            ("inputs", json!(inputs.collect::<Vec<_>>())),
        ])
    };
    (order.iter().map(step).collect(), names)
}

/// Returns the digests of the operations that `last` needs, inputs first, and itself.
fn in_order(ops: &BTreeMap<String, pb::Op>, last: &str) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    // With each operation, whether its inputs are done.
    let mut ahead = vec![(last.to_owned(), false)];
    while let Some((digest, done)) = ahead.pop() {
        let Some(op) = ops.get(&digest) else { continue };
        if done {
            order.push(digest);
        } else if seen.insert(digest.clone()) {
            let inputs = op.inputs.iter().rev();
            ahead.push((digest, true));
            ahead.extend(inputs.map(|input| (input.digest.clone(), false)));
        }
    }
    order
}

fn source(source: &pb::Source, names: &BTreeMap<String, String>) -> Value {
    let info = |info: &pb::SourceInfo| {
        let (steps, names) = info.definition.as_ref().map(steps).unwrap_or_default();
        fields([
            ("filename", json!(info.filename)),
            ("language", json!(info.language)),
            ("data", json!(BASE64.encode(&info.data))),
            ("llbDefinition", json!(steps)),
            ("digestMapping", map(&names)),
        ])
    };
    let locations = source.locations.iter();
    let locations: Map<String, Value> = locations
        .filter_map(|(digest, locations)| Some((names.get(digest)?.clone(), places(locations))))
        .collect();
    let infos: Vec<_> = source.infos.iter().map(info).collect();
    fields([("locations", Value::Object(locations)), ("infos", json!(infos))])
}

pub(crate) fn places(locations: &pb::Locations) -> Value {
    let position = |position: &Option<pb::Position>| {
        optional(position, |at| {
            fields([("line", json!(at.line)), ("character", json!(at.character))])
        })
    };
    let range = |range: &pb::Range| {
        fields([("start", position(&range.start)), ("end", position(&range.end))])
    };
    let location = |location: &pb::Location| {
        let ranges: Vec<_> = location.ranges.iter().map(range).collect();
        fields([("sourceIndex", json!(location.source_index)), ("ranges", json!(ranges))])
    };
    let places: Vec<_> = locations.locations.iter().map(location).collect();
    fields([("locations", json!(places))])
}

pub(crate) fn operation(op: &pb::Op) -> Value {
    let kind = match &op.op {
        None => Vec::new(),
        Some(pb::op::Op::Exec(exec)) => vec![("exec", self::exec(exec))],
        Some(pb::op::Op::Source(source)) => {
            let identifier = json!(source.identifier);
            vec![("source", fields([("identifier", identifier), ("attrs", map(&source.attrs))]))]
        }
        Some(pb::op::Op::File(file)) => {
            let actions: Vec<_> = file.actions.iter().map(action).collect();
            vec![("file", fields([("actions", json!(actions))]))]
        }
        Some(pb::op::Op::Build(build)) => {
            let builder = json!(build.builder);
            vec![("build", fields([("builder", builder), ("attrs", map(&build.attrs))]))]
        }
        Some(pb::op::Op::Merge(merge)) => {
            let inputs: Vec<_> = merge.inputs.iter().map(|one| index(one.input)).collect();
            vec![("merge", fields([("inputs", json!(inputs))]))]
        }
        Some(pb::op::Op::Diff(diff)) => vec![(
            "diff",
            fields([
                ("lower", optional(&diff.lower, |lower| index(lower.input))),
                ("upper", optional(&diff.upper, |upper| index(upper.input))),
            ]),
        )],
        Some(pb::op::Op::Passthrough(pass)) => {
            vec![(
                "passthrough",
                fields([("id", json!(pass.id)), ("outputs", json!(pass.outputs))]),
            )]
        }
    };
    let kind = kind.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    fields([
        ("Op", Value::Object(kind)),
        ("platform", optional(&op.platform, platform)),
        (
            "constraints",
            optional(&op.constraints, |constraints| {
                fields([("filter", json!(constraints.filter))])
            }),
        ),
    ])
}

fn index(input: i64) -> Value {
    fields([("input", json!(input))])
}

fn platform(platform: &pb::Platform) -> Value {
    fields([
        ("Architecture", json!(platform.architecture)),
        ("OS", json!(platform.os)),
        ("Variant", json!(platform.variant)),
        ("OSVersion", json!(platform.os_version)),
        ("OSFeatures", json!(platform.os_features)),
    ])
}

fn exec(exec: &pb::ExecOp) -> Value {
    let mounts: Vec<_> = exec.mounts.iter().map(mount).collect();
    let secret = |secret: &pb::SecretEnv| {
        fields([
            ("ID", json!(secret.id)),
            ("name", json!(secret.name)),
            ("optional", json!(secret.optional)),
        ])
    };
    let device = |device: &pb::CdiDevice| {
        fields([("name", json!(device.name)), ("optional", json!(device.optional))])
    };
    fields([
        ("meta", optional(&exec.meta, meta)),
        ("mounts", json!(mounts)),
        ("network", json!(exec.network)),
        ("security", json!(exec.security)),
        ("secretenv", json!(exec.secretenv.iter().map(secret).collect::<Vec<_>>())),
        ("cdiDevices", json!(exec.cdi_devices.iter().map(device).collect::<Vec<_>>())),
    ])
}

fn meta(meta: &pb::Meta) -> Value {
    let host = |host: &pb::HostIp| fields([("Host", json!(host.host)), ("IP", json!(host.ip))]);
    let limit = |limit: &pb::Ulimit| {
        fields([
            ("Name", json!(limit.name)),
            ("Soft", json!(limit.soft)),
            ("Hard", json!(limit.hard)),
        ])
    };
    let proxy = |proxy: &pb::ProxyEnv| {
        fields([
            ("http_proxy", json!(proxy.http_proxy)),
            ("https_proxy", json!(proxy.https_proxy)),
            ("ftp_proxy", json!(proxy.ftp_proxy)),
            ("no_proxy", json!(proxy.no_proxy)),
            ("all_proxy", json!(proxy.all_proxy)),
        ])
    };
    fields([
        ("args", json!(meta.args)),
        ("env", json!(meta.env)),
        ("cwd", json!(meta.cwd)),
        ("user", json!(meta.user)),
        ("proxy_env", optional(&meta.proxy_env, proxy)),
        ("extraHosts", json!(meta.extra_hosts.iter().map(host).collect::<Vec<_>>())),
        ("hostname", json!(meta.hostname)),
        ("ulimit", json!(meta.ulimit.iter().map(limit).collect::<Vec<_>>())),
        ("cgroupParent", json!(meta.cgroup_parent)),
        ("removeMountStubsRecursive", json!(meta.remove_mount_stubs_recursive)),
        ("validExitCodes", json!(meta.valid_exit_codes)),
    ])
}

fn mount(mount: &pb::Mount) -> Value {
    fields([
        ("input", json!(mount.input)),
        ("selector", json!(mount.selector)),
        ("dest", json!(mount.dest)),
        ("output", json!(mount.output)),
        ("readonly", json!(mount.readonly)),
        ("mountType", json!(mount.mount_type)),
        ("TmpfsOpt", optional(&mount.tmpfs_opt, |tmpfs| fields([("size", json!(tmpfs.size))]))),
        (
            "cacheOpt",
            optional(&mount.cache_opt, |cache| {
                fields([("ID", json!(cache.id)), ("sharing", json!(cache.sharing))])
            }),
        ),
        (
            "secretOpt",
            optional(&mount.secret_opt, |secret| {
                given((&secret.id, secret.uid, secret.gid, secret.mode, secret.optional))
            }),
        ),
        (
            "SSHOpt",
            optional(&mount.ssh_opt, |ssh| {
                given((&ssh.id, ssh.uid, ssh.gid, ssh.mode, ssh.optional))
            }),
        ),
        ("resultID", json!(mount.result_id)),
        ("contentCache", json!(mount.content_cache)),
    ])
}

/// Returns what a client gives to a step: its id, owner, group and mode, and whether it may be missing.
fn given((id, uid, gid, mode, optional): (&str, u32, u32, u32, bool)) -> Value {
    fields([
        ("ID", json!(id)),
        ("uid", json!(uid)),
        ("gid", json!(gid)),
        ("mode", json!(mode)),
        ("optional", json!(optional)),
    ])
}

fn action(action: &pb::FileAction) -> Value {
    use pb::file_action::Action;
    let kind = match &action.action {
        None => Value::Object(Map::new()),
        Some(Action::Copy(copy)) => json!({ "copy": self::copy(copy) }),
        Some(Action::Mkfile(file)) => json!({ "mkfile": fields([
            ("path", json!(file.path)),
            ("mode", json!(file.mode)),
            ("data", json!(BASE64.encode(&file.data))),
            ("owner", optional(&file.owner, owner)),
            ("timestamp", json!(file.timestamp)),
        ]) }),
        Some(Action::Mkdir(directory)) => json!({ "mkdir": fields([
            ("path", json!(directory.path)),
            ("mode", json!(directory.mode)),
            ("makeParents", json!(directory.make_parents)),
            ("owner", optional(&directory.owner, owner)),
            ("timestamp", json!(directory.timestamp)),
        ]) }),
        Some(Action::Rm(remove)) => json!({ "rm": fields([
            ("path", json!(remove.path)),
            ("allowNotFound", json!(remove.allow_not_found)),
            ("allowWildcard", json!(remove.allow_wildcard)),
        ]) }),
        Some(Action::Symlink(link)) => json!({ "symlink": fields([
            ("oldpath", json!(link.oldpath)),
            ("newpath", json!(link.newpath)),
            ("owner", optional(&link.owner, owner)),
            ("timestamp", json!(link.timestamp)),
        ]) }),
    };
    // Zero is an input like the others here, and not left out.
    json!({
        "input": action.input,
        "secondaryInput": action.secondary_input,
        "output": action.output,
        "Action": kind,
    })
}

fn copy(copy: &pb::FileActionCopy) -> Value {
    fields([
        ("src", json!(copy.src)),
        ("dest", json!(copy.dest)),
        ("owner", optional(&copy.owner, owner)),
        ("mode", json!(copy.mode)),
        ("followSymlink", json!(copy.follow_symlink)),
        ("dirCopyContents", json!(copy.dir_copy_contents)),
        ("attemptUnpackDockerCompatibility", json!(copy.attempt_unpack_docker_compatibility)),
        ("createDestPath", json!(copy.create_dest_path)),
        ("allowWildcard", json!(copy.allow_wildcard)),
        ("allowEmptyWildcard", json!(copy.allow_empty_wildcard)),
        ("timestamp", json!(copy.timestamp)),
        ("include_patterns", json!(copy.include_patterns)),
        ("exclude_patterns", json!(copy.exclude_patterns)),
        ("alwaysReplaceExistingDestPaths", json!(copy.always_replace_existing_dest_paths)),
        ("modeStr", json!(copy.mode_str)),
        ("required_paths", json!(copy.required_paths)),
    ])
}

fn owner(owner: &pb::ChownOpt) -> Value {
    let user = |user: &pb::UserOpt| {
        let user = match &user.user {
            None => Value::Object(Map::new()),
            Some(pb::user_opt::User::ById(id)) => fields([("byId", json!(id))]),
            Some(pb::user_opt::User::ByName(named)) => json!({ "byName": fields([
                ("name", json!(named.name)),
                ("input", json!(named.input)),
            ]) }),
        };
        json!({ "User": user })
    };
    fields([("user", optional(&owner.user, user)), ("group", optional(&owner.group, user))])
}

/// Returns an object of the fields that say something.
pub(crate) fn fields<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let said = fields.into_iter().filter(|(_, value)| !is_empty(value));
    Value::Object(said.map(|(name, value)| (name.to_owned(), value)).collect())
}

/// A message that is there is told, also if nothing is in it.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(truth) => !truth,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(_) => false,
    }
}

fn optional<T>(message: &Option<T>, told: impl FnOnce(&T) -> Value) -> Value {
    message.as_ref().map_or(Value::Null, told)
}

fn map(entries: &BTreeMap<String, String>) -> Value {
    if entries.is_empty() { Value::Null } else { json!(entries) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CopyFiles, ExecOptions, FileActions, ImageOptions, OpOptions, State};

    #[test]
    fn a_graph_is_told_with_inputs_first_and_without_what_says_nothing() {
        let base = State::image("busybox", ImageOptions::default(), OpOptions::default());
        let run = ExecOptions {
            args: vec!["true".to_owned()],
            cwd: "/".to_owned(),
            ..ExecOptions::default()
        };
        let ran = base.run(run, OpOptions::default()).root();
        let copy =
            CopyFiles { src: "/a".to_owned(), dest: "/b".to_owned(), ..CopyFiles::default() };
        let copied =
            State::scratch().file(FileActions::new().copy(&ran, copy), OpOptions::default());
        let platform = crate::Platform {
            os: "linux".into(),
            architecture: "amd64".into(),
            ..Default::default()
        };
        let document = copied.marshal(&platform).unwrap().document();
        let ids: Vec<_> = document.steps.iter().map(|step| step["id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["step0", "step1", "step2", "step3"]);
        assert_eq!(document.steps[1]["inputs"], json!(["step0:0"]));
        assert_eq!(
            document.steps[1]["op"]["Op"]["exec"]["meta"],
            json!({ "args": ["true"], "cwd": "/", "removeMountStubsRecursive": true })
        );
        let action = &document.steps[2]["op"]["Op"]["file"]["actions"][0];
        assert_eq!(
            (&action["secondaryInput"], &action["Action"]["copy"]["src"]),
            (&json!(0), &json!("/a"))
        );
        assert_eq!(document.steps[3]["op"], json!({ "Op": {} }));
        assert_eq!(document.names.len(), 4);
        assert_eq!(Definition::empty().document(), GraphDocument::default());
    }
}
