//! What can be wrong with the outer form of a Dockerfile.

use crate::quote::quoted;

/// Why a text is not a sequence of instructions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// A parser directive was given twice.
    #[error("only one {0} parser directive can be used")]
    DirectiveRepeated(String),
    /// The escape directive names another character than backslash or backtick.
    #[error("invalid escape token '{0}' does not match ` or \\")]
    EscapeToken(String),
    /// A here-document's end was not found.
    #[error("unterminated heredoc")]
    HeredocUnterminated,
    /// A JSON array has an element that is no string.
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    JsonNotStrings,
    /// `ENV` or `LABEL` with a name alone.
    #[error("{0} must have two arguments")]
    TwoArguments(&'static str),
    /// A word of `ENV` or `LABEL` has no `=`.
    #[error("Syntax error - can't find = in {}. Must be of the form: name=value", quoted(.0))]
    NoEqualSign(String),
    /// There is nothing but comments.
    #[error("file with no instructions")]
    NoInstructions,
}
