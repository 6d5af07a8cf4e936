//! Flags before the arguments of an instruction: `--name`, `--name=value`.

/// Splits off the leading words that begin with `--`; returns them, and the rest.
///
/// Quotes and escapes are resolved in flags, unlike in arguments. A lone `--` ends the flags.
pub(crate) fn split_flags(text: &str, escape: char) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if !rest.starts_with("--") {
            return (flags, rest);
        }
        let (word, quoted, after) = flag_word(rest, escape);
        rest = after;
        if word == "--" {
            return (flags, rest);
        }
        if quoted || !word.is_empty() {
            flags.push(word);
        }
    }
}

/// Reads one word; returns it, whether it had quotes, and what follows.
fn flag_word(text: &str, escape: char) -> (String, bool, &str) {
    let mut word = String::new();
    let mut quote = None;
    let mut quoted = false;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => return (word, quoted, &text[at..]),
            None if c == '\'' || c == '"' => {
                quote = Some(c);
                quoted = true;
            }
            Some(open) if c == open => quote = None,
            None | Some(_) if c == escape => {
                if let Some((_, next)) = chars.next() {
                    word.push(next);
                }
            }
            None | Some(_) => word.push(c),
        }
    }
    (word, quoted, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_end_where_the_arguments_begin() {
        let (flags, rest) = split_flags("--a=1 --b=\"x y\" --c\\ d  cmd --not", '\\');
        assert_eq!(flags, ["--a=1", "--b=x y", "--c d"]);
        assert_eq!(rest, "cmd --not");
        let (flags, rest) = split_flags("--a -- --b", '\\');
        assert_eq!((flags, rest), (vec!["--a".to_owned()], " --b"));
        let (flags, rest) = split_flags("--a", '\\');
        assert_eq!((flags.len(), rest), (1, ""));
    }
}
