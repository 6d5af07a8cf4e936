//! Parser directives: the comments at the very top that say how the file is to be read.

use std::collections::BTreeSet;

use super::{Lines, SyntaxError};

const KNOWN: [&str; 3] = ["syntax", "escape", "check"];

/// One directive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directive {
    /// Its name in lower case.
    pub(crate) name: String,
    /// Its value, without white space around it.
    pub(crate) value: String,
    /// Where it stands.
    pub(crate) lines: Lines,
}

/// Reads directives line by line until the first line that is none.
#[derive(Debug)]
pub(crate) struct DirectiveReader {
    prefix: &'static str,
    line: u32,
    seen: BTreeSet<String>,
    done: bool,
}

impl DirectiveReader {
    /// Returns a reader of directives that begin with `prefix`.
    pub(crate) fn new(prefix: &'static str) -> Self {
        Self::after_line(prefix, 0)
    }

    fn after_line(prefix: &'static str, line: u32) -> Self {
        Self { prefix, line, seen: BTreeSet::new(), done: false }
    }

    /// Reads one line; none if it is no directive, after which nothing is.
    pub(crate) fn read(&mut self, line: &str) -> Result<Option<Directive>, SyntaxError> {
        self.line += 1;
        if self.done {
            return Ok(None);
        }
        let parsed = line.strip_prefix(self.prefix).and_then(|rest| split(rest.trim_start()));
        let Some((name, value)) = parsed else {
            self.done = true;
            return Ok(None);
        };
        let name = name.to_ascii_lowercase();
        if !KNOWN.contains(&name.as_str()) {
            self.done = true;
            return Ok(None);
        }
        if !self.seen.insert(name.clone()) {
            return Err(SyntaxError::DirectiveRepeated(name));
        }
        Ok(Some(Directive { name, value: value.to_owned(), lines: Lines::one(self.line) }))
    }
}

fn split(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.split_once('=')?;
    let (name, value) = (name.trim_end(), value.trim());
    let word = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric());
    (word && !value.is_empty()).then_some((name, value))
}

/// The frontend that a file asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxDirective {
    /// The first word of the value: an image.
    pub reference: String,
    /// The whole value.
    pub command_line: String,
    /// Where it stands.
    pub lines: Lines,
}

/// Returns the frontend that a file asks for: `# syntax=…`, `// syntax=…`, or a JSON object with a
/// member `syntax`.
pub fn detect_syntax(text: &str) -> Option<SyntaxDirective> {
    let (text, offset) = without_preamble(text);
    let found = find("syntax", "#", text, offset).or_else(|| find("syntax", "//", text, offset));
    if let Some(directive) = found {
        return Some(syntax(directive.value, directive.lines));
    }
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).ok()?;
    match object.get("syntax")? {
        serde_json::Value::String(value) => Some(SyntaxDirective {
            reference: value.clone(),
            command_line: value.clone(),
            lines: Lines::one(offset + 1),
        }),
        _ => None,
    }
}

/// Returns the value of the directive `check`.
pub fn check_directive(text: &str) -> Option<String> {
    let (text, offset) = without_preamble(text);
    find("check", "#", text, offset)
        .map(|directive| directive.value.split(' ').next().unwrap_or_default().to_owned())
}

fn syntax(value: String, lines: Lines) -> SyntaxDirective {
    let reference = value.split(' ').next().unwrap_or_default().to_owned();
    SyntaxDirective { reference, command_line: value, lines }
}

fn find(name: &str, prefix: &'static str, text: &str, offset: u32) -> Option<Directive> {
    let mut reader = DirectiveReader::after_line(prefix, offset);
    for line in text.lines() {
        match reader.read(line) {
            Ok(Some(directive)) if directive.name == name => return Some(directive),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return None,
        }
    }
    None
}

/// Drops a byte order mark and an interpreter line; returns how many lines were dropped.
fn without_preamble(text: &str) -> (&str, u32) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.starts_with("#!") {
        (text.split_once('\n').map_or("", |(_, rest)| rest), 1)
    } else {
        (text, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command_line(text: &str) -> Option<String> {
        detect_syntax(text).map(|found| found.command_line)
    }

    #[test]
    fn a_syntax_directive_is_found_in_each_form() {
        assert_eq!(command_line("# syntax=a/b:1\nFROM x").as_deref(), Some("a/b:1"));
        assert_eq!(command_line("# escape=`\n#SYNTAX = a b\n").as_deref(), Some("a b"));
        assert_eq!(command_line("#!/bin/x\n// syntax=a\n").as_deref(), Some("a"));
        assert_eq!(command_line("{\"syntax\": \"a\"}").as_deref(), Some("a"));
        assert_eq!(command_line("\u{feff}# syntax=a\n").as_deref(), Some("a"));
        assert_eq!(detect_syntax("# syntax=a b c").map(|s| s.reference).as_deref(), Some("a"));
    }

    #[test]
    fn a_comment_or_an_instruction_ends_the_directives() {
        assert_eq!(command_line("# hello\n# syntax=a\n"), None);
        assert_eq!(command_line("\n# syntax=a\n"), None);
        assert_eq!(command_line("FROM x\n# syntax=a\n"), None);
        assert_eq!(command_line("# unknown=1\n# syntax=a\n"), None);
    }

    #[test]
    fn the_line_of_a_directive_counts_the_interpreter_line() {
        let found = detect_syntax("#!/bin/x\n# escape=`\n# syntax=a\n").map(|s| s.lines);
        assert_eq!(found, Some(Lines::one(3)));
    }
}
