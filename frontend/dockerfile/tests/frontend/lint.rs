//! The rules, each by a small file that breaks it and one that does not.

use crate::fake::Fake;

async fn warnings(fake: Fake) -> Vec<String> {
    let (_, said) = fake.run().await;
    said.warnings.into_iter().map(|warning| warning.short).collect()
}

/// A Dockerfile and the one thing that a rule finds in it.
const FINDINGS: &[(&str, &str)] = &[
    ("FROM alpine AS Build\n", "StageNameCasing: Stage name 'Build' should be lowercase (line 1)"),
    (
        "FROM alpine as build\n",
        "FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)",
    ),
    ("FROM alpine\nRUN a \\\n\n b\n", "NoEmptyContinuation: Empty continuation line (line 4)"),
    (
        "FROM alpine\nRUN a\nrun b\n",
        "ConsistentInstructionCasing: Command 'run' should match the case of the command majority (uppercase) (line 3)",
    ),
    (
        "FROM alpine AS a\nFROM alpine AS a\n",
        "DuplicateStageName: Duplicate stage name \"a\", stage names should be unique (line 2)",
    ),
    (
        "FROM alpine AS scratch\n",
        "ReservedStageName: Stage name should not use the same name as reserved stage \"scratch\" (line 1)",
    ),
    (
        "FROM alpine\nCMD a\n",
        "JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 2)",
    ),
    (
        "FROM alpine\nMAINTAINER me\n",
        "MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 2)",
    ),
    (
        "ARG TAG\nFROM alpine:${TGA:-latest}\n",
        "UndefinedArgInFrom: FROM argument 'TGA' is not declared (did you mean TAG?) (line 2)",
    ),
    (
        "FROM alpine\nWORKDIR a\n",
        "WorkdirRelativePath: Relative workdir \"a\" can have unexpected results if the base image changes (line 2)",
    ),
    (
        "FROM alpine\nCOPY $PAHT /\n",
        "UndefinedVar: Usage of undefined variable '$PAHT' (did you mean $PATH?) (line 2)",
    ),
    (
        "FROM alpine\nCMD [\"a\"]\nCMD [\"b\"]\n",
        "MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used (line 2)",
    ),
    (
        "FROM alpine\nENV a b\n",
        "LegacyKeyValueFormat: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format (line 2)",
    ),
    (
        "FROM --platform=$TARGETPLATFORM alpine\n",
        "RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior (line 1)",
    ),
    (
        "FROM alpine\nARG API_KEY\n",
        "SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG \"API_KEY\") (line 2)",
    ),
    (
        "ARG T\nFROM alpine:$T\n",
        "InvalidDefaultArgInFrom: Default value for ARG alpine:$T results in empty or invalid base image name (line 2)",
    ),
    (
        "FROM --platform=linux/amd64 alpine AS x\n",
        "FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value \"linux/amd64\" (line 1)",
    ),
    (
        "FROM alpine\nCOPY no.log /\n",
        "CopyIgnoredFile: Attempting to Copy file \"no.log\" that is excluded by .dockerignore (line 2)",
    ),
    (
        "FROM alpine\nEXPOSE 80/TCP\n",
        "ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase (line 2)",
    ),
    (
        "FROM alpine\nEXPOSE 1:80\n",
        "ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '1:80' (line 2)",
    ),
    (
        "# check=experimental=all\n# other\nFROM alpine AS x\n",
        "InvalidDefinitionDescription: Comment for FROM should follow the format: `# x <description>` (line 3)",
    ),
    (
        "FROM --platform=linux/386 alpine AS linux\n",
        "InvalidBaseImagePlatform: Base image alpine was pulled with platform \"linux/amd64\", expected \"linux/386\" for current build (line 1)",
    ),
];

