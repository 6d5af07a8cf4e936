//! Image configurations, histories and metadata.

use bridge::{Results, keys};
use serde_json::{Value, json};

use crate::fake::Fake;

fn history(config: &Value) -> Vec<String> {
    let entry = |entry: &Value| {
        let empty = entry["empty_layer"].as_bool().unwrap_or(false);
        let text = entry["created_by"].as_str().unwrap();
        format!("{}{text}", if empty { "- " } else { "+ " })
    };
    config["history"].as_array().unwrap().iter().map(entry).collect()
}

#[tokio::test]
async fn every_instruction_is_in_the_history() {
    let config = Fake::new(
        "FROM alpine\nARG A=1 B\nENV X=1 Y=\"2 3\"\nLABEL l=m\nWORKDIR /w\nCOPY --chown=1 --chmod=600 a b /c/\n\
         ADD d /e\nCOPY <<f /g\nx\nf\nRUN make $X\nRUN [\"a\", \"b c\"]\nSHELL [\"/bin/bash\", \"-c\"]\nRUN x\nUSER u\nVOLUME /v /w\n\
         EXPOSE 80 90-91/udp\nSTOPSIGNAL TERM\nCMD run it\nENTRYPOINT [\"e\"]\nHEALTHCHECK --interval=90s CMD curl x\n\
         MAINTAINER me\nONBUILD RUN y\n",
    )
    .config()
    .await;
    insta::assert_snapshot!("history", history(&config).join("\n"));
    let mut config = config;
    config["history"] = Value::Null;
    insta::assert_snapshot!("config", serde_json::to_string_pretty(&config).unwrap());
}

#[tokio::test]
async fn a_base_image_hands_on_its_configuration() {
    let base = r#"{"architecture":"amd64","os":"linux","created":"2020-01-01T00:00:00Z","config":{"User":"u","WorkingDir":"/w","Env":["PATH=/p","A=1"],"Entrypoint":["e"],"Cmd":["c"],"Labels":{"l":"1"},"OnBuild":["ENV T=1","RUN t"]},"rootfs":{"type":"layers","diff_ids":["sha256:0000000000000000000000000000000000000000000000000000000000000002"]}}"#;
    let fake = Fake::new("FROM base:1\nENV A=2\nRUN x\n")
        .image("docker.io/library/base:1", base)
        .option("label:l", "2");
    let result = fake.build().await;
    let config: Value = serde_json::from_slice(&result.metadata[keys::IMAGE_CONFIG]).unwrap();
    assert_eq!(config["config"]["Env"], json!(["PATH=/p", "A=2", "T=1"]));
    assert_eq!(config["config"]["Labels"], json!({"l": "2"}));
    assert_eq!(config["config"]["Cmd"], json!(["c"]));
    assert_eq!(config["config"]["OnBuild"], Value::Null);
    assert_eq!(config["created"], Value::Null);
    let expected = [
        "- ENV T=1",
        "+ RUN /bin/sh -c t # buildkit",
        "- ENV A=2",
        "+ RUN /bin/sh -c x # buildkit",
    ];
    assert_eq!(history(&config), expected);
    let base: Value = serde_json::from_slice(&result.metadata[keys::BASE_CONFIG]).unwrap();
    assert_eq!(base["config"]["Labels"], json!({"l": "1"}));
    assert_eq!(base["created"], json!("2020-01-01T00:00:00Z"));
}

#[tokio::test]
async fn an_image_from_nothing_has_a_path() {
    let config = Fake::new("FROM scratch\nCOPY a /\n").config().await;
    assert_eq!(
        config["config"]["Env"],
        json!(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"])
    );
    assert_eq!(config["config"]["WorkingDir"], json!("/"));
    assert_eq!(config["rootfs"]["type"], json!("layers"));
}

#[tokio::test]
async fn an_entrypoint_replaces_the_command_of_the_base() {
    let base = r#"{"architecture":"amd64","os":"linux","config":{"Cmd":["c"]},"rootfs":{"type":"layers","diff_ids":[]},"history":[{"created_by":"x"}]}"#;
    let with = |text: &str| Fake::new(text).image("docker.io/library/b:latest", base);
    let config = with("FROM b\nENTRYPOINT [\"e\"]\n").config().await;
    assert_eq!(config["config"]["Cmd"], Value::Null);
    let config = with("FROM b\nCMD [\"d\"]\nENTRYPOINT [\"e\"]\n").config().await;
    assert_eq!(config["config"]["Cmd"], json!(["d"]));
}

#[tokio::test]
async fn build_arguments_are_in_the_history_of_commands_but_proxies_are_not() {
    let config = Fake::new("ARG G=g\nFROM alpine\nARG G\nARG A=1\nRUN x\n")
        .option("build-arg:A", "2")
        .option("build-arg:http_proxy", "http://p")
        .option("build-arg:UNUSED", "3")
        .config()
        .await;
    let expected = ["+ base", "- ARG G=g", "- ARG A=2", "+ RUN |2 G=g A=2 /bin/sh -c x # buildkit"];
    assert_eq!(history(&config), expected);
}

#[tokio::test]
async fn results_are_by_platform_where_several_are_wanted() {
    let fake = Fake::new("FROM alpine\n").option("platform", "linux/amd64,linux/arm/v7");
    let result = fake.build().await;
    let Results::ByPlatform(map) = &result.results else {
        panic!("not by platform");
    };
    assert_eq!(map.keys().collect::<Vec<_>>(), ["linux/amd64", "linux/arm/v7"]);
    let config: Value =
        serde_json::from_slice(&result.metadata["containerimage.config/linux/arm/v7"]).unwrap();
    assert_eq!((&config["architecture"], &config["variant"]), (&json!("arm"), &json!("v7")));
    let platforms: Value = serde_json::from_slice(&result.metadata[keys::PLATFORMS]).unwrap();
    assert_eq!(
        platforms["Platforms"][1],
        json!({"ID": "linux/arm/v7", "Platform": {"architecture": "arm", "os": "linux", "variant": "v7"}})
    );
}

#[tokio::test]
async fn a_time_is_in_the_history_and_the_metadata() {
    let fake = Fake::new("FROM scratch\nCOPY a /\n").option("build-arg:SOURCE_DATE_EPOCH", "0");
    let result = fake.build().await;
    let config: Value = serde_json::from_slice(&result.metadata[keys::IMAGE_CONFIG]).unwrap();
    assert_eq!(config["history"][0]["created"], json!("1970-01-01T00:00:00Z"));
    assert_eq!(result.metadata[keys::SOURCE_DATE_EPOCH], "0");
}

#[tokio::test]
async fn a_chain_of_stages_has_one_history() {
    let config = Fake::new("FROM alpine AS a\nENV A=1\nFROM a AS b\nENV B=1\nFROM b\nENV C=1\n")
        .config()
        .await;
    assert_eq!(history(&config), ["+ base", "- ENV A=1", "- ENV B=1", "- ENV C=1"]);
}
