//! Rules of style and of caution, and what a file says about which of them it wants to hear.

pub(crate) mod caches;
pub(crate) mod checks;
mod config;
mod linter;
pub(crate) mod rules;

pub(crate) use config::LintConfig;
pub(crate) use linter::{LintWarning, Linter};
pub(crate) use rules::Rule;
