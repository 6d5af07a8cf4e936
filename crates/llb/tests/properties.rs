//! What holds for all definitions and all bytes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use digests::{Digest, VertexDigest};
use llb::{
    CacheMount, CacheSharing, CopyFiles, CopyMode, Definition, ExecOptions, FileActions,
    ImageOptions, MakeDir, MakeFile, Op, OpOptions, Owner, Platform, Remove, RunMount, RunSecret,
    RunSsh, SecretMount, SourceOp, State, Symlink,
};
use proptest::prelude::*;
use prost::Message as _;
use proto::pb;

fn owner() -> impl Strategy<Value = Option<Owner>> {
    proptest::option::of("[a-z0-9]{0,3}(:[a-z0-9]{0,3})?".prop_map(|text| Owner::parse(&text)))
}

fn actions(from: State) -> impl Strategy<Value = FileActions> {
    let time = proptest::option::of(0..i64::MAX);
    let step = ("[a-z./]{0,6}", any::<u32>(), owner(), time, any::<Vec<u8>>(), 0..5_u8);
    proptest::collection::vec(step, 1..4).prop_map(move |steps| {
        steps.into_iter().fold(FileActions::new(), |actions, step| {
            let (path, mode, owner, timestamp, data, kind) = step;
            match kind {
                0 => {
                    let make_parents = mode % 2 == 0;
                    actions.make_dir(MakeDir { path, mode, make_parents, owner, timestamp })
                }
                1 => {
                    let data = data.into();
                    actions.make_file(MakeFile { path, mode, data, owner, timestamp })
                }
                2 => actions.remove(Remove { path, ..Remove::default() }),
                3 => {
                    let target = "t".to_owned();
                    actions.symlink(Symlink { target, path, owner, timestamp })
                }
                _ => {
                    // All bits set is the field's "keep".
                    let mode = (mode != u32::MAX).then_some(CopyMode::Bits(mode));
                    let src = path.clone();
                    let copy = CopyFiles {
                        src,
                        dest: path,
                        mode,
                        owner,
                        timestamp,
                        ..CopyFiles::default()
                    };
                    actions.copy(&from, copy)
                }
            }
        })
    })
}

fn runs(from: State) -> impl Strategy<Value = ExecOptions> {
    let args = proptest::collection::vec("[a-z ]{0,4}", 1..3);
    let env = proptest::collection::vec("[A-Z]{1,3}=[a-z]{0,3}", 0..3);
    let codes = proptest::collection::vec(any::<i32>(), 0..3);
    (args, env, codes, "/[a-z]{1,3}", 0..6_u8).prop_map(move |(args, env, codes, dest, kind)| {
        let mut run = ExecOptions { args, env, valid_exit_codes: codes, ..ExecOptions::default() };
        let cache = CacheMount { id: "c".to_owned(), sharing: CacheSharing::Locked };
        match kind {
            0 => run.mounts.push(RunMount::bind(dest, from.clone())),
            1 => run.mounts.push(RunMount::cache(dest, from.clone(), cache)),
            2 => run.mounts.push(RunMount::tmpfs(dest, 5)),
            3 => run.secrets.push(RunSecret {
                secret: SecretMount::default(),
                dest: Some(dest),
                env: Some("S".to_owned()),
            }),
            4 => run.ssh.push(RunSsh::default()),
            _ => {}
        }
        run
    })
}

fn states() -> impl Strategy<Value = State> {
    let leaf = prop_oneof![
        Just(State::scratch()),
        "[a-z]{1,3}".prop_map(|name| {
            State::image(&name, ImageOptions::default(), OpOptions::default())
        }),
    ];
    leaf.prop_recursive(5, 24, 3, |inner| {
        let pair = || (inner.clone(), inner.clone());
        let plain = OpOptions::default;
        prop_oneof![
            pair().prop_flat_map(move |(base, from)| {
                actions(from).prop_map(move |actions| base.file(actions, OpOptions::default()))
            }),
            pair().prop_flat_map(move |(base, from)| {
                runs(from).prop_map(move |run| base.run(run, OpOptions::default()).root())
            }),
            pair().prop_map(move |(a, b)| State::merge([a, b], plain())),
            pair().prop_map(move |(a, b)| State::diff(&a, &b, plain())),
            ("[a-z]{0,3}", inner.clone()).prop_map(|(name, state)| {
                State::merge([state.clone(), state], OpOptions::named(name))
            }),
        ]
    })
}