#[tokio::test]
async fn each_rule_finds_what_it_is_for() {
    for (dockerfile, expected) in FINDINGS {
        let fake = Fake::new(dockerfile)
            .file("local:context", ".dockerignore", "*.log\n")
            .option("build-arg:T", "latest");
        assert_eq!(warnings(fake).await, [*expected], "{dockerfile}");
        let rule = expected.split(':').next().unwrap();
        let skipped = format!(
            "# check=skip={rule}\n{}",
            dockerfile.replace("# check=experimental=all\n", "")
        );
        let fake = Fake::new(&skipped)
            .file("local:context", ".dockerignore", "*.log\n")
            .option("build-arg:T", "latest");
        assert_eq!(warnings(fake).await, Vec::<String>::new(), "{skipped}");
    }
}

#[tokio::test]
async fn a_good_file_breaks_no_rule() {
    let file = "ARG TAG=latest\n# build makes it\nFROM --platform=$BUILDPLATFORM alpine:$TAG AS build\nARG PUBLIC_KEY=1\n\
                WORKDIR /a\nWORKDIR b\nCOPY a $TAG /\nRUN $UNSET\nCMD [\"x\"]\nENTRYPOINT [\"y\"]\nEXPOSE 80/tcp\n";
    let file = file.replace("COPY a $TAG /", "COPY a /");
    assert_eq!(warnings(Fake::new(&file)).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_comment_above_silences_one_instruction() {
    let file = "FROM alpine\n# check=skip=WorkdirRelativePath\nWORKDIR a\nCMD b\n";
    let found = warnings(Fake::new(file)).await;
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("JSONArgsRecommended"));
}

/// Why a build failed, and what was said about the file before that.
async fn failed(fake: Fake) -> (String, Vec<String>) {
    let (result, said) = fake.run().await;
    let warnings = said.warnings.into_iter().map(|warning| warning.short).collect();
    (result.unwrap_err().message().to_owned(), warnings)
}

#[tokio::test]
async fn what_is_not_defined_is_told_also_where_the_word_goes_wrong() {
    let (error, found) = failed(Fake::new("FROM alpine\nCOPY $PAHT/${NAME?no-name} /\n")).await;
    assert_eq!(error, "failed to process \"$PAHT/${NAME?no-name}\": NAME: no-name");
    assert_eq!(
        found,
        [
            "UndefinedVar: Usage of undefined variable '$NAME' (line 2)",
            "UndefinedVar: Usage of undefined variable '$PAHT' (did you mean $PATH?) (line 2)",
        ]
    );
    let (error, found) = failed(Fake::new("ARG TAG\nFROM alpine:${TGA:?}\n")).await;
    assert_eq!(error, "failed to process \"alpine:${TGA:?}\": TGA: is not allowed to be unset");
    assert_eq!(
        found,
        ["UndefinedArgInFrom: FROM argument 'TGA' is not declared (did you mean TAG?) (line 2)"]
    );
    let (_, found) = failed(Fake::new("FROM --platform=${P?} alpine\n")).await;
    assert_eq!(found, ["UndefinedArgInFrom: FROM argument 'P' is not declared (line 1)"]);
}

#[tokio::test]
async fn what_was_found_is_told_also_if_the_file_cannot_be_read() {
    let file = "FROM alpine AS Build\nRUN a \\\n\n b\nRNU c\n";
    let expected = [
        "NoEmptyContinuation: Empty continuation line (line 4)",
        "StageNameCasing: Stage name 'Build' should be lowercase (line 1)",
    ];
    let (error, found) = failed(Fake::new(file)).await;
    assert!(error.contains("unknown instruction: RNU"), "{error}");
    assert_eq!(found, expected);
    let checked = Fake::new(file).option("requestid", "frontend.lint").build().await;
    let answer: serde_json::Value =
        serde_json::from_slice(&checked.metadata["result.json"]).unwrap();
    assert_eq!(answer["warnings"].as_array().unwrap().len(), 2);
    assert_eq!(answer["buildError"]["location"]["ranges"][0]["start"]["line"], 5);
}

#[tokio::test]
async fn a_comment_above_one_base_does_not_silence_what_is_said_of_the_file() {
    let file = "ARG B\n# check=skip=InvalidDefaultArgInFrom,UndefinedArgInFrom\nFROM ${B} AS b\nFROM alpine:$X\n";
    let found = warnings(Fake::new(file).option("build-arg:B", "alpine")).await;
    assert_eq!(
        found,
        [
            "InvalidDefaultArgInFrom: Default value for ARG ${B} results in empty or invalid base image name (line 3)",
            "InvalidDefaultArgInFrom: Default value for ARG alpine:$X results in empty or invalid base image name (line 4)",
            "UndefinedArgInFrom: FROM argument 'X' is not declared (did you mean B?) (line 4)",
        ]
    );
}

#[tokio::test]
async fn variables_are_looked_at_before_the_form_of_an_instruction() {
    let names = |file: &'static str| async move {
        let found = warnings(Fake::new(file)).await;
        let name = |text: &String| text.split(':').next().unwrap_or_default().to_owned();
        found.iter().map(name).collect::<Vec<_>>()
    };
    let file = "FROM alpine\nENV MY_KEY $X\n";
    assert_eq!(
        names(file).await,
        ["UndefinedVar", "LegacyKeyValueFormat", "SecretsUsedInArgOrEnv"]
    );
    let file = "FROM alpine\nLABEL a $X\n";
    assert_eq!(names(file).await, ["UndefinedVar", "LegacyKeyValueFormat"]);
}

