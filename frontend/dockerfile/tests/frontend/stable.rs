//! What was parsed can be written down, and means the same when it is read again.

use dockerfile::syntax::{Arguments, Document, Lines, Node, parse};
use proptest::prelude::*;

/// Writes a document down: each instruction on one line, after its comments, before its here-documents.
fn print(document: &Document) -> String {
    // A first line that is no directive keeps comments from being read as directives.
    let mut text = match document.escape {
        '\\' => String::from("#\n"),
        escape => format!("# escape={escape}\n#\n"),
    };
    for node in &document.nodes {
        for comment in &node.comments {
            text.push_str(&format!("# {comment}\n"));
        }
        text.push_str(node.original.trim());
        if continues(&node.original, document.escape) {
            // Only the end of the file can end such a line.
            text.push(' ');
            text.push(document.escape);
        }
        text.push('\n');
        for heredoc in &node.heredocs {
            text.push_str(&heredoc.content);
            text.push_str(&heredoc.name);
            text.push('\n');
        }
    }
    text
}

/// Returns true if the line would be read as one that goes on.
fn continues(line: &str, escape: char) -> bool {
    let line = line.trim_end();
    line.strip_suffix(escape).is_some_and(|before| !before.ends_with(escape))
}

/// Returns the instructions without their places, which printing changes.
fn meaning(document: &Document) -> Vec<Node> {
    let without_place = |node: &Node| {
        let mut node = Node { lines: Lines::one(0), ..node.clone() };
        node.original = node.original.trim().to_owned();
        if let Arguments::Trigger(inner) = &mut node.arguments {
            inner.original = inner.original.trim().to_owned();
        }
        node
    };
    document.nodes.iter().map(without_place).collect()
}

fn assert_stable(text: &str) {
    let Ok(document) = parse(text) else {
        return;
    };
    // Nothing but continued lines: an instruction without a word cannot be written.
    if document.nodes.iter().any(|node| node.original.trim().is_empty()) {
        return;
    }
    let printed = print(&document);
    let again = parse(&printed).unwrap_or_else(|error| panic!("{error}: {printed:?}"));
    assert_eq!(meaning(&again), meaning(&document), "{text:?} as {printed:?}");
    assert_eq!(again.escape, document.escape);
    assert_eq!(print(&again), printed, "{text:?}");
}

#[test]
fn every_file_of_the_corpus_is_stable() {
    for topic in [
        include_str!("corpus/heredoc.txt"),
        include_str!("corpus/lines.txt"),
        include_str!("corpus/onbuild.txt"),
        include_str!("corpus/real.txt"),
        include_str!("corpus/real_bases.txt"),
        include_str!("corpus/real_services.txt"),
        include_str!("corpus/real_systems.txt"),
        include_str!("corpus/real_tools.txt"),
        include_str!("corpus/run.txt"),
    ] {
        for case in topic.split("=== ").skip(1) {
            assert_stable(case.split_once('\n').unwrap().1);
        }
    }
}

const LINE: &str = "(# ?(escape=`|syntax=x|note)?|(FROM|RUN|COPY|ENV|LABEL|ONBUILD RUN|onbuild copy|CMD|HEALTHCHECK CMD) \
                    (--[a-z]{1,4}=[a-z\"]{0,3} )?(<<-?[\"']?E[\"']? )?[a-z=$ \t\\[\\]\"'\\\\`#{}]{0,10}|\t?E|[ \t\\\\`]{0,3})";

proptest! {
    #[test]
    fn what_is_printed_means_the_same(
        lines in prop::collection::vec(prop::string::string_regex(LINE).unwrap(), 0..12),
        ends in prop::collection::vec("(\n|\r\n|\\\\\n|`\n|\\\\ \n)", 12),
    ) {
        let text: String = lines.iter().zip(&ends).map(|(line, end)| format!("{line}{end}")).collect();
        assert_stable(&text);
    }
}
