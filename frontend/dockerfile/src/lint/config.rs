//! Which rules are wanted: `skip=a,b;error=true;experimental=all`.

use std::collections::BTreeSet;

use crate::instruction::parse_bool;
use crate::lower::OptionError;
use crate::quote::quoted;
use crate::syntax::DirectiveReader;

/// Which rules are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LintConfig {
    /// No rule at all.
    skip_all: bool,
    /// Not these.
    skip: BTreeSet<String>,
    /// Also all those that are being tried out.
    experimental_all: bool,
    /// Also these of them.
    experimental: BTreeSet<String>,
    /// Whether a warning ends the build.
    pub(crate) is_error: bool,
}

impl LintConfig {
    /// Reads the value of `# check=`.
    pub(crate) fn parse(text: &str) -> Result<Self, OptionError> {
        Self::parse_as("check options", text)
    }

    /// Reads a value that is called `what` if it is wrong.
    pub(crate) fn parse_as(what: &str, text: &str) -> Result<Self, OptionError> {
        let what = format!("failed to parse {what}");
        let mut config = Self::default();
        let text = text.trim();
        if text.is_empty() {
            return Ok(config);
        }
        for part in text.splitn(3, ';') {
            let because = |reason| OptionError::Value { what: what.clone(), reason };
            let wrong = |shown: &str| because(format!("invalid check option {}", quoted(shown)));
            let (key, value) = part.split_once('=').ok_or_else(|| wrong(part))?;
            match (key.trim(), value.trim()) {
                ("skip", "all") => config.skip_all = true,
                ("skip", names) => config.skip = list(names),
                ("experimental", "all") => config.experimental_all = true,
                ("experimental", names) => config.experimental = list(names),
                ("error", value) => {
                    config.is_error = parse_bool(value).ok_or_else(|| {
                        let (part, value) = (quoted(part), quoted(value));
                        because(format!(
                            "failed to parse check option {part}: strconv.ParseBool: parsing {value}: invalid syntax"
                        ))
                    })?;
                }
                (key, _) => return Err(wrong(key)),
            }
        }
        Ok(config)
    }

    /// Returns what is wanted for an instruction with these comments above it.
    pub(crate) fn with_comments(&self, comments: &[String]) -> Self {
        let directive = |comment: &String| match DirectiveReader::new("").read(comment) {
            Ok(Some(directive)) if directive.name == "check" => Some(directive.value),
            Ok(_) | Err(_) => None,
        };
        let value = comments.iter().find_map(directive);
        let first = value.as_deref().and_then(|value| value.split(' ').next());
        match first.map(Self::parse) {
            Some(Ok(other)) => self.merged(other),
            Some(Err(_)) | None => self.clone(),
        }
    }

    fn merged(&self, other: Self) -> Self {
        Self {
            skip_all: self.skip_all || other.skip_all,
            skip: &self.skip | &other.skip,
            experimental_all: self.experimental_all || other.experimental_all,
            experimental: &self.experimental | &other.experimental,
            is_error: self.is_error,
        }
    }

    /// Returns whether a rule is wanted.
    pub(crate) fn wants(&self, rule: &super::Rule) -> bool {
        if rule.experimental {
            self.experimental_all || self.experimental.contains(rule.name)
        } else {
            !self.skip_all && !self.skip.contains(rule.name)
        }
    }
}

fn list(names: &str) -> BTreeSet<String> {
    names.split(',').map(|name| name.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::rules::{INVALID_DEFINITION_DESCRIPTION, STAGE_NAME_CASING};
    use super::*;

    #[test]
    fn rules_are_skipped_by_name_and_all_at_once() {
        let wants = |text: &str| LintConfig::parse(text).unwrap().wants(&STAGE_NAME_CASING);
        assert!(wants("") && wants("skip=Other;error=true"));
        assert!(!wants("skip=Other, StageNameCasing") && !wants("error=false;skip=all"));
        let tries =
            |text: &str| LintConfig::parse(text).unwrap().wants(&INVALID_DEFINITION_DESCRIPTION);
        assert!(!tries("") && tries("experimental=all"));
        assert!(tries("experimental=InvalidDefinitionDescription"));
    }

    #[test]
    fn a_comment_above_adds_to_what_is_skipped() {
        let config = LintConfig::parse("error=true").unwrap();
        let merged = config.with_comments(&["x".into(), "check=skip=StageNameCasing".into()]);
        assert!(!merged.wants(&STAGE_NAME_CASING) && merged.is_error);
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text: &str| LintConfig::parse(text).unwrap_err().to_string();
        assert_eq!(error("skpi=a"), "failed to parse check options: invalid check option \"skpi\"");
        assert_eq!(error("skip"), "failed to parse check options: invalid check option \"skip\"");
        assert_eq!(
            error("error=x"),
            "failed to parse check options: failed to parse check option \"error=x\": strconv.ParseBool: parsing \"x\": invalid syntax"
        );
    }
}
