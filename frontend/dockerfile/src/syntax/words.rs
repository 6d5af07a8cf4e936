//! How the arguments of an instruction are split: words, names and values, JSON arrays.

use serde_json::Value;

use super::{Arguments, Pair, SyntaxError};

/// White space between words: not the line feed, which only here-documents can bring in.
pub(crate) fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\x0b' | '\x0c' | '\r' | ' ')
}

/// Splits at the first stretch of white space.
pub(crate) fn split_first(text: &str) -> (&str, Option<&str>) {
    match text.find(is_blank) {
        Some(at) => (&text[..at], Some(text[at..].trim_start_matches(is_blank))),
        None => (text, None),
    }
}

/// Splits at every stretch of white space.
pub(crate) fn delimited(text: &str) -> Arguments {
    if text.is_empty() {
        return Arguments::None;
    }
    Arguments::Words(
        text.split(is_blank).filter(|word| !word.is_empty()).map(str::to_owned).collect(),
    )
}

/// Splits into words, where quotes and escapes keep white space; they stay in the words.
pub(crate) fn quoted_words(text: &str, escape: char) -> Vec<&str> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            words.extend(start.take().map(|start| &text[start..at]));
            continue;
        }
        match quote {
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            None | Some(_) => {}
        }
        // Nothing is escaped between single quotes; an escape at the very end is dropped.
        if c == escape && quote != Some('\'') && chars.next().is_none() {
            words.extend(start.map(|start| &text[start..at]));
            return words;
        }
        start.get_or_insert(at);
    }
    words.extend(start.map(|start| &text[start..]));
    words
}

/// Splits `name=value …`, or the old form `name value`.
pub(crate) fn pairs(
    text: &str,
    keyword: &'static str,
    escape: char,
) -> Result<Arguments, SyntaxError> {
    let words = quoted_words(text, escape);
    let Some(first) = words.first() else {
        return Ok(Arguments::None);
    };
    if !first.contains('=') {
        let (key, value) = split_first(text);
        let value = value.ok_or(SyntaxError::TwoArguments(keyword))?;
        let pair = Pair { key: key.to_owned(), value: value.to_owned(), legacy: true };
        return Ok(Arguments::Pairs(vec![pair]));
    }
    let pair = |word: &str| match word.split_once('=') {
        Some((key, value)) => {
            Ok(Pair { key: key.to_owned(), value: value.to_owned(), legacy: false })
        }
        None => Err(SyntaxError::NoEqualSign(word.to_owned())),
    };
    words.into_iter().map(pair).collect::<Result<_, _>>().map(Arguments::Pairs)
}

/// Returns the array if `text` is one of strings; none if it is no JSON array.
pub(crate) fn json(text: &str) -> Result<Option<Arguments>, SyntaxError> {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<Value>>(text) else {
        return Ok(None);
    };
    let string = |value| match value {
        Value::String(text) => Ok(text),
        _ => Err(SyntaxError::JsonNotStrings),
    };
    values.into_iter().map(string).collect::<Result<_, _>>().map(|list| Some(Arguments::Json(list)))
}

/// Returns a JSON array, else the text as it stands.
pub(crate) fn json_or_text(text: &str) -> Result<Arguments, SyntaxError> {
    if text.is_empty() {
        return Ok(Arguments::None);
    }
    Ok(json(text)?.unwrap_or_else(|| Arguments::Text(text.to_owned())))
}

/// Returns a JSON array, else words.
pub(crate) fn json_or_delimited(text: &str) -> Result<Arguments, SyntaxError> {
    Ok(json(text)?.unwrap_or_else(|| delimited(text)))
}

/// Returns the text as it stands.
pub(crate) fn whole(text: &str) -> Arguments {
    if text.is_empty() { Arguments::None } else { Arguments::Text(text.to_owned()) }
}

/// Splits off the first word of `HEALTHCHECK`.
pub(crate) fn health(text: &str) -> Result<Arguments, SyntaxError> {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    if end == 0 {
        return Ok(Arguments::None);
    }
    let rest = json_or_text(text[end..].trim_start())?;
    Ok(Arguments::Health(text[..end].to_owned(), Box::new(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_escapes_keep_words_together() {
        let words = |text| quoted_words(text, '\\');
        assert_eq!(words(r#"a b=c\ d "e f" g'h i'"#), ["a", r"b=c\ d", r#""e f""#, "g'h i'"]);
        assert_eq!(words(r#""a \" b" c\"#), [r#""a \" b""#, "c"]);
        assert_eq!(words(r"'a\' b"), [r"'a\'", "b"]);
        assert_eq!(words("  "), Vec::<String>::new());
    }

    #[test]
    fn pairs_come_in_the_new_and_the_old_form() {
        let Ok(Arguments::Pairs(new)) = pairs("a=1 b=\"2 3\"", "ENV", '\\') else {
            panic!("not pairs");
        };
        assert_eq!(new[1].value, "\"2 3\"");
        assert!(!new[1].legacy);
        let Ok(Arguments::Pairs(old)) = pairs("a  b c=d", "ENV", '\\') else {
            panic!("not pairs");
        };
        assert_eq!((old[0].key.as_str(), old[0].value.as_str()), ("a", "b c=d"));
        assert!(old[0].legacy);
        assert_eq!(pairs("a", "ENV", '\\'), Err(SyntaxError::TwoArguments("ENV")));
        assert_eq!(pairs("a=1 b", "ENV", '\\'), Err(SyntaxError::NoEqualSign("b".into())));
    }

    #[test]
    fn only_a_well_formed_array_is_json() {
        assert_eq!(
            json_or_text("[\"a\", \"b\"]"),
            Ok(Arguments::Json(vec!["a".into(), "b".into()]))
        );
        assert_eq!(json_or_text("['a']"), Ok(Arguments::Text("['a']".into())));
        assert_eq!(json_or_text("[\"a\"] x"), Ok(Arguments::Text("[\"a\"] x".into())));
        assert_eq!(json_or_text("[1]"), Err(SyntaxError::JsonNotStrings));
    }
}
