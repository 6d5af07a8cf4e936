//! Frontends that are images, against a build in memory: how they are found, started, spoken to, and which
//! of the things that end them counts.

mod fake;

use bridge::{BuildError, Detail, FrontendResult, Kind, Results};
use gateway::ContainerFrontend;
use llb::{Definition, NetMode, Op, OpOptions, State};
use proto::{gateway as message, rpc};

use crate::fake::{Build, Talk};

fn returned(id: &str) -> message::ReturnRequest {
    let one = message::Ref { id: id.to_owned(), def: None };
    let result = message::Result {
        result: Some(message::result::Result::Ref(one)),
        metadata: [("k".to_owned(), "v".into())].into(),
        ..Default::default()
    };
    message::ReturnRequest { result: Some(result), error: None }
}

fn failed(text: &str) -> message::ReturnRequest {
    let error = rpc::Status { code: 2, message: text.to_owned(), details: Vec::new() };
    message::ReturnRequest { result: None, error: Some(error) }
}

/// Answers, and ends well.
async fn well(mut talk: Talk) -> u32 {
    talk.build.ping(message::PingRequest {}).await.unwrap();
    talk.build.r#return(returned("x")).await.unwrap();
    0
}

fn handle(result: &FrontendResult) -> &str {
    let Results::Single(one) = &result.results else { panic!("one result") };
    one.handle.as_str()
}

fn told(result: Result<FrontendResult, BuildError>) -> String {
    result.unwrap_err().message().to_owned()
}

#[tokio::test]
async fn a_frontend_is_run_as_its_image_says() {
    let config = r#"{"Entrypoint":["/f","-x"],"Cmd":["never"],"User":"nobody","Env":["A=b"],"WorkingDir":"/w","Labels":{"moby.buildkit.frontend.network.none":"true"}}"#;
    let build = Build::new(config, well);
    let result = build.run(&[("target", "t=u")], &[]).await.unwrap();
    assert_eq!((handle(&result), &*result.metadata["k"]), ("x", &b"v"[..]));
    let seen = build.seen();
    let [process] = &seen.processes[..] else { panic!("one process") };
    assert_eq!((process.args.join(" "), &*process.cwd, &*process.user), ("/f -x".into(), "/w", ""));
    assert!(process.env.contains(&"A=b".to_owned()));
    let options: Vec<_> =
        process.env.iter().filter(|v| v.starts_with("BUILDKIT_FRONTEND")).collect();
    assert_eq!(
        options,
        [
            "BUILDKIT_FRONTEND_OPT_0=source=example.com/frontend:1",
            "BUILDKIT_FRONTEND_OPT_1=target=t=u"
        ]
    );
    assert!(process.env.contains(&"BUILDKIT_SESSION_ID=sid".to_owned()));
    let workers = process.env.iter().find_map(|v| v.strip_prefix("BUILDKIT_WORKERS=")).unwrap();
    let workers: serde_json::Value = serde_json::from_str(workers).unwrap();
    assert_eq!(workers[0]["platforms"][0]["architecture"], "amd64");
    let [container] = &seen.containers[..] else { panic!("one container") };
    assert_eq!((container.network, seen.released), (NetMode::None, 1));
    assert!(container.mounts[0].mount.is_root() && !container.mounts[0].mount.readonly);
    let [(path, definition)] = &container.files[..] else { panic!("one file") };
    assert_eq!(path, "/run/config/buildkit/metadata/frontend.bin");
    let graph = Definition::from_bytes(definition.clone()).unwrap().load().unwrap();
    let Op::Source(source) = &graph.vertices[0].op else { panic!("a source") };
    assert!(source.identifier.starts_with("docker-image://example.com/frontend:1@sha256:"));
    assert_eq!(source.attribute("image.recordtype"), Some("frontend"));
}

