//! Texts in double quotes as clients have always seen them in messages and image histories.

use std::fmt::Write as _;

/// Returns `text` between double quotes, with what cannot be printed escaped.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            _ => push_char(&mut out, c),
        }
    }
    out.push('"');
    out
}

fn push_char(out: &mut String, c: char) {
    let code = u32::from(c);
    // Writing to a string cannot fail.
    let _ = match code {
        0..0x20 | 0x7f => write!(out, "\\x{code:02x}"),
        _ if printable(c) => out.write_char(c),
        0..=0xffff => write!(out, "\\u{code:04x}"),
        _ => write!(out, "\\U{code:08x}"),
    };
}

/// White space other than the plain one is not printed, nor are marks that cannot be seen.
fn printable(c: char) -> bool {
    let invisible =
        matches!(u32::from(c), 0xad | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x2064 | 0xfeff);
    c == ' ' || !(c.is_control() || c.is_whitespace() || invisible)
}

/// Returns a list as `["a" "b"]`.
pub(crate) fn quoted_list<'a>(items: impl IntoIterator<Item = &'a String>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| quoted(item)).collect();
    ["[", &items.join(" "), "]"].concat()
}

/// Returns a list as `[a b]`.
pub(crate) fn plain_list<'a>(items: impl IntoIterator<Item = &'a String>) -> String {
    let items: Vec<_> = items.into_iter().map(String::as_str).collect();
    format!("[{}]", items.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_printed_is_escaped() {
        assert_eq!(quoted("a\"\\\n\u{1}é\u{a0}\u{feff}"), "\"a\\\"\\\\\\n\\x01é\\u00a0\\ufeff\"");
        assert_eq!(quoted_list(&["a b".to_owned(), "c".to_owned()]), "[\"a b\" \"c\"]");
        assert_eq!(plain_list(&["a b".to_owned(), "c".to_owned()]), "[a b c]");
    }
}
