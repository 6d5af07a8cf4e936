//! `ADD` and `COPY`.

use super::InstructionError;
use super::flag::{Flags, Takes};
use crate::syntax::{Heredoc, Node, parse_heredoc};

/// Files to be put into the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyFiles {
    /// `ADD` or `COPY`.
    pub kind: SourceKind,
    /// Paths, and for `ADD` addresses.
    pub sources: Vec<String>,
    /// Files whose content stands in the Dockerfile.
    pub inline: Vec<InlineFile>,
    /// Where they go.
    pub destination: String,
    /// `--from`: a stage, an image or a named context; empty for the build context.
    pub from: String,
    /// `--chown`.
    pub owner: String,
    /// `--chmod`.
    pub mode: String,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`.
    pub exclude: Vec<String>,
    /// `--checksum`.
    pub checksum: String,
    /// `--keep-git-dir`, if given.
    pub keep_git_dir: Option<bool>,
    /// `--unpack`, if given.
    pub unpack: Option<bool>,
}

/// Which of the two instructions it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// `ADD`: also archives and addresses.
    Add,
    /// `COPY`: files alone.
    Copy,
}

impl SourceKind {
    /// Returns the keyword.
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Copy => "COPY",
        }
    }
}

/// A file whose content stands in the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineFile {
    /// Its name.
    pub name: String,
    /// Its content.
    pub content: String,
    /// Whether variables in it are expanded.
    pub expand: bool,
}

const ADD_FLAGS: [(&str, Takes); 7] = [
    ("chown", Takes::Text),
    ("chmod", Takes::Text),
    ("link", Takes::Bool),
    ("keep-git-dir", Takes::Bool),
    ("checksum", Takes::Text),
    ("unpack", Takes::Bool),
    ("exclude", Takes::Texts),
];

const COPY_FLAGS: [(&str, Takes); 6] = [
    ("chown", Takes::Text),
    ("from", Takes::Text),
    ("chmod", Takes::Text),
    ("link", Takes::Bool),
    ("exclude", Takes::Texts),
    ("parents", Takes::Bool),
];

pub(super) fn read(node: &Node, kind: SourceKind) -> Result<CopyFiles, InstructionError> {
    let keyword = kind.keyword();
    let mut words = node.arguments.to_list();
    let rule = "requires at least two arguments, but only one was provided. \
                Destination could not be determined";
    let destination = match words.pop() {
        Some(last) if !words.is_empty() => last,
        Some(_) | None => return Err(InstructionError::Arguments { keyword, rule }),
    };
    let flags = Flags::read(
        &node.flags,
        match kind {
            SourceKind::Add => &ADD_FLAGS[..],
            SourceKind::Copy => &COPY_FLAGS[..],
        },
    )?;
    if parse_heredoc(&destination).is_some() {
        let rule = "cannot accept a heredoc as a destination";
        return Err(InstructionError::Arguments { keyword, rule });
    }
    let (sources, inline) = split_sources(words, node);
    Ok(CopyFiles {
        kind,
        sources,
        inline,
        destination,
        from: flags.text_or_empty("from"),
        owner: flags.text_or_empty("chown"),
        mode: flags.text_or_empty("chmod"),
        link: flags.bool("link").unwrap_or(false),
        parents: flags.bool("parents").unwrap_or(false),
        exclude: flags.texts("exclude"),
        checksum: flags.text_or_empty("checksum"),
        keep_git_dir: flags.bool("keep-git-dir"),
        unpack: flags.bool("unpack"),
    })
}

fn split_sources(words: Vec<String>, node: &Node) -> (Vec<String>, Vec<InlineFile>) {
    let mut sources = Vec::new();
    let mut inline = Vec::new();
    for word in words {
        match parse_heredoc(&word) {
            None => sources.push(word),
            Some(announced) => {
                let found = node.heredocs.iter().rev().find(|doc| doc.name == announced.name);
                let content = found.map(|doc| doc.content.clone()).unwrap_or_default();
                let content = Heredoc { content, ..announced.clone() }.text();
                inline.push(InlineFile { name: announced.name, content, expand: announced.expand });
            }
        }
    }
    (sources, inline)
}
