//! `.dockerignore`.

use crate::path;

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
