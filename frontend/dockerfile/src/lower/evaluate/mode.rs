//! Permissions as `--chmod` takes them: `755`, `u=rwX,go-w`.

use llb::CopyMode;

use super::super::CopyError;

/// Reads octal digits or a change in symbolic form.
pub(super) fn parse(text: &str) -> Result<CopyMode, CopyError> {
    let invalid = || CopyError::Mode(text.to_owned());
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let bits = u32::from_str_radix(text, 8).map_err(|_| invalid())?;
        return if bits > 0o7777 { Err(invalid()) } else { Ok(CopyMode::Bits(bits)) };
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(invalid());
    }
    if text.split(',').all(is_clause) {
        Ok(CopyMode::Symbolic(text.to_owned()))
    } else {
        Err(CopyError::SymbolicMode)
    }
}

/// `[ugoa…]` and one or more of `=`, `+`, `-` with what is set, added or removed.
fn is_clause(clause: &str) -> bool {
    let mut rest = clause.trim_start_matches(['u', 'g', 'o', 'a']);
    if rest.is_empty() {
        return false;
    }
    while let Some(after) = rest.strip_prefix(['=', '+', '-']) {
        // Other classes are copied and permissions listed, in any order.
        rest = after.trim_start_matches(['r', 'w', 'x', 'X', 's', 't', 'u', 'g', 'o']);
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal_or_symbolic() {
        assert_eq!(parse("0755"), Ok(CopyMode::Bits(0o755)));
        assert_eq!(parse("7777"), Ok(CopyMode::Bits(0o7777)));
        for text in ["u+x", "u=rwX,go-w", "a=r", "+x", "g=u", "u+r-w", "u=rg", "o="] {
            assert_eq!(parse(text), Ok(CopyMode::Symbolic(text.into())), "{text}");
        }
        for text in ["8", "10000", "75x"] {
            assert_eq!(parse(text), Err(CopyError::Mode(text.into())), "{text}");
        }
        for text in ["foo", "u", "u+q", "u+x,"] {
            assert_eq!(parse(text), Err(CopyError::SymbolicMode), "{text}");
        }
    }
}
