//! Here-documents: `<<EOF`, `<<-EOF`, `3<<"EOF"`.

use crate::expand::{Lexer, NoVariables};

/// One here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it; the file name where it stands for a file.
    pub name: String,
    /// The number before `<<`.
    pub descriptor: u64,
    /// False if the word was quoted: then nothing in the content is expanded.
    pub expand: bool,
    /// True for `<<-`: tabs at the start of lines do not count.
    pub chomp: bool,
    /// The lines up to the word.
    pub content: String,
}

impl Heredoc {
    /// Returns the content, without leading tabs where `<<-` asks for it.
    pub fn text(&self) -> String {
        if self.chomp { chomp(&self.content) } else { self.content.clone() }
    }

    /// Returns true if `line` is the one that ends it.
    pub(crate) fn ends_at(&self, line: &str) -> bool {
        let line = line.trim_end_matches(['\r', '\n']);
        let line = if self.chomp { line.trim_start_matches('\t') } else { line };
        line == self.name
    }
}

/// Removes the tabs at the start of each line.
pub(crate) fn chomp(text: &str) -> String {
    text.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

/// Returns the here-document that a single word announces, without content.
pub(crate) fn parse_heredoc(word: &str) -> Option<Heredoc> {
    let digits = word.find(|c: char| !c.is_ascii_digit())?;
    let rest = word[digits..].strip_prefix("<<")?;
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start();
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let lexer = Lexer::new('\\').keep_unset();
    let plain = single(lexer.words(rest, &NoVariables).ok()?)?;
    let raw = single(lexer.raw_quotes().words(rest, &NoVariables).ok()?)?;
    let quotes = |text: &str| text.chars().filter(|c| matches!(c, '\'' | '"')).count();
    Some(Heredoc {
        expand: quotes(&plain) == quotes(&raw),
        name: plain,
        descriptor: word[..digits].parse().unwrap_or(0),
        chomp,
        content: String::new(),
    })
}

/// Returns the here-documents that a line announces, in order.
pub(crate) fn announced(line: &str) -> Vec<Heredoc> {
    let lexer = Lexer::new('\\').raw_quotes().raw_escapes().keep_unset();
    let words = lexer.words(line, &NoVariables).unwrap_or_default();
    words.iter().filter_map(|word| parse_heredoc(word)).collect()
}

fn single(words: Vec<String>) -> Option<String> {
    let mut words = words.into_iter();
    words.next().filter(|_| words.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Option<(String, bool, bool, u64)> {
        let mut found = announced(line);
        let doc = found.pop()?;
        assert!(found.is_empty(), "more than one in {line}");
        Some((doc.name, doc.expand, doc.chomp, doc.descriptor))
    }

    #[test]
    fn announcements_are_recognised() {
        assert_eq!(one("RUN <<EOF"), Some(("EOF".into(), true, false, 0)));
        assert_eq!(one("RUN <<-\"EOF\" x"), Some(("EOF".into(), false, true, 0)));
        assert_eq!(one("RUN 3<<'E'OF"), Some(("EOF".into(), false, false, 3)));
        assert_eq!(one("RUN << EOF"), Some(("EOF".into(), true, false, 0)));
        assert_eq!(one("RUN cat <<<x"), None);
        assert_eq!(one("RUN 'a <<EOF'"), None);
        assert_eq!(one("RUN a<<EOF"), None);
    }

    #[test]
    fn several_may_stand_in_one_line() {
        let names: Vec<_> = announced("COPY <<a <<b /x/").into_iter().map(|doc| doc.name).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn chomping_removes_leading_tabs_only() {
        assert_eq!(chomp("\t\ta\n b\n\tc"), "a\n b\nc");
    }
}