#[tokio::test]
async fn ports_are_looked_at_when_all_are_expanded_and_before_they_are_read() {
    let (error, found) = failed(Fake::new("FROM alpine\nEXPOSE 80/TCP ${X:?no}\n")).await;
    assert!(error.ends_with("X: no"), "{error}");
    assert_eq!(found, Vec::<String>::new());
    let (error, found) = failed(Fake::new("FROM alpine\nEXPOSE 1.2.3:1:80/TCP\n")).await;
    assert_eq!(error, "invalid IP address: 1.2.3");
    assert_eq!(found.len(), 2, "{found:?}");
}

#[tokio::test]
async fn the_case_of_as_is_looked_at_also_where_words_are_too_many() {
    let (_, found) = failed(Fake::new("FROM alpine As b c\n")).await;
    assert_eq!(found, ["FromAsCasing: 'As' and 'FROM' keywords' casing do not match (line 1)"]);
}

/// Returns the rules that a check finds broken, and the mistake.
async fn checked(fake: Fake) -> (Vec<String>, serde_json::Value) {
    let result = fake.option("requestid", "frontend.lint").build().await;
    let answer: serde_json::Value =
        serde_json::from_slice(&result.metadata["result.json"]).unwrap();
    let found = answer["warnings"].as_array().into_iter().flatten();
    let found = found.map(|warning| warning["ruleName"].as_str().unwrap().to_owned()).collect();
    (found, answer["buildError"].clone())
}

#[tokio::test]
async fn a_check_answers_what_a_build_would_not_begin_with() {
    let (_, error) = checked(Fake::new("# check=foo=1\nFROM alpine\n")).await;
    let message = "failed to parse check options: invalid check option \"foo\"";
    assert_eq!(error, serde_json::json!({"message": message, "location": {}}));
    let file = "FROM alpine AS z\nCOPY --from=a x y\nFROM alpine AS a\nCOPY --from=b x y\n\
                FROM alpine AS b\nCOPY --from=a x y\n";
    let (_, error) = checked(Fake::new(file)).await;
    assert_eq!(error["message"], "circular dependency detected on stage: z");
    let lines = error["location"]["ranges"].as_array().unwrap().iter();
    let lines: Vec<_> = lines.map(|range| range["start"]["line"].as_i64().unwrap()).collect();
    assert_eq!(lines, [2, 4, 6]);
}

