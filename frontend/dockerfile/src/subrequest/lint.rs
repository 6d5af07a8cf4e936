//! What the rules find.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;

use super::Answer;
use super::location::Location;
use crate::error::Problem;
use crate::frontend::Build;
use crate::lint::{LintWarning, Linter};
use crate::lower::{LowerError, StageError};
use crate::syntax::Lines;

#[derive(Serialize)]
struct Findings {
    /// None is `null`, as clients have always seen it.
    warnings: Option<Vec<Finding>>,
    sources: Vec<Source>,
    #[serde(rename = "buildError", skip_serializing_if = "Option::is_none")]
    build_error: Option<BuildFailure>,
}

#[derive(Serialize)]
struct Finding {
    #[serde(rename = "ruleName")]
    rule_name: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    url: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    location: Location,
}

#[derive(Serialize)]
struct Source {
    filename: String,
    data: String,
    language: String,
}

#[derive(Serialize)]
struct BuildFailure {
    message: String,
    location: Location,
}

pub(super) async fn answer(build: &Build<'_>) -> Result<Answer, Problem> {
    // Also a file that says wrongly which rules it wants is answered with that.
    let (lint, problem) = match build.linter() {
        Ok(mut lint) => {
            let problem = check(build, &mut lint).await.err();
            (lint, problem)
        }
        Err(problem) => (Linter::default(), Some(problem)),
    };
    let violated = |rules| LowerError::from(StageError::Rules(rules)).into();
    let problem = problem.or_else(|| lint.violations().map(violated));
    let excerpt = &build.source.excerpt;
    let warnings: Vec<_> = lint.warnings().iter().map(finding).collect();
    let findings = Findings {
        warnings: (!warnings.is_empty()).then_some(warnings),
        sources: vec![Source {
            filename: excerpt.filename.clone(),
            data: BASE64.encode(&excerpt.data),
            language: excerpt.language.clone(),
        }],
        build_error: problem.as_ref().map(|problem| BuildFailure {
            message: problem.to_string(),
            location: Location::of_all(&Lines::merged(problem.places().concat())),
        }),
    };
    let mut shown: Vec<_> = lint.warnings().iter().collect();
    shown.sort_by_key(|warning| warning.lines.first);
    let text = shown.into_iter().map(|warning| text(warning, &excerpt.filename, &build.text));
    let failed = problem.is_some() || !lint.warnings().is_empty();
    let answer = Answer::new(&findings, text.collect())?;
    Ok(Answer { status: Some(u8::from(failed)), ..answer })
}

async fn check(build: &Build<'_>, lint: &mut Linter) -> Result<(), Problem> {
    let parsed = build.parse(lint)?;
    let ignore = build.ignore_patterns();
    // Without a target, all of them are meant. For which platform is no matter: it is the daemon's.
    let all_stages = build.options.target.is_empty();
    build.lower((&parsed, &ignore), None, all_stages, lint).await.map(drop)
}

fn finding(warning: &LintWarning) -> Finding {
    Finding {
        rule_name: warning.rule.name,
        description: warning.rule.description,
        url: warning.rule.url,
        detail: warning.message.clone(),
        location: Location::of(warning.lines),
    }
}

fn text(warning: &LintWarning, filename: &str, source: &str) -> String {
    let mut text = format!("\nWARNING: {}", warning.rule.name);
    if !warning.rule.url.is_empty() {
        text.push_str(&format!(" - {}", warning.rule.url));
    }
    text.push_str(&format!("\n{}\n", warning.message));
    text.push_str(&excerpt(warning.lines, filename, source));
    text
}

/// Returns the lines of a place with those around it, the place marked.
fn excerpt(place: Lines, filename: &str, source: &str) -> String {
    const RULE: &str = "--------------------\n";
    // What follows the last line end is a line as well, as in every excerpt that clients show.
    let lines: Vec<_> = source.split('\n').collect();
    let index = |line| usize::try_from(line).unwrap_or(usize::MAX).clamp(1, lines.len().max(1));
    let (first, last) = (index(place.first), index(place.last));
    let (start, end) = widened(first, last, lines.len());
    let mut text = format!("{filename}:{first}\n{RULE}");
    for number in start..=end.min(lines.len()) {
        let mark = if (first..=last).contains(&number) { ">>>" } else { "   " };
        text.push_str(&format!(" {number:3} | {mark} {}\n", lines[number - 1]));
    }
    text.push_str(RULE);
    text
}

/// Adds lines on both sides; at an end of the file more on the other.
fn widened(first: usize, last: usize, count: usize) -> (usize, usize) {
    let wanted = if first == last { 4 } else { 2 };
    let (mut start, mut end, mut added) = (first, last, 0);
    while added < wanted {
        if start > 1 {
            start -= 1;
            added += 1;
        }
        if end < count {
            end += 1;
            added += 1;
        }
        added += 1;
    }
    (start, end)
}
