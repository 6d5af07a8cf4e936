//! From text to nodes: continued lines, comments between them, here-documents.

use std::iter::Peekable;
use std::str::SplitInclusive;

use super::flags::split_flags;
use super::heredoc::announced;
use super::words;
use super::{Arguments, DirectiveReader, Document, Lines, Node, SyntaxError};
use crate::error::Problem;

/// Splits a Dockerfile into instructions.
///
/// # Errors
/// Says where the text stops being a sequence of instructions.
pub fn parse(text: &str) -> Result<Document, Problem> {
    Parser::new(text).run()
}

struct Parser<'a> {
    lines: Peekable<SplitInclusive<'a, char>>,
    /// Number of the line read last, from 1.
    line: u32,
    directives: DirectiveReader,
    escape: char,
    comments: Vec<String>,
    nodes: Vec<Node>,
    empty_continuations: Vec<Lines>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self {
            lines: text.split_inclusive('\n').peekable(),
            line: 0,
            directives: DirectiveReader::new("#"),
            escape: '\\',
            comments: Vec::new(),
            nodes: Vec::new(),
            empty_continuations: Vec::new(),
        }
    }

    fn run(mut self) -> Result<Document, Problem> {
        while let Some(raw) = self.next_line() {
            let line = trim_newline(raw).trim_start();
            if line.starts_with('#') {
                self.read_comment(line)?;
                continue;
            }
            // Only the first lines can be directives, and an instruction ends them.
            let _ = self.directives.read(line);
            let first = self.line;
            let (start, mut ended) = self.cut_continuation(line);
            if ended && start.is_empty() {
                continue;
            }
            let mut joined = start.to_owned();
            if !ended {
                ended = self.join_continued(&mut joined);
            }
            let _ = ended;
            self.finish_instruction(&joined, first)?;
        }
        if self.nodes.is_empty() {
            return Err(Problem::from(SyntaxError::NoInstructions).at(Lines::one(self.line)));
        }
        Ok(Document {
            nodes: self.nodes,
            escape: self.escape,
            empty_continuations: self.empty_continuations,
        })
    }

    fn next_line(&mut self) -> Option<&'a str> {
        let line = self.lines.next()?;
        self.line = self.line.saturating_add(1);
        Some(line)
    }

    fn read_comment(&mut self, line: &str) -> Result<(), Problem> {
        let here = Lines::one(self.line);
        let directive = self.directives.read(line).map_err(|e| Problem::from(e).at(here))?;
        if let Some(directive) = directive {
            if directive.name == "escape" {
                self.escape =
                    escape_token(&directive.value).map_err(|e| Problem::from(e).at(here))?;
            }
            return Ok(());
        }
        let comment = line[1..].trim();
        if comment.is_empty() {
            self.comments.clear();
        } else {
            self.comments.push(comment.to_owned());
        }
        Ok(())
    }

    /// Appends the lines that continue the instruction; returns true if it ended before the file did.
    fn join_continued(&mut self, joined: &mut String) -> bool {
        let mut empty = false;
        let mut ended = false;
        while !ended {
            let Some(raw) = self.next_line() else {
                break;
            };
            let line = trim_newline(raw);
            let text = line.trim_start();
            if text.starts_with('#') {
                continue;
            }
            if text.is_empty() {
                empty = true;
                continue;
            }
            let (part, end) = self.cut_continuation(line);
            joined.push_str(part);
            ended = end;
        }
        if empty {
            self.empty_continuations.push(Lines::one(self.line));
        }
        ended
    }

    /// Removes an escape character at the end of a line; returns false beside it if there was one.
    fn cut_continuation<'l>(&self, line: &'l str) -> (&'l str, bool) {
        let trimmed = line.trim_end_matches([' ', '\t']);
        match trimmed.strip_suffix(self.escape) {
            Some(before) if !before.ends_with(self.escape) => (before, false),
            Some(_) | None => (line, true),
        }
    }

    fn finish_instruction(&mut self, joined: &str, first: u32) -> Result<(), Problem> {
        let here = Lines::new(first, self.line);
        let mut node = node(joined, self.escape).map_err(|e| Problem::from(e).at(here))?;
        if takes_heredocs(&node) && joined.contains("<<") {
            for mut heredoc in announced(joined) {
                loop {
                    let Some(raw) = self.next_line() else {
                        let lines = Lines::new(first, self.line);
                        return Err(Problem::from(SyntaxError::HeredocUnterminated).at(lines));
                    };
                    if heredoc.ends_at(raw) {
                        break;
                    }
                    heredoc.content.push_str(raw);
                }
                node.heredocs.push(heredoc);
            }
        }
        node.lines = Lines::new(first, self.line);
        node.comments = std::mem::take(&mut self.comments);
        self.nodes.push(node);
        Ok(())
    }
}

fn trim_newline(line: &str) -> &str {
    line.trim_end_matches(['\r', '\n'])
}

fn escape_token(value: &str) -> Result<char, SyntaxError> {
    match value {
        "\\" => Ok('\\'),
        "`" => Ok('`'),
        _ => Err(SyntaxError::EscapeToken(value.to_owned())),
    }
}

/// Splits one joined line into keyword, flags and arguments.
fn node(line: &str, escape: char) -> Result<Node, SyntaxError> {
    let (keyword, rest) = words::split_first(line.trim());
    let (flags, rest) = rest.map_or((Vec::new(), ""), |rest| split_flags(rest, escape));
    Ok(Node {
        keyword: keyword.to_owned(),
        original: line.to_owned(),
        flags,
        arguments: arguments(keyword, rest.trim(), escape)?,
        heredocs: Vec::new(),
        comments: Vec::new(),
        lines: Lines::one(0),
    })
}

fn arguments(keyword: &str, rest: &str, escape: char) -> Result<Arguments, SyntaxError> {
    match keyword.to_ascii_lowercase().as_str() {
        "add" | "copy" | "volume" => words::json_or_delimited(rest),
        "arg" => Ok(match words::quoted_words(rest, escape) {
            words if words.is_empty() => Arguments::None,
            words => Arguments::Words(words.into_iter().map(str::to_owned).collect()),
        }),
        "cmd" | "entrypoint" | "run" | "shell" => words::json_or_text(rest),
        "env" => words::pairs(rest, "ENV", escape),
        "label" => words::pairs(rest, "LABEL", escape),
        "expose" | "from" => Ok(words::delimited(rest)),
        "healthcheck" => words::health(rest),
        "maintainer" | "stopsignal" | "user" | "workdir" => Ok(words::whole(rest)),
        "onbuild" => trigger(rest, escape),
        // An unknown keyword is told about later, with a suggestion.
        _ => Ok(Arguments::None),
    }
}

fn trigger(rest: &str, escape: char) -> Result<Arguments, SyntaxError> {
    if rest.is_empty() {
        return Ok(Arguments::None);
    }
    // A chain of ONBUILD is refused later: going into it here would only deepen the stack.
    let (keyword, _) = words::split_first(rest);
    if keyword.eq_ignore_ascii_case("onbuild") {
        return Ok(Arguments::Words(vec![keyword.to_owned()]));
    }
    Ok(Arguments::Trigger(Box::new(node(rest, escape)?)))
}

fn takes_heredocs(node: &Node) -> bool {
    let node = match &node.arguments {
        Arguments::Trigger(inner) if node.keyword.eq_ignore_ascii_case("onbuild") => inner,
        _ => node,
    };
    let is_one = |keyword| node.keyword.eq_ignore_ascii_case(keyword);
    ["add", "copy", "run"].into_iter().any(is_one) && !node.arguments.is_json()
}

#[cfg(test)]
mod tests;
