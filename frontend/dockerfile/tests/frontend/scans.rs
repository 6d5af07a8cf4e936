//! Lists of what is in a result: which trees are scanned for them.

use bridge::testing::Said;
use bridge::{AttestationKind, FrontendResult};
use llb::{ExecOp, Op};

use crate::fake::Fake;

const SCANNER: &str = "docker.io/me/scan:1";
const CONFIG: &str = r#"{"config":{"Cmd":["scan"]}}"#;

/// Returns a build of this Dockerfile of which a list is wanted.
fn scanned(dockerfile: &str) -> Fake {
    Fake::new(dockerfile).image(SCANNER, CONFIG).option("attest:sbom", "generator=me/scan:1")
}

/// Returns the scans of a build: their names, the trees that they see, and whether they do without the cache.
fn scans(said: &Said) -> Vec<(String, Vec<String>, bool)> {
    let scan = |vertex: &llb::Vertex| match &vertex.op {
        Op::Exec(exec) if vertex.name.contains("generating sbom") => {
            Some((vertex.name.clone(), seen(exec), vertex.metadata.ignore_cache))
        }
        _ => None,
    };
    let solved = said.solved.iter().filter_map(|request| request.definition.as_ref()?.load().ok());
    solved
        .flat_map(|graph| graph.vertices.iter().filter_map(|one| scan(one)).collect::<Vec<_>>())
        .collect()
}

fn seen(exec: &ExecOp) -> Vec<String> {
    let seen = exec.mounts.iter().filter_map(|mount| mount.dest.strip_prefix("/run/src/"));
    seen.map(str::to_owned).collect()
}

/// Runs a build that succeeds and returns the trees that its only scan sees.
async fn seen_in(fake: Fake) -> Vec<String> {
    let (result, said) = fake.run().await;
    result.unwrap();
    let mut scans = scans(&said);
    assert_eq!(scans.len(), 1, "{scans:?}");
    scans.remove(0).1
}

const STAGES: &str = "ARG BUILDKIT_SBOM_SCAN_CONTEXT=true\n\
    FROM scratch AS file\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nCOPY f /f\n\
    FROM scratch AS middle\nCOPY --from=file /f /g\n\
    FROM scratch AS unused\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nCOPY --from=file /f /h\n\
    FROM middle\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nCOPY --from=busybox:1 /bin/sh /sh\n";

#[tokio::test]
async fn the_result_is_scanned_if_a_list_is_wanted() {
    let dockerfile = "FROM alpine AS base\nRUN a\nFROM base\nRUN b\n";
    let none = Fake::new(STAGES).run().await;
    assert!(none.0.unwrap().attestations.is_empty() && scans(&none.1).is_empty());
    let (result, said) = scanned(dockerfile).run().await;
    let FrontendResult { attestations, .. } = result.unwrap();
    let [attestation] = attestations["linux/amd64"].as_slice() else { panic!("{attestations:?}") };
    assert_eq!(attestation.kind, AttestationKind::Bundle);
    let name = format!("[linux/amd64] generating sbom using {SCANNER}");
    assert_eq!(scans(&said), [(name, vec!["core/sbom".to_owned()], false)]);
}

#[tokio::test]
async fn each_platform_is_scanned_on_the_daemons_own() {
    let fake = scanned("FROM scratch\nCOPY a /b\n").option("platform", "linux/amd64,linux/arm64");
    let (result, said) = fake.run().await;
    let platforms: Vec<_> = result.unwrap().attestations.into_keys().collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
    let names: Vec<_> = scans(&said).into_iter().map(|(name, ..)| name).collect();
    let expected = |platform| format!("[{platform}] generating sbom using {SCANNER}");
    assert_eq!(names, [expected("linux/amd64"), expected("linux/arm64")]);
    assert_eq!(said.calls.iter().filter(|call| call.contains("me/scan:1 linux/amd64")).count(), 1);
}

#[tokio::test]
async fn arguments_name_other_trees_to_scan() {
    let all = ["core/sbom", "extras/sbom-context", "extras/sbom-file"];
    assert_eq!(seen_in(scanned(STAGES)).await, all);
    let stage = "build-arg:BUILDKIT_SBOM_SCAN_STAGE";
    let context = "build-arg:BUILDKIT_SBOM_SCAN_CONTEXT";
    let off = scanned(STAGES).option(stage, "false").option(context, "0");
    assert_eq!(seen_in(off).await, ["core/sbom"]);
    // Only where a stage declares the argument, or the whole file does.
    let by_name = scanned(STAGES).option(stage, "middle,unused").option(context, "false");
    assert_eq!(seen_in(by_name).await, ["core/sbom"]);
    let undeclared = STAGES.replace("ARG BUILDKIT_SBOM_SCAN_", "ARG OTHER_");
    let undeclared = scanned(&undeclared).option(stage, "true").option(context, "true");
    assert_eq!(seen_in(undeclared).await, ["core/sbom"]);
    let global = format!("ARG BUILDKIT_SBOM_SCAN_STAGE=file,middle\n{STAGES}");
    let global = global.replace("ARG BUILDKIT_SBOM_SCAN_STAGE=true\n", "");
    let expected = ["core/sbom", "extras/sbom-context", "extras/sbom-file", "extras/sbom-middle"];
    assert_eq!(seen_in(scanned(&global)).await, expected);
}

#[tokio::test]
async fn what_a_list_is_made_of_without_the_cache_is_scanned_without_it() {
    let ignores = async |option: &str| {
        let (result, said) = scanned(STAGES).option("no-cache", option).run().await;
        result.unwrap();
        scans(&said)[0].2
    };
    assert!(ignores("").await);
    assert!(ignores("file").await);
    assert!(!ignores("middle").await, "it is not scanned itself");
}

#[tokio::test]
async fn a_scanner_that_does_not_exist_is_named_before_anything_is_built() {
    let fake = Fake::new("FROM scratch\nCOPY a /b\n").option("attest:sbom", "generator=me/none:1");
    let (result, said) = fake.run().await;
    let error = result.unwrap_err();
    assert!(error.message().contains("`docker.io/me/none:1`"), "{error}");
    assert!(error.message().contains("--attest type=sbom,generator=<image>"), "{error}");
    assert!(!said.calls.iter().any(|call| call.contains("COPY")), "{:?}", said.calls);
    let bad = Fake::new("FROM scratch\n").option("attest:sbom", "generator=");
    let said = "failed to parse sbom scanner : invalid reference format";
    assert_eq!(bad.error().await.message(), said);
}