#[tokio::test]
async fn an_image_that_says_nothing_runs_its_default() {
    let build = Build::new("{}", well);
    build.run(&[], &[]).await.unwrap();
    let seen = build.seen();
    assert_eq!(
        (&*seen.processes[0].args, &*seen.processes[0].cwd),
        (&["/run".to_owned()][..], "/")
    );
    assert_eq!(seen.containers[0].network, NetMode::Sandbox);
}

#[tokio::test]
async fn questions_are_answered_by_the_build() {
    let build = Build::new(
        "{\"Labels\":{\"moby.buildkit.frontend.caps\":\"moby.buildkit.frontend.inputs\"}}",
        |mut talk| async move {
            let inputs = talk.build.inputs(message::InputsRequest {}).await.unwrap().into_inner();
            assert_eq!(inputs.definitions.keys().collect::<Vec<_>>(), ["given"]);
            let nested = message::SolveRequest {
                frontend: "dockerfile.v0".to_owned(),
                allow_result_return: true,
                allow_result_array_ref: true,
                ..Default::default()
            };
            let answer = talk.build.solve(nested).await.unwrap().into_inner().result.unwrap();
            let Some(message::result::Result::Ref(one)) = answer.result else { panic!("one") };
            let read = message::ReadFileRequest {
                r#ref: one.id.clone(),
                file_path: "/f".to_owned(),
                ..Default::default()
            };
            assert_eq!(talk.build.read_file(read).await.unwrap().into_inner().data, "content of f");
            talk.build.r#return(returned(&one.id)).await.unwrap();
            0
        },
    );
    let graph = State::image("docker.io/library/x:1", Default::default(), OpOptions::default());
    let graph = graph.marshal(&llb::Platform::default()).unwrap();
    let result = build.run(&[], &[("given", graph)]).await.unwrap();
    assert_eq!(handle(&result), "r2");
    assert_eq!(build.said().solved[1].frontend, "dockerfile.v0");
}

#[tokio::test]
async fn an_error_goes_before_the_end_and_the_end_before_a_result() {
    let both = |said: fn() -> Option<message::ReturnRequest>, code: u32| {
        let build = Build::new("{}", move |mut talk: Talk| async move {
            if let Some(said) = said() {
                talk.build.r#return(said).await.unwrap();
            }
            talk.stderr.send("oh\n".into()).await.unwrap();
            code
        });
        async move { build.run(&[], &[]).await }
    };
    assert_eq!(told(both(|| Some(failed("its own")), 0).await), "its own");
    assert_eq!(told(both(|| Some(failed("its own")), 3).await), "its own");
    let error = both(|| Some(returned("x")), 3).await.unwrap_err();
    assert!(error.message().ends_with("exit code: 3: oh"), "{error}");
    assert!(error.details().contains(&Detail::Exit(3)));
    let named = |detail: &Detail| matches!(detail, Detail::Frontend { name, source } if name == "gateway.v0" && source == "example.com/frontend:1");
    assert!(error.details().iter().any(named), "{error:?}");
    assert!(both(|| Some(returned("x")), 0).await.is_ok());
    assert!(told(both(|| None, 0).await).starts_with("no result for incomplete build"));
    assert!(told(both(|| None, 2).await).ends_with("exit code: 2: oh"));
}

#[tokio::test]
async fn who_hangs_up_without_an_answer_is_ended() {
    let build = Build::new("{}", |mut talk: Talk| async move {
        talk.build.ping(message::PingRequest {}).await.unwrap();
        drop(talk);
        std::future::pending().await
    });
    let text = told(build.run(&[], &[]).await);
    assert!(text.starts_with("frontend grpc server closed unexpectedly"), "{text}");
    // With an answer it may take its time.
    let build = Build::new("{}", |mut talk: Talk| async move {
        talk.build.r#return(returned("x")).await.unwrap();
        drop(talk);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        0
    });
    assert_eq!(handle(&build.run(&[], &[]).await.unwrap()), "x");
}

