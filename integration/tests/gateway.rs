//! What a client asks for while it drives its own build, containers above all, spoken without somebody else's client:
//! what a message may not say where it stands fails the test.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use integration::{Bridge, Graph, Wire, World, push_frontend};
use prost::Message as _;
use proto::control::{CacheOptions, SolveRequest};
use proto::gateway::exec_message::Input;
use proto::gateway::result::Result as Outcome;
use proto::gateway::{
    ExecMessage, ExitMessage, FdMessage, InitMessage, NewContainerRequest, PingRequest,
    ReadDirRequest, ReadFileRequest, Ref, ReleaseContainerRequest, ResizeMessage, ReturnRequest,
    SignalMessage, StatFileRequest,
};
use proto::{gateway, pb};
use serde_json::Value;
use tokio::sync::mpsc;
use tonic::{Code, Request, Status, Streaming};

/// A process that says nothing for this long hangs.
const HANGS: Duration = Duration::from_secs(120);

/// Runs a conversation about the build `name`, which its client drives, to its end.
fn drive<F: Future<Output = anyhow::Result<()>>>(
    world: &World,
    name: &str,
    talk: impl FnOnce(Wire, Bridge) -> F,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let wire = Wire::connect(&world.backend.address()).await?;
        let mut bridge = wire.bridge(name)?;
        let mut control = wire.control();
        let talk = async {
            bridge.ping(PingRequest::default()).await?;
            talk(wire.clone(), bridge.clone()).await?;
            bridge.r#return(returned()).await?;
            anyhow::Ok(())
        };
        let built = async { control.solve(driven(name)).await.context("the build failed") };
        tokio::try_join!(talk, built)?;
        Ok(())
    })
}

fn driven(name: &str) -> SolveRequest {
    SolveRequest {
        r#ref: name.to_owned(),
        cache: Some(CacheOptions::default()),
        ..SolveRequest::default()
    }
}

fn returned() -> ReturnRequest {
    let result = gateway::Result {
        result: Some(Outcome::Ref(Ref::default())),
        ..gateway::Result::default()
    };
    ReturnRequest { result: Some(result), error: None }
}

/// Returns the name of what a definition makes.
async fn solve(bridge: &mut Bridge, definition: pb::Definition) -> anyhow::Result<String> {
    let request = gateway::SolveRequest {
        definition: Some(definition),
        allow_result_return: true,
        allow_result_array_ref: true,
        ..gateway::SolveRequest::default()
    };
    solved(bridge, request).await
}

/// Returns the name of what is made of a request.
async fn solved(bridge: &mut Bridge, request: gateway::SolveRequest) -> anyhow::Result<String> {
    match bridge.solve(request).await?.into_inner().result.and_then(|result| result.result) {
        Some(Outcome::Ref(reference)) => Ok(reference.id),
        other => anyhow::bail!("no single reference: {other:?}"),
    }
}

/// Returns a request for the result of a Dockerfile.
fn dockerfile(world: &World, text: &str) -> gateway::SolveRequest {
    let mut graph = Graph::default();
    let file = graph.file(None, "/Dockerfile", world.fill(text).as_bytes());
    let tree = graph.finish(&file);
    let inputs = ["dockerfile", "context"].map(|name| (name.to_owned(), tree.clone()));
    gateway::SolveRequest {
        frontend: "dockerfile.v0".to_owned(),
        frontend_inputs: inputs.into_iter().collect(),
        allow_result_return: true,
        allow_result_array_ref: true,
        ..gateway::SolveRequest::default()
    }
}

#[test]
fn what_a_frontend_makes_is_built_at_once_where_that_is_asked_for() -> anyhow::Result<()> {
    let world = World::start()?;
    drive(&world, "evaluated", |_, mut bridge| {
        let request = dockerfile(&world, "FROM {busybox}\nRUN exit 7\n");
        async move {
            bridge.solve(request.clone()).await?;
            let request = gateway::SolveRequest { evaluate: true, ..request };
            let error = bridge.solve(request).await.expect_err("a step fails");
            assert!(error.message().contains("exit code: 7"), "{error}");
            Ok(())
        }
    })
}

