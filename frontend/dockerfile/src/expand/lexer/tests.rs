//! The rules of words, by example, and that no text whatsoever breaks them.

use proptest::prelude::*;

use super::super::{Environment, NoVariables};
use super::*;

fn environment() -> Environment {
    Environment::from_entries(["HOME=/root", "EMPTY=", "FILE=a/b.tar.gz", "SPACED=x  y"])
}

fn expand(text: &str) -> String {
    Lexer::new('\\').expand(text, &environment()).map_or_else(
        |error| match error {
            ExpandError::In { source, .. } => format!("! {source}"),
            other => format!("!! {other}"),
        },
        |expansion| expansion.text,
    )
}

#[test]
fn variables_are_replaced_by_their_values() {
    for (text, expected) in [
        ("$HOME/x", "/root/x"),
        ("${HOME}x", "/rootx"),
        ("$NONE.", "."),
        ("$1x$@$", "x$"),
        ("a$.b", "a$.b"),
        (r"\$HOME", "$HOME"),
        ("'$HOME'", "$HOME"),
        ("\"$HOME\"", "/root"),
        ("${EMPTY-x}", ""),
        ("${EMPTY:-x}", "x"),
        ("${NONE-x}", "x"),
        ("${NONE:-${HOME:-y}}", "/root"),
        ("${HOME+x}${NONE+y}${EMPTY+z}", "xz"),
        ("${HOME:+x}${EMPTY:+z}", "x"),
        ("${HOME?no}", "/root"),
        ("${NONE:-}}", "}"),
    ] {
        assert_eq!(expand(text), expected, "{text}");
    }
}

#[test]
fn patterns_remove_and_replace() {
    for (text, expected) in [
        ("${FILE#*/}", "b.tar.gz"),
        ("${FILE##*.}", "gz"),
        ("${FILE%.*}", "a/b.tar"),
        ("${FILE%%.*}", "a/b"),
        ("${FILE#x}", "a/b.tar.gz"),
        ("${FILE/./-}", "a/b-tar.gz"),
        ("${FILE//./-}", "a/b-tar-gz"),
        (r"${FILE/\//:}", "a:b.tar.gz"),
        ("${FILE/b*r/x}", "a/x.gz"),
        (r"${FILE#\*}", "a/b.tar.gz"),
        ("${NONE#x}", ""),
        ("${FILE%?z}", "a/b.tar."),
        // What `//` puts in is a template of the matched text; what `/` does is not.
        ("${FILE//./'<$0>'}", "a/b<.>tar<.>gz"),
        ("${FILE/./'<$0>'}", "a/b<$0>tar.gz"),
        (r"${FILE//./\$0}", r"a/b\.tar\.gz"),
        ("${FILE//./$HOME$}", "a/b/root$tar/root$gz"),
    ] {
        assert_eq!(expand(text), expected, "{text}");
    }
}

