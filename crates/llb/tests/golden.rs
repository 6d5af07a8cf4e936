//! Operations that the reference client wrote: ours have the same bytes, so the same digests.

use digests::{Digest, VertexDigest};
use llb::{
    CopyFiles, Definition, ExecOptions, FileActions, GitOptions, HttpOptions, ImageOptions,
    LocalOptions, MakeDir, MakeFile, OpOptions, Platform, Remove, ResolveMode, State, Symlink,
};

fn marshal(state: &State) -> Definition {
    state.marshal(&Platform::new("linux", "amd64")).unwrap()
}

/// The digest of the operation that makes the result.
fn head(state: &State) -> String {
    marshal(state).root().unwrap().vertex.to_string()
}

fn head_bytes(state: &State) -> String {
    let graph = marshal(state).load().unwrap();
    let raw = &graph.vertex(&graph.root.vertex).unwrap().raw;
    raw.iter().map(|byte| format!("{byte:02x}")).collect()
}

const BUSYBOX: &str = "docker.io/library/busybox:latest";

fn busybox() -> State {
    State::image(BUSYBOX, ImageOptions::default(), OpOptions::default())
}

fn file(base: &State, actions: FileActions) -> State {
    base.file(actions, OpOptions::default())
}

fn make_dir(path: &str, make_parents: bool) -> FileActions {
    let dir = MakeDir { path: path.to_owned(), mode: 0o755, make_parents, ..MakeDir::default() };
    FileActions::new().make_dir(dir)
}

#[test]
fn image() {
    assert_eq!(
        head_bytes(&busybox()),
        "520e0a05616d64363412056c696e75785a001a310a2f646f636b65722d696d6167653a2f2f646f636b65722e69\
         6f2f6c6962726172792f62757379626f783a6c6174657374"
    );
    assert_eq!(
        head(&busybox()),
        "sha256:e1432b8e2054abb034451c15f0a8ad49d07f5892ca266016226fec77e95d20a0"
    );
}

#[test]
fn terminal() {
    let definition = marshal(&busybox());
    let last = VertexDigest::new(Digest::of(definition.ops().last().unwrap()));
    assert_eq!(
        last.to_string(),
        "sha256:ed184c8ee1441a77d21fb2e07c870c7dca33c5e9b47f5033e4d70507d8c1f8c7"
    );
    assert_eq!(definition.metadata(&last).caps, ["constraints", "platform"]);
}

#[test]
fn exec() {
    let run = ExecOptions {
        args: vec!["echo".to_owned(), "hi".to_owned()],
        cwd: "/".to_owned(),
        ..ExecOptions::default()
    };
    assert_eq!(
        head(&busybox().run(run, OpOptions::default()).root()),
        "sha256:d65dfb3d39c3320531497b89336bcd7152846eb42a25c207b357b66b81c5668a"
    );
}

#[test]
fn image_with_attributes() {
    let image = ImageOptions {
        resolve_mode: ResolveMode::Pull,
        layer_limit: Some(2),
        ..ImageOptions::default()
    };
    assert_eq!(
        head(&State::image(BUSYBOX, image, OpOptions::default())),
        "sha256:5580f72c9f308d1be1bb178666974a2adc1026861d784fd4989cf69458aa7a32"
    );
}

#[test]
fn local() {
    let local = LocalOptions {
        session: "sid".to_owned(),
        exclude_patterns: vec!["*.log".to_owned()],
        follow_paths: vec!["a".to_owned()],
        shared_key_hint: "context".to_owned(),
        ..LocalOptions::default()
    };
    assert_eq!(
        head(&State::local("context", local, OpOptions::default())),
        "sha256:b8cc4baf6cf56b399574f5aa9ab12d7ef34bc05e8fd4863a17ed8e36c295116b"
    );
}

#[test]
fn make_file_on_scratch() {
    let actions = FileActions::new().make_file(MakeFile {
        path: "/a".to_owned(),
        mode: 0o644,
        data: "hi".into(),
        ..MakeFile::default()
    });
    assert_eq!(
        head(&file(&State::scratch(), actions)),
        "sha256:95cfea19fbfc87acaff102577ea971cea4bad2050ed82826dda3896b961c19d2"
    );
}

