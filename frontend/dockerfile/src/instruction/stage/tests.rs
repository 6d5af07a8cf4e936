//! Each instruction's rules, through the stages of a small file.

use super::*;
use crate::instruction::{CommandLine, CopyFiles, Network, SourceKind};
use crate::syntax::parse;

fn stages(text: &str) -> Result<Stages, String> {
    let document = parse(text).map_err(|problem| problem.to_string())?;
    read_stages(&document).map_err(|problem| problem.to_string())
}

fn action(instruction: &str) -> Action {
    let mut all = stages(&format!("FROM a\n{instruction}\n")).unwrap();
    all.stages.remove(0).instructions.remove(0).action.clone()
}

fn wrong(instruction: &str) -> String {
    let message = stages(&format!("FROM a\n{instruction}\n")).unwrap_err();
    let prefix = "dockerfile parse error on line 2: ";
    message.strip_prefix(prefix).map(str::to_owned).unwrap_or(format!("no prefix: {message}"))
}

fn copy(instruction: &str) -> CopyFiles {
    match action(instruction) {
        Action::Copy(copy) => copy,
        other => panic!("{other:?}"),
    }
}

#[test]
fn stages_have_names_and_arguments_before_them() {
    let all = stages("ARG V=1\n# app the app\nFROM --platform=$P a:$V AS App\nRUN x\nFROM app\n");
    let all = all.unwrap();
    assert_eq!(all.arguments[0].0[0].default.as_deref(), Some("1"));
    let first = &all.stages[0];
    assert_eq!((first.name.as_str(), first.base.as_str()), ("app", "a:$V"));
    assert_eq!((first.platform.as_str(), first.description.as_str()), ("$P", "the app"));
    assert_eq!(all.stages[1].name, "");
}

#[test]
fn what_was_noted_is_known_if_a_later_instruction_cannot_be_read() {
    let mut notes = Vec::new();
    let document = parse("FROM a AS App\nMAINTAINER me\nRNU x\n").unwrap();
    assert!(note_stages(&document, &mut notes).is_err());
    let kinds: Vec<_> = notes.into_iter().map(|note| note.kind).collect();
    assert_eq!(kinds, [Notes::StageNameCase("App".into()), Notes::Maintainer]);
}

#[test]
fn copy_and_add_take_their_flags() {
    let found =
        copy("COPY --from=b --chown=1:2 --chmod=u+x --link --exclude=x --exclude=y a b /c/");
    assert_eq!((found.kind, found.from.as_str(), found.link), (SourceKind::Copy, "b", true));
    assert_eq!((found.sources.len(), found.destination.as_str()), (2, "/c/"));
    assert_eq!(found.exclude, ["x", "y"]);
    let found = copy("ADD --checksum=sha256:0 --keep-git-dir --unpack=false http://x /c");
    assert_eq!((found.keep_git_dir, found.unpack), (Some(true), Some(false)));
    assert_eq!(copy("COPY [\"a b\", \"c\"]").sources, ["a b"]);
    let found = copy("COPY <<a <<\"b\" c /d/\n$x\na\n$y\nb");
    assert_eq!((found.inline[0].content.as_str(), found.inline[0].expand), ("$x\n", true));
    assert_eq!((found.inline[1].name.as_str(), found.inline[1].expand), ("b", false));
    assert_eq!(found.sources, ["c"]);
}

#[test]
fn run_takes_its_flags() {
    let Action::Run(run) =
        action("RUN --network=none --mount=from=b,target=/t --mount=type=tmpfs,target=/u make")
    else {
        panic!("not a run");
    };
    assert_eq!((run.network, run.mounts.len()), (Network::None, 2));
    assert_eq!(run.mounts[0].from, "b");
    let words = vec!["make".to_owned()];
    assert_eq!(run.command, CommandLine { words, shell: true, heredocs: Vec::new() });
}

#[test]
fn onbuild_keeps_its_instruction_as_text() {
    assert_eq!(action("onbuild  RUN a  b"), Action::Onbuild("RUN a  b".into()));
    assert_eq!(action("ONBUILD RUN <<E\nx\nE"), Action::Onbuild("RUN <<E\nx\nE".into()));
}

#[test]
fn healthcheck_has_its_command_and_its_times() {
    let Action::Healthcheck(health) =
        action("HEALTHCHECK --interval=1m --retries=3 --start-period=0s CMD curl x")
    else {
        panic!("not a healthcheck");
    };
    assert_eq!(health.test, ["CMD-SHELL", "curl x"]);
    assert_eq!((health.interval.as_secs(), health.retries), (60, 3));
}

#[test]
fn mistakes_name_the_instruction() {
    for (instruction, expected) in [
        ("RNU x", "unknown instruction: RNU (did you mean RUN?)"),
        ("frmo x", "unknown instruction: frmo (did you mean from?)"),
        ("HELLO", "unknown instruction: HELLO (did you mean SHELL?)"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        (
            "COPY a",
            "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        ("COPY a <<E\nx\nE", "COPY cannot accept a heredoc as a destination"),
        ("COPY --form=b a b", "unknown flag: --form (did you mean from?)"),
        ("ADD --from=b a b", "unknown flag: --from"),
        ("ENV =1", "ENV names can not be blank"),
        ("ARG =1", "ARG names can not be blank"),
        ("SHELL sh -c", "SHELL requires the arguments to be in JSON form"),
        ("VOLUME [\"\"]", "VOLUME specified can not be an empty string"),
        ("FROM a AS", "FROM requires either one or three arguments"),
        (
            "FROM a AS 1x",
            "invalid name for build stage: \"1x\", name can't start with a number or contain symbols",
        ),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("RUN --network=foo x", "invalid network mode \"foo\""),
        ("RUN --security=foo x", "security \"foo\" is not valid"),
        ("HEALTHCHECK FOO", "Unknown type \"FOO\" in HEALTHCHECK (try CMD)"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK --interval=1us CMD x", "Interval \"interval\" cannot be less than 1ms"),
        ("HEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative (-1)"),
        ("CMD --x y", "unknown flag: --x"),
    ] {
        assert_eq!(wrong(instruction), expected);
    }
    assert_eq!(stages("RUN x").unwrap_err(), "no build stage in current context");
}