#[test]
fn what_a_build_is_given_reaches_the_frontend_that_is_an_image() -> anyhow::Result<()> {
    let world = World::start()?;
    let image = push_frontend(&world.settings, &world.client, &world.registry)?;
    drive(&world, "given", |_, mut bridge| {
        let text = "FROM scratch\nCOPY --from=more /file /copied\n";
        let mut graph = Graph::default();
        let file = graph.file(None, "/file", b"given\n");
        let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let options = [("source", &*image), ("cmdline", &image), ("context:more", "input:more")];
        let mut request = dockerfile(&world, text);
        request.frontend = "gateway.v0".to_owned();
        request.frontend_opt = options.map(own).into();
        request.frontend_inputs.insert("more".to_owned(), graph.finish(&file));
        async move {
            let made = solved(&mut bridge, request).await?;
            let file = ReadFileRequest {
                r#ref: made,
                file_path: "/copied".to_owned(),
                ..ReadFileRequest::default()
            };
            assert_eq!(bridge.read_file(file).await?.into_inner().data, "given\n");
            Ok(())
        }
    })
}

async fn image(bridge: &mut Bridge, world: &World) -> anyhow::Result<String> {
    let mut graph = Graph::default();
    let source = graph.source(&world.fill("docker-image://{busybox}:latest"));
    solve(bridge, graph.finish(&source)).await
}

/// Returns a mount as clients send it: what only operations have is left as it is.
fn mount(dest: &str, result: &str) -> pb::Mount {
    pb::Mount { dest: dest.to_owned(), result_id: result.to_owned(), ..pb::Mount::default() }
}

fn container(id: &str, mounts: Vec<pb::Mount>) -> NewContainerRequest {
    NewContainerRequest { container_id: id.to_owned(), mounts, ..NewContainerRequest::default() }
}

fn release(id: &str) -> ReleaseContainerRequest {
    ReleaseContainerRequest { container_id: id.to_owned() }
}

/// The stream on which processes are started and talked with.
struct Exec {
    messages: mpsc::Sender<ExecMessage>,
    answers: Streaming<ExecMessage>,
    told: BTreeMap<String, Told>,
}

/// What was told of a process.
#[derive(Debug, Default)]
struct Told {
    started: bool,
    said: BTreeMap<u32, Vec<u8>>,
    closed: Vec<u32>,
    exit: Option<ExitMessage>,
    done: bool,
}

impl Told {
    fn output(&self) -> String {
        String::from_utf8_lossy(self.said.get(&1).map_or(&[][..], Vec::as_slice)).into_owned()
    }

    /// Takes a message, which has to be one that a client may expect now.
    fn hear(&mut self, input: Input) -> anyhow::Result<()> {
        anyhow::ensure!(!self.done, "{input:?} comes after the end");
        match input {
            Input::Started(_) if !self.started => self.started = true,
            Input::File(FdMessage { fd: fd @ (1 | 2), eof, data })
                if self.started && !self.closed.contains(&fd) =>
            {
                self.said.entry(fd).or_default().extend_from_slice(&data);
                self.closed.extend(eof.then_some(fd));
            }
            Input::Exit(exit)
                if self.started
                    && self.exit.is_none()
                    && (exit.code == 0) == exit.error.is_none() =>
            {
                self.exit = Some(exit);
            }
            Input::Done(_) if self.exit.is_some() && self.closed.len() == 2 => self.done = true,
            other => anyhow::bail!("{other:?} after {self:?}"),
        }
        Ok(())
    }
}

impl Exec {
    async fn open(bridge: &mut Bridge) -> anyhow::Result<Self> {
        let (messages, mut receiver) = mpsc::channel(16);
        let messages_out = futures::stream::poll_fn(move |context| receiver.poll_recv(context));
        let answers = bridge.exec_process(messages_out).await?.into_inner();
        Ok(Self { messages, answers, told: BTreeMap::new() })
    }

    async fn send(&self, process: &str, input: Input) -> anyhow::Result<()> {
        let message = ExecMessage { process_id: process.to_owned(), input: Some(input) };
        self.messages.send(message).await.context("the stream is over")
    }

    async fn start(&mut self, id: &str, words: &[&str], init: InitMessage) -> anyhow::Result<()> {
        let meta = pb::Meta {
            args: words.iter().map(|word| (*word).to_owned()).collect(),
            env: vec!["PATH=/bin:/usr/bin".to_owned()],
            cwd: "/".to_owned(),
            ..pb::Meta::default()
        };
        let init = InitMessage { meta: Some(meta), fds: vec![0, 1, 2], ..init };
        let process = format!("{}:{id}", init.container_id);
        self.told.insert(process.clone(), Told::default());
        self.send(&process, Input::Init(init)).await
    }

    async fn write(&self, process: &str, text: &str) -> anyhow::Result<()> {
        let data = text.to_owned().into();
        self.send(process, Input::File(FdMessage { fd: 0, eof: false, data })).await
    }

