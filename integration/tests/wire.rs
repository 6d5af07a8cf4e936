//! The protocol itself, spoken without somebody else's client: what every answer has in it, and what is said
//! to questions that make no sense.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Context as _;
use futures::future::{join_all, try_join_all};
use integration::{Backend, Buildx, Graph, Launch, MESSAGE_LIMIT, Project, Settings, Wire, World};
use prost::Message as _;
use proto::control::{
    BuildHistoryRequest, CacheOptions, DiskUsageRequest, InfoRequest, ListWorkersRequest,
    PruneRequest, SolveRequest, StatusRequest,
};
use proto::{gateway, pb};
use tonic::Code;

/// Returns a build of a definition.
fn solve(name: &str, definition: pb::Definition) -> SolveRequest {
    SolveRequest {
        r#ref: name.to_owned(),
        definition: Some(definition),
        cache: Some(CacheOptions::default()),
        ..SolveRequest::default()
    }
}

/// Runs a conversation with a daemon of its own.
fn converse<F: Future<Output = anyhow::Result<()>>>(
    conversation: impl FnOnce(Wire) -> F,
) -> anyhow::Result<()> {
    let backend = Backend::start(&Settings::read()?, Launch::default())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async { conversation(Wire::connect(&backend.address()).await?).await })
}

#[test]
fn a_worker_says_what_it_can() -> anyhow::Result<()> {
    converse(async |wire| {
        let workers = wire.control().list_workers(ListWorkersRequest::default()).await?;
        let workers = workers.into_inner().record;
        assert_eq!(workers.len(), 1);
        assert!(!workers[0].id.is_empty());
        assert!(workers[0].platforms.iter().any(|platform| platform.os == "linux"));
        assert!(!workers[0].gc_policy.is_empty(), "the disk is bounded");
        let info = wire.control().info(InfoRequest::default()).await?.into_inner();
        assert!(!info.buildkit_version.context("a version")?.version.is_empty());
        Ok(())
    })
}

#[test]
fn capabilities_are_told_to_a_build_that_has_not_arrived_yet() -> anyhow::Result<()> {
    converse(async |wire| {
        let mut bridge = wire.bridge("early")?;
        let ping = bridge.ping(gateway::PingRequest::default());
        let mut control = wire.control();
        let build = SolveRequest {
            r#ref: "early".to_owned(),
            cache: Some(CacheOptions::default()),
            internal: true,
            ..SolveRequest::default()
        };
        let talk = async {
            let pong = ping.await?.into_inner();
            let ids = |caps: &[proto::apicaps::ApiCap]| {
                caps.iter().filter(|cap| cap.enabled).map(|cap| cap.id.clone()).collect::<Vec<_>>()
            };
            let frontend = ids(&pong.frontend_api_caps);
            let graph = ids(&pong.llb_caps);
            for wanted in ["solve.base", "return", "readfile", "gateway.evaluate"] {
                assert!(frontend.iter().any(|id| id == wanted), "{wanted} in {frontend:?}");
            }
            for wanted in ["source.image", "exec.meta.base", "file.base", "mergeop", "diffop"] {
                assert!(graph.iter().any(|id| id == wanted), "{wanted} in {graph:?}");
            }
            assert!(!pong.workers.is_empty());
            let result = gateway::Result {
                result: Some(gateway::result::Result::Ref(gateway::Ref::default())),
                ..gateway::Result::default()
            };
            let done = gateway::ReturnRequest { result: Some(result), error: None };
            wire.bridge("early")?.r#return(done).await?;
            anyhow::Ok(())
        };
        let (talk, solved) = tokio::join!(talk, control.solve(build));
        talk?;
        assert!(solved?.into_inner().exporter_response.is_empty());
        Ok(())
    })
}

