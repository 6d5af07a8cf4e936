//! Containers that a frontend asks for, with an executor that runs nothing.

use std::io::Write as _;
use std::sync::Arc;

use bridge::{
    BuildError, ContainerMaker as _, ContainerMount, ContainerPlan, ContainerProcess,
    ContainerRequest, Detail, Kind, MadeContainer, ProcessStreams, RefHandle,
};
use bytes::Bytes;
use cache::ImmutableRef;
use executor::{ExitStatus, FakeExecutor, FakeProcess, GuestMount, Network, ProcessSpec, Security};
use futures::FutureExt as _;
use llb::{
    CacheMount, CacheSharing, ExtraHost, Mount, MountKind, NetMode, SecretEnv, SecretMount,
    SshMount,
};
use mount::RootDir;
use oci::Platform;
use rustix::fs::{Mode, OFlags};
use session::testing::FakeClient;
use tokio::sync::mpsc;

use crate::world::{World, guest};

type Made = Arc<dyn MadeContainer<RootDir>>;

/// Processes that do as they are told: `write <path>`, `exit <code>`, or else wait.
fn obedient() -> FakeExecutor {
    FakeExecutor::new(|spec: &ProcessSpec| {
        let word = |index: usize| spec.args.get(index).map(String::as_str).unwrap_or_default();
        match word(0) {
            "write" => {
                let root = mount::detached::open(&spec.root).unwrap().root().unwrap();
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
                let file = root.open_at(&guest(word(1)), flags, Mode::from_raw_mode(0o644));
                std::fs::File::from(file.unwrap()).write_all(b"written").unwrap();
                Ok(FakeProcess::hangs().says("wrote\n"))
            }
            "exit" => Ok(FakeProcess::exits(word(1).parse().unwrap())),
            _ => Ok(FakeProcess::hangs()),
        }
    })
}

fn at(dest: &str, kind: MountKind) -> ContainerMount {
    ContainerMount { mount: Mount::new(dest, kind), reference: RefHandle::default() }
}

/// Returns a container of these mounts, the first of which is the root; all show `tree`.
async fn make(
    world: &World,
    tree: &ImmutableRef,
    request: ContainerRequest,
) -> Result<Made, BuildError> {
    make_for(world, tree, request, &[]).await
}

async fn make_for(
    world: &World,
    tree: &ImmutableRef,
    request: ContainerRequest,
    sessions: &[&str],
) -> Result<Made, BuildError> {
    let trees = request.mounts.iter().map(|_| tree.clone()).collect();
    let sessions = sessions.iter().map(|id| (*id).to_owned()).collect();
    let build = "build".to_owned();
    world.ops.make(ContainerPlan { build, sessions, request, trees }).await
}

fn rooted(mounts: impl IntoIterator<Item = ContainerMount>) -> ContainerRequest {
    let root = at("/", MountKind::Bind);
    ContainerRequest { mounts: [root].into_iter().chain(mounts).collect(), ..Default::default() }
}

fn process(args: &[&str]) -> ContainerProcess {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    ContainerProcess { args, ..ContainerProcess::default() }
}

async fn run(made: &Made, args: &[&str]) -> Result<Box<dyn bridge::Process>, BuildError> {
    made.start(process(args), ProcessStreams::default()).await
}

async fn filled(world: &World) -> ImmutableRef {
    let fill = |root: &RootDir| {
        let flags = OFlags::WRONLY | OFlags::CREATE;
        root.open_at(&guest("/base"), flags, Mode::from_raw_mode(0o644)).unwrap();
    };
    world.tree(fill).await
}

fn names(root: &RootDir) -> Vec<String> {
    let mut found = Vec::new();
    crate::world::list(root, &guest("/"), &mut found);
    found
}

/// Returns how many layers are being written on disk.
fn unfinished(world: &World) -> usize {
    let layers = std::fs::read_dir(world.root.path().join("snapshots")).unwrap();
    let names = layers.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".new")).count()
}

