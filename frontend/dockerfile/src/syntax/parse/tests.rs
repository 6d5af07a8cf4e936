//! Lines, comments and here-documents by example, and that no text breaks the parser.

use proptest::prelude::*;

use super::*;

fn only(text: &str) -> Node {
    let mut document = parse(text).unwrap();
    assert_eq!(document.nodes.len(), 1, "{:?}", document.nodes);
    document.nodes.remove(0)
}

fn error(text: &str) -> (String, Vec<Lines>) {
    let problem = parse(text).unwrap_err();
    (problem.to_string(), problem.places().iter().flatten().copied().collect())
}

#[test]
fn continued_lines_are_joined_without_comments_and_empty_lines() {
    let node = only("RUN a \\\n  # comment\n\n b \\  \n\t#x\n c\n");
    assert_eq!(node.original, "RUN a  b  c");
    assert_eq!(node.lines, Lines::new(1, 6));
    let document = parse("RUN a \\\n\n b\n").unwrap();
    assert_eq!(document.empty_continuations, [Lines::one(3)]);
}

#[test]
fn the_escape_character_can_be_chosen() {
    let document = parse("# escape=`\nRUN a `\n b\\\nRUN c\n").unwrap();
    assert_eq!(document.escape, '`');
    assert_eq!(document.nodes[0].original, "RUN a  b\\");
    assert_eq!(document.nodes.len(), 2);
    assert_eq!(only("# note\n# escape=`\nRUN a \\\n b").original, "RUN a  b");
    assert_eq!(only("RUN a \\\\\n").original, "RUN a \\\\");
}

#[test]
fn a_file_may_end_in_a_continued_line() {
    assert_eq!(only("RUN a \\").original, "RUN a ");
    assert_eq!(only("\u{feff}RUN a\r\n").original, "RUN a");
}

#[test]
fn comments_above_belong_to_the_instruction() {
    let document = parse("# syntax=x\n# one\n#\n# two\n\nFROM a\nRUN b\n").unwrap();
    assert_eq!(document.nodes[0].comments, ["two"]);
    assert!(document.nodes[1].comments.is_empty());
}

#[test]
fn heredocs_take_the_lines_that_follow() {
    let node = only("RUN <<A cat <<-\"B\"\none\nA\n\ttwo\n\tB\n");
    assert_eq!(node.lines, Lines::new(1, 5));
    assert_eq!(node.heredocs[0].content, "one\n");
    assert_eq!(node.heredocs[1].content, "\ttwo\n");
    assert_eq!(node.heredocs[1].text(), "two\n");
    assert!(!node.heredocs[1].expand);
    let onbuild = only("ONBUILD RUN <<E\nx\nE\n");
    assert_eq!(onbuild.heredocs.len(), 1);
    assert!(only("RUN [\"a\", \"<<E\"]").heredocs.is_empty());
    assert!(only("CMD <<E").heredocs.is_empty());
}

#[test]
fn flags_and_arguments_are_separated() {
    let node = only("run --mount=type=cache,target=/x --network=none make all");
    assert_eq!(node.flags, ["--mount=type=cache,target=/x", "--network=none"]);
    assert_eq!(node.arguments, Arguments::Text("make all".into()));
    let node = only("HEALTHCHECK --interval=3s CMD [\"a\"]");
    let inner = Box::new(Arguments::Json(vec!["a".into()]));
    assert_eq!(node.arguments, Arguments::Health("CMD".into(), inner));
    let Arguments::Trigger(inner) = only("ONBUILD COPY --link a b").arguments else {
        panic!("no trigger");
    };
    assert_eq!(inner.flags, ["--link"]);
}

#[test]
fn mistakes_are_told_with_their_lines() {
    let lines = |first, last| vec![Lines::new(first, last)];
    for (text, message, places) in [
        ("", "file with no instructions", lines(0, 0)),
        ("# a\n# b\n", "file with no instructions", lines(2, 2)),
        ("FROM a\nRUN <<E\nx\n", "unterminated heredoc", lines(2, 3)),
        ("FROM a\nENV x\n", "ENV must have two arguments", lines(2, 2)),
        (
            "FROM a\nLABEL \\\n a=1 b\n",
            "Syntax error - can't find = in \"b\". Must be of the form: name=value",
            lines(2, 3),
        ),
        (
            "CMD [1]",
            "when using JSON array syntax, arrays must be comprised of strings only",
            lines(1, 1),
        ),
        ("# escape=x\n", "invalid escape token 'x' does not match ` or \\", lines(1, 1)),
        (
            "# escape=`\n# escape=`\nFROM a",
            "only one escape parser directive can be used",
            lines(2, 2),
        ),
    ] {
        assert_eq!(error(text), (message.to_owned(), places), "{text}");
    }
}

#[test]
fn a_chain_of_triggers_does_not_deepen_the_stack() {
    assert!(parse(&"ONBUILD ".repeat(100_000)).is_ok());
}

proptest! {
    #[test]
    fn any_text_ends_in_a_document_or_an_error(text in "\\PC{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn texts_like_dockerfiles_end_in_a_document_or_an_error(
        text in "((FROM|RUN|COPY|ENV|ONBUILD|CMD|HEALTHCHECK|# escape=|)[ a-z=$<\\[\"\\\\`{},-]{0,12}(\n|\r\n|\\\\\n)){0,8}",
    ) {
        let _ = parse(&text).and_then(|document| crate::instruction::read_stages(&document));
    }

    #[test]
    fn instructions_parse_to_themselves(
        words in prop::collection::vec("[a-z0-9/._-]{1,8}", 1..6),
    ) {
        let text = format!("RUN {}", words.join(" "));
        let node = only(&text);
        prop_assert_eq!(&only(&node.original), &node);
    }
}