#[tokio::test]
async fn frontends_of_long_ago_end_with_a_last_graph() {
    let build = Build::new("{}", |mut talk: Talk| async move {
        let graph = State::image("docker.io/library/x:1", Default::default(), OpOptions::default());
        let graph = graph.marshal(&llb::Platform::default()).unwrap();
        let last = message::SolveRequest {
            definition: Some(graph.to_wire()),
            r#final: true,
            exporter_attr: r#"{"containerimage.config":"e30="}"#.into(),
            ..Default::default()
        };
        talk.build.solve(last).await.unwrap();
        0
    });
    let result = build.run(&[], &[]).await.unwrap();
    assert_eq!(handle(&result), "r2");
    assert_eq!(result.metadata["containerimage.config"], "{}");
}

#[tokio::test]
async fn something_else_may_stand_in_the_place_of_an_image() {
    let build = Build::new("{}", well);
    let name = "context:example.com/frontend:1";
    build.run(&[(name, "docker-image://example.com/other:1")], &[]).await.unwrap();
    assert_eq!(build.said().resolved[0].identifier, "docker-image://example.com/other:1");

    let build = Build::new("{}", well);
    let layout = format!("oci-layout://store:latest@sha256:{}", "1".repeat(64));
    build.run(&[(name, &layout)], &[]).await.unwrap();
    let asked = &build.said().resolved[0];
    assert_eq!(
        (&*asked.attributes["oci.store"], &*asked.attributes["oci.session"]),
        ("store", "sid")
    );

    let build = Build::new("{}", well);
    let platform = format!("{name}::linux/amd64");
    build.run(&[(&platform, "local:tree"), (name, "docker-image://no")], &[]).await.unwrap();
    let graph = build.said().solved[0].definition.clone().unwrap().load().unwrap();
    let Op::Source(source) = &graph.vertices[0].op else { panic!("a source") };
    assert_eq!(source.identifier, "local://tree");

    let given = State::image("docker.io/library/x:1", Default::default(), OpOptions::default());
    let given = given.marshal(&llb::Platform::default()).unwrap();
    let caps = r#"{"config":{"Entrypoint":["/given"],"Labels":{"moby.buildkit.frontend.caps":"moby.buildkit.frontend.inputs"}}}"#;
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, caps);
    let metadata = serde_json::json!({"containerimage.config": encoded}).to_string();
    let build = Build::new("{}", well);
    let options = [(name, "input:i"), ("input-metadata:i", metadata.as_str())];
    build.run(&options, &[("i", given)]).await.unwrap();
    assert_eq!(build.seen().processes[0].args, ["/given"]);

    let build = Build::new("{}", well);
    let text = told(build.run(&[(name, "https://example.com/x")], &[]).await);
    assert!(text.contains("no frontend can be run"), "{text}");
    let text = told(build.run(&[(name, "input:missing")], &[]).await);
    assert!(text.contains("`missing`, which is not given"), "{text}");
}

#[tokio::test]
async fn what_may_not_be_run_is_not_run() {
    let build = Build::new("{}", well);
    let frontend = || ContainerFrontend::new(vec!["example.com/allowed".to_owned()]);
    let error = build.run_with(frontend(), &[], &[]).await.unwrap_err();
    assert_eq!(error.message(), "'example.com/frontend:1' is not an allowed gateway source");
    let allowed = ContainerFrontend::new(vec!["example.com/frontend".to_owned()]);
    build.run_with(allowed, &[], &[]).await.unwrap();
    assert!(told(build.run(&[("gateway-devel", "")], &[]).await).contains("no longer supported"));
    assert!(told(build.run(&[("source", "")], &[]).await).contains("no source specified"));
    assert!(told(build.run(&[("source", "A b")], &[]).await).contains("invalid reference"));
    let error = build.run(&[("frontend.caps", "c+forward")], &[]).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (Kind::Unsupported, "unsupported frontend capability c")
    );
    let error = build.run(&[("source", "example.com/missing")], &[]).await.unwrap_err();
    assert!(error.message().contains("not found"));
}