#[test]
fn a_definition_is_built_and_shown() -> anyhow::Result<()> {
    converse(async |wire| {
        let mut graph = Graph::default();
        let one = graph.file(None, "/one", b"1");
        let two = graph.file(Some(&one), "/two", b"2");
        let definition = graph.finish(&two);
        let mut control = wire.control();
        let status = StatusRequest { r#ref: "shown".to_owned() };
        let shown = async {
            let mut stream = wire.control().status(status).await?;
            let header = stream.metadata().get("buildkit-current-timestamp").cloned();
            assert!(header.is_some(), "the daemon's time is in the header");
            let mut completed = BTreeMap::new();
            while let Some(part) = stream.get_mut().message().await? {
                for vertex in part.vertexes {
                    completed.insert(vertex.digest.clone(), vertex.completed.is_some());
                }
            }
            anyhow::Ok(completed)
        };
        let (shown, solved) = tokio::join!(shown, control.solve(solve("shown", definition)));
        solved?;
        let shown = shown?;
        assert_eq!(shown.get(&one), Some(&true), "{shown:?}");
        assert_eq!(shown.get(&two), Some(&true), "{shown:?}");
        Ok(())
    })
}

#[test]
fn files_of_a_result_are_read_through_the_bridge() -> anyhow::Result<()> {
    converse(async |wire| {
        let mut control = wire.control();
        let build = SolveRequest {
            r#ref: "reads".to_owned(),
            cache: Some(CacheOptions::default()),
            ..SolveRequest::default()
        };
        let talk = async {
            let mut bridge = wire.bridge("reads")?;
            bridge.ping(gateway::PingRequest::default()).await?;
            let big = vec![b'x'; 10 << 20];
            let mut graph = Graph::default();
            let small = graph.file(None, "/small", b"hello");
            let large = graph.file(Some(&small), "/large", &big);
            let request = gateway::SolveRequest {
                definition: Some(graph.finish(&large)),
                allow_result_return: true,
                allow_result_array_ref: true,
                ..gateway::SolveRequest::default()
            };
            let solved = bridge.solve(request).await?.into_inner();
            let result = solved.result.and_then(|result| result.result);
            let Some(gateway::result::Result::Ref(reference)) = result else {
                anyhow::bail!("no single reference: {result:?}");
            };
            assert!(reference.def.is_some(), "the reference comes with its definition");
            let read = |path: &str| gateway::ReadFileRequest {
                r#ref: reference.id.clone(),
                file_path: path.to_owned(),
                ..gateway::ReadFileRequest::default()
            };
            let data = bridge.read_file(read("/small")).await?.into_inner().data;
            assert_eq!(&data[..], b"hello");
            let data = bridge.read_file(read("large")).await?.into_inner().data;
            assert!(data == big, "ten megabytes come in one message");
            for outside in ["/../../etc/passwd", "/absent"] {
                let error = bridge.read_file(read(outside)).await.unwrap_err();
                assert!(error.message().contains("no such file or directory"), "{error:?}");
            }
            let listed = bridge
                .read_dir(gateway::ReadDirRequest {
                    r#ref: reference.id.clone(),
                    dir_path: "/".to_owned(),
                    ..gateway::ReadDirRequest::default()
                })
                .await?
                .into_inner();
            let names: Vec<_> = listed.entries.iter().map(|entry| entry.path.as_str()).collect();
            assert_eq!(names, ["large", "small"]);
            let result = gateway::Result {
                result: Some(gateway::result::Result::Ref(reference)),
                ..gateway::Result::default()
            };
            bridge.r#return(gateway::ReturnRequest { result: Some(result), error: None }).await?;
            anyhow::Ok(())
        };
        let (talk, solved) = tokio::join!(talk, control.solve(build));
        talk?;
        solved?;
        Ok(())
    })
}

#[test]
fn questions_about_nothing_are_answered() -> anyhow::Result<()> {
    converse(async |wire| {
        let error = match wire.control().status(StatusRequest { r#ref: "nobody".to_owned() }).await
        {
            Err(error) => error,
            Ok(mut stream) => stream.get_mut().message().await.unwrap_err(),
        };
        assert!(error.message().contains("nobody"), "{error:?}");
        let error = wire.bridge("nobody")?.ping(gateway::PingRequest::default()).await.unwrap_err();
        assert_eq!(error.code(), Code::NotFound, "{error:?}");
        let error = wire.control().solve(SolveRequest::default()).await.unwrap_err();
        assert!(!error.message().is_empty());
        let usage = wire.control().disk_usage(DiskUsageRequest::default()).await?.into_inner();
        assert!(usage.record.is_empty());
        let mut pruned = wire.control().prune(PruneRequest::default()).await?;
        assert!(pruned.get_mut().message().await?.is_none());
        let listen = BuildHistoryRequest { early_exit: true, ..BuildHistoryRequest::default() };
        let mut history = wire.control().listen_build_history(listen).await?;
        assert!(history.get_mut().message().await?.is_none());
        Ok(())
    })
}

#[test]
fn a_definition_that_makes_no_sense_is_refused() -> anyhow::Result<()> {
    converse(async |wire| {
        let mut good = Graph::default();
        let file = good.file(None, "/file", b"x");
        let bytes = |bytes: &'static [u8]| pb::Definition {
            def: vec![bytes.into()],
            ..pb::Definition::default()
        };
        let missing = Graph::default().finish(&format!("sha256:{}", "0".repeat(64)));
        let named_wrongly = Graph::default().finish("not a digest");
        let mut unknown = Graph::default();
        let nothing = unknown.add_message(&pb::Op::default());
        let mut source = Graph::default();
        let strange = source.source("carrier-pigeon://coop");
        let wrong_output = pb::Op {
            inputs: vec![pb::Input { digest: file.clone(), index: 7 }],
            ..pb::Op::default()
        };
        let pb::Definition { def: mut without_end, .. } = good.clone().finish(&file);
        without_end.pop();
        let beyond = pb::Definition {
            def: without_end.into_iter().chain([wrong_output.encode_to_vec().into()]).collect(),
            ..pb::Definition::default()
        };
        let cases = [
            ("garbage", bytes(b"\xff\xff\xff\xff garbage")),
            ("missing input", missing),
            ("no digest", named_wrongly),
            ("no operation", unknown.finish(&nothing)),
            ("unknown source", source.finish(&strange)),
            ("no such output", beyond),
        ];
        for (name, definition) in cases {
            let name = name.replace(' ', "-");
            let error = wire.control().solve(solve(&name, definition)).await;
            let error = error.err().with_context(|| format!("`{name}` was built"))?;
            assert!(!error.message().is_empty() && error.code() != Code::Internal, "{error:?}");
        }
        let empty = wire.control().solve(solve("empty", pb::Definition::default())).await;
        drop(empty);
        // It still builds what makes sense.
        wire.control().solve(solve("good", good.finish(&file))).await?;
        Ok(())
    })
}

#[test]
fn a_path_that_climbs_out_stays_inside() -> anyhow::Result<()> {
    let world = World::start()?;
    let beside = "escaped-from-a-build";
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let wire = Wire::connect(&world.backend.address()).await?;
        for (number, path) in
            ["/../../../../tmp/escaped-from-a-build", "../../tmp/escaped-from-a-build"]
                .iter()
                .enumerate()
        {
            let mut graph = Graph::default();
            let file = graph.file(None, path, b"x");
            // Refused, or written inside: both are right.
            let _ =
                wire.control().solve(solve(&format!("climb-{number}"), graph.finish(&file))).await;
        }
        anyhow::Ok(())
    })?;
    assert!(!std::env::temp_dir().join(beside).exists());
    Ok(())
}

