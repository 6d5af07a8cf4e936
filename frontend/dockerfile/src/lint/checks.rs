//! What the rules look at.

use std::collections::{BTreeMap, BTreeSet};

use oci::Platform;
use patterns::PatternList;

use super::{Linter, rules};
use crate::expand::{Environment, Expansion, Lexer, Variables};
use crate::instruction::{Argument, Note, Notes, Stage};
use crate::lower::arguments::GlobalArguments;
use crate::path;
use crate::quote::quoted;
use crate::suggest::{Case, hint, nearest};
use crate::syntax::{Document, Lines};

/// Names that stages should not have.
pub(crate) const RESERVED_STAGES: [&str; 2] = ["context", "scratch"];
const SECRET_WORDS: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];
const HARMLESS_WORDS: [&str; 3] = ["public", "file", "version"];

/// Looks at lines.
pub(crate) fn empty_continuations(document: &Document, lint: &mut Linter) {
    for lines in &document.empty_continuations {
        lint.report(&rules::NO_EMPTY_CONTINUATION, *lines, &[], "Empty continuation line");
    }
}

/// Looks at what reading the instructions noted.
pub(crate) fn notes(notes: &[Note], lint: &mut Linter) {
    for note in notes {
        let mut report = |rule, message: String| {
            lint.report(rule, note.lines, &note.comments, message);
        };
        match &note.kind {
            Notes::StageNameCase(name) => report(
                &rules::STAGE_NAME_CASING,
                format!("Stage name '{name}' should be lowercase"),
            ),
            Notes::AsCase(from, keyword) => report(
                &rules::FROM_AS_CASING,
                format!("'{keyword}' and '{from}' keywords' casing do not match"),
            ),
            Notes::Maintainer => report(
                &rules::MAINTAINER_DEPRECATED,
                "Maintainer instruction is deprecated in favor of using label".to_owned(),
            ),
            Notes::Description(keyword, names) => {
                let name = match names.as_slice() {
                    [only] => only.as_str(),
                    _ => "<arg_key>",
                };
                report(
                    &rules::INVALID_DEFINITION_DESCRIPTION,
                    format!(
                        "Comment for {keyword} should follow the format: `# {name} <description>`"
                    ),
                );
            }
        }
    }
}

/// Looks at the names of stages.
pub(crate) fn stage_names(stages: &[Stage], lint: &mut Linter) {
    let mut seen = BTreeSet::new();
    for stage in stages.iter().filter(|stage| !stage.name.is_empty()) {
        let name = stage.name.as_str();
        if RESERVED_STAGES.contains(&name) {
            let text = format!(
                "Stage name should not use the same name as reserved stage {}",
                quoted(name)
            );
            lint.report(&rules::RESERVED_STAGE_NAME, stage.lines, &[], text);
        }
        if !seen.insert(name) {
            let text =
                format!("Duplicate stage name {}, stage names should be unique", quoted(name));
            lint.report(&rules::DUPLICATE_STAGE_NAME, stage.lines, &[], text);
        }
    }
}

/// Looks at the case of keywords: that of most of them is right.
pub(crate) fn keyword_case(stages: &[Stage], lint: &mut Linter) {
    let keywords = || {
        stages.iter().flat_map(|stage| {
            let own = std::iter::once((stage.keyword.as_str(), stage.lines));
            own.chain(stage.instructions.iter().map(|i| (i.keyword.as_str(), i.lines)))
        })
    };
    let is_lower = |word: &str| word.chars().all(|c| c.to_lowercase().eq([c]));
    let is_upper = |word: &str| word.chars().all(|c| c.to_uppercase().eq([c]));
    let lower = keywords().filter(|(word, _)| is_lower(word)).count();
    let upper = keywords().filter(|(word, _)| is_upper(word)).count();
    for (word, lines) in keywords() {
        let fits = if lower > upper { is_lower(word) } else { is_upper(word) };
        if fits {
            continue;
        }
        let name = if lower > upper { "lowercase" } else { "uppercase" };
        let text =
            format!("Command '{word}' should match the case of the command majority ({name})");
        lint.report(&rules::CONSISTENT_INSTRUCTION_CASING, lines, &[], text);
    }
}

/// Looks at the arguments that a `FROM` uses and that are not set.
pub(crate) fn undeclared_in_from(
    unmatched: &BTreeSet<String>,
    arguments: &GlobalArguments,
    stage: &Stage,
    lint: &mut Linter,
) {
    let mut known = arguments.values.names();
    known.extend(arguments.defined.keys().map(String::as_str));
    for name in unmatched.iter().filter(|name| !known.contains(&name.as_str())) {
        let hint = hint(name, known.iter().copied(), Case::Matters);
        let text = format!("FROM argument '{name}' is not declared{hint}");
        lint.report(&rules::UNDEFINED_ARG_IN_FROM, stage.lines, &stage.comments, text);
    }
}

