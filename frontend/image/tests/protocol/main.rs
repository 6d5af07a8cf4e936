//! The frontend and a builder at the two ends of a pipe: what is asked, what is given back, and what is
//! left out where the builder cannot do it.

mod builder;

use llb::{Definition, Op};
use proto::gateway::result::Result as Refs;

use crate::builder::{Builder, Said};

/// Returns the names of the steps of the graph that was given back.
fn steps(said: &Said) -> Vec<String> {
    let Some(Refs::Ref(reference)) = &said.result().result else { panic!("one reference") };
    assert!(!reference.id.is_empty());
    let graph = Definition::from_wire(reference.def.clone().expect("a graph")).expect("a graph");
    graph.load().expect("a graph").vertices.iter().map(|vertex| vertex.name.clone()).collect()
}

#[tokio::test]
async fn a_dockerfile_becomes_a_result() {
    let said = Builder::new("FROM alpine\nRUN true\n").answered().await;
    assert!(steps(&said).iter().any(|step| step == "[2/2] RUN true"), "{:?}", steps(&said));
    let config = &said.result().metadata["containerimage.config"];
    let config: serde_json::Value = serde_json::from_slice(config).unwrap();
    assert_eq!(config["history"].as_array().unwrap().len(), 2);
    assert!(said.result().metadata.contains_key("refs.platforms"));
    assert_eq!(said.calls.first().map(String::as_str), Some("ping"));
    // Files of the client are asked for in the name of its session.
    let first = said.solved[0].definition.clone().unwrap();
    let graph = Definition::from_wire(first).unwrap().load().unwrap();
    let Op::Source(source) = &graph.vertices[0].op else { panic!("a source") };
    assert_eq!(source.attribute("local.session"), Some("session"));
}

#[tokio::test]
async fn options_and_inputs_are_those_of_the_build() {
    let graph = llb::State::image("docker.io/library/x:1", Default::default(), Default::default());
    let graph = graph.marshal(&llb::Platform::default()).unwrap();
    let said = Builder::new("FROM a AS one\nRUN one\nFROM b AS two\nRUN two\n")
        .option("target", "one")
        .option("context:a", "input:given")
        .input("given", graph.to_wire())
        .answered()
        .await;
    let steps = steps(&said);
    assert!(steps.iter().any(|step| step.ends_with("RUN one")), "{steps:?}");
    assert!(!steps.iter().any(|step| step.ends_with("RUN two")), "{steps:?}");
    assert_eq!(said.count("resolve_source_meta"), 0, "the base is given");
}

#[tokio::test]
async fn several_platforms_are_given_back_by_their_names() {
    let said = Builder::new("FROM alpine\nRUN true\n")
        .option("platform", "linux/amd64,linux/arm64")
        .answered()
        .await;
    let Some(Refs::Refs(map)) = &said.result().result else { panic!("several references") };
    assert_eq!(map.refs.keys().collect::<Vec<_>>(), ["linux/amd64", "linux/arm64"]);
}

