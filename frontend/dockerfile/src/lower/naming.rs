//! What clients show for a step: `[stage-1 2/5] RUN make`.

use std::fmt::Write as _;

use oci::Platform;

use crate::expand::{Lexer, Variables};

/// Room for what most names have besides the label and the text, in bytes.
const USUAL: usize = 12;

/// What all names of a stage begin with.
#[derive(Debug, Clone, Default)]
pub(super) struct StageName {
    /// Shown in front of the counter; empty for none.
    pub(super) label: String,
    /// The platform, where several are built.
    pub(super) platform: Option<Platform>,
    /// How many steps the stage has.
    pub(super) total: usize,
    /// How many of them have a name already.
    pub(super) index: usize,
}

impl StageName {
    /// Returns the name of the next step.
    pub(super) fn next(&mut self, text: &str, variables: &dyn Variables, onbuild: bool) -> String {
        if self.total == 0 {
            return text.to_owned();
        }
        self.index += 1;
        self.current(text, variables, onbuild)
    }

    /// Returns another name of the step that was named last.
    pub(super) fn current(&self, text: &str, variables: &dyn Variables, onbuild: bool) -> String {
        if self.total == 0 {
            return text.to_owned();
        }
        let mut name = String::with_capacity(self.label.len() + text.len() + USUAL);
        name.push('[');
        // Writing to a string cannot fail.
        if let Some(platform) = &self.platform {
            let crossing = crossing(platform, target_of(variables).as_ref());
            let _ = write!(name, "{platform}{crossing} ");
        }
        if !self.label.is_empty() {
            name.push_str(&self.label);
            name.push(' ');
        }
        let width = self.total.to_string().len();
        let _ = write!(name, "{:width$}/{}] ", self.index, self.total);
        if onbuild {
            name.push_str("ONBUILD ");
        }
        name.push_str(text);
        name
    }
}

/// Returns `->arm64` for a stage that runs on one platform to build for another.
fn crossing(base: &Platform, target: Option<&Platform>) -> String {
    let Some(target) = target else {
        return String::new();
    };
    let or = |text: &str, other: &str| if text.is_empty() { other } else { text }.to_owned();
    let target = Platform {
        os: or(&target.os, &base.os),
        architecture: or(&target.architecture, &base.architecture),
        ..target.clone()
    }
    .normalized();
    match (target.os == base.os, target.architecture == base.architecture) {
        (true, true) => String::new(),
        (true, false) if target.variant.is_empty() => format!("->{}", target.architecture),
        (true, false) => format!("->{}/{}", target.architecture, target.variant),
        (false, _) => format!("->{target}"),
    }
}

/// Returns the platform that a stage's declared arguments say it builds for.
fn target_of(variables: &dyn Variables) -> Option<Platform> {
    let mut target = Platform::default();
    let mut found = false;
    for name in variables.names() {
        let value = variables.value(name).unwrap_or_default();
        match name {
            "TARGETPLATFORM" => {
                if let Ok(platform) = Platform::parse(value) {
                    return Some(platform);
                }
                continue;
            }
            "TARGETOS" => value.clone_into(&mut target.os),
            "TARGETARCH" => value.clone_into(&mut target.architecture),
            "TARGETVARIANT" => value.clone_into(&mut target.variant),
            _ => continue,
        }
        found = true;
    }
    found.then_some(target)
}

/// Returns an instruction's text as it is shown: variables expanded, the keyword in upper case.
pub(super) fn shown(code: &str, lexer: &Lexer, variables: &dyn Variables) -> String {
    let text = lexer.expand(code, variables).map_or_else(|_| code.to_owned(), |found| found.text);
    match text.split_once(' ') {
        Some((keyword, rest)) => [&keyword.to_uppercase(), " ", rest].concat(),
        None => text.to_uppercase(),
    }
}

/// Returns the first line of a here-document, with `...` if there are more.
pub(super) fn summary(content: &str) -> String {
    let content = content.trim();
    match content.split_once('\n') {
        Some((first, _)) => format!("{}...", first.trim_end_matches('\r')),
        None => content.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expand::{Environment, NoVariables};

    #[test]
    fn steps_are_counted_within_their_stage() {
        let mut name = StageName { label: "build".into(), total: 12, ..StageName::default() };
        assert_eq!(name.next("RUN a", &NoVariables, false), "[build  1/12] RUN a");
        assert_eq!(name.next("RUN b", &NoVariables, true), "[build  2/12] ONBUILD RUN b");
        assert_eq!(name.current("LINK x", &NoVariables, false), "[build  2/12] LINK x");
        let mut bare = StageName { total: 1, ..StageName::default() };
        assert_eq!(bare.next("RUN a", &NoVariables, false), "[1/1] RUN a");
        assert_eq!(StageName::default().next("FROM x", &NoVariables, false), "FROM x");
    }

    #[test]
    fn a_platform_is_shown_with_the_one_it_builds_for() {
        let platform = Some(Platform::new("linux", "amd64"));
        let mut name = StageName { platform, total: 1, ..StageName::default() };
        let target = Environment::from_entries(["TARGETOS=linux", "TARGETARCH=arm64"]);
        assert_eq!(name.next("RUN a", &target, false), "[linux/amd64->arm64 1/1] RUN a");
        let same = Environment::from_entries(["TARGETARCH=amd64"]);
        assert_eq!(name.current("RUN a", &same, false), "[linux/amd64 1/1] RUN a");
        let other = Environment::from_entries(["TARGETPLATFORM=windows/amd64"]);
        assert_eq!(name.current("RUN a", &other, false), "[linux/amd64->windows/amd64 1/1] RUN a");
    }

    #[test]
    fn heredocs_are_summed_up() {
        assert_eq!(summary("\n a\r\nb\n"), "a...");
        assert_eq!(summary("a\n"), "a");
    }
}