#[tokio::test]
async fn a_check_looks_at_stages_as_they_are_written() {
    // What is not needed is not a base of anything that is built, so its triggers are not run.
    let file = "FROM alpine AS a\nONBUILD ENV A b\nFROM a AS b\nRUN true\nFROM ";
    let (found, error) = checked(Fake::new(&format!("{file}alpine\n"))).await;
    assert_eq!((found, error), (Vec::new(), serde_json::Value::Null));
    assert_eq!(checked(Fake::new(&format!("{file}b\n"))).await.0, ["LegacyKeyValueFormat"]);
    // A stage that a context stands for is read nevertheless.
    let fake = Fake::new("FROM alpine AS a\nENV A b\nFROM a\n");
    let fake = fake.option("context:a", "docker-image://alpine");
    assert_eq!(checked(fake).await.0, ["LegacyKeyValueFormat"]);
    // And for the platform of the daemon, whichever is asked for.
    let fake = Fake::new("FROM alpine AS amd64\nENV A b\nFROM ${TARGETARCH}\n");
    assert_eq!(checked(fake.option("platform", "linux/s390x")).await.0, ["LegacyKeyValueFormat"]);
}

#[tokio::test]
async fn what_was_found_is_told_also_if_a_platform_fails() {
    let file = "FROM alpine AS amd64\nMAINTAINER me\nFROM $TARGETARCH\n";
    for platforms in ["linux/amd64,linux/s390x", "linux/s390x,linux/amd64"] {
        let (error, found) = failed(Fake::new(file).option("platform", platforms)).await;
        assert!(error.starts_with("s390x: "), "{error}");
        assert_eq!(found.len(), 1, "{found:?}");
    }
}

#[tokio::test]
async fn findings_can_end_the_build() {
    let error = Fake::new("# check=error=true\nFROM alpine\nCMD a\n").error().await;
    assert_eq!(error.message(), "lint violation found for rules: JSONArgsRecommended");
    let fake = Fake::new("# check=error=true\nFROM alpine\nCMD a\n")
        .option("build-arg:BUILDKIT_DOCKERFILE_CHECK", "skip=all");
    assert!(fake.run().await.0.is_ok());
    let fake = Fake::new("FROM alpine\n").option("build-arg:BUILDKIT_DOCKERFILE_CHECK", "skpi=all");
    assert_eq!(
        fake.error().await.message(),
        "failed to parse build-arg:BUILDKIT_DOCKERFILE_CHECK: invalid check option \"skpi\""
    );
}

#[tokio::test]
async fn warnings_point_at_the_file() {
    let (_, said) = Fake::new("FROM alpine\nCMD a\n").run().await;
    let warning = &said.warnings[0];
    assert_eq!(warning.level, 1);
    assert!(warning.url.ends_with("/json-args-recommended/"));
    assert_eq!(warning.source.as_ref().unwrap().ranges[0].start.line, 2);
    assert!(!warning.detail[0].is_empty());
}

#[tokio::test]
async fn rules_about_caches_find_what_they_are_for() {
    for (dockerfile, expected) in [
        (
            "FROM debian\nRUN rm -f /etc/apt/apt.conf.d/docker-clean\nRUN --mount=type=cache,target=/var/cache/apt apt-get install -y x\n",
            "CacheSharingUnsafe: Cache of apt at '/var/cache/apt' should have sharing=locked or sharing=private: apt does not lock it (line 3)",
        ),
        (
            "FROM debian\nRUN --mount=type=cache,target=/var/cache/apt,sharing=locked apt-get install -y x\n",
            "CacheCleanedByApt: Cache at '/var/cache/apt' stays empty unless /etc/apt/apt.conf.d/docker-clean is removed (line 2)",
        ),
        (
            "FROM debian\nRUN --mount=type=cache,target=/root/.cache/pip pip install --no-cache-dir x\n",
            "CacheDefeated: Cache at '/root/.cache/pip' is defeated by '--no-cache-dir' in the same command (line 2)",
        ),
        (
            "FROM debian\nUSER app\nRUN --mount=type=cache,target=/root/.npm npm ci\n",
            "CacheTargetUnused: Cache mounted at '/root/.npm' will not be used: the command runs as `app`, which has another home directory (line 3)",
        ),
        (
            "FROM debian\nRUN --mount=type=cache,id=a,target=/a x\nRUN --mount=type=cache,id=a,target=/a,uid=1 x\n",
            "CacheOptionsDiffer: Cache 'a' is mounted with other options than on line 2 (line 3)",
        ),
        (
            "FROM debian AS a\nRUN --mount=type=cache,target=/go/pkg/mod go mod download\nFROM a\nRUN go build .\n",
            "CacheNotMounted: Command runs go modules without the cache at '/go/pkg/mod' that an earlier command filled (line 4)",
        ),
        (
            "FROM debian\nRUN --mount=type=cache,target=/x make\n",
            "CachePlatformMixed: Cache '/x' is the same for every platform: its id should have $TARGETPLATFORM in it (line 2)",
        ),
    ] {
        let base = r#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]},"history":[{"created_by":"x"}]}"#;
        let several = if expected.starts_with("CachePlatform") {
            "linux/amd64,linux/amd64"
        } else {
            "linux/amd64"
        };
        let build = |text: &str| {
            Fake::new(text)
                .image("docker.io/library/debian:latest", base)
                .option("platform", several)
        };
        assert_eq!(warnings(build(dockerfile)).await, [expected], "{dockerfile}");
        let rule = expected.split(':').next().unwrap();
        let skipped = format!("# check=skip={rule}\n{dockerfile}");
        assert_eq!(warnings(build(&skipped)).await, Vec::<String>::new(), "{skipped}");
    }
}

