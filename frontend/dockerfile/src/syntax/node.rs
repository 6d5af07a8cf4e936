//! The tree that parsing makes: one node for each instruction.

use super::{Heredoc, Lines};

/// A Dockerfile as a list of instructions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The instructions in order.
    pub nodes: Vec<Node>,
    /// The character that escapes others and continues lines.
    pub escape: char,
    /// Where an empty line stood between continued lines.
    pub empty_continuations: Vec<Lines>,
}

/// One instruction, not yet understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The first word, as written.
    pub keyword: String,
    /// The whole instruction with its continued lines joined.
    pub original: String,
    /// Words before the arguments that begin with `--`.
    pub flags: Vec<String>,
    /// The rest, split as the keyword asks for.
    pub arguments: Arguments,
    /// Here-documents in the order of their mention.
    pub heredocs: Vec<Heredoc>,
    /// The comment lines directly above.
    pub comments: Vec<String>,
    /// Where it stands.
    pub lines: Lines,
}

/// The arguments of an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arguments {
    /// There are none.
    None,
    /// A JSON array of strings.
    Json(Vec<String>),
    /// The text as it stands.
    Text(String),
    /// Words; quotes are still in them.
    Words(Vec<String>),
    /// Names and values.
    Pairs(Vec<Pair>),
    /// The instruction that `ONBUILD` keeps.
    Trigger(Box<Node>),
    /// `HEALTHCHECK`: its first word, and what follows.
    Health(String, Box<Arguments>),
}

/// A name and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The name.
    pub key: String,
    /// The value; quotes are still in it until it is expanded.
    pub value: String,
    /// True for the old form `KEY value`, without an equal sign.
    pub legacy: bool,
}

impl Pair {
    /// Returns `key=value`.
    pub fn joined(&self) -> String {
        [&self.key, "=", &self.value].concat()
    }
}

impl Arguments {
    /// Returns the arguments as plain strings, whatever their form.
    pub fn to_list(&self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::Json(items) | Self::Words(items) => items.clone(),
            Self::Text(text) => vec![text.clone()],
            Self::Pairs(pairs) => pairs.iter().map(Pair::joined).collect(),
            Self::Trigger(node) => {
                let mut list = vec![node.keyword.clone()];
                list.extend(node.arguments.to_list());
                list
            }
            Self::Health(kind, rest) => {
                let mut list = vec![kind.clone()];
                list.extend(rest.to_list());
                list
            }
        }
    }

    /// Returns true for a JSON array.
    pub fn is_json(&self) -> bool {
        match self {
            Self::Json(_) => true,
            Self::Health(_, rest) => rest.is_json(),
            Self::None | Self::Text(_) | Self::Words(_) | Self::Pairs(_) | Self::Trigger(_) => {
                false
            }
        }
    }
}
