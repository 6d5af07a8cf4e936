//! Path patterns as Dockerfiles and ignore files write them.
//!
//! Two languages share one matcher. A [`Glob`] is a wildcard of `COPY` (Go's `filepath.Match`: `*`,
//! `?`, `[a-z]`, `\c`; neither star nor question mark crosses a `/`). A [`PatternList`] is the content of a
//! `.dockerignore`, or the include and exclude lists of a copy: `**` stands for whole directories, at the end of a
//! pattern and in `**.ext` for anything; `!` takes back, the last pattern that matches decides, and what matches a
//! directory matches all below it.

mod glob;
mod list;

pub use glob::{Glob, PatternError};
pub use list::PatternList;