#[test]
fn a_message_may_be_large_but_not_too_large() -> anyhow::Result<()> {
    converse(async |wire| {
        let mut graph = Graph::default();
        let file = graph.file(None, "/large", &vec![b'x'; MESSAGE_LIMIT - (64 << 10)]);
        wire.control().solve(solve("large", graph.finish(&file))).await?;
        let mut graph = Graph::default();
        let file = graph.file(None, "/larger", &vec![b'x'; MESSAGE_LIMIT + 1]);
        let mut control = wire.control().max_encoding_message_size(2 * MESSAGE_LIMIT);
        let error = control.solve(solve("larger", graph.finish(&file))).await.unwrap_err();
        assert!(!error.message().is_empty());
        wire.control().info(InfoRequest::default()).await?;
        Ok(())
    })
}

#[test]
fn many_builds_on_one_connection_are_answered_each() -> anyhow::Result<()> {
    converse(async |wire| {
        let builds = (0..100).map(|number| {
            let wire = wire.clone();
            async move {
                let mut graph = Graph::default();
                // Ten different graphs, ten times each.
                let file = graph.file(None, "/file", format!("{}", number % 10).as_bytes());
                wire.control().solve(solve(&format!("build-{number}"), graph.finish(&file))).await
            }
        });
        try_join_all(builds).await?;
        let twice = (0..2).map(|_| {
            let wire = wire.clone();
            async move {
                let build = SolveRequest { r#ref: "twice".to_owned(), ..SolveRequest::default() };
                tokio::select! {
                    answer = async { wire.control().solve(build).await } => answer.err(),
                    other = async { wire.bridge("twice").ok()?.ping(gateway::PingRequest::default()).await.err() } => other,
                }
            }
        });
        drop(join_all(twice).await);
        Ok(())
    })
}

#[test]
fn other_libraries_graphs_run_too() -> anyhow::Result<()> {
    let world = World::start()?;
    let image = world.fill("docker-image://{busybox}:latest");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let wire = Wire::connect(&world.backend.address()).await?;
        let mut graph = Graph::default();
        let base = graph.source(&image);
        let one = graph.run(&base, "echo one > /one");
        let two = graph.run(&base, "echo two > /two");
        let input = |number| pb::MergeInput { input: number };
        let merge = pb::op::Op::Merge(pb::MergeOp { inputs: vec![input(0), input(1)] });
        let merged = graph.add(merge, &[&one, &two]);
        let diff = pb::op::Op::Diff(pb::DiffOp {
            lower: Some(pb::LowerDiffInput { input: 0 }),
            upper: Some(pb::UpperDiffInput { input: 1 }),
        });
        let changes = graph.add(diff, &[&base, &merged]);
        let merge = pb::op::Op::Merge(pb::MergeOp { inputs: vec![input(0), input(1)] });
        let again = graph.add(merge, &[&base, &changes]);
        let checked = graph.run(&again, "test \"$(cat /one /two)\" = \"$(printf 'one\\ntwo')\"");
        wire.control().solve(solve("merged", graph.finish(&checked))).await?;
        let mut graph = Graph::default();
        let base = graph.source(&image);
        let failed = graph.run(&base, "exit 7");
        let error = wire.control().solve(solve("fails", graph.finish(&failed))).await.unwrap_err();
        assert!(error.message().contains("exit code: 7"), "{error:?}");
        anyhow::Ok(())
    })
}

