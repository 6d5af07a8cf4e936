//! Definitions from the wire: what is understood, and what is refused.

use std::collections::BTreeMap;
use std::error::Error;

use bytes::Bytes;
use digests::{Digest, VertexDigest};
use llb::{
    ActionInput, CopyFiles, Definition, DefinitionError, ExecOptions, FileActions, ImageOptions,
    MakeDir, MakeFile, MountKind, Op, OpError, OpOptions, Platform, ProgressGroup, Range, Remove,
    SourceLocation, SourceOp, State, Symlink,
};
use prost::Message as _;
use proto::pb;

fn digest_of(raw: &[u8]) -> String {
    Digest::of(raw).to_string()
}

fn input(raw: &[u8]) -> pb::Input {
    pb::Input { digest: digest_of(raw), index: 0 }
}

fn source(identifier: &str) -> Vec<u8> {
    let source = pb::SourceOp { identifier: identifier.to_owned(), attrs: BTreeMap::new() };
    pb::Op { op: Some(pb::op::Op::Source(source)), ..pb::Op::default() }.encode_to_vec()
}

fn terminal(raw: &[u8]) -> Vec<u8> {
    pb::Op { inputs: vec![input(raw)], ..pb::Op::default() }.encode_to_vec()
}

fn wire(ops: Vec<Vec<u8>>) -> pb::Definition {
    let def = ops.into_iter().map(Bytes::from).collect();
    pb::Definition { def, ..pb::Definition::default() }
}

/// A definition of one operation on one image.
fn on_image(op: pb::op::Op) -> Result<Definition, DefinitionError> {
    let image = source("docker-image://i");
    let op = pb::Op { inputs: vec![input(&image)], op: Some(op), ..pb::Op::default() };
    let op = op.encode_to_vec();
    let end = terminal(&op);
    Definition::from_wire(wire(vec![image, op, end]))
}

fn understood(op: pb::op::Op) -> Op {
    let graph = on_image(op).unwrap().load().unwrap();
    graph.vertex(&graph.root.vertex).unwrap().op.clone()
}

#[track_caller]
fn refused(op: pb::op::Op) -> OpError {
    match on_image(op).unwrap_err() {
        DefinitionError::Op { source, .. } => source,
        other => panic!("{other}"),
    }
}

fn exec(mounts: Vec<pb::Mount>) -> pb::op::Op {
    let meta = pb::Meta { args: vec!["true".to_owned()], ..pb::Meta::default() };
    pb::op::Op::Exec(pb::ExecOp { meta: Some(meta), mounts, ..pb::ExecOp::default() })
}

fn mount(dest: &str) -> pb::Mount {
    pb::Mount { dest: dest.to_owned(), ..pb::Mount::default() }
}

fn action(input: i64, output: i64) -> pb::FileAction {
    let dir = pb::FileActionMkDir { path: "/d".to_owned(), ..pb::FileActionMkDir::default() };
    let action = Some(pb::file_action::Action::Mkdir(dir));
    pb::FileAction { input, secondary_input: -1, output, action }
}

fn file(actions: Vec<pb::FileAction>) -> pb::op::Op {
    pb::op::Op::File(pb::FileOp { actions })
}

#[test]
fn the_empty_definition_is_scratch() {
    let empty = Definition::from_wire(pb::Definition::default()).unwrap();
    assert!(empty.is_empty() && empty.root().is_none());
    assert_eq!(empty, Definition::empty());
    assert!(matches!(empty.load(), Err(DefinitionError::Empty)));
    assert!(State::definition(&empty).is_scratch());
}

#[test]
fn digests_are_those_of_the_received_bytes() {
    // The fields of this source are in an order that no encoder writes.
    let mut odd = vec![0x5a, 0x00];
    odd.extend(source("local://x"));
    let definition = Definition::from_wire(wire(vec![odd.clone(), terminal(&odd)])).unwrap();
    let graph = definition.load().unwrap();
    assert_eq!(graph.root.vertex.digest(), Digest::of(&odd));
    assert_eq!(graph.vertices[0].raw, odd);
    assert_eq!(definition.to_wire().def[0], odd);
}