#[tokio::test]
async fn a_container_is_what_was_asked_for() {
    let world = World::running(obedient()).await;
    let tree = filled(&world).await;
    let mut request =
        rooted([at("/a/b", MountKind::Bind), at("/a", MountKind::Tmpfs { size: 4096 })]);
    request.mounts[1].mount.readonly = true;
    request.files = vec![("/a/c".to_owned(), Bytes::from_static(b"content"))];
    request.network = NetMode::None;
    request.hostname = "inside".to_owned();
    request.extra_hosts = vec![ExtraHost { host: "far".to_owned(), ip: "10.0.0.1".to_owned() }];
    request.platform = Some(Platform::new("linux", "amd64"));
    let made = make(&world, &tree, request).await.unwrap();
    let mut wanted = process(&["wait"]);
    (wanted.cwd, wanted.user, wanted.tty) = ("/work".to_owned(), "guest".to_owned(), true);
    let _running = made.start(wanted, ProcessStreams::default()).await.unwrap();
    let spec = world.executor.started().remove(0);
    let targets: Vec<_> = spec.mounts.iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(targets, ["/a", "/a/b", "/a/c"]);
    assert_eq!(spec.mounts[0].1, GuestMount::Tmpfs { size: Some(4096), mode: 0o1777 });
    assert!(matches!(&spec.mounts[1].1, GuestMount::Mount { mount, .. } if mount.readonly));
    assert!(matches!(spec.mounts[2].1, GuestMount::File { mode: 0o400, uid: 0, gid: 0, .. }));
    assert_eq!((spec.network, spec.security), (Network::None, Security::Sandbox));
    assert_eq!((spec.hostname.as_deref(), spec.extra_hosts.len()), (Some("inside"), 1));
    assert_eq!((spec.cwd.to_string().as_str(), spec.user.as_str()), ("/work", "guest"));
    assert!(spec.tty && spec.env.contains(&"TERM=xterm".to_owned()));
}