    /// Listens until this holds for what was told of a process.
    async fn until(
        &mut self,
        process: &str,
        holds: impl Fn(&Told) -> bool,
    ) -> anyhow::Result<&Told> {
        while !holds(self.told.get(process).context("a process that was started")?) {
            let message = tokio::time::timeout(HANGS, self.answers.message()).await;
            let message =
                message.with_context(|| format!("{process} hangs: {:?}", self.told))??;
            let message = message.context("the stream ended")?;
            let told = self.told.get_mut(&message.process_id).context("a stranger's process")?;
            told.hear(message.input.context("an empty message")?)?;
        }
        Ok(&self.told[process])
    }

    async fn exit(&mut self, process: &str) -> anyhow::Result<ExitMessage> {
        let told = self.until(process, |told| told.done).await?;
        told.exit.clone().context("a process that ended")
    }
}

fn of(container: &str) -> InitMessage {
    InitMessage { container_id: container.to_owned(), ..InitMessage::default() }
}

#[test]
fn processes_run_in_a_container_of_a_builds_results() -> anyhow::Result<()> {
    let world = World::start()?;
    drive(&world, "exec", async |_, mut bridge| {
        let root = image(&mut bridge, &world).await?;
        let mut graph = Graph::default();
        let file = graph.file(None, "/greeting", b"hello\n");
        let tree = solve(&mut bridge, graph.finish(&file)).await?;
        let mounts = vec![
            mount("/", &root),
            pb::Mount { readonly: true, ..mount("/given", &tree) },
            mount("/work", &tree),
            pb::Mount { mount_type: pb::MountType::Tmpfs.into(), ..mount("/memory", "") },
        ];
        bridge.new_container(container("c", mounts)).await?;
        let mut exec = Exec::open(&mut bridge).await?;
        let script = "trap 'echo asked; exit 9' TERM
            cat /given/greeting
            touch /given/new || echo kept
            echo changed > /work/greeting; echo x > /memory/file && echo ready
            sleep 86400 & wait";
        exec.start("main", &["/bin/sh", "-c", script], of("c")).await?;
        let told = exec.until("c:main", |told| told.output().ends_with("ready\n")).await?;
        assert_eq!(told.output(), "hello\nkept\nready\n");

        let terminal = InitMessage { tty: true, ..of("c") };
        let script = "read word; echo \"$word $(stty size) $TERM\"; cat /memory/file";
        exec.start("shell", &["/bin/sh", "-c", script], terminal).await?;
        exec.send("c:shell", Input::Resize(ResizeMessage { rows: 33, cols: 101 })).await?;
        exec.write("c:shell", "size\n").await?;
        assert_eq!(exec.exit("c:shell").await?.code, 0);
        let said = exec.told["c:shell"].output();
        assert!(said.contains("size 33 101 xterm\r\nx\r\n"), "{said:?}");

        look(&mut bridge, &tree).await?;
        exec.start("fails", &["/bin/sh", "-c", "cat; exit 3"], of("c")).await?;
        exec.write("c:fails", "through").await?;
        let data = Default::default();
        exec.send("c:fails", Input::File(FdMessage { fd: 0, eof: true, data })).await?;
        let exit = exec.exit("c:fails").await?;
        let error = exit.error.context("a failure says why")?;
        assert_eq!((exit.code, error.code, &*error.message), (3, 2, "exit code: 3"));
        let kinds: Vec<_> = error.details.iter().map(|detail| &*detail.type_url).collect();
        assert_eq!(kinds, ["github.com/moby/buildkit/gatewayapi.ExitMessage+json"]);
        assert_eq!(exec.told["c:fails"].output(), "through");

        exec.send("c:main", Input::Signal(SignalMessage { name: "TERM".to_owned() })).await?;
        assert_eq!(exec.exit("c:main").await?.code, 9);
        assert!(exec.told["c:main"].output().ends_with("ready\nasked\n"));
        exec.start("late", &["/bin/true"], of("c")).await?;
        let late = exec.exit("c:late").await?;
        assert!(late.error.is_some_and(|error| error.message.contains("not running")));
        let status = bridge.release_container(release("c")).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unknown, "exit code: 9"));
        Ok(())
    })
}

