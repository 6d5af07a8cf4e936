//! What the frontend asks of a build, and what clients may ask of the frontend in place of a build.

use serde_json::{Value, json};

use crate::fake::Fake;

#[tokio::test]
async fn a_plain_build_asks_in_this_order() {
    let (result, said) = Fake::new("FROM alpine\nCOPY a b\n").run().await;
    assert!(result.is_ok());
    let expected = [
        "solve [internal] load build definition from Dockerfile",
        "read local:dockerfile Dockerfile",
        "read local:dockerfile Dockerfile.dockerignore",
        "resolve docker-image://docker.io/library/alpine:latest linux/amd64 ([internal] load metadata for docker.io/library/alpine:latest)",
        "solve [internal] load .dockerignore",
        "read local:context .dockerignore",
        "solve [2/2] COPY a b",
    ];
    assert_eq!(said.calls, expected);
}

#[tokio::test]
async fn a_syntax_directive_hands_the_build_over() {
    let fake = Fake::new("# syntax=a/b:1 x\nFROM alpine\n").option("target", "t");
    let (result, said) = fake.run().await;
    assert!(result.is_ok());
    let forwarded = said.forwarded().unwrap();
    assert_eq!(forwarded.frontend, "gateway.v0");
    assert_eq!(forwarded.options["source"], "a/b:1");
    assert_eq!(forwarded.options["cmdline"], "a/b:1 x");
    assert_eq!(forwarded.options["target"], "t");
    let fake = Fake::new("FROM alpine\n").option("build-arg:BUILDKIT_SYNTAX", "c");
    assert_eq!(fake.run().await.1.forwarded().unwrap().options["source"], "c");
    // The image that was asked for runs this very frontend.
    let fake = Fake::new("# syntax=a\nFROM alpine\n").option("cmdline", "a");
    assert!(fake.run().await.1.forwarded().is_none());
}

async fn ask(id: &str, dockerfile: &str) -> (Value, String) {
    let result = Fake::new(dockerfile).option("requestid", id).build().await;
    assert!(matches!(result.results, bridge::Results::None));
    assert_eq!(result.metadata["version"], "1.0.0");
    let json = serde_json::from_slice(&result.metadata["result.json"]).unwrap();
    (json, String::from_utf8(result.metadata["result.txt"].to_vec()).unwrap())
}

#[tokio::test]
async fn targets_are_listed() {
    let (json, text) =
        ask("frontend.targets", "# a the first\nFROM alpine AS a\nFROM --platform=linux/386 a\n")
            .await;
    assert_eq!(text, "TARGET    DESCRIPTION\na         the first\n(default) \n");
    assert_eq!(json["targets"][0]["description"], json!("the first"));
    assert_eq!(json["targets"][1]["platform"], json!("linux/386"));
    assert_eq!(json["targets"][1]["location"]["ranges"][0]["start"], json!({"line": 3}));
}

#[tokio::test]
async fn an_outline_tells_what_is_needed() {
    let (json, text) = ask(
        "frontend.outline",
        "ARG TAG=latest\n# UNUSED no\nARG UNUSED\nFROM alpine:$TAG AS base\n# V the version\nARG V=1\nRUN --mount=type=secret,id=s,required x\n\
         FROM base\nRUN --mount=type=ssh y\nRUN --mount=type=secret,id=t y\n",
    )
    .await;
    insta::assert_snapshot!("outline", text);
    assert_eq!(json["args"][0]["name"], json!("TAG"));
    assert_eq!(
        json["secrets"][0],
        json!({"name": "s", "required": true, "location": {"ranges": [{"start": {"line": 7}, "end": {"line": 7}}]}})
    );
}

#[tokio::test]
async fn an_outline_tells_what_the_wanted_stage_says_before_what_its_bases_say() {
    let file = "FROM alpine AS a\nARG X=1\nARG Y=1\nRUN --mount=type=secret,id=s a\n\
                FROM a\nRUN --mount=type=secret,id=s,required b\nARG X=2\n";
    let (json, _) = ask("frontend.outline", file).await;
    let line = |line: u32| json!({"ranges": [{"start": {"line": line}, "end": {"line": line}}]});
    assert_eq!(
        json["args"],
        json!([
            {"name": "Y", "value": "1", "location": line(3)},
            {"name": "X", "value": "2", "location": line(7)},
        ])
    );
    assert_eq!(json["secrets"], json!([{"name": "s", "required": true, "location": line(6)}]));
}

