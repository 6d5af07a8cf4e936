//! Where files come from: the context with its ignore file, contexts by name, remote contexts.

use llb::{OpOptions, Platform, SourceOp, State};

use crate::fake::Fake;

#[tokio::test]
async fn only_what_is_used_is_asked_for() {
    let graph = Fake::new("FROM scratch AS a\nCOPY x/*.c ./y /d/\nFROM scratch\nCOPY --from=a / /\nRUN --mount=target=/m,source=z b\n")
        .file("local:context", ".dockerignore", "# c\n*.log\n!keep.log\n")
        .graph()
        .await;
    assert!(graph.contains(r#"local.followpaths=["x/*.c","y","z"]"#), "{graph}");
    assert!(graph.contains(r#"local.excludepatterns=["*.log","!keep.log"]"#), "{graph}");
    let all = Fake::new("FROM scratch\nCOPY . /\nCOPY a /\n").graph().await;
    assert!(!all.contains("followpaths"), "{all}");
}

#[tokio::test]
async fn a_dockerfile_may_have_an_ignore_file_of_its_own() {
    let (result, said) = Fake::new("x")
        .file("local:dockerfile", "sub/My", "FROM scratch\nCOPY a /\n")
        .file("local:dockerfile", "sub/My.dockerignore", "b\n")
        .option("filename", "sub/My")
        .run()
        .await;
    assert!(result.is_ok());
    assert!(!said.calls.iter().any(|call| call.contains("load .dockerignore")));
}

#[tokio::test]
async fn a_dockerfile_in_lower_case_does_as_well() {
    let fake = Fake::new("").file("local:dockerfile", "dockerfile", "FROM scratch\n");
    let fake = fake.option("filename", "sub/Dockerfile");
    let fake = fake.file("local:dockerfile", "sub/dockerfile", "FROM scratch\n");
    assert!(fake.run().await.0.is_ok());
}

#[tokio::test]
async fn contexts_by_name_take_the_place_of_images_and_stages() {
    let input = State::source(
        SourceOp { identifier: "git://example.com/in.git".to_owned(), ..SourceOp::default() },
        OpOptions::default(),
    );
    let definition = input.marshal(&Platform::new("linux", "amd64")).unwrap();
    let graph = Fake::new(
        "FROM alpine AS replaced\nRUN never\nFROM base AS b\nFROM scratch\nCOPY --from=replaced r /r\nCOPY --from=b b /b\n\
         COPY --from=dir l1 /l\nCOPY --from=dir2 l2 /l\nCOPY --from=in i /i\nCOPY --from=repo g /g\nCOPY --from=file context /f\n",
    )
    .option("context:replaced", "docker-image://alpine")
    .option("context:base", "docker-image://docker.io/library/golang:1")
    .option("context:dir", "local:mydir")
    .option("context:dir2::linux/amd64", "local:other")
    .option("sharedkey:localdir:dir", "key")
    .option("local-sessionid:other", "sid2")
    .option("context:in", "input:0-in")
    .option("context:repo", "https://example.com/r.git#v1")
    .option("context:file", "https://example.com/f")
    .input("0-in", definition)
    .file("local:mydir", ".dockerignore", "*.tmp\n")
    .file("local:other", "x", "")
    .graph()
    .await;
    insta::assert_snapshot!("named_contexts", graph);
}

#[tokio::test]
async fn a_context_may_be_a_repository() {
    let graph = Fake::new("")
        .file("git:example.com/r.git#main:sub", "Dockerfile", "FROM scratch\nCOPY a /\n")
        .option("context", "https://example.com/r.git#main:sub")
        .graph()
        .await;
    insta::assert_snapshot!("git_context", graph);
    // What the repository knows of itself comes along if the build says so, and only then.
    assert!(!graph.contains("git.keepgitdir"), "{graph}");
    let kept = Fake::new("")
        .file("git:example.com/r.git", "Dockerfile", "FROM scratch\nCOPY a /\n")
        .option("context", "https://example.com/r.git")
        .option("build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR", "1")
        .graph()
        .await;
    assert!(kept.contains("git.keepgitdir=true"), "{kept}");
}

#[tokio::test]
async fn a_context_may_be_an_archive_or_a_dockerfile() {
    let archive = Fake::new("FROM scratch\nCOPY a /\n")
        .file("https:example.com/c.tgz", "context", "BZh9...")
        .option("context", "https://example.com/c.tgz")
        .option("dockerfilekey", "dockerfile")
        .graph()
        .await;
    insta::assert_snapshot!("web_archive_context", archive);
    let single = Fake::new("")
        .file("http:buildkit-session/x", "context", "FROM alpine\nRUN a\n")
        .option("context", "http://buildkit-session/x")
        .graph()
        .await;
    assert!(single.contains("[2/2] RUN a"), "{single}");
}

#[tokio::test]
async fn the_result_of_another_build_hands_on_its_configuration() {
    let input = State::source(
        SourceOp { identifier: "git://example.com/in.git".to_owned(), ..SourceOp::default() },
        OpOptions::default(),
    );
    let definition = input.marshal(&Platform::new("linux", "amd64")).unwrap();
    // {"config":{"Env":["A=1"],"User":"u"},"architecture":"amd64","os":"linux"}
    let config = "eyJjb25maWciOnsiRW52IjpbIkE9MSJdLCJVc2VyIjoidSJ9LCJhcmNoaXRlY3R1cmUiOiJhbWQ2NCIsIm9zIjoibGludXgifQ==";
    let graph = Fake::new("FROM base\nRUN a\n")
        .option("context:base", "input:0-base")
        .option("input-metadata:0-base", &format!("{{\"containerimage.config\":\"{config}\"}}"))
        .input("0-base", definition)
        .graph()
        .await;
    insta::assert_snapshot!("input_context", graph);
}

#[tokio::test]
async fn an_image_may_come_from_a_store_of_the_clients() {
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let name = format!("docker.io/library/base@{digest}");
    let config = r#"{"architecture":"amd64","os":"linux","config":{"User":"u"},"rootfs":{"type":"layers","diff_ids":[]}}"#;
    let fake = Fake::new("FROM base\nRUN a\n")
        .option("context:base", &format!("oci-layout://store:tag@{digest}"))
        .image(&name, config);
    insta::assert_snapshot!("oci_layout_context", fake.graph().await);
}

#[tokio::test]
async fn contexts_that_cannot_be_loaded_are_named() {
    for (value, expected) in [
        ("nothing", "invalid context specifier nothing for base"),
        ("foo:bar", "unsupported context source foo for base"),
        ("input:x", "invalid input x for base"),
        ("git:x", "invalid git context git:x"),
        (
            "docker-image://Bad",
            "invalid reference format: repository name (library/Bad) must be lowercase",
        ),
        ("oci-layout://store", "oci-layout reference \"store\" has no digest"),
    ] {
        let error = Fake::new("FROM base\n").option("context:base", value).error().await;
        assert_eq!(error.message(), expected);
    }
}

#[tokio::test]
async fn how_eagerly_registries_are_asked_is_no_matter_of_contexts_by_name() {
    for mode in ["default", "pull", "local"] {
        let graph = Fake::new("FROM base\n")
            .option("context:base", "docker-image://alpine")
            .option("image-resolve-mode", mode)
            .graph()
            .await;
        assert!(
            graph.contains("[context base] alpine") && !graph.contains("resolvemode"),
            "{graph}"
        );
    }
}

#[tokio::test]
async fn a_context_by_name_has_no_time_of_its_own() {
    let config = r#"{"architecture":"amd64","os":"linux","created":"2020-01-01T00:00:00Z"}"#;
    let fake = Fake::new("FROM base\n").image("docker.io/library/old:1", config);
    let result = fake.option("context:base", "docker-image://old:1").build().await;
    for key in [bridge::keys::IMAGE_CONFIG, bridge::keys::BASE_CONFIG] {
        assert!(!String::from_utf8_lossy(&result.metadata[key]).contains("created"), "{key}");
    }
}

#[tokio::test]
async fn the_triggers_of_an_image_that_stands_for_the_wanted_stage_are_gone() {
    let config = r#"{"architecture":"amd64","os":"linux","config":{"OnBuild":["RUN a"]}}"#;
    let fake = Fake::new("FROM alpine AS base\n").image("docker.io/library/waits:1", config);
    let config = fake.option("context:base", "docker-image://waits:1").config().await;
    assert_eq!(config["config"]["OnBuild"], serde_json::Value::Null);
}

#[tokio::test]
async fn a_directory_of_a_repository_is_the_context_but_the_dockerfile_is_at_its_root() {
    let address = "https://example.com/r.git";
    let (result, said) = Fake::new("x")
        .file("git:example.com/r.git", "Dockerfile", "FROM scratch\nCOPY a /\n")
        .option("context", address)
        .option("contextsubdir", "sub")
        .run()
        .await;
    assert!(result.is_ok(), "{result:?} {:?}", said.calls);
}

#[tokio::test]
async fn repositories_that_are_added_do_not_widen_the_context_but_are_told_to_it() {
    let file = "FROM scratch\nCOPY a /\nADD git@example.com:a/b.git /x/\nADD https://example.com/c.git /y/\n";
    let graph = Fake::new(file).graph().await;
    assert!(graph.contains(r#"local.followpaths=["a","git@example.com:a/b.git"]"#), "{graph}");
}

#[tokio::test]
async fn memory_does_not_widen_the_context() {
    let file = "FROM alpine\nCOPY a /\nRUN --mount=type=tmpfs,target=/x b\n";
    let graph = Fake::new(file).graph().await;
    assert!(graph.contains(r#"local.followpaths=["a"]"#), "{graph}");
}
