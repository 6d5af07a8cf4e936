//! What of a build is scanned for a list of its contents (SBOM), beside its result.
//!
//! Two arguments say so, where they hold: `BUILDKIT_SBOM_SCAN_CONTEXT` in the wanted stage, and
//! `BUILDKIT_SBOM_SCAN_STAGE` in each stage that it is made from. A value is a boolean, or a list of the
//! stages that are meant.

use std::collections::BTreeMap;

use llb::State;

use crate::expand::{Environment, Variables as _};
use crate::instruction::{Argument, parse_bool};

const CONTEXT: &str = "BUILDKIT_SBOM_SCAN_CONTEXT";
const STAGE: &str = "BUILDKIT_SBOM_SCAN_STAGE";

/// Arguments that speak to the frontend: commands do not see them.
pub(crate) const NOT_IN_ENVIRONMENT: [&str; 2] = [CONTEXT, STAGE];

/// What is scanned beside the result.
#[derive(Debug, Clone, Default)]
pub(crate) struct ScanExtras {
    /// Trees by the names that scanners know them by.
    pub(crate) trees: BTreeMap<String, State>,
    /// Whether any tree that is scanned was made without the cache.
    pub(crate) ignore_cache: bool,
}

/// What the arguments of a stage say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ScanWishes {
    /// Whether the build context is scanned, if this stage is the wanted one.
    pub(super) context: bool,
    /// Whether the stage is scanned, if it is not the wanted one.
    pub(super) stage: bool,
}

impl ScanWishes {
    /// Reads them. `declared` are the arguments of the stage and of those it is made from, `globals` those
    /// of the whole file: these hold without being declared again.
    pub(super) fn of(stage: &str, declared: &[Argument], globals: &Environment) -> Self {
        let value = |name: &str| {
            let last = declared.iter().rev().find(|argument| argument.name == name);
            let last = last.and_then(|argument| argument.default.as_deref());
            last.or_else(|| globals.value(name))
        };
        let means = |name: &str| value(name).is_some_and(|value| means_stage(value, stage));
        Self { context: means(CONTEXT), stage: means(STAGE) }
    }
}

fn means_stage(value: &str, stage: &str) -> bool {
    parse_bool(value).unwrap_or_else(|| value.split(',').any(|name| name == stage))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_a_boolean_or_a_list_of_stages() {
        for (value, expected) in [
            ("true", true),
            ("1", true),
            ("false", false),
            ("", false),
            ("base", true),
            ("other,base", true),
            ("other", false),
            ("Base", false),
        ] {
            assert_eq!(means_stage(value, "base"), expected, "{value}");
        }
    }
}