#[test]
fn ops_are_sorted_and_unreachable_ones_are_left_out() {
    let a = source("local://a");
    let stray = source("local://stray");
    let merge = pb::Op {
        inputs: vec![input(&a), input(&a)],
        op: Some(pb::op::Op::Merge(pb::MergeOp::default())),
        ..pb::Op::default()
    };
    let merge = merge.encode_to_vec();
    let end = terminal(&merge);
    let definition = Definition::from_wire(wire(vec![merge, stray, a, end])).unwrap();
    let graph = definition.load().unwrap();
    let names: Vec<&str> = graph.vertices.iter().map(|vertex| vertex.name.as_str()).collect();
    assert_eq!(names, ["local://a", "merge (local://a, local://a)"]);
    assert_eq!(graph.vertices[1].inputs[0].vertex, graph.vertices[0].digest);
}

#[test]
fn wrong_shapes_are_refused() {
    let a = source("local://a");
    let from = |ops| Definition::from_wire(wire(ops)).unwrap_err();
    assert!(matches!(from(vec![a.clone()]), DefinitionError::TooShort(1)));
    assert!(matches!(from(vec![a.clone(), a.clone()]), DefinitionError::TooShort(2)));
    assert!(matches!(from(vec![a.clone(), Vec::new()]), DefinitionError::NoResult));
    assert!(matches!(from(vec![vec![0xff]]), DefinitionError::MalformedOp { index: 0, .. }));
    assert!(matches!(
        Definition::from_bytes(Bytes::from_static(b"\xff")),
        Err(DefinitionError::Malformed(_))
    ));
    let missing = from(vec![a.clone(), terminal(b"elsewhere")]);
    let digest = digest_of(b"elsewhere");
    assert_eq!(missing.to_string(), format!("invalid missing input digest {digest}"));
    let nonsense = pb::Op {
        inputs: vec![pb::Input { digest: "x".to_owned(), index: 0 }],
        ..pb::Op::default()
    };
    let error = from(vec![a.clone(), nonsense.encode_to_vec()]);
    assert!(matches!(error, DefinitionError::MissingInput(text) if text == "x"));
    let negative =
        pb::Op { inputs: vec![pb::Input { index: -1, ..input(&a) }], ..pb::Op::default() };
    let error = from(vec![a, negative.encode_to_vec()]);
    assert!(error.source().unwrap().to_string().starts_with("invalid input output index -1"));
}

#[test]
fn an_operation_of_the_future_is_refused() {
    let image = source("docker-image://i");
    let unknown = pb::Op { inputs: vec![input(&image)], ..pb::Op::default() }.encode_to_vec();
    let end = terminal(&unknown);
    let error = Definition::from_wire(wire(vec![image, unknown, end])).unwrap_err();
    assert!(matches!(error, DefinitionError::Op { source: OpError::UnknownOperation, .. }));
}

#[test]
fn unknown_capabilities_are_refused_on_load() {
    let a = source("local://a");
    let mut wire = wire(vec![a.clone(), terminal(&a)]);
    let caps = BTreeMap::from([("source.local".to_owned(), true), ("source.x".to_owned(), true)]);
    let metadata = pb::OpMetadata { caps, ..pb::OpMetadata::default() };
    wire.metadata.insert(digest_of(&a), metadata);
    let error = Definition::from_wire(wire).unwrap().load().unwrap_err();
    assert_eq!(error.to_string(), "unknown API capability source.x");
}

#[test]
fn exec_ops_need_arguments_and_one_root() {
    let missing = |missing| OpError::Missing { kind: "exec", missing };
    assert_eq!(refused(pb::op::Op::Exec(pb::ExecOp::default())), missing("meta"));
    let no_args = pb::ExecOp { meta: Some(pb::Meta::default()), ..pb::ExecOp::default() };
    assert_eq!(refused(pb::op::Op::Exec(no_args)), missing("args"));
    assert_eq!(refused(exec(Vec::new())), missing("mounts"));
    assert_eq!(refused(exec(vec![mount("/x")])), missing("rootfs"));
    assert!(matches!(refused(exec(vec![mount("/"), mount("/")])), OpError::Root(_)));
    let tmpfs = pb::Mount { mount_type: pb::MountType::Tmpfs.into(), ..mount("/") };
    assert!(matches!(refused(exec(vec![tmpfs])), OpError::Root(_)));
    let beyond = pb::Mount { input: 1, ..mount("/") };
    let index = OpError::Index { what: "mount input", index: 1, count: 1 };
    assert_eq!(refused(exec(vec![beyond])), index);
    let strange = pb::Mount { mount_type: 9, ..mount("/") };
    assert_eq!(
        refused(exec(vec![strange])),
        OpError::UnknownValue { what: "mount type", value: 9 }
    );
}