#[tokio::test]
async fn the_questions_are_described() {
    let (json, text) = ask("frontend.subrequests.describe", "FROM alpine\n").await;
    insta::assert_snapshot!("describe", text);
    assert_eq!(json[0]["name"], json!("frontend.outline"));
    assert_eq!(json[0]["inputs"], Value::Null);
}

#[tokio::test]
async fn a_check_tells_findings_and_mistakes() {
    let (json, text) = ask("frontend.lint", "FROM alpine as X\nWORKDIR a\n\nRUN b\n").await;
    insta::assert_snapshot!("check", text);
    let names: Vec<_> =
        json["warnings"].as_array().unwrap().iter().map(|w| w["ruleName"].clone()).collect();
    assert_eq!(
        names,
        [json!("StageNameCasing"), json!("FromAsCasing"), json!("WorkdirRelativePath")]
    );
    let (json, _) = ask("frontend.lint", "FROM alpine\nRNU x\n").await;
    assert_eq!(json["buildError"]["location"]["ranges"][0]["start"]["line"], json!(2));
    let (json, _) = ask("frontend.lint", "# check=error=true\nFROM alpine\nMAINTAINER me\n").await;
    let message = "lint violation found for rules: MaintainerDeprecated";
    assert_eq!(json["buildError"], json!({"message": message, "location": {}}));
    let (json, _) = ask("frontend.lint", "FROM alpine\n").await;
    assert_eq!(json["warnings"], Value::Null);
    let clean = Fake::new("FROM alpine\n").option("requestid", "frontend.lint").build().await;
    assert_eq!(clean.metadata["result.statuscode"], "0");
}

#[tokio::test]
async fn a_graph_is_told_in_place_of_being_built() {
    let dockerfile = "FROM scratch AS first\nCOPY a /\nFROM alpine\nRUN x\n";
    let fake = || Fake::new(dockerfile).option("requestid", "frontend.convertllb");
    let (result, said) = fake().run().await;
    let result = result.unwrap();
    assert!(matches!(result.results, bridge::Results::None));
    let keys: Vec<_> = result.metadata.keys().map(String::as_str).collect();
    assert_eq!(keys, ["result.json", "version"]);
    assert_eq!(result.metadata["version"], "0.1.0");
    assert!(!said.calls.iter().any(|call| call.contains("RUN")), "{:?}", said.calls);
    let json: Value = serde_json::from_slice(&result.metadata["result.json"]).unwrap();
    // The image, the step, and what names the result.
    let def = json["def"].as_object().unwrap();
    assert_eq!(def.len(), 3);
    let (digest, step) = def.iter().find(|(_, op)| op.get("exec").is_some()).unwrap();
    assert_eq!(step["exec"]["meta"]["args"], json!(["/bin/sh", "-c", "x"]));
    let said = &json["metadata"][digest];
    assert_eq!(said["description"]["llb.customname"], json!("[stage-1 2/2] RUN x"));
    let place = &json["source"]["locations"][digest]["locations"][0]["ranges"][0]["start"];
    assert_eq!(place, &json!({"line": 4}));
    assert_eq!(json["source"]["infos"][0]["filename"], json!("Dockerfile"));

    let first = fake().option("target", "first").build().await;
    let json: Value = serde_json::from_slice(&first.metadata["result.json"]).unwrap();
    assert!(json["def"].to_string().contains(r#""src":"/a""#), "{json}");

    let other = fake().option("platform", "linux/s390x").build().await;
    assert!(!String::from_utf8_lossy(&other.metadata["result.json"]).contains("s390x"));

    let wrong = Fake::new("FROM alpine\nRNU x\n").option("requestid", "frontend.convertllb");
    let error = wrong.run().await.0.unwrap_err();
    assert!(error.message().contains("unknown instruction: RNU"), "{error}");
}