/// Looks into the mounts of the container `c`, whose third one was written to.
async fn look(bridge: &mut Bridge, tree: &str) -> anyhow::Result<()> {
    let file = |id: &str, mount_index| ReadFileRequest {
        r#ref: id.to_owned(),
        file_path: "/greeting".to_owned(),
        mount_index,
        ..ReadFileRequest::default()
    };
    let written = bridge.read_file_container(file("c", 2)).await?.into_inner().data;
    assert_eq!(&written[..], b"changed\n");
    for unchanged in
        [bridge.read_file_container(file("c", 1)).await?, bridge.read_file(file(tree, 0)).await?]
    {
        assert_eq!(&unchanged.into_inner().data[..], b"hello\n");
    }
    bridge.read_file_container(file("c", 3)).await.expect_err("memory is inside only");
    bridge.read_file_container(file("c", 4)).await.expect_err("there is no such mount");
    let directory = ReadDirRequest {
        r#ref: "c".to_owned(),
        dir_path: "/".to_owned(),
        include_pattern: "gre*".to_owned(),
        mount_index: 2,
    };
    let listed = bridge.read_dir_container(directory).await?.into_inner().entries;
    assert_eq!(listed.iter().map(|entry| &*entry.path).collect::<Vec<_>>(), ["greeting"]);
    let wanted =
        StatFileRequest { r#ref: "c".to_owned(), path: "greeting".to_owned(), mount_index: 2 };
    let stat = bridge.stat_file_container(wanted).await?.into_inner().stat;
    assert_eq!(stat.context("what is there")?.size, 8);
    Ok(())
}

/// Returns a container's mount of a volume that one holder has at a time.
fn locked() -> pb::Mount {
    let sharing = pb::CacheSharingOpt::Locked.into();
    pb::Mount {
        mount_type: pb::MountType::Cache.into(),
        cache_opt: Some(pb::CacheOpt { id: "held".to_owned(), sharing }),
        ..mount("/cache", "")
    }
}

#[test]
fn a_container_ends_with_its_client() -> anyhow::Result<()> {
    let world = World::start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let wire = Wire::connect(&world.backend.address()).await?;
        let mut bridge = wire.bridge("vanishes")?;
        let mut control = wire.control();
        let talk = async {
            bridge.ping(PingRequest::default()).await?;
            let root = image(&mut bridge, &world).await?;
            bridge.new_container(container("c", vec![mount("/", &root), locked()])).await?;
            let mut exec = Exec::open(&mut bridge).await?;
            let script = "echo held > /cache/file; echo ready; sleep 86400";
            exec.start("main", &["/bin/sh", "-c", script], of("c")).await?;
            exec.until("c:main", |told| told.output() == "ready\n").await?;
            anyhow::Ok(())
        };
        tokio::select! {
            talk = talk => talk,
            built = control.solve(driven("vanishes")) => anyhow::bail!("it ended: {built:?}"),
        }
        // With this the calls and the connection are gone.
    })?;
    drop(runtime);
    // The volume can only be had once the container is gone.
    for name in ["after-the-client", "after-the-build"] {
        drive(&world, name, async |_, mut bridge| {
            let root = image(&mut bridge, &world).await?;
            let made = bridge.new_container(container("c", vec![mount("/", &root), locked()]));
            tokio::time::timeout(HANGS, made).await.context("the volume is still held")??;
            let mut exec = Exec::open(&mut bridge).await?;
            exec.start("main", &["/bin/cat", "/cache/file"], of("c")).await?;
            assert_eq!(exec.exit("c:main").await?.code, 0);
            assert_eq!(exec.told["c:main"].output(), "held\n");
            // Not released: it ends with the build.
            Ok(())
        })?;
    }
    Ok(())
}

/// Returns what is told of the operation by which a build of this definition fails.
async fn failure(bridge: &mut Bridge, definition: pb::Definition) -> anyhow::Result<Value> {
    let request = gateway::SolveRequest {
        definition: Some(definition),
        evaluate: true,
        ..gateway::SolveRequest::default()
    };
    let error = bridge.solve(request).await.err().context("it is built")?;
    let status = proto::rpc::Status::decode(error.details())?;
    let mut details = status.details.iter();
    let told = details.find(|detail| detail.type_url.ends_with("/errdefs.Solve+json"));
    Ok(serde_json::from_slice(&told.context("no operation is told")?.value)?)
}