#[test]
fn outputs_are_numbered_over_the_mounts_that_have_one() {
    let of = |kind: pb::MountType, dest: &str, input, output| pb::Mount {
        mount_type: kind.into(),
        input,
        output,
        cache_opt: Some(pb::CacheOpt::default()),
        ..mount(dest)
    };
    let op = understood(exec(vec![
        of(pb::MountType::Bind, "/", 0, 7),
        of(pb::MountType::Secret, "/secret", -1, 0),
        of(pb::MountType::Ssh, "/ssh", -1, 0),
        of(pb::MountType::Tmpfs, "/tmpfs", -1, 0),
        of(pb::MountType::Cache, "/empty-cache", -1, 3),
        of(pb::MountType::Cache, "/cache", 0, 3),
        of(pb::MountType::Bind, "/none", 0, -1),
        of(pb::MountType::Bind, "/last", -1, 0),
    ]));
    let Op::Exec(exec) = op else { panic!("{op:?}") };
    let outputs: Vec<_> = exec.mounts.iter().filter_map(|mount| mount.output).collect();
    assert_eq!(outputs, [0, 1, 2]);
    assert_eq!(exec.output_count(), 3);
    assert_eq!(exec.mounts[5].output, Some(1));
    assert_eq!((exec.mounts[7].input, exec.mounts[7].output), (None, Some(2)));
    assert!(matches!(exec.mounts[3].kind, MountKind::Tmpfs { size: 0 }));
}

#[test]
fn file_actions_refer_to_inputs_and_to_each_other() {
    let op = understood(file(vec![action(2, 0), action(0, -1)]));
    let Op::File(file) = op else { panic!("{op:?}") };
    assert_eq!(file.actions[0].input, ActionInput::Action(1));
    assert_eq!(file.actions[1].input, ActionInput::Input(0));
    assert_eq!(file.order(), [1, 0]);
}

#[test]
fn wrong_file_actions_are_refused() {
    let missing = OpError::Missing { kind: "file", missing: "actions" };
    assert_eq!(refused(file(Vec::new())), missing);
    assert_eq!(refused(file(vec![action(1, 0)])), OpError::ActionLoop);
    assert_eq!(refused(file(vec![action(2, -1), action(1, 0)])), OpError::ActionLoop);
    for index in [2, -2, i64::MAX] {
        let error = OpError::Index { what: "file action input", index, count: 2 };
        assert_eq!(refused(file(vec![action(index, 0)])), error);
    }
    assert_eq!(refused(file(vec![action(0, -1)])), OpError::Outputs);
    assert_eq!(refused(file(vec![action(0, 1)])), OpError::Outputs);
    assert_eq!(refused(file(vec![action(0, 0), action(0, 0)])), OpError::Outputs);
    assert_eq!(refused(file(vec![action(0, i64::MAX)])), OpError::Outputs);
}

#[test]
fn other_ops_check_their_indexes() {
    let side = |input| (Some(pb::LowerDiffInput { input }), Some(pb::UpperDiffInput { input }));
    let diff = |lower, upper| pb::op::Op::Diff(pb::DiffOp { lower, upper });
    assert_eq!(understood(diff(side(-1).0, side(0).1)), Op::Diff { lower: None, upper: Some(0) });
    assert!(matches!(refused(diff(side(-1).0, None)), OpError::Missing { kind: "diff", .. }));
    assert!(matches!(refused(diff(side(0).0, side(1).1)), OpError::Index { index: 1, .. }));

    let passthrough = |id: &str, outputs| {
        pb::op::Op::Passthrough(pb::PassthroughOp { id: id.to_owned(), outputs })
    };
    assert!(matches!(understood(passthrough("p", vec![0, 0])), Op::Passthrough(_)));
    assert!(matches!(refused(passthrough("", vec![0])), OpError::Missing { .. }));
    assert!(matches!(refused(passthrough("p", vec![])), OpError::Missing { .. }));
    assert!(matches!(refused(passthrough("p", vec![1])), OpError::Index { .. }));

    let inputs =
        BTreeMap::from([("buildkit.llb.definition".to_owned(), pb::BuildInput::default())]);
    let build = |builder, inputs| {
        pb::op::Op::Build(pb::BuildOp { builder, inputs, ..pb::BuildOp::default() })
    };
    let Op::Build(built) = understood(build(-1, inputs.clone())) else { panic!("not a build") };
    assert_eq!((built.definition_input, built.filename.as_str()), (0, "buildkit.llb.definition"));
    assert!(matches!(refused(build(0, inputs)), OpError::UnknownValue { .. }));
    assert!(matches!(refused(build(-1, BTreeMap::new())), OpError::Missing { .. }));
}

