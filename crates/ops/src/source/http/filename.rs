//! What a file from the web is called.

use reqwest::Url;

/// The name of a file that has none.
const NAMELESS: &str = "download";

/// Returns the name that the server gives a file in `Content-Disposition`.
pub(super) fn given(disposition: &str) -> Option<String> {
    let mut parameters = Parameters(disposition.split_once(';')?.1);
    let (mut plain, mut extended) = (None, None);
    while let Some((name, value)) = parameters.next_one() {
        match name.to_ascii_lowercase().as_str() {
            "filename" => plain = Some(value),
            // RFC 5987: charset, language, and the value with percent signs.
            "filename*" => extended = value.splitn(3, '\'').nth(2).map(unescape),
            _ => {}
        }
    }
    let name = extended.or(plain).filter(|name| !name.is_empty() && !name.ends_with('/'))?;
    Some(safe(&name))
}

/// Returns the name that the address of a file ends in.
pub(super) fn of_address(url: &Url) -> String {
    safe(&unescape(url.path()))
}

/// Returns the last part of `name`, or another name where that cannot be a file's.
pub(super) fn safe(name: &str) -> String {
    match name.trim_end_matches('/').rsplit('/').next() {
        None | Some("" | "." | "..") => NAMELESS.to_owned(),
        Some(last) if last.contains('\0') || last.len() > 255 => NAMELESS.to_owned(),
        Some(last) => last.to_owned(),
    }
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let value = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match value.filter(|_| *first == b'%') {
            Some(value) => {
                bytes.push(value);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `name=value; name="value"`, one after the other.
struct Parameters<'a>(&'a str);

impl<'a> Parameters<'a> {
    fn next_one(&mut self) -> Option<(&'a str, String)> {
        let (name, rest) = self.0.split_once('=')?;
        let rest = rest.trim_start();
        let value = if let Some(quoted) = rest.strip_prefix('"') {
            let mut value = String::new();
            let mut letters = quoted.char_indices();
            let mut end = quoted.len();
            while let Some((at, letter)) = letters.next() {
                match letter {
                    '"' => {
                        end = at + 1;
                        break;
                    }
                    '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
                    letter => value.push(letter),
                }
            }
            self.0 = &quoted[end..];
            value
        } else {
            let (value, rest) = rest.split_once(';').unwrap_or((rest, ""));
            self.0 = rest;
            value.trim().to_owned()
        };
        Some((name.trim_matches([' ', '\t', ';']), value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_give_a_name() {
        for (text, expected) in [
            ("attachment; filename=a.txt", Some("a.txt")),
            ("attachment; filename=\"a; b.txt\"; size=3", Some("a; b.txt")),
            ("attachment; size=3; FILENAME=\"a\\\"b\"", Some("a\"b")),
            ("attachment; filename=x; filename*=UTF-8''%c3%bc.txt", Some("ü.txt")),
            ("attachment; filename=\"../../etc/passwd\"", Some("passwd")),
            ("attachment; filename=\"..\"", Some("download")),
            ("attachment; filename=dir/", None),
            ("attachment; filename=", None),
            ("inline", None),
            ("", None),
            ("; filename=\"open", Some("open")),
        ] {
            assert_eq!(given(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn an_address_has_a_name() {
        for (address, expected) in [
            ("http://h/a/b.tar.gz?x=/y", "b.tar.gz"),
            ("http://h/a%20b", "a b"),
            ("http://h/a/", "a"),
            ("http://h/", "download"),
            ("http://h", "download"),
            ("http://h/a%00b", "download"),
            ("http://h/..%2f", "download"),
        ] {
            assert_eq!(of_address(&Url::parse(address).unwrap()), expected, "{address}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_name_is_always_one_of_a_file(text in ".*") {
            let names = [Some(safe(&text)), given(&text), given(&format!("a; filename={text}"))];
            for name in names.into_iter().flatten() {
                let bad = name.is_empty() || name == "." || name == "..";
                proptest::prop_assert!(!bad && !name.contains(['/', '\0']), "{name:?}");
            }
        }
    }
}
