//! A frontend written by hand against the protocol, for the suite of `# syntax=` lines: it knows the messages
//! and nothing else of ours. The word after the image in the line says what it does.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd as _;

use anyhow::{Context as _, ensure};
use futures::StreamExt as _;
use hyper_util::rt::TokioIo;
use integration::Graph;
use proto::gateway::exec_message::Input;
use proto::gateway::llb_bridge_client::LlbBridgeClient;
use proto::{gateway, pb, rpc};
use tokio::net::unix::pipe;
use tonic::transport::{Channel, Endpoint};

/// The options of the build, and the builder.
struct Frontend {
    builder: LlbBridgeClient<Channel>,
    options: BTreeMap<String, String>,
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut frontend = Frontend::connect().await?;
        let line = frontend.options.get("cmdline").cloned().unwrap_or_default();
        let word = line.split_whitespace().nth(1).unwrap_or("report").to_owned();
        frontend.act(&word).await
    })
}

/// Returns the place of a word in a Dockerfile, as errors carry it.
fn place(data: &[u8], line: u32) -> prost_types::Any {
    let data = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, data);
    let range = serde_json::json!({"start": {"line": line}, "end": {"line": line}});
    let value = serde_json::json!({
        "info": {"filename": "Dockerfile", "data": data, "language": "Dockerfile"},
        "ranges": [range],
    });
    prost_types::Any {
        type_url: "github.com/moby/buildkit/errdefs.Source+json".to_owned(),
        value: value.to_string().into_bytes(),
    }
}