fn ids(told: &Value, key: &str) -> Vec<String> {
    let ids = told[key].as_array().into_iter().flatten();
    ids.map(|id| id.as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn what_a_failed_step_has_left_is_seen_in_containers() -> anyhow::Result<()> {
    let world = World::start()?;
    let mut gone = String::new();
    drive(&world, "failed", async |_, mut bridge| {
        let mut graph = Graph::default();
        let base = graph.source(&world.fill("docker-image://{busybox}:latest"));
        let failed = graph.run(&base, "echo half > /made; exit 7");
        let told = failure(&mut bridge, graph.finish(&failed)).await?;
        assert_eq!(told["op"]["exec"]["meta"]["args"][2], "echo half > /made; exit 7");
        assert_eq!(told["op"]["inputs"][0]["digest"], base);
        let (before, after) = (ids(&told, "inputIDs"), ids(&told, "mountIDs"));
        assert_eq!((before.len(), after.len()), (1, 1), "one a mount: {told}");
        // The result of the step as it was when it failed, and as it was before.
        let mounts = vec![mount("/", &after[0]), mount("/before", &before[0])];
        bridge.new_container(container("c", mounts)).await?;
        let mut exec = Exec::open(&mut bridge).await?;
        let script = "cat /made; ls /before/made || echo not before";
        exec.start("main", &["/bin/sh", "-c", script], of("c")).await?;
        assert_eq!(exec.exit("c:main").await?.code, 0);
        assert_eq!(exec.told["c:main"].output(), "half\nnot before\n");
        bridge.release_container(release("c")).await?;

        let mut graph = Graph::default();
        let made = graph.file(None, "/made", b"by an action\n");
        let failed = graph.file(Some(&made), "/nowhere/file", b"x");
        let told = failure(&mut bridge, graph.finish(&failed)).await?;
        assert_eq!((told["file"].is_object(), told["op"]["file"].is_object()), (true, true));
        let mounts = vec![mount("/", &before[0]), mount("/tree", &ids(&told, "mountIDs")[0])];
        bridge.new_container(container("d", mounts)).await?;
        exec.start("main", &["/bin/cat", "/tree/made"], of("d")).await?;
        assert_eq!(exec.exit("d:main").await?.code, 0);
        assert_eq!(exec.told["d:main"].output(), "by an action\n");
        gone.clone_from(&after[0]);
        Ok(())
    })?;
    // With the build the names go, and what was only looked at.
    drive(&world, "later", async |wire, _| {
        let asked = container("e", vec![mount("/", &gone)]);
        let made = wire.bridge("later")?.new_container(Request::new(asked)).await;
        assert!(made.is_err_and(|error| error.message().contains(&gone)));
        Ok(())
    })
}

#[test]
fn what_a_container_may_not_be_is_refused() -> anyhow::Result<()> {
    let world = World::start()?;
    drive(&world, "refused", async |wire, mut bridge| {
        let root = image(&mut bridge, &world).await?;
        let refused = async |request: NewContainerRequest| -> Status {
            let made = wire.bridge("refused").unwrap().new_container(Request::new(request)).await;
            made.expect_err("this cannot be made")
        };
        let rooted = |id: &str| container(id, vec![mount("/", &root)]);
        let on_host = NewContainerRequest { network: pb::NetMode::Host.into(), ..rooted("host") };
        assert!(refused(on_host).await.message().contains("network.host is not allowed"));
        let platform =
            pb::Platform { os: "linux".into(), architecture: "s390x".into(), ..Default::default() };
        let foreign = NewContainerRequest { platform: Some(platform), ..rooted("foreign") };
        assert!(refused(foreign).await.message().contains("linux/s390x"));
        let unrooted = refused(container("unrooted", vec![mount("/x", &root)])).await;
        assert!(unrooted.message().contains("`/`"), "{unrooted}");
        let unknown = refused(container("unknown", vec![mount("/", "nobody's")])).await;
        assert!(unknown.message().contains("nobody's"), "{unknown}");
        bridge.new_container(rooted("c")).await?;
        assert_eq!(refused(rooted("c")).await.code(), Code::AlreadyExists);

        let mut exec = Exec::open(&mut bridge).await?;
        let insecure = InitMessage { security: pb::SecurityMode::Insecure.into(), ..of("c") };
        exec.start("insecure", &["/bin/true"], insecure).await?;
        let error = exec.exit("c:insecure").await?.error.context("a refusal")?;
        assert!(error.message.contains("security.insecure is not allowed"), "{error:?}");
        exec.start("nothing", &["/bin/nothing"], of("c")).await?;
        let exit = exec.exit("c:nothing").await?;
        assert_eq!(exit.code, 255);
        assert!(exit.error.is_some_and(|error| error.message.contains("/bin/nothing")));
        // What could not be started is not the container's main process.
        exec.start("main", &["/bin/true"], of("c")).await?;
        assert_eq!(exec.exit("c:main").await?.code, 0);
        bridge.release_container(release("c")).await?;
        exec.start("gone", &["/bin/true"], of("c")).await?;
        let gone = exec.exit("c:gone").await.unwrap_err();
        assert_eq!(gone.downcast::<Status>()?.code(), Code::NotFound);
        Ok(())
    })
}
