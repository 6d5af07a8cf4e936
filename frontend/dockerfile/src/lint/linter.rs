//! Collects what the rules find.

use std::collections::BTreeSet;

use super::{LintConfig, Rule};
use crate::syntax::Lines;

/// What a rule found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LintWarning {
    /// The rule.
    pub(crate) rule: &'static Rule,
    /// What is wrong here.
    pub(crate) message: String,
    /// Where.
    pub(crate) lines: Lines,
}

impl LintWarning {
    /// Returns the line that clients show.
    pub(crate) fn short(&self) -> String {
        let Self { rule, message, lines } = self;
        match lines.first {
            0 => format!("{}: {message}", rule.name),
            line => format!("{}: {message} (line {line})", rule.name),
        }
    }
}

/// Collects what the rules find.
#[derive(Debug, Clone, Default)]
pub(crate) struct Linter {
    config: LintConfig,
    warnings: Vec<LintWarning>,
}

impl Linter {
    /// Returns a linter for the rules that are wanted.
    pub(crate) const fn new(config: LintConfig) -> Self {
        Self { config, warnings: Vec::new() }
    }

    /// Reports what a rule found at an instruction with these comments above it.
    pub(crate) fn report(
        &mut self,
        rule: &'static Rule,
        lines: Lines,
        comments: &[String],
        message: impl Into<String>,
    ) {
        if self.config.with_comments(comments).wants(rule) {
            self.warnings.push(LintWarning { rule, lines, message: message.into() });
        }
    }

    /// Returns what was found so far.
    pub(crate) fn warnings(&self) -> &[LintWarning] {
        &self.warnings
    }

    /// Returns the rules that were violated, if that is to end the build.
    pub(crate) fn violations(&self) -> Option<String> {
        if !self.config.is_error || self.warnings.is_empty() {
            return None;
        }
        let names: BTreeSet<_> = self.warnings.iter().map(|warning| warning.rule.name).collect();
        let names: Vec<_> = names.into_iter().collect();
        Some(names.join(", "))
    }
}