#[test]
fn platforms_become_canonical_and_digests_stay() {
    let op = pb::Op {
        platform: Some(pb::Platform {
            architecture: "aarch64".to_owned(),
            os: "linux".to_owned(),
            variant: "v8".to_owned(),
            ..pb::Platform::default()
        }),
        op: pb::Op::decode(&source("docker-image://i")[..]).unwrap().op,
        ..pb::Op::default()
    };
    let raw = op.encode_to_vec();
    let definition = Definition::from_wire(wire(vec![raw.clone(), terminal(&raw)])).unwrap();
    let vertex = definition.load().unwrap().vertices[0].clone();
    assert_eq!(vertex.platform, Some(Platform::new("linux", "arm64")));
    assert_eq!(vertex.digest.digest(), Digest::of(&raw));
}

#[test]
fn what_is_said_of_a_vertex_survives_the_wire() {
    let options = OpOptions {
        export_cache: Some(false),
        progress_group: Some(ProgressGroup {
            id: "p".to_owned(),
            name: "q".to_owned(),
            weak: true,
        }),
        sources: vec![SourceLocation {
            filename: "Dockerfile".to_owned(),
            language: "Dockerfile".to_owned(),
            data: "FROM i".into(),
            ranges: vec![Range::lines(1, 1)],
        }],
        ..OpOptions::named("[1/1] FROM i")
    };
    let state = State::image("i", ImageOptions::default(), options.clone());
    let definition = state.marshal(&Platform::new("linux", "amd64")).unwrap();
    let again = Definition::from_bytes(definition.to_bytes()).unwrap();
    assert_eq!(again, definition);
    let vertex = again.load().unwrap().vertices[0].clone();
    assert_eq!(vertex.name, "[1/1] FROM i");
    assert_eq!(vertex.metadata.export_cache, Some(false));
    assert_eq!(vertex.metadata.progress_group, options.progress_group);
    assert_eq!(again.source_of(&vertex.digest), options.sources);
    assert!(again.source_of(&VertexDigest::new(Digest::of("other"))).is_empty());
    let last = VertexDigest::new(Digest::of(again.ops().last().unwrap()));
    let caps = again.metadata(&last).caps;
    assert_eq!(caps, ["constraints", "meta.description", "meta.exportcache", "platform"]);
}

#[test]
fn equal_operations_are_one_vertex_with_all_that_was_said() {
    let image = |name: &str| State::image("i", ImageOptions::default(), OpOptions::named(name));
    let ignoring = OpOptions { ignore_cache: true, ..OpOptions::default() };
    let again = State::image("i", ImageOptions::default(), ignoring);
    let merged = State::merge([image("a"), again], OpOptions::default());
    let graph = merged.marshal(&Platform::new("linux", "amd64")).unwrap().load().unwrap();
    assert_eq!(graph.vertices.len(), 2);
    assert_eq!(graph.vertices[0].name, "a");
    assert!(graph.vertices[0].metadata.ignore_cache);
}

#[test]
fn a_foreign_definition_keeps_its_bytes() {
    let odd = {
        let mut odd = vec![0x5a, 0x00];
        odd.extend(source("local://x"));
        odd
    };
    let mut foreign = wire(vec![odd.clone(), terminal(&odd)]);
    let metadata = pb::OpMetadata { ignore_cache: true, ..pb::OpMetadata::default() };
    foreign.metadata.insert(digest_of(&odd), metadata);
    let foreign = Definition::from_wire(foreign).unwrap();
    let dir = MakeDir { path: "/d".to_owned(), ..MakeDir::default() };
    let state =
        State::definition(&foreign).file(FileActions::new().make_dir(dir), OpOptions::default());
    let graph = state.marshal(&Platform::new("linux", "amd64")).unwrap().load().unwrap();
    assert_eq!(graph.vertices[0].raw, odd);
    assert!(graph.vertices[0].metadata.ignore_cache);
    assert_eq!(graph.vertices[1].inputs[0].vertex.digest(), Digest::of(&odd));
}