/// Looks at the platform of a `FROM`.
pub(crate) fn platform_flag(
    expansion: &Expansion,
    arguments: &GlobalArguments,
    stage: &Stage,
    native: &Platform,
    lint: &mut Linter,
) {
    let mut report = |rule, text: String| lint.report(rule, stage.lines, &stage.comments, text);
    let only_target =
        expansion.unmatched.is_empty() && expansion.matched.iter().eq(["TARGETPLATFORM"].iter());
    if only_target && arguments.values.value("TARGETPLATFORM") == Some(&expansion.text) {
        let text = format!(
            "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
            stage.platform
        );
        report(&rules::REDUNDANT_TARGET_PLATFORM, text);
    }
    if !expansion.matched.is_empty() || !expansion.unmatched.is_empty() {
        return;
    }
    let Ok(platform) = Platform::parse_with_default(&expansion.text, native) else {
        return;
    };
    if !stage.name.contains(&platform.os) && !stage.name.contains(&platform.architecture) {
        let text = format!(
            "FROM --platform flag should not use constant value {}",
            quoted(&expansion.text)
        );
        report(&rules::FROM_PLATFORM_FLAG_CONST_DISALLOWED, text);
    }
}

/// Looks whether every base is an image name when no build argument is given.
pub(crate) fn default_bases(
    stages: &[Stage],
    arguments: &[(Vec<Argument>, Lines)],
    automatic: &Environment,
    lexer: &Lexer,
    lint: &mut Linter,
) {
    // Mistakes in the defaults themselves end the build elsewhere.
    let nothing = BTreeMap::new();
    let Ok(defaults) =
        crate::lower::arguments::global(automatic.clone(), arguments, &nothing, lexer)
    else {
        return;
    };
    for stage in stages {
        let Ok(base) = lexer.expand(&stage.base, &defaults.values) else {
            return;
        };
        if base.text.is_empty() || oci::Reference::parse(&base.text).is_err() {
            let text = format!(
                "Default value for ARG {} results in empty or invalid base image name",
                stage.base
            );
            // The whole file is looked at, so a comment above one `FROM` has no say.
            lint.report(&rules::INVALID_DEFAULT_ARG_IN_FROM, stage.lines, &[], text);
        }
    }
}

/// Looks at the variables of an instruction; returns a text for each that nobody defined.
pub(crate) fn undefined_variables(
    unmatched: &BTreeSet<String>,
    declared: &[Argument],
    variables: &dyn Variables,
) -> Vec<String> {
    let undefined = unmatched.iter().filter(|name| {
        !declared.iter().any(|argument| argument.name == **name)
            && !crate::lower::NOT_IN_ENVIRONMENT.contains(&name.as_str())
    });
    let text = |name: &String| {
        let near = nearest(name, variables.names(), Case::Matters);
        let hint = near.map(|near| format!(" (did you mean ${near}?)")).unwrap_or_default();
        format!("Usage of undefined variable '${name}'{hint}")
    };
    undefined.map(text).collect()
}

/// Returns true if a variable of this name seems to hold a secret.
pub(crate) fn seems_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    let has = |words: &[&str]| name.split('_').any(|part| words.contains(&part));
    has(&SECRET_WORDS) && !has(&HARMLESS_WORDS)
}

/// Returns the file that an ignore file keeps away from a copy, if that can be known.
pub(crate) fn ignored_source(source: &str, ignore: &IgnoreFile) -> Option<String> {
    // What is excluded as a directory may be included again as a file.
    if ignore.list.is_empty() || ignore.list.takes_back() {
        return None;
    }
    let source = path::clean(source);
    if matches!(source.as_str(), "." | "/") && !ignore.excludes_everything() {
        return None;
    }
    ignore.list.matches(&source).then_some(source)
}

/// The patterns of an ignore file.
#[derive(Debug, Clone, Default)]
pub(crate) struct IgnoreFile {
    patterns: Vec<String>,
    list: PatternList,
}

impl IgnoreFile {
    /// Takes the patterns of an ignore file.
    pub(crate) fn new(patterns: Vec<String>) -> Result<Self, patterns::PatternError> {
        let list = PatternList::new(&patterns)?;
        Ok(Self { patterns, list })
    }

    fn excludes_everything(&self) -> bool {
        self.patterns.iter().any(|pattern| matches!(pattern.as_str(), "*" | "**" | "**/*"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_names() {
        for name in ["API_KEY", "DATABASE_PASSWORD", "github_token", "AUTH", "SECRET_x"] {
            assert!(seems_secret(name), "{name}");
        }
        for name in ["PUBLIC_KEY", "KEYS", "TOKENIZER", "PASSWORD_FILE", "KEY_VERSION", "A"] {
            assert!(!seems_secret(name), "{name}");
        }
    }

    #[test]
    fn ignored_sources_are_known_if_nothing_is_taken_back() {
        let ignored = |source: &str, patterns: &[&str]| {
            let patterns = patterns.iter().map(|p| (*p).to_owned()).collect();
            ignored_source(source, &IgnoreFile::new(patterns).unwrap())
        };
        assert_eq!(ignored("a/./b", &["a"]).as_deref(), Some("a/b"));
        assert_eq!(ignored("/a", &["a"]), None, "patterns name no roots");
        assert_eq!(ignored("/a/b", &["**/b"]).as_deref(), Some("/a/b"));
        assert_eq!(ignored("a", &["*", "!a/b"]), None);
        assert_eq!(ignored(".", &["a"]), None);
        assert_eq!(ignored(".", &["*"]).as_deref(), Some("."));
        assert_eq!(ignored("b", &[]), None);
    }
}
