//! More of what the reference client writes, with every option set: digests and declared capabilities.

use digests::Digest;
use llb::{
    CacheMount, CacheSharing, ContentCache, CopyFiles, CopyMode, Device, Differ, ExecOptions,
    ExtraHost, FileActions, GitOptions, HttpOptions, ImageOptions, LocalOptions, MakeDir, MakeFile,
    NetMode, OciLayoutOptions, OpOptions, Owner, Platform, ProxyEnv, RecordType, Remove,
    ResolveMode, RunMount, RunSecret, RunSsh, SecretMount, SecurityMode, SshMount, State, Symlink,
    Ulimit, UserRef,
};

const BUSYBOX: &str = "docker.io/library/busybox:latest";
/// 2023-11-14 22:13:20 and five nanoseconds.
const TIME: Option<i64> = Some(1_700_000_000_000_000_005);

#[track_caller]
fn assert_written(state: &State, digest: &str, caps: &[&str]) {
    let definition = state.marshal(&Platform::new("linux", "amd64")).unwrap();
    let graph = definition.load().unwrap();
    assert_eq!(graph.root.vertex.to_string(), format!("sha256:{digest}"));
    let vertex = graph.vertex(&graph.root.vertex).unwrap();
    assert_eq!(Digest::of(&vertex.raw), vertex.digest.digest());
    assert_eq!(vertex.metadata.caps, caps);
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn none() -> OpOptions {
    OpOptions::default()
}

fn busybox() -> State {
    State::image(BUSYBOX, ImageOptions::default(), none())
}

fn context() -> State {
    let local = LocalOptions { session: "sid".to_owned(), ..LocalOptions::default() };
    State::local("context", local, none())
}

fn cache(id: &str, sharing: CacheSharing) -> CacheMount {
    CacheMount { id: id.to_owned(), sharing }
}

fn every_mount() -> Vec<RunMount> {
    vec![
        RunMount {
            readonly: true,
            selector: "sub".to_owned(),
            ..RunMount::bind("/src", context())
        },
        RunMount::bind("/base", busybox()),
        RunMount { no_output: true, ..RunMount::bind("/rw", context()) },
        RunMount::cache("/cache", State::scratch(), cache("id", CacheSharing::Locked)),
        RunMount {
            readonly: true,
            ..RunMount::cache("/cache2", context(), cache("id2", CacheSharing::Private))
        },
        RunMount::tmpfs("/tmp", 1000),
        RunMount::tmpfs("/t2", 0),
        RunMount { content_cache: ContentCache::On, ..RunMount::bind("/cc", context()) },
    ]
}

fn every_secret() -> Vec<RunSecret> {
    let id = |id: &str| SecretMount { id: id.to_owned(), ..SecretMount::default() };
    vec![
        RunSecret {
            secret: SecretMount { uid: 1, gid: 2, mode: 0o440, ..id("s") },
            dest: Some("/run/secrets/s".to_owned()),
            env: None,
        },
        RunSecret {
            secret: SecretMount { optional: true, ..id("e") },
            dest: Some("/x".to_owned()),
            env: Some("E".to_owned()),
        },
    ]
}

fn every_agent() -> Vec<RunSsh> {
    let agent = SshMount { id: "k".to_owned(), optional: true, ..SshMount::default() };
    vec![RunSsh { agent, dest: Some("/ssh".to_owned()) }, RunSsh::default()]
}

fn everything() -> ExecOptions {
    ExecOptions {
        args: texts(&["a", ""]),
        env: texts(&["A=b", "PATH=/bin"]),
        cwd: "/work".to_owned(),
        user: "nobody".to_owned(),
        proxy: Some(ProxyEnv {
            http: "http://p".to_owned(),
            no: "x".to_owned(),
            ..ProxyEnv::default()
        }),
        extra_hosts: vec![ExtraHost { host: "h".to_owned(), ip: "10.0.0.1".to_owned() }],
        hostname: "host".to_owned(),
        ulimits: vec![Ulimit { name: "nofile".to_owned(), soft: 10, hard: -1 }],
        cgroup_parent: "cg".to_owned(),
        valid_exit_codes: vec![0, 300],
        network: NetMode::Host,
        security: SecurityMode::Insecure,
        readonly_root: false,
        mounts: every_mount(),
        secrets: every_secret(),
        ssh: every_agent(),
        devices: vec![Device { name: "vendor/dev=1".to_owned(), optional: true }],
    }
}

#[test]
fn exec_with_everything() {
    let ran = busybox().run(everything(), OpOptions { ignore_cache: true, ..none() });
    let caps = [
        "exec.meta.base",
        "exec.meta.cdi",
        "exec.meta.network",
        "exec.meta.proxyenv",
        "exec.meta.security",
        "exec.meta.setsdefaultpath",
        "exec.meta.ulimit",
        "exec.mount.bind",
        "exec.mount.cache",
        "exec.mount.cache.content",
        "exec.mount.cache.sharing",
        "exec.mount.secret",
        "exec.mount.selector",
        "exec.mount.ssh",
        "exec.mount.tmpfs",
        "exec.mount.tmpfs.size",
        "exec.secretenv",
        "exec.validexitcode",
    ];
    let digest = "cd120300e76c97e43b627cb9e4b7487b6d65b5b07e2bff5215abf7227dbffc83";
    assert_written(&ran.root(), digest, &caps);

    // The terminal operation names the output, so its digest shows that the numbering agrees.
    let terminal = |state: &State| {
        let definition = state.marshal(&Platform::new("linux", "amd64")).unwrap();
        Digest::of(definition.ops().last().unwrap()).hex()
    };
    assert_eq!(
        [terminal(&ran.root()), terminal(&ran.mount("/base").unwrap())],
        [
            "433aa7c015337515bb3a275612393a2814bca647d57df8092742f86dc6f3bbcb",
            "cd892fe4a4365453308451b7849056b3e2a1ea2ff4a59ab92964dfb9068bbef3",
        ]
    );
    for gone in ["/rw", "/cache", "/cache2", "/tmp", "/ssh", "/nowhere"] {
        assert!(ran.mount(gone).is_none(), "{gone}");
    }
}

#[test]
fn exec_with_a_readonly_root() {
    let run = ExecOptions {
        args: texts(&["x"]),
        cwd: "/".to_owned(),
        readonly_root: true,
        mounts: vec![RunMount::bind("/out", State::scratch())],
        ..ExecOptions::default()
    };
    assert_written(
        &busybox().run(run, none()).mount("/out").unwrap(),
        "3ab2de00f8ea4259a509b88d4b348b2b48183ae605c986134aeddc40cdcdc93d",
        &["exec.meta.base", "exec.meta.setsdefaultpath", "exec.mount.bind"],
    );
}

#[test]
fn exec_inherits_the_platform_of_its_image() {
    let arm = Platform { variant: "v7".to_owned(), ..Platform::new("linux", "arm") };
    let options = OpOptions { platform: Some(arm), ..none() };
    let image = State::image(BUSYBOX, ImageOptions::default(), options);
    let run = ExecOptions { args: texts(&["x"]), cwd: "/".to_owned(), ..ExecOptions::default() };
    assert_written(
        &image.run(run, none()).root(),
        "e979868263835fe69dc1c58976446e117dd7f4135c1db8f33dd0f2ac03925b0e",
        &["exec.meta.base", "exec.meta.setsdefaultpath", "exec.mount.bind"],
    );
}

#[test]
fn copy_with_everything() {
    let copy = CopyFiles {
        src: "/a/*".to_owned(),
        dest: "/b/".to_owned(),
        owner: Some(Owner { user: Some(UserRef::parse("me")), group: Some(UserRef::Id(0)) }),
        mode: Some(CopyMode::Bits(0o755)),
        follow_symlink: true,
        dir_copy_contents: true,
        attempt_unpack: true,
        create_dest_path: true,
        allow_wildcard: true,
        allow_empty_wildcard: true,
        timestamp: TIME,
        include_patterns: texts(&["i"]),
        exclude_patterns: texts(&["e", "f"]),
        always_replace: true,
        required_paths: texts(&["r"]),
    };
    assert_written(
        &busybox().file(FileActions::new().copy(&context(), copy), none()),
        "2508bc59650608c759913dc26afea0c28008fbbe43aeef686424a9daa3ed4530",
        &["file.base"],
    );
}

#[test]
fn copies_in_a_row_onto_scratch() {
    let first = CopyFiles {
        src: "a".to_owned(),
        dest: "b/.".to_owned(),
        mode: Some(CopyMode::Symbolic("u+x".to_owned())),
        ..CopyFiles::default()
    };
    let second = CopyFiles {
        src: "/etc".to_owned(),
        dest: "/etc2".to_owned(),
        owner: Some(Owner::parse("1000:me")),
        ..CopyFiles::default()
    };
    let actions = FileActions::new().copy(&context(), first).copy(&busybox(), second);
    assert_written(
        &State::scratch().file(actions, none()),
        "9e1e09755bc14947fef069cc60f875b256da2223ee8fcae2fb3c7341f52253a0",
        &["file.base"],
    );
}

#[test]
fn names_of_owners_are_looked_up_in_the_base() {
    let dir = MakeDir {
        path: "/x".to_owned(),
        mode: 0o700,
        owner: Some(Owner::parse("u:g")),
        ..MakeDir::default()
    };
    let file = MakeFile {
        path: "/x/y".to_owned(),
        mode: 0o600,
        owner: Some(Owner::parse("root")),
        timestamp: TIME,
        ..MakeFile::default()
    };
    let link = Symlink {
        target: "t".to_owned(),
        path: "/l".to_owned(),
        owner: Some(Owner::ids(5, 6)),
        ..Symlink::default()
    };
    let remove = Remove { path: "/z".to_owned(), ..Remove::default() };
    let actions = FileActions::new().make_dir(dir).make_file(file).symlink(link).remove(remove);
    assert_written(
        &busybox().file(actions, none()),
        "2ee7ed4ff89c8a159879d06d498fc04a06af9baf1496081a0d7f63fe493c7f50",
        &["file.base"],
    );
}

#[test]
fn local_with_patterns_that_json_escapes() {
    let local = LocalOptions {
        session: "s".to_owned(),
        include_patterns: texts(&["<a>&\u{2028}", "\"q\""]),
        differ: Some(Differ::None),
        metadata_only: Some(texts(&["ex"])),
        ..LocalOptions::default()
    };
    assert_written(
        &State::local("n", local, none()),
        "cf2a5f5e3ac4c6f8f078c33b4e9602b415e452969b604c1e966ad040b3bb0b96",
        &[
            "source.local",
            "source.local.includepatterns",
            "source.local.metadatatransfer",
            "source.local.sessionid",
        ],
    );
}

#[test]
fn http_with_everything() {
    let headers = [("Accept", "text/plain"), ("User-Agent", "ua")];
    let http = HttpOptions {
        uid: 1,
        gid: 2,
        auth_header_secret: "sec".to_owned(),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        ..HttpOptions::default()
    };
    assert_written(
        &State::http("http://e/x", http, none()),
        "89fe002869feed919da59002de1caf033a2251e1ed779aee68fdd7a00bc9de8b",
        &["soruce.http.uidgid", "source.http", "source.http.auth", "source.http.header"],
    );
}

#[test]
fn git_over_ssh_with_everything() {
    let git = GitOptions {
        reference: "main".to_owned(),
        known_ssh_hosts: "kh\n".to_owned(),
        checksum: "abc".to_owned(),
        skip_submodules: true,
        mtime: "commit".to_owned(),
        fetch_by_commit: true,
        ..GitOptions::default()
    };
    assert_written(
        &State::git("git@github.com:moby/buildkit.git", git, none()),
        "a35a018fea9602fa9d78fc110fce6a3691458635e1c8b55003e09cc837b2dcc1",
        &[
            "source.git",
            "source.git.checksum",
            "source.git.fetchbycommit",
            "source.git.fullurl",
            "source.git.knownsshhosts",
            "source.git.mountsshsock",
            "source.git.mtime",
            "source.git.skipsubmodules",
        ],
    );
}

#[test]
fn git_remotes_of_all_shapes() {
    let base = ["source.git", "source.git.fullurl"];
    assert_written(
        &State::git("github.com/moby/buildkit.git", GitOptions::default(), none()),
        "8435518ef264e00c310f8228b55cacc2606aff07deac3eeec4a3de29958fd311",
        &base,
    );
    let git = GitOptions {
        subdir: "sub/../dir/".to_owned(),
        known_ssh_hosts: "kh\n".to_owned(),
        ssh_agent: "k".to_owned(),
        ..GitOptions::default()
    };
    assert_written(
        &State::git("ssh://git@host:2222/~/a/../b.git", git, none()),
        "7d7937e151fac3e0c39a82be75011a158829579cc080ecf9bffe78162cc463aa",
        &[base[0], base[1], "source.git.knownsshhosts", "source.git.mountsshsock"],
    );
    let git = GitOptions { auth_token_secret: "tok".to_owned(), ..GitOptions::default() };
    assert_written(
        &State::git("https://user@host/r.git", git, none()),
        "25c4906f60bf19e3664217fd540a506b5b1902158c0e59b7d9cd24fa6ea38718",
        &[base[0], base[1], "source.git.httpauth"],
    );
}

#[test]
fn oci_layout() {
    let layout = OciLayoutOptions {
        session: "sess".to_owned(),
        store: "store".to_owned(),
        layer_limit: Some(3),
    };
    assert_written(
        &State::oci_layout(&format!("n@{}", Digest::of("")), layout, none()),
        "07dfd66984bc1a126024573d16d4ce7fbce3e2a6ebb7eee1f97de223bd7086b7",
        &["source.ocilayout"],
    );
}

#[test]
fn image_of_our_own() {
    let image = ImageOptions {
        resolve_mode: ResolveMode::Local,
        record_type: RecordType::Internal,
        ..ImageOptions::default()
    };
    assert_written(
        &State::image(BUSYBOX, image, none()),
        "d73bfc2bb813679bbb9037b9c44ac3ae17aec5f4196d39a1f13cf1ce50d1e68f",
        &["source.image"],
    );
}

#[test]
fn diff_to_scratch() {
    assert_written(
        &State::diff(&busybox(), &State::scratch(), none()),
        "7107e6c39ad9b57605a2951a3345537f0530b22c4fedc7a529f245d6da40acaf",
        &["diffop"],
    );
}

#[test]
fn merge_of_the_same_tree_twice() {
    let states = [busybox(), State::scratch(), busybox()];
    assert_written(
        &State::merge(states, none()),
        "3e1771244502ed7efc52790bbf59820ad33470d8e1225fb4aeec749455a33bb5",
        &["mergeop"],
    );
}
