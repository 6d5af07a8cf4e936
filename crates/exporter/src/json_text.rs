//! White space in JSON, as Go leaves it when it encodes what came encoded already.
//!
//! Both work on text that is JSON: what is not comes out as it went in, more or less.

/// Returns the text without white space outside of strings.
pub(crate) fn compact(json: &[u8]) -> Vec<u8> {
    let mut compact = Vec::with_capacity(json.len());
    for token in Tokens(json) {
        compact.extend_from_slice(token);
    }
    compact
}

/// Returns the text with each member and element on a line of its own, indented by two spaces.
pub(crate) fn indent(json: &[u8]) -> Vec<u8> {
    let mut indented = Vec::with_capacity(json.len() * 2);
    let mut depth = 0;
    let line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', depth * 2));
    };
    let mut opened = false;
    for token in Tokens(json) {
        let closes = matches!(token, b"}" | b"]");
        if closes {
            depth -= usize::from(depth > 0);
            if !opened {
                line(&mut indented, depth);
            }
        } else if opened {
            line(&mut indented, depth);
        }
        opened = matches!(token, b"{" | b"[");
        indented.extend_from_slice(token);
        match token {
            b"{" | b"[" => depth += 1,
            b"," => line(&mut indented, depth),
            b":" => indented.push(b' '),
            _ => {}
        }
    }
    indented
}

/// The strings, literals and punctuation of a JSON text.
struct Tokens<'a>(&'a [u8]);

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.0.iter().position(|byte| !is_space(*byte))?;
        let rest = &self.0[start..];
        let length = match rest[0] {
            b'{' | b'}' | b'[' | b']' | b',' | b':' => 1,
            b'"' => string_length(rest),
            _ => {
                let end = |byte: &u8| is_space(*byte) || b"{}[],:\"".contains(byte);
                rest.iter().position(end).unwrap_or(rest.len())
            }
        };
        let (token, rest) = rest.split_at(length);
        self.0 = rest;
        Some(token)
    }
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Returns the length of the string that `text` begins with, its quotes included.
fn string_length(text: &[u8]) -> usize {
    let mut escaped = false;
    for (index, byte) in text.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn strings_keep_their_spaces() {
        let text = br#" { "a b" : [ 1 , "x \" \\" ] , "c":{ } , "d": [ ] } "#;
        assert_eq!(compact(text), br#"{"a b":[1,"x \" \\"],"c":{},"d":[]}"#);
        let expected =
            "{\n  \"a b\": [\n    1,\n    \"x \\\" \\\\\"\n  ],\n  \"c\": {},\n  \"d\": []\n}";
        assert_eq!(String::from_utf8(indent(text)).unwrap(), expected);
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "[ \\\\\"{}\\[\\]:,a-c\\n\u{e9}]{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                proptest::collection::btree_map("[a \"]{0,3}", inner, 0..4)
                    .prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn both_write_what_serde_writes(value in json()) {
            let pretty = serde_json::to_vec_pretty(&value).unwrap();
            let plain = serde_json::to_vec(&value).unwrap();
            prop_assert_eq!(compact(&pretty), plain.clone());
            prop_assert_eq!(indent(&plain), pretty);
        }

        #[test]
        fn what_is_not_json_is_survived(text in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = indent(&text);
            prop_assert!(compact(&text).len() <= text.len());
        }
    }
}
