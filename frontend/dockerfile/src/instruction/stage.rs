//! Stages: what stands between one `FROM` and the next.

use std::sync::Arc;

use super::flag::{Flags, Takes};
use super::{Action, Argument, Instruction, InstructionError, description, read};
use crate::error::Problem;
use crate::syntax::{Document, Lines, Node};

/// A stage of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Its name in lower case; empty if it has none.
    pub name: String,
    /// What it begins with: a stage, an image, a named context, `scratch`. Not yet expanded.
    pub base: String,
    /// `--platform`, not yet expanded; empty if not given.
    pub platform: String,
    /// What the comment above says about it.
    pub description: String,
    /// `FROM`, as written.
    pub keyword: String,
    /// The text of `FROM`.
    pub code: String,
    /// Where `FROM` stands.
    pub lines: Lines,
    /// The comment lines directly above.
    pub comments: Vec<String>,
    /// What is done in it: the same for each platform that is built for.
    pub instructions: Vec<Arc<Instruction>>,
}

/// Something a linter wants to know that is lost once the stages are read, and known if one cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    /// What it is.
    pub(crate) kind: Notes,
    /// Where it stands.
    pub(crate) lines: Lines,
    /// The comment lines directly above.
    pub(crate) comments: Vec<String>,
}

/// What a linter wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notes {
    /// A stage's name as written, not in lower case.
    StageNameCase(String),
    /// `FROM` and `as` as written, in different case.
    AsCase(String, String),
    /// `MAINTAINER` was used.
    Maintainer,
    /// A comment above says nothing about the names that are defined: keyword, names.
    Description(&'static str, Vec<String>),
}

/// The stages of a file, and the arguments before the first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stages {
    /// The stages in order.
    pub stages: Vec<Stage>,
    /// The `ARG` instructions before the first, with their places.
    pub arguments: Vec<(Vec<Argument>, Lines)>,
}

/// Reads all instructions of a file.
///
/// # Errors
/// Names the line and what is wrong with it.
pub fn read_stages(document: &Document) -> Result<Stages, Problem> {
    note_stages(document, &mut Vec::new())
}

/// Reads all instructions of a file, as [`read_stages`] does; what a linter wants to know goes to `notes`.
pub(crate) fn note_stages(document: &Document, notes: &mut Vec<Note>) -> Result<Stages, Problem> {
    let mut all = Stages::default();
    for node in &document.nodes {
        let wrong = |error: InstructionError| {
            let context = format!("dockerfile parse error on line {}", node.lines.first);
            Problem::from(error).context(context).at(node.lines)
        };
        note_keywords(node, notes);
        if node.keyword.eq_ignore_ascii_case("from") {
            all.stages.push(from(node).map_err(wrong)?);
            note_description(node, notes);
            continue;
        }
        let instruction = read(node).map_err(wrong)?;
        note_description(node, notes);
        match (all.stages.last_mut(), instruction.action) {
            (None, Action::Arg(arguments)) => all.arguments.push((arguments, node.lines)),
            (None, _) => return Err(Problem::from(InstructionError::NoStage).at(node.lines)),
            (Some(stage), action) => {
                stage.instructions.push(Arc::new(Instruction { action, ..instruction }));
            }
        }
    }
    Ok(all)
}

fn from(node: &Node) -> Result<Stage, InstructionError> {
    let words = node.arguments.to_list();
    let name = match words.as_slice() {
        [_] => String::new(),
        [_, keyword, name] if keyword.eq_ignore_ascii_case("as") => {
            let lower = name.to_lowercase();
            if !is_stage_name(&lower) {
                return Err(InstructionError::StageName(name.clone()));
            }
            lower
        }
        _ => return Err(InstructionError::From),
    };
    let flags = Flags::read(&node.flags, &[("platform", Takes::Text)])?;
    Ok(Stage {
        description: description(&node.comments, &name),
        name,
        base: words.into_iter().next().unwrap_or_default(),
        platform: flags.text_or_empty("platform"),
        keyword: node.keyword.clone(),
        code: node.original.trim().to_owned(),
        lines: node.lines,
        comments: node.comments.clone(),
        instructions: Vec::new(),
    })
}

fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c))
}

fn note(node: &Node, kind: Notes) -> Note {
    Note { kind, lines: node.lines, comments: node.comments.clone() }
}

/// Notes what can be seen before an instruction is understood.
fn note_keywords(node: &Node, notes: &mut Vec<Note>) {
    if node.keyword.eq_ignore_ascii_case("maintainer") {
        notes.push(note(node, Notes::Maintainer));
    }
    if !node.keyword.eq_ignore_ascii_case("from") {
        return;
    }
    let words = node.arguments.to_list();
    let [_, keyword, name, rest @ ..] = words.as_slice() else {
        return;
    };
    if rest.is_empty() && *name != name.to_lowercase() {
        notes.push(note(node, Notes::StageNameCase(name.clone())));
    }
    if cases_differ(&node.keyword, keyword) {
        notes.push(note(node, Notes::AsCase(node.keyword.clone(), keyword.clone())));
    }
}

/// Notes a comment that says nothing about what is defined below it.
fn note_description(node: &Node, notes: &mut Vec<Note>) {
    // What has no comment above is not described wrongly either.
    if node.comments.is_empty() {
        return;
    }
    let (keyword, names) = match node.keyword.to_ascii_lowercase().as_str() {
        "from" => {
            let words = node.arguments.to_list();
            let [_, _, name] = words.as_slice() else {
                return;
            };
            ("FROM", vec![name.to_lowercase()])
        }
        "arg" => {
            let name = |word: &String| {
                word.split_once('=').map_or(word.as_str(), |(name, _)| name).to_owned()
            };
            ("ARG", node.arguments.to_list().iter().map(name).collect())
        }
        _ => return,
    };
    if undescribed(node, &names) {
        notes.push(note(node, Notes::Description(keyword, names)));
    }
}

/// A keyword of mixed case is another rule's matter.
fn cases_differ(from: &str, keyword: &str) -> bool {
    if from == from.to_lowercase() {
        keyword != keyword.to_lowercase()
    } else {
        from == from.to_uppercase() && keyword != keyword.to_uppercase()
    }
}

fn undescribed(node: &Node, names: &[String]) -> bool {
    let last = node.comments.last();
    let subject = last.map(|comment| comment.split(' ').next().unwrap_or_default());
    !names.is_empty() && subject.is_some_and(|subject| names.iter().all(|name| name != subject))
}

#[cfg(test)]
mod tests;
