//! How options and flags write lists: fields with commas between them.

/// Splits a line of comma-separated fields; a field may be quoted (RFC 4180), and a quote in one is doubled.
///
/// # Errors
/// Returns what is wrong with the quotes, in words that users of Go's programs know.
pub fn split_csv(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(inner) => quoted_field(inner)?,
            None => {
                let (field, after) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
                if field.contains('"') {
                    return Err("bare \" in non-quoted-field".to_owned());
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

fn quoted_field(text: &str) -> Result<(String, &str), String> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (part, after) =
            rest.split_once('"').ok_or("extraneous or missing \" in quoted-field")?;
        field.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None if after.is_empty() || after.starts_with(',') => return Ok((field, after)),
            None => return Err("extraneous or missing \" in quoted-field".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_may_be_quoted_and_then_have_commas_in_it() {
        let split =
            |text| split_csv(text).map_err(|error| error.split(' ').next().map(str::to_owned));
        let fields = |fields: &[&str]| Ok(fields.iter().map(|field| (*field).to_owned()).collect());
        assert_eq!(split("a=1,b"), fields(&["a=1", "b"]));
        assert_eq!(split(r#""a=1,2",b,"#), fields(&["a=1,2", "b", ""]));
        assert_eq!(split(r#""say ""no""""#), fields(&[r#"say "no""#]));
        assert_eq!(split(""), fields(&[""]));
        assert_eq!(split(r#"a"b"#), Err(Some("bare".to_owned())));
        assert_eq!(split(r#""a"b"#), Err(Some("extraneous".to_owned())));
        assert_eq!(split(r#""a"#), Err(Some("extraneous".to_owned())));
    }
}
