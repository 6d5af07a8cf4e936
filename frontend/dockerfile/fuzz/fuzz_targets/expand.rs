//! Any word with any variables: it is expanded, or the error says why not.
//!
//! The last line of the input is the word, those before are variables as `NAME=value`.

#![no_main]

use dockerfile::expand::{Environment, Lexer, Variables as _};
use libfuzzer_sys::fuzz_target;

/// What may be something else than itself.
const SPECIAL: [char; 5] = ['$', '\'', '"', '\\', '`'];

fn lexers() -> [Lexer; 6] {
    let plain = Lexer::new('\\');
    [
        plain,
        Lexer::new('`'),
        plain.raw_quotes(),
        plain.raw_escapes(),
        plain.ignore_quotes().keep_unset(),
        plain.raw_quotes().raw_escapes().keep_unset(),
    ]
}

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let (variables, word) = text.rsplit_once('\n').unwrap_or(("", &text));
    let environment = Environment::from_entries(variables.lines());
    // Each input is read in one way; a mutation of another length is read in another.
    let lexers = lexers();
    match lexers[bytes.len() % lexers.len()].expand(word, &environment) {
        Ok(expansion) => {
            let set = |name: &String| environment.value(name).is_some();
            assert!(expansion.matched.iter().all(set), "{expansion:?}");
            assert!(!expansion.unmatched.iter().any(set), "{expansion:?}");
            assert!(word.contains(SPECIAL) || expansion.text == word, "{expansion:?}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