/// All sources of a definition under other identifiers.
fn renamed(
    definition: &Definition,
    rename: impl Fn(&str) -> String,
) -> BTreeMap<VertexDigest, SourceOp> {
    let graph = definition.load().ok();
    let vertices = graph.into_iter().flat_map(|graph| graph.vertices);
    let sources = vertices.filter_map(|vertex| match &vertex.op {
        Op::Source(source) => {
            let identifier = rename(&source.identifier);
            Some((vertex.digest, SourceOp { identifier, ..source.clone() }))
        }
        _ => None,
    });
    sources.collect()
}

proptest! {
    #[test]
    fn what_is_marshalled_can_be_loaded(state in states()) {
        let definition = state.marshal(&Platform::new("linux", "amd64")).unwrap();
        prop_assert_eq!(definition.is_empty(), state.is_scratch());
        if let Some(root) = definition.root() {
            let again = Definition::from_bytes(definition.to_bytes()).unwrap();
            prop_assert_eq!(&again, &definition);
            let graph = again.load().unwrap();
            prop_assert_eq!(graph.root, root);
            let mut seen = BTreeSet::new();
            for vertex in &graph.vertices {
                prop_assert_eq!(Digest::of(&vertex.raw), vertex.digest.digest());
                prop_assert!(vertex.inputs.iter().all(|input| seen.contains(&input.vertex)));
                prop_assert!(seen.insert(vertex.digest));
            }
            prop_assert!(seen.contains(&root.vertex));
        }
    }

    /// Nothing is lost between our types and the wire: writing what was read gives the same bytes.
    #[test]
    fn reading_and_writing_are_inverse(state in states()) {
        let definition = state.marshal(&Platform::new("linux", "amd64")).unwrap();
        let there = definition.replace_sources(&renamed(&definition, |old| format!("{old}x")));
        let there = there.unwrap();
        let cut = |old: &str| old.strip_suffix('x').unwrap().to_owned();
        let back = there.replace_sources(&renamed(&there, cut)).unwrap();
        prop_assert_eq!(back.root(), definition.root());
    }

    #[test]
    fn the_reference_decoder_agrees_with_our_encoder(state in states()) {
        let definition = state.marshal(&Platform::new("linux", "amd64")).unwrap();
        for raw in definition.ops() {
            let op = pb::Op::decode(raw.clone()).unwrap();
            // Another encoder writes the same fields, in another order: the same length, unless a
            // map has an empty value, which it leaves out.
            prop_assert_eq!(op.encoded_len(), raw.len());
        }
    }

    #[test]
    fn bytes_never_panic(bytes: Vec<u8>, ops: Vec<Vec<u8>>) {
        let _ = Definition::from_bytes(Bytes::from(bytes));
        let def = ops.into_iter().map(Bytes::from).collect();
        let wire = pb::Definition { def, ..pb::Definition::default() };
        let _ = Definition::from_wire(wire);
    }

    #[test]
    fn broken_operations_never_panic(state in states(), at: prop::sample::Index, to: u8, cut: bool) {
        let wire = state.marshal(&Platform::new("linux", "amd64")).unwrap().to_wire();
        let mut bytes = wire.encode_to_vec();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = to;
            if cut {
                bytes.truncate(at);
            }
        }
        if let Ok(definition) = Definition::from_bytes(bytes.into()) {
            let _ = definition.load();
        }
        // The digests no longer match, so break operations from the inside as well.
        for raw in &wire.def {
            let mut raw = raw.to_vec();
            let at = at.index(raw.len());
            raw[at] = to;
            if let Ok(op) = pb::Op::decode(&raw[..]) {
                let _ = llb::wire::operation(op);
            }
        }
    }
}