#[tokio::test]
async fn what_it_writes_is_seen_while_it_is_there_and_lost_with_it() {
    let world = World::running(obedient()).await;
    let tree = filled(&world).await;
    let made = make(&world, &tree, rooted([])).await.unwrap();
    let (stdout, mut said) = mpsc::channel(1);
    let streams = ProcessStreams { stdout: Some(stdout), ..ProcessStreams::default() };
    let _writer = made.start(process(&["write", "/new"]), streams).await.unwrap();
    assert_eq!(said.recv().await.as_deref(), Some(&b"wrote\n"[..]));
    assert_eq!(names(&made.look(0).await.unwrap()), ["/base", "/new"]);
    assert_eq!(world.list(&tree).await, ["/base"], "the result is as it was");
    assert_eq!(unfinished(&world), 1);
    made.release().await.unwrap();
    assert_eq!(made.look(0).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(unfinished(&world), 0);
    assert!(world.executor.running().is_empty());
}

#[tokio::test]
async fn only_what_is_a_tree_can_be_looked_into() {
    let world = World::running(obedient()).await;
    let tree = filled(&world).await;
    let cache = MountKind::Cache(CacheMount { id: "c".to_owned(), ..CacheMount::default() });
    let tmpfs = at("/tmp", MountKind::Tmpfs { size: 0 });
    let mut request = rooted([tmpfs, at("/cache", cache), at("/src", MountKind::Bind)]);
    request.mounts[3].mount.readonly = true;
    let trees = vec![tree.clone(), ImmutableRef::default(), ImmutableRef::default(), tree];
    let plan = ContainerPlan { build: String::new(), sessions: Vec::new(), request, trees };
    let made = world.ops.make(plan).await.unwrap();
    assert_eq!(names(&made.look(3).await.unwrap()), ["/base"]);
    assert!(names(&made.look(2).await.unwrap()).is_empty());
    for unseen in [1, 4] {
        let error = made.look(unseen).await.unwrap_err();
        assert!(error.message().contains(&unseen.to_string()), "{error}");
    }
}

#[tokio::test]
async fn the_first_process_is_the_container_and_the_others_live_inside_it() {
    let world = World::running(obedient()).await;
    let made = make(&world, &filled(&world).await, rooted([])).await.unwrap();
    let main = run(&made, &["wait"]).await.unwrap();
    let beside = run(&made, &["exit", "3"]).await.unwrap();
    assert_eq!(beside.wait().await.unwrap(), 3);
    assert_eq!(world.executor.started().len(), 1, "one container");
    let other = run(&made, &["wait"]).await.unwrap();
    drop(other);
    assert!(main.wait().now_or_never().is_none(), "dropping another leaves the first alone");
    main.signal("KILL").unwrap();
    assert_eq!(main.wait().await.unwrap(), ExitStatus::Signal(9).code());
    let late = run(&made, &["wait"]).await.unwrap_err();
    assert!(late.message().contains("is not running"), "{late}");
    let error = made.release().await.unwrap_err();
    assert_eq!((error.message(), error.details()), ("exit code: 137", &[Detail::Exit(137)][..]));
    made.release().await.unwrap();
    let gone = run(&made, &["wait"]).await.unwrap_err();
    assert_eq!(gone.message(), "the container was released");
}

#[tokio::test]
async fn signals_and_sizes_go_to_the_process() {
    let world = World::running(obedient()).await;
    let made = make(&world, &filled(&world).await, rooted([])).await.unwrap();
    let main = run(&made, &["wait"]).await.unwrap();
    main.signal("TERM").unwrap();
    assert_eq!(main.signal("NOPE").unwrap_err().kind(), Kind::InvalidRequest);
    assert!(main.resize(24, 80).is_err(), "it has no terminal");
    let with_terminal = ContainerProcess { tty: true, ..process(&["wait"]) };
    let shell = made.start(with_terminal, ProcessStreams::default()).await.unwrap();
    shell.resize(24, 80).unwrap();
}

#[tokio::test]
async fn a_container_dies_when_nobody_has_it() {
    let world = World::running(obedient()).await;
    let made = make(&world, &filled(&world).await, rooted([])).await.unwrap();
    let main = run(&made, &["wait"]).await.unwrap();
    drop(made);
    assert_eq!(main.wait().await.unwrap(), 137, "whoever waits for it is told");
    let made = make(&world, &filled(&world).await, rooted([])).await.unwrap();
    let main = run(&made, &["wait"]).await.unwrap();
    drop(main);
    while !world.executor.running().is_empty() {
        tokio::task::yield_now().await;
    }
    let error = made.release().await.unwrap_err();
    assert_eq!(error.details(), [Detail::Exit(137)]);
}

#[tokio::test]
async fn a_volume_is_held_until_the_container_is_released() {
    let world = World::running(obedient()).await;
    let tree = ImmutableRef::default();
    let locked = || {
        let cache = CacheMount { id: "l".to_owned(), sharing: CacheSharing::Locked };
        rooted([at("/cache", MountKind::Cache(cache))])
    };
    let first = make(&world, &tree, locked()).await.unwrap();
    let _main = run(&first, &["wait"]).await.unwrap();
    let mut second = std::pin::pin!(make(&world, &tree, locked()));
    let queued = async {
        while world.volumes.list().await.unwrap().iter().all(|volume| volume.waiting.is_empty()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = &mut second => panic!("two hold it"),
        () = queued => {}
    }
    let (released, second) = tokio::join!(first.release(), second);
    released.unwrap();
    second.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn what_the_client_keeps_is_there_for_a_container() {
    let world = World::running(obedient()).await;
    let client = FakeClient::new().with_secret("s", "value").with_ssh("default");
    let _client = client.connect(&world.sessions, "client").await.unwrap();
    let secret = SecretMount { id: "s".to_owned(), mode: 0o440, ..SecretMount::default() };
    let request = rooted([
        at("/agent", MountKind::Ssh(SshMount::default())),
        at("/secret", MountKind::Secret(secret)),
    ]);
    let made = make_for(&world, &ImmutableRef::default(), request, &["client"]).await.unwrap();
    let variable = SecretEnv { id: "s".to_owned(), name: "S".to_owned(), optional: false };
    let told = ContainerProcess { secret_env: vec![variable], ..process(&["wait"]) };
    let _running = made.start(told, ProcessStreams::default()).await.unwrap();
    let spec = world.executor.started().remove(0);
    assert!(spec.env.contains(&"S=value".to_owned()));
    let GuestMount::File { content, mode: 0o440, .. } = &spec.mounts[1].1 else {
        panic!("{:?}", spec.mounts)
    };
    assert_eq!(content.expose(), b"value");
    let GuestMount::Socket { path } = &spec.mounts[0].1 else { panic!("{:?}", spec.mounts) };
    assert!(path.as_path().exists());
    made.release().await.unwrap();
    assert!(!path.as_path().exists());
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_leaves_nothing() {
    let world = World::running(obedient()).await;
    let tree = filled(&world).await;
    let foreign = Some(Platform::new("linux", "s390x"));
    let request = ContainerRequest { platform: foreign, ..rooted([]) };
    let error = make(&world, &tree, request).await.unwrap_err();
    assert!(error.message().contains("`linux/s390x`"), "{error}");
    let hosts = vec![ExtraHost { host: "h".to_owned(), ip: "nowhere".to_owned() }];
    let request = ContainerRequest { extra_hosts: hosts, ..rooted([]) };
    assert!(make(&world, &tree, request).await.unwrap_err().message().contains("`nowhere`"));
    let secret = MountKind::Secret(SecretMount { id: "s".to_owned(), ..SecretMount::default() });
    let error = make(&world, &tree, rooted([at("/s", secret)])).await.unwrap_err();
    assert_eq!(error.message(), "secret s: not found");
    assert_eq!(unfinished(&world), 0);
    let made = make(&world, &tree, rooted([])).await.unwrap();
    let secret = |optional| SecretEnv { id: "s".to_owned(), name: "S".to_owned(), optional };
    let needs = |optional| {
        let secret_env = vec![secret(optional)];
        ContainerProcess { secret_env, ..process(&["wait"]) }
    };
    let error = made.start(needs(false), ProcessStreams::default()).await.unwrap_err();
    assert_eq!(error.message(), "secret s: not found");
    let _running = made.start(needs(true), ProcessStreams::default()).await.unwrap();
    assert!(world.executor.started()[0].env.contains(&"S=".to_owned()));
    made.release().await.unwrap();
}
