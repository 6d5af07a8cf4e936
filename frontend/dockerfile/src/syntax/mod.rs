//! The outer form of a Dockerfile: lines, directives, here-documents, words and flags.
//!
//! Nothing here knows what an instruction means; [`parse()`] returns nodes whose arguments are split
//! in the way their keyword asks for.

mod directive;
mod error;
mod flags;
mod heredoc;
mod lines;
mod node;
mod parse;
mod words;

pub(crate) use directive::DirectiveReader;
pub use directive::{SyntaxDirective, check_directive, detect_syntax};
pub use error::SyntaxError;
pub use heredoc::Heredoc;
pub(crate) use heredoc::parse_heredoc;
pub use lines::Lines;
pub use node::{Arguments, Document, Node, Pair};
pub use parse::parse;
