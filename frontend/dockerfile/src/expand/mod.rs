//! Variables in words: `$name`, `${name:-word}` and its relatives, quotes, escapes.

mod collected;
mod cursor;
mod lexer;
mod pattern;
mod variables;

pub use lexer::{ExpandError, Expansion, Lexer};
pub use variables::{Environment, NoVariables, Variables};