/// The pages about our own rules, by rule.
const PAGES: [(&str, &str); 7] = [
    ("CacheSharingUnsafe", include_str!("../../../../docs/rules/cache-sharing-unsafe.md")),
    ("CacheCleanedByApt", include_str!("../../../../docs/rules/cache-cleaned-by-apt.md")),
    ("CacheDefeated", include_str!("../../../../docs/rules/cache-defeated.md")),
    ("CacheTargetUnused", include_str!("../../../../docs/rules/cache-target-unused.md")),
    ("CacheOptionsDiffer", include_str!("../../../../docs/rules/cache-options-differ.md")),
    ("CacheNotMounted", include_str!("../../../../docs/rules/cache-not-mounted.md")),
    ("CachePlatformMixed", include_str!("../../../../docs/rules/cache-platform-mixed.md")),
];

/// Returns what the frontend says about the example under a heading of a page.
async fn warnings_of_example(page: &str, heading: &str) -> Vec<bridge::Warning> {
    let section = page.split(heading).nth(1).unwrap();
    let example = section.split("```dockerfile\n").nth(1).unwrap().split("```").next().unwrap();
    let platforms =
        if heading_names_platforms(page) { "linux/amd64,linux/arm64" } else { "linux/amd64" };
    let base = if example.starts_with("FROM") { "" } else { "FROM alpine\n" };
    let fake = Fake::new(&format!("{base}{example}"))
        .image("docker.io/library/debian:bookworm", DEBIAN)
        .option("platform", platforms);
    fake.run().await.1.warnings
}

fn heading_names_platforms(page: &str) -> bool {
    page.contains("(with `--platform linux/amd64,linux/arm64`)")
}

/// A configuration as a distribution's images have it.
const DEBIAN: &str = r#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]},"history":[{"created_by":"x"}]}"#;

#[tokio::test]
async fn the_examples_of_each_page_are_what_the_page_says() {
    for (rule, page) in PAGES {
        assert!(page.starts_with(&format!("# {rule}\n")), "{rule}");
        let of_rule = |warning: &&bridge::Warning| warning.short.starts_with(rule);
        let found = warnings_of_example(page, "## Finds").await;
        let found: Vec<_> = found.iter().filter(of_rule).collect();
        let quoted = page.lines().find_map(|line| line.strip_prefix("> ")).unwrap();
        let said = |short: &str| short.contains(&format!("{rule}: {quoted} (line "));
        assert!(found.iter().any(|warning| said(&warning.short)), "{rule}: {found:?}");
        for warning in found {
            let name = warning.url.strip_prefix("docs/rules/").unwrap();
            let place = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/rules");
            assert!(std::path::Path::new(place).join(name).is_file(), "{rule}: {name}");
        }
        let content = warnings_of_example(page, "## Is content with").await;
        let content: Vec<_> = content.iter().filter(of_rule).collect();
        assert!(content.is_empty(), "{rule}: {content:?}");
    }
}