#[test]
fn a_daemon_with_certificates_takes_its_clients_only() -> anyhow::Result<()> {
    let folder = tempfile::TempDir::new()?;
    let issuer_key = rcgen::KeyPair::generate()?;
    let mut authority = rcgen::CertificateParams::new(Vec::<String>::new())?;
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&issuer_key)?;
    let issuer = rcgen::Issuer::new(authority, issuer_key);
    let write = |name: &str, text: String| fs::write(folder.path().join(name), text);
    write("ca.pem", authority_certificate.pem())?;
    for (name, host) in [("server", "127.0.0.1"), ("client", "client")] {
        let key = rcgen::KeyPair::generate()?;
        let parameters = rcgen::CertificateParams::new(vec![host.to_owned()])?;
        write(&format!("{name}.pem"), parameters.signed_by(&key, &issuer)?.pem())?;
        write(&format!("{name}.key"), key.serialize_pem())?;
    }
    let path = |name: &str| folder.path().join(name).display().to_string();
    let settings = Settings::read()?;
    // The port is free when it is given back, and nobody else was told of it.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let address = format!("tcp://127.0.0.1:{port}");
    let flags = [
        ("--addr", address.clone()),
        ("--tlscacert", path("ca.pem")),
        ("--tlscert", path("server.pem")),
        ("--tlskey", path("server.key")),
    ];
    let flags = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
    let backend = Backend::start(&settings, Launch { flags, ..Launch::default() })?;
    let options = [
        format!("cacert={}", path("ca.pem")),
        format!("cert={}", path("client.pem")),
        format!("key={}", path("client.key")),
        "servername=127.0.0.1".to_owned(),
    ];
    let client = Buildx::connect_with(&settings, &address, &options)?;
    let project = Project::new("FROM scratch\nCOPY file /\n")?.with("file", "x")?;
    client.build(&project).succeed()?;
    let stranger = Buildx::connect_with(&settings, &address, &options[..1])?;
    stranger.build(&project).fail()?;
    client.build(&project).succeed()?;
    if let Backend::Larder(daemon) = &backend {
        daemon.allow("tls");
        daemon.allow("TLS");
    }
    Ok(())
}
