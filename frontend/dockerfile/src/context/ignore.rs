//! `.dockerignore`.

use bridge::Bridge;
use futures::lock::Mutex;
use llb::Platform;
use patterns::PatternList;

use super::{DockerfileSource, MainContext};
use crate::error::Problem;
use crate::lower::{ContextError, LowerError};
use crate::options::Options;
use crate::path;

/// The patterns of files that the client does not send: read when they are first asked for, once for
/// all platforms.
#[derive(Debug)]
pub(crate) struct IgnorePatterns<'a> {
    bridge: &'a dyn Bridge,
    options: &'a Options,
    source: &'a DockerfileSource,
    native: Platform,
    read: Mutex<Option<Vec<String>>>,
}

impl<'a> IgnorePatterns<'a> {
    /// Returns the patterns of a build, not read yet.
    pub(crate) fn new(
        bridge: &'a dyn Bridge,
        options: &'a Options,
        source: &'a DockerfileSource,
        native: Platform,
    ) -> Self {
        Self { bridge, options, source, native, read: Mutex::new(None) }
    }

    /// Returns the patterns.
    pub(crate) async fn get(&self) -> Result<Vec<String>, Problem> {
        // Held while the file is read, so that other platforms wait for the one answer.
        let mut read = self.read.lock().await;
        if let Some(patterns) = &*read {
            return Ok(patterns.clone());
        }
        let patterns = self.load().await?;
        *read = Some(patterns.clone());
        Ok(patterns)
    }

    async fn load(&self) -> Result<Vec<String>, Problem> {
        let found = match (&self.source.context, &self.source.ignore) {
            // What comes from elsewhere comes whole.
            (MainContext::Tree(..), _) => None,
            (MainContext::Local, Some(own)) => Some(own.clone()),
            (context, None) => context.ignore_file(self.bridge, self.options, &self.native).await?,
        };
        let Some((name, data)) = found else {
            return Ok(Vec::new());
        };
        let patterns = parse_ignore_file(&String::from_utf8_lossy(&data));
        match PatternList::new(&patterns) {
            Ok(_) => Ok(patterns),
            Err(source) => {
                Err(LowerError::from(ContextError::IgnoreFile { file: name, source }).into())
            }
        }
    }
}

/// Returns the patterns of an ignore file, cleaned, in order.
pub(crate) fn parse_ignore_file(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().filter(|line| !line.starts_with('#')).map(str::trim);
    lines.filter(|line| !line.is_empty()).map(pattern).collect()
}

fn pattern(line: &str) -> String {
    let (mark, rest) = match line.strip_prefix('!') {
        Some(rest) => ("!", rest.trim()),
        None => ("", line),
    };
    if rest.is_empty() {
        return mark.to_owned();
    }
    let cleaned = path::clean(rest);
    let relative = match cleaned.strip_prefix('/') {
        Some(below) if !below.is_empty() => below,
        Some(_) | None => &cleaned,
    };
    format!("{mark}{relative}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_cleaned_and_comments_dropped() {
        let text = "\u{feff}# c\n\n  a/./b/  \n/c\n! /d/../e \n  # kept\n**/*.log\n/\n!\n";
        assert_eq!(parse_ignore_file(text), ["a/b", "c", "!e", "# kept", "**/*.log", "/", "!"]);
    }
}
