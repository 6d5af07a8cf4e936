//! Path patterns as Dockerfiles and ignore files write them.
//!
//! Two languages share one matcher. A [`Glob`] is a wildcard of `COPY` (Go's `filepath.Match`: `*`,
//! `?`, `[a-z]`, `\c`, none of which crosses a `/`). A [`PatternList`] is the content of a
//! `.dockerignore`, or the include and exclude lists of a copy: `**` crosses directories, `!` takes
//! back, the last pattern that matches decides, and what matches a directory matches all below it.

mod glob;
mod list;

pub use glob::{Glob, PatternError};
pub use list::PatternList;