impl Frontend {
    async fn connect() -> anyhow::Result<Self> {
        let input = pipe::Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned()?)?;
        let output = pipe::Sender::from_owned_fd(io::stdout().as_fd().try_clone_to_owned()?)?;
        let mut pipes = Some(TokioIo::new(tokio::io::join(input, output)));
        let connector = tower::service_fn(move |_| {
            std::future::ready(pipes.take().ok_or_else(|| io::Error::other("hung up")))
        });
        let channel =
            Endpoint::from_static("http://builder").connect_with_connector(connector).await?;
        let options = std::env::vars()
            .filter(|(name, _)| name.starts_with("BUILDKIT_FRONTEND_OPT_"))
            .filter_map(|(_, value)| {
                value.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()))
            })
            .collect();
        Ok(Self { builder: LlbBridgeClient::new(channel), options })
    }

    async fn act(&mut self, word: &str) -> anyhow::Result<()> {
        match word {
            "report" => {
                let report = self.report().await?;
                self.give_file("report", &report).await
            }
            "container" => {
                let report = self.container().await?;
                self.give_file("report", &report).await
            }
            "relay" => self.relay().await,
            "old" => self.give_as_long_ago().await,
            "error" => self.give_error().await,
            "silent" => Ok(()),
            "crash" => anyhow::bail!("the frontend has had enough"),
            "two-faced" => {
                self.give_file("report", "all is well").await?;
                anyhow::bail!("but it is not")
            }
            other => anyhow::bail!("nobody knows `{other}`"),
        }
    }

    fn option(&self, key: &str) -> anyhow::Result<String> {
        self.options.get(key).cloned().with_context(|| format!("no option `{key}`"))
    }

    /// Solves a graph; returns the reference of its result.
    async fn solve(&mut self, definition: pb::Definition) -> anyhow::Result<String> {
        let request = gateway::SolveRequest {
            definition: Some(definition),
            allow_result_return: true,
            allow_result_array_ref: true,
            ..Default::default()
        };
        let answer = self.builder.solve(request).await?.into_inner();
        match answer.result.context("no result")?.result {
            Some(gateway::result::Result::Ref(one)) => Ok(one.id),
            other => anyhow::bail!("not one reference: {other:?}"),
        }
    }

    /// Gives back a tree with one file.
    async fn give_file(&mut self, path: &str, text: &str) -> anyhow::Result<()> {
        let mut graph = Graph::default();
        let file = graph.file(None, path, text.as_bytes());
        let id = self.solve(graph.finish(&file)).await?;
        let one = gateway::result::Result::Ref(gateway::Ref { id, def: None });
        let result = gateway::Result { result: Some(one), ..Default::default() };
        let said = gateway::ReturnRequest { result: Some(result), error: None };
        self.builder.r#return(said).await?;
        Ok(())
    }

    /// Asks everything that can be asked about files and sources; returns the answers.
    async fn report(&mut self) -> anyhow::Result<String> {
        let pong = self.builder.ping(gateway::PingRequest {}).await?.into_inner();
        ensure!(pong.frontend_api_caps.iter().any(|cap| cap.id == "return" && cap.enabled));
        ensure!(pong.llb_caps.iter().any(|cap| cap.id == "exec.mount.cache" && cap.enabled));
        ensure!(!pong.workers.is_empty() && !pong.workers[0].platforms.is_empty());
        let mut lines = Vec::new();
        let mut graph = Graph::default();
        let first = graph.file(None, "a.txt", b"0123456789");
        let second = graph.file(Some(&first), "b.md", b"b");
        let definition = graph.finish(&second);
        let id = self.solve(definition).await?;
        self.builder.evaluate(gateway::EvaluateRequest { r#ref: id.clone() }).await?;
        lines.extend(self.look_around(&id).await?);
        lines.push(self.ask_for_image().await?);
        let inputs = self.builder.inputs(gateway::InputsRequest {}).await?.into_inner().definitions;
        lines.push(format!("inputs {:?}", inputs.keys().collect::<Vec<_>>()));
        self.builder
            .warn(gateway::WarnRequest {
                digest: second,
                level: 1,
                short: "the hand is unsteady".into(),
                ..Default::default()
            })
            .await?;
        let metadata = std::fs::read("/run/config/buildkit/metadata/frontend.bin")?;
        let definition: pb::Definition = prost::Message::decode(&*metadata)?;
        lines.push(format!("frontend.bin {}", definition.def.len()));
        lines.push(format!("cwd {}", std::env::current_dir()?.display()));
        Ok(lines.join("\n"))
    }

    async fn look_around(&mut self, id: &str) -> anyhow::Result<Vec<String>> {
        let read = |path: &str, range| gateway::ReadFileRequest {
            r#ref: id.to_owned(),
            file_path: path.to_owned(),
            range,
            ..Default::default()
        };
        let whole = self.builder.read_file(read("/a.txt", None)).await?.into_inner().data;
        let range = Some(gateway::FileRange { offset: 2, length: 3 });
        let part = self.builder.read_file(read("/a.txt", range)).await?.into_inner().data;
        let missing = self.builder.read_file(read("/no", None)).await.err().context("a file")?;
        let list = |pattern: &str| gateway::ReadDirRequest {
            r#ref: id.to_owned(),
            dir_path: "/".to_owned(),
            include_pattern: pattern.to_owned(),
            ..Default::default()
        };
        let all = self.builder.read_dir(list("")).await?.into_inner().entries;
        let some = self.builder.read_dir(list("*.md")).await?.into_inner().entries;
        let names = |list: Vec<proto::fsutil::Stat>| {
            list.into_iter().map(|stat| stat.path).collect::<Vec<_>>().join(",")
        };
        let stat = gateway::StatFileRequest {
            r#ref: id.to_owned(),
            path: "/a.txt".to_owned(),
            ..Default::default()
        };
        let stat = self.builder.stat_file(stat).await?.into_inner().stat.context("a file")?;
        Ok(vec![
            format!("file {} {}", String::from_utf8_lossy(&whole), String::from_utf8_lossy(&part)),
            format!("missing {}", missing.message()),
            format!("names {} {}", names(all), names(some)),
            format!("stat {} {} {:o}", stat.path, stat.size, stat.mode),
        ])
    }

    async fn ask_for_image(&mut self) -> anyhow::Result<String> {
        let base = self.option("build-arg:BASE")?;
        let source =
            pb::SourceOp { identifier: format!("docker-image://{base}"), ..Default::default() };
        let question = gateway::ResolveSourceMetaRequest {
            source: Some(source),
            log_name: "[hand] looks at the base".to_owned(),
            ..Default::default()
        };
        let answer = self.builder.resolve_source_meta(question).await?.into_inner();
        let image = answer.image.context("an image")?;
        let config: serde_json::Value = serde_json::from_slice(&image.config)?;
        Ok(format!("image {} {}", &image.digest[..7], config["os"]))
    }

    /// Runs a process in a container; returns what it said and how it ended.
    async fn container(&mut self) -> anyhow::Result<String> {
        let mut graph = Graph::default();
        let base = graph.source(&format!("docker-image://{}", self.option("build-arg:BASE")?));
        let root = self.solve(graph.finish(&base)).await?;
        let mount = pb::Mount { dest: "/".to_owned(), result_id: root, ..Default::default() };
        let request = gateway::NewContainerRequest {
            container_id: "c".to_owned(),
            mounts: vec![mount],
            ..Default::default()
        };
        self.builder.new_container(request).await?;
        let meta = pb::Meta {
            args: ["/bin/sh", "-c", "read word; echo got $word; exit 7"]
                .map(str::to_owned)
                .to_vec(),
            env: vec!["PATH=/bin".to_owned()],
            cwd: "/".to_owned(),
            ..Default::default()
        };
        let init = gateway::InitMessage {
            container_id: "c".to_owned(),
            meta: Some(meta),
            fds: vec![0, 1, 2],
            ..Default::default()
        };
        let message =
            |input| gateway::ExecMessage { process_id: "p".to_owned(), input: Some(input) };
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        sender.send(message(Input::Init(init))).await?;
        let word = gateway::FdMessage { fd: 0, eof: false, data: "a word\n".into() };
        sender.send(message(Input::File(word))).await?;
        let requests = futures::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|message| (message, receiver))
        });
        let mut answers = self.builder.exec_process(requests).await?.into_inner();
        let mut lines = Vec::new();
        while let Some(answer) = answers.next().await {
            match answer?.input {
                Some(Input::Started(_)) => lines.push("started".to_owned()),
                Some(Input::File(file)) if !file.data.is_empty() => {
                    lines.push(String::from_utf8_lossy(&file.data).trim().to_owned());
                }
                Some(Input::Exit(exit)) => lines.push(format!("exit {}", exit.code)),
                Some(Input::Done(_)) => break,
                _ => {}
            }
        }
        drop(sender);
        let release = gateway::ReleaseContainerRequest { container_id: "c".to_owned() };
        let released = self.builder.release_container(release).await;
        lines.push(format!(
            "released {}",
            released.err().map_or(String::new(), |e| e.message().into())
        ));
        Ok(lines.join("\n"))
    }

    /// Has another image build another Dockerfile, which may name a frontend of its own.
    async fn relay(&mut self) -> anyhow::Result<()> {
        let mut options = self.options.clone();
        options.remove("cmdline");
        options.insert("source".to_owned(), self.option("build-arg:NEXT")?);
        options.insert("filename".to_owned(), self.option("build-arg:FILE")?);
        let request = gateway::SolveRequest {
            frontend: "gateway.v0".to_owned(),
            frontend_opt: options,
            allow_result_return: true,
            allow_result_array_ref: true,
            ..Default::default()
        };
        let said = match self.builder.solve(request).await {
            Ok(answer) => gateway::ReturnRequest {
                result: Some(answer.into_inner().result.context("no result")?),
                error: None,
            },
            Err(status) => {
                let status: rpc::Status = prost::Message::decode(status.details())?;
                gateway::ReturnRequest { result: None, error: Some(status) }
            }
        };
        self.builder.r#return(said).await?;
        Ok(())
    }

    /// Answers as frontends did that knew no `Return`.
    async fn give_as_long_ago(&mut self) -> anyhow::Result<()> {
        let mut graph = Graph::default();
        let file = graph.file(None, "report", b"from long ago");
        let config = r#"{"architecture":"amd64","os":"linux","config":{"Labels":{"old":"yes"}},"rootfs":{"type":"layers"}}"#;
        let config = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, config);
        let attributes = serde_json::json!({"containerimage.config": config});
        let request = gateway::SolveRequest {
            definition: Some(graph.finish(&file)),
            r#final: true,
            exporter_attr: attributes.to_string().into(),
            ..Default::default()
        };
        self.builder.solve(request).await?;
        Ok(())
    }

    async fn give_error(&mut self) -> anyhow::Result<()> {
        let dockerfile = b"# syntax=hand\nline two\nline three\n";
        let status = rpc::Status {
            code: 2,
            message: "the hand does not like line three".to_owned(),
            details: vec![place(dockerfile, 3)],
        };
        let said = gateway::ReturnRequest { result: None, error: Some(status) };
        self.builder.r#return(said).await?;
        // How it ends does not matter any more.
        anyhow::bail!("failed, as it said")
    }
}