#[test]
fn make_dir_with_parents_on_scratch() {
    assert_eq!(
        head(&file(&State::scratch(), make_dir("/d", true))),
        "sha256:39516ebd5a9c1da02cc3ea104ef4e597740f475f65d0ffed735ccfefcb5e16a1"
    );
}

#[test]
fn merge() {
    let dir = file(&State::scratch(), make_dir("/d", true));
    assert_eq!(
        head(&State::merge([busybox(), dir], OpOptions::default())),
        "sha256:e1e0e12dfbc432cc2b7e9119714f650c3e8dd16e46fc09c4a31c0aec5d6de061"
    );
}

#[test]
fn make_dir_on_image() {
    assert_eq!(
        head(&file(&busybox(), make_dir("/d", false))),
        "sha256:d23ed1f7a4609100375cddeb0c993c3d24c33919dd08adfd90700b84fb435dde"
    );
}

#[test]
fn diff() {
    let upper = file(&busybox(), make_dir("/d", false));
    assert_eq!(
        head(&State::diff(&busybox(), &upper, OpOptions::default())),
        "sha256:c11a716ac4dd356f9ec339f8909ea0b08fc81b9d33283560b577f15c2c611a0c"
    );
}

#[test]
fn chain_of_actions() {
    let actions = make_dir("/d", false).make_file(MakeFile {
        path: "/d/a".to_owned(),
        mode: 0o600,
        data: vec![0].into(),
        ..MakeFile::default()
    });
    assert_eq!(
        head(&file(&State::scratch(), actions)),
        "sha256:f9960af6418b58cce0f58e8774ca1484d73d9f2ad9273a8bdad5263ca5329f0c"
    );
}

#[test]
fn remove() {
    let actions = FileActions::new().remove(Remove {
        path: "/x".to_owned(),
        allow_not_found: true,
        allow_wildcard: true,
    });
    assert_eq!(
        head(&file(&busybox(), actions)),
        "sha256:4c5c52d779a17075803be9fdd73d3ade7a1843d1d4369981c6f7d0e1121fcb99"
    );
}

#[test]
fn symlink() {
    let actions = FileActions::new().symlink(Symlink {
        target: "/target".to_owned(),
        path: "/link".to_owned(),
        ..Symlink::default()
    });
    assert_eq!(
        head(&file(&State::scratch(), actions)),
        "sha256:d78e27462d8e8972296f1e35b13aaafd81b9bfcfa687079037f4d11899803a29"
    );
}

#[test]
fn https() {
    let http = HttpOptions {
        checksum: Some(Digest::of("")),
        filename: "y".to_owned(),
        mode: Some(0o755),
        ..HttpOptions::default()
    };
    assert_eq!(
        head(&State::http("https://example.com/x", http, OpOptions::default())),
        "sha256:d8d04474d3e2f0d72cd4d48bfbadb4fedb34e18fcffe939e49e44e2e847278da"
    );
}

#[test]
fn git() {
    let git = GitOptions {
        reference: "v0.1".to_owned(),
        subdir: "sub".to_owned(),
        keep_git_dir: true,
        ..GitOptions::default()
    };
    assert_eq!(
        head(&State::git("https://github.com/moby/buildkit.git", git, OpOptions::default())),
        "sha256:52bc7df7bd01e62723a0d8a735fa2eb92d3d2197b55332b39928c255c0ba137e"
    );
}

/// Bytes by the rules of `llb.md` §2, written out by hand: there is no recorded vector.
#[test]
fn copy_shares_the_input_of_its_base() {
    let copy = CopyFiles { src: "/s".to_owned(), dest: "d/".to_owned(), ..CopyFiles::default() };
    let copied = file(&busybox(), FileActions::new().copy(&busybox(), copy));
    let image = "0a490a477368613235363a6531343332623865323035346162623033343435316331356630613861643439\
                 643037663538393263613236363031363232366665633737653935643230613 0";
    let action =
        "22 23 12 21 22 1f 0a022f73 12032f642f 20ffffffffffffffffff01 58ffffffffffffffffff01";
    let expected = format!("{image} 5a00 {action}").replace(' ', "");
    assert_eq!(head_bytes(&copied), expected);
}