#[test]
fn quotes_and_escapes_follow_the_shell() {
    for (text, expected) in [
        ("he'll'o", "hello"),
        (r"he\'llo", "he'llo"),
        (r"abc\tdef", "abctdef"),
        (r#""abc\tdef""#, r"abc\tdef"),
        (r#""abc\\tdef""#, r"abc\tdef"),
        (r"'abc\tdef'", r"abc\tdef"),
        (r"hello\", "hello"),
        (r"he\\$HOME", r"he\/root"),
    ] {
        assert_eq!(expand(text), expected, "{text}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    for (text, expected) in [
        ("he'llo", "! unexpected end of statement while looking for matching single-quote"),
        ("\"x", "! unexpected end of statement while looking for matching double-quote"),
        ("${", "! syntax error: missing '}'"),
        ("${HOME", "! unsupported modifier (\u{fffd}) in substitution"),
        ("${HOME:", "! syntax error: missing '}'"),
        ("${HOME:=x", "! syntax error: missing '}'"),
        ("${NONE:-'x}", "! syntax error: missing '}'"),
        ("${NONE:-'x} y'", "! syntax error: missing '}'"),
        ("${NONE:-${OTHER?x}", "! syntax error: missing '}'"),
        ("${NONE:-${OTHER?x} }", "! OTHER: x"),
        ("${HOME/'a", "! syntax error: missing '/' in ${}"),
        ("${HOME/a/b", "! syntax error: missing '}'"),
        ("${HOME:-x", "! syntax error: missing '}'"),
        ("${HOME/a", "! syntax error: missing '/' in ${}"),
        ("${}", "! syntax error: bad substitution"),
        ("${:-x}", "! syntax error: bad substitution"),
        ("${HOME:=x}", "! unsupported modifier (:=) in substitution"),
        ("${HOME^x}", "! unsupported modifier (^) in substitution"),
        ("${HOME:#x}", "! unsupported modifier (:#) in substitution"),
        ("${NONE?}", "! NONE: is not allowed to be unset"),
        ("${EMPTY:?}", "! EMPTY: is not allowed to be empty"),
        ("${NONE:?tell me}", "! NONE: tell me"),
        (r"${FILE#\a}", r"! invalid pattern (\a) in substitution: invalid escape '\a'"),
    ] {
        assert_eq!(expand(text), expected, "{text}");
    }
    let whole = Lexer::new('\\').expand("a'b", &NoVariables).map_err(|e| e.to_string());
    assert_eq!(whole, Err("failed to process \"a'b\"".to_owned()));
}

#[test]
fn words_split_at_white_space_outside_quotes() {
    let words = |text| Lexer::new('\\').words(text, &environment()).unwrap();
    assert_eq!(words("a${SPACED}b"), ["ax", "yb"]);
    assert_eq!(words("a\"${SPACED}\"b"), ["ax  yb"]);
    assert_eq!(words(r"a\ b  c"), ["a b", "c"]);
    assert_eq!(words("8${NONE:-0}1"), ["801"]);
}

#[test]
fn names_are_collected_for_the_linter() {
    let found = Lexer::new('\\').expand("$HOME ${NONE:-x} $TOO", &environment()).unwrap();
    assert_eq!(found.matched, BTreeSet::from(["HOME".to_owned()]));
    assert_eq!(found.unmatched, BTreeSet::from(["NONE".to_owned(), "TOO".to_owned()]));
    let wrong = Lexer::new('\\').expand("${NONE:=$TOO}", &environment()).unwrap_err();
    assert_eq!(wrong.unmatched(), &found.unmatched, "also where they are of no use");
}

#[test]
fn unset_variables_can_be_kept() {
    let lexer = Lexer::new('\\').keep_unset().raw_quotes();
    let keep = |text| lexer.expand(text, &environment()).unwrap().text;
    assert_eq!(keep("\"$HOME\" $NONE ${NONE} ${NONE:-x}"), "\"/root\" $NONE ${NONE} ${NONE:-x}");
}

#[test]
fn depth_and_length_are_bounded() {
    let deep = "${a:-".repeat(10_000);
    assert_eq!(expand(&deep), format!("! substitutions are nested more than {DEEPEST} deep"));
    let mut environment = Environment::new();
    environment.set("A", "x".repeat(LONGEST / 2));
    assert!(Lexer::new('\\').expand("$A$A$A", &environment).is_err());
}

proptest! {
    #[test]
    fn any_text_ends_in_a_result_or_an_error(text in "[${}a:+?#%/\\\\'\"<> *-]{0,40}") {
        let _ = Lexer::new('\\').expand(&text, &environment());
        let _ = Lexer::new('`').keep_unset().raw_escapes().words(&text, &environment());
    }

    #[test]
    fn text_without_special_characters_stays(text in "[a-z /=.,:0-9_-]{0,40}") {
        prop_assert_eq!(expand(&text), text);
    }
}
