//! Whatever stands in a Dockerfile, the frontend ends in a result or in an error.

use proptest::prelude::*;

use crate::fake::Fake;

const KEYWORDS: &str = "(FROM|RUN|COPY|ADD|ENV|ARG|LABEL|USER|WORKDIR|VOLUME|EXPOSE|CMD|ENTRYPOINT|SHELL|\
                        ONBUILD|HEALTHCHECK|STOPSIGNAL|MAINTAINER|# check=skip|# escape=)";
const FLAGS: &str = "( --(from|mount|link|chown|chmod|platform|network|interval|parents|exclude|checksum)\
                     (=(a|0|type=cache,target=/x|type=secret,id=s|from=a,target=b|\\$A|755|u\\+x|)))?";
const WORDS: &str = "( (alpine|scratch|a|b|AS|/x/./y|<<E|https://x/y|git@x:y.git|\\$\\{A:-b\\}|\\$\\{A##\\*/\\}|\
                     \\$A|A=1|\\[\"a\"\\]|80/tcp|CMD|\"|'|\\\\|ñ)){0,4}";

fn dockerfile() -> impl Strategy<Value = String> {
    let line = format!("{KEYWORDS}{FLAGS}{WORDS}(\n|\r\n|\\\\\n|\nE\n)");
    prop::collection::vec(prop::string::string_regex(&line).unwrap(), 0..10)
        .prop_map(|lines| format!("FROM alpine AS a\n{}", lines.concat()))
}

fn run(fake: Fake) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (result, _) = runtime.block_on(fake.run());
    if let Err(error) = result {
        assert!(!error.message().is_empty());
    }
}

proptest! {
    #[test]
    fn any_file_ends_in_a_result_or_an_error(text in dockerfile()) {
        run(Fake::new(&text));
    }

    #[test]
    fn any_file_can_be_checked(text in dockerfile()) {
        run(Fake::new(&text).option("requestid", "frontend.lint"));
    }

    #[test]
    fn any_file_can_be_outlined_for_several_platforms(text in dockerfile()) {
        run(Fake::new(&text).option("platform", "linux/amd64,linux/arm64"));
        run(Fake::new(&text).option("requestid", "frontend.outline"));
    }

    #[test]
    fn any_option_ends_in_a_result_or_an_error(
        key in "(platform|target|no-cache|add-hosts|ulimit|shm-size|memory|context|context:a|cache-imports|filename|build-arg:SOURCE_DATE_EPOCH|build-arg:BUILDKIT_DOCKERFILE_CHECK)",
        value in "(linux/|local:|input:|docker-image://|git@|https://x/|\\[|a=|,|:|\\PC){0,3}",
    ) {
        run(Fake::new("FROM alpine AS a\nRUN x\n").option(&key, &value));
    }
}