#[tokio::test]
async fn an_error_names_the_line() {
    let said = Builder::new("FROM alpine\nRNU true\n").answered().await;
    let error = said.error();
    assert_eq!(error.code, 2);
    assert!(error.message.contains("unknown instruction: RNU"), "{}", error.message);
    let details: Vec<_> = error.details.iter().map(|one| one.type_url.as_str()).collect();
    assert!(details.contains(&"github.com/moby/buildkit/errdefs.Source+json"), "{details:?}");
    let source = error.details.iter().find(|one| one.type_url.ends_with("Source+json")).unwrap();
    assert!(String::from_utf8_lossy(&source.value).contains(r#""start":{"line":2}"#));
}

#[tokio::test]
async fn an_error_of_the_builder_gets_its_line() {
    let said = Builder::new("FROM alpine AS a\n\nFROM missing\n").answered().await;
    let error = said.error();
    assert!(error.message.contains("missing:latest: not found"), "{}", error.message);
    let source = error.details.iter().find(|one| one.type_url.ends_with("Source+json"));
    let source = String::from_utf8_lossy(&source.expect("a place").value).into_owned();
    assert!(source.contains(r#""start":{"line":3}"#), "{source}");
}

#[tokio::test]
async fn subrequests_are_answered_in_metadata() {
    let said = Builder::new("FROM alpine\nrun true\n")
        .option("requestid", "frontend.lint")
        .answered()
        .await;
    let result = said.result();
    assert_eq!(result.result, Some(Refs::Ref(Default::default())));
    let json = String::from_utf8_lossy(&result.metadata["result.json"]).into_owned();
    assert!(json.contains("ConsistentInstructionCasing"), "{json}");
    let unknown = Builder::new("FROM alpine\n").option("requestid", "x").answered().await;
    assert!(unknown.error().message.contains("unsupported request x"));
}

#[tokio::test]
async fn warnings_are_told_to_those_who_listen() {
    let dockerfile = "FROM alpine\nrun true\n";
    let said = Builder::new(dockerfile).answered().await;
    assert_eq!(said.warned.len(), 1);
    assert_eq!(said.warned[0].info.as_ref().map(|info| &*info.filename), Some("Dockerfile"));
    let said = Builder::new(dockerfile).without("gateway.warnings").answered().await;
    assert_eq!((said.count("warn"), said.returned.is_some()), (0, true));
}

#[tokio::test]
async fn older_builders_are_asked_in_their_way() {
    let said =
        Builder::new("FROM alpine\nRUN true\n").without("source.metaresolver").answered().await;
    assert_eq!((said.count("resolve_source_meta"), said.count("resolve_image_config")), (0, 1));
    assert!(steps(&said).iter().any(|step| step.contains(&"2".repeat(64))), "{:?}", steps(&said));
    let said = Builder::new("FROM alpine\n").without("frontend.inputs").answered().await;
    assert_eq!(said.count("inputs"), 0);
    let said = Builder::new("FROM alpine\nRUN true\n").without("proto.refarray").answered().await;
    assert!(matches!(&said.result().result, Some(Refs::RefDeprecated(id)) if !id.is_empty()));
    let said = Builder::new("FROM alpine\n")
        .without("importcaches")
        .option("cache-imports", r#"[{"Type":"registry","Attrs":{"ref":"x/y"}}]"#)
        .answered()
        .await;
    assert!(said.solved.iter().all(|one| one.cache_imports.is_empty()));
}

#[tokio::test]
async fn trees_are_evaluated_in_the_way_that_the_builder_knows() {
    // Files that are ignored in a named context are read at once.
    let named = |builder: Builder| {
        builder.option("context:c", "local:c").option("frontend.caps", "").answered()
    };
    let dockerfile = "FROM scratch\nCOPY --from=c a a\n";
    let said = named(Builder::new(dockerfile)).await;
    assert!(said.solved.iter().any(|one| one.evaluate));
    let older = Builder::new(dockerfile).without("gateway.solve.evaluate");
    let said = named(older).await;
    assert!(said.solved.iter().all(|one| !one.evaluate));
    assert_eq!(said.count("evaluate"), 1);
    let oldest =
        Builder::new(dockerfile).without("gateway.solve.evaluate").without("gateway.evaluate");
    assert_eq!(named(oldest).await.count("stat_file"), 1);
}

#[tokio::test]
async fn a_link_is_a_copy_where_trees_cannot_be_merged() {
    let dockerfile = "FROM alpine\nCOPY --link a /a\n";
    let said = Builder::new(dockerfile).answered().await;
    assert!(steps(&said).iter().any(|step| step.contains("LINK")), "{:?}", steps(&said));
    let said = Builder::new(dockerfile).without("mergeop").answered().await;
    assert!(!steps(&said).iter().any(|step| step.contains("LINK")), "{:?}", steps(&said));
}

#[tokio::test]
async fn a_feature_that_the_builder_lacks_is_named() {
    let said = Builder::new("FROM alpine\nRUN --mount=type=secret,id=s true\n")
        .without("exec.mount.secret")
        .answered()
        .await;
    let text = "requested feature exec.mount.secret is not supported by the build server";
    assert!(said.error().message.contains(text), "{}", said.error().message);
}

#[tokio::test]
async fn a_builder_that_cannot_take_an_answer_is_told_on_standard_error() {
    for (builder, text) in [
        (Builder::new("FROM alpine\n").without_lists(), "too old"),
        (Builder::new("FROM alpine\n").without("return"), "feature return is not supported"),
    ] {
        let (outcome, said) = builder.run().await;
        assert!(outcome.unwrap_err().to_string().contains(text));
        assert!(said.returned.is_none());
    }
}

#[test]
fn the_image_says_what_the_frontend_can_do() {
    let dockerfile = include_str!("../../Dockerfile");
    let label = format!("moby.buildkit.frontend.caps=\"{}\"", dockerfile::CAPABILITIES.join(","));
    assert!(dockerfile.contains(&label), "{label}");
}
