//! How options and flags write lists: fields with commas between them.

/// Splits a line of comma-separated fields; a field may be quoted (RFC 4180), and a quote in one is doubled.
///
/// # Errors
/// Returns what is wrong with the quotes and where, in words that users of Go's programs know: columns are bytes,
/// from 1.
pub fn split_csv(text: &str) -> Result<Vec<String>, String> {
    let wrong = |what: &str, from: &str| {
        let column = text.len() - from.len() + 1;
        format!("parse error on line 1, column {column}: {what}")
    };
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(inner) => quoted_field(inner)
                .map_err(|from| wrong("extraneous or missing \" in quoted-field", from))?,
            None => {
                let (field, after) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
                if let Some(quote) = field.find('"') {
                    return Err(wrong("bare \" in non-quoted-field", &rest[quote..]));
                }
                (field.to_owned(), after)
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(after) => rest = after,
            None => return Ok(fields),
        }
    }
}

/// Returns a field after its first quote, and what follows its last one; or else from where on it is wrong.
fn quoted_field(text: &str) -> Result<(String, &str), &str> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('"').ok_or(rest)?;
        field.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None if after.is_empty() || after.starts_with(',') => return Ok((field, after)),
            None => return Err(&rest[part.len()..]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_may_be_quoted_and_then_have_commas_in_it() {
        let fields = |fields: &[&str]| Ok(fields.iter().map(|field| (*field).to_owned()).collect());
        assert_eq!(split_csv("a=1,b"), fields(&["a=1", "b"]));
        assert_eq!(split_csv(r#""a=1,2",b,"#), fields(&["a=1,2", "b", ""]));
        assert_eq!(split_csv(r#""say ""no""""#), fields(&[r#"say "no""#]));
        assert_eq!(split_csv(""), fields(&[""]));
    }

    #[test]
    fn a_wrong_quote_is_told_with_its_place() {
        let (bare, quoted) =
            ("bare \" in non-quoted-field", "extraneous or missing \" in quoted-field");
        for (text, column, expected) in [
            (r#"a"b"#, 2, bare),
            (r#"x,"y",a"b"#, 8, bare),
            (r#""a"b"#, 3, quoted),
            (r#""a"#, 2, quoted),
            (r#""a""b"#, 5, quoted),
            (r#"é,"a" ,"#, 6, quoted),
        ] {
            let expected = format!("parse error on line 1, column {column}: {expected}");
            assert_eq!(split_csv(text), Err(expected), "{text}");
        }
    }
}