#[test]
fn a_long_chain_needs_no_stack() {
    let mut state = State::image("i", ImageOptions::default(), OpOptions::default());
    for step in 0..20_000 {
        let dir = MakeDir { path: format!("/{step}"), ..MakeDir::default() };
        state = state.file(FileActions::new().make_dir(dir), OpOptions::default());
    }
    let definition = state.marshal(&Platform::new("linux", "amd64")).unwrap();
    drop(state);
    assert_eq!(definition.load().unwrap().vertices.len(), 20_001);
}

#[test]
fn replaced_sources_take_what_was_said_along() {
    let location = SourceLocation {
        filename: "Dockerfile".to_owned(),
        language: "Dockerfile".to_owned(),
        data: "FROM i".into(),
        ranges: vec![Range::lines(1, 1)],
    };
    let options = OpOptions { sources: vec![location.clone()], ..OpOptions::named("base") };
    let image = State::image("i", ImageOptions::default(), options);
    let dir = MakeDir { path: "/d".to_owned(), ..MakeDir::default() };
    let state = image.file(FileActions::new().make_dir(dir), OpOptions::named("dir"));
    let platform = Platform::new("linux", "amd64");
    let before = state.marshal(&platform).unwrap();
    let old = before.load().unwrap().vertices[0].digest;

    let other = SourceOp { identifier: "docker-image://j".to_owned(), ..SourceOp::default() };
    let after = before.replace_sources(&BTreeMap::from([(old, other)])).unwrap();
    let vertices = after.load().unwrap().vertices;
    let expected = State::image("j", ImageOptions::default(), OpOptions::default());
    let expected = expected.marshal(&platform).unwrap().root().unwrap();
    assert_eq!(vertices[0].digest, expected.vertex);
    assert_eq!(vertices[1].inputs, [expected]);
    assert_eq!([&*vertices[0].name, &*vertices[1].name], ["base", "dir"]);
    assert_eq!(after.source_of(&expected.vertex), [location]);

    assert_eq!(before.replace_sources(&BTreeMap::new()).unwrap(), before);
}

#[test]
fn vertices_without_a_name_are_called_after_what_they_do() {
    let image = State::image("i", ImageOptions::default(), OpOptions::default());
    let path = |path: &str| path.to_owned();
    let actions = FileActions::new()
        .copy(&image, CopyFiles { src: path("/a"), dest: path("/b"), ..CopyFiles::default() })
        .make_dir(MakeDir { path: path("/c"), ..MakeDir::default() })
        .make_file(MakeFile { path: path("/d"), ..MakeFile::default() })
        .remove(Remove { path: path("/e"), ..Remove::default() })
        .symlink(Symlink { target: path("/f"), path: path("/g"), ..Symlink::default() });
    let run = ExecOptions { args: vec![path("echo"), path("hi")], ..ExecOptions::default() };
    let ran = image.run(run, OpOptions::default()).root();
    let name = |state: &State| {
        let graph = state.marshal(&Platform::new("linux", "amd64")).unwrap().load().unwrap();
        graph.vertex(&graph.root.vertex).unwrap().name.clone()
    };
    let plain = OpOptions::default;
    assert_eq!(name(&image), "docker-image://i");
    assert_eq!(name(&ran), "echo hi");
    assert_eq!(
        name(&image.file(actions, plain())),
        "copy /a /b, mkdir /c, mkfile /d, rm /e, symlink /g -> /f"
    );
    assert_eq!(
        name(&State::merge([image.clone(), ran.clone()], plain())),
        "merge (docker-image://i, echo hi)"
    );
    assert_eq!(name(&State::diff(&image, &ran, plain())), "diff (docker-image://i) -> (echo hi)");
    assert_eq!(
        name(&State::diff(&image, &State::scratch(), plain())),
        "diff (docker-image://i) -> scratch"
    );
}

#[test]
fn names_of_nested_merges_stay_short() {
    let mut state = State::image("i", ImageOptions::default(), OpOptions::default());
    for _ in 0..40 {
        state = State::merge([state.clone(), state], OpOptions::default());
    }
    let graph = state.marshal(&Platform::new("linux", "amd64")).unwrap().load().unwrap();
    assert!(graph.vertices.iter().all(|vertex| vertex.name.len() < 5000));
}
