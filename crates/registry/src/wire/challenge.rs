//! What a registry says when it wants to know who is asking (RFC 9110, section 11.6.1).

use std::collections::BTreeMap;

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// One way to prove who is asking.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Challenge {
    /// Name and password with every request.
    Basic,
    /// A token from somewhere else.
    Bearer {
        /// Where tokens are issued.
        realm: String,
        /// What the token is for.
        service: String,
        /// What the token must allow, separated by spaces.
        scope: String,
    },
}

impl Challenge {
    /// Returns the challenge to answer: a bearer token before a password.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter();
        let offers: Vec<Offer> =
            values.filter_map(|value| value.to_str().ok()).flat_map(parse).collect();
        let bearer = offers.iter().find_map(|offer| {
            let parameter = |name| offer.parameters.get(name).cloned();
            let realm = parameter("realm").filter(|realm| !realm.is_empty())?;
            (offer.scheme == "bearer").then(|| Self::Bearer {
                realm,
                service: parameter("service").unwrap_or_default(),
                scope: parameter("scope").unwrap_or_default(),
            })
        });
        bearer.or_else(|| offers.iter().any(|offer| offer.scheme == "basic").then_some(Self::Basic))
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Offer {
    scheme: String,
    parameters: BTreeMap<String, String>,
}

/// Reads a header: schemes, each with parameters, all separated by commas.
fn parse(header: &str) -> Vec<Offer> {
    let mut offers: Vec<Offer> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=', '"']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let after = after.trim_start_matches([' ', '\t']);
        match (after.strip_prefix('='), offers.last_mut()) {
            _ if word.is_empty() => {
                // The header ends here, or what follows is not of this grammar.
                return offers;
            }
            (Some(value), Some(offer)) => {
                let (value, after) = parse_value(value.trim_start_matches([' ', '\t']));
                offer.parameters.entry(word.to_ascii_lowercase()).or_insert(value);
                rest = after;
            }
            (Some(_), None) => return offers,
            (None, _) => {
                let scheme = word.to_ascii_lowercase();
                offers.push(Offer { scheme, parameters: BTreeMap::new() });
                rest = after;
            }
        }
    }
}

/// Reads a word or a quoted text.
fn parse_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[position + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn challenge(values: &[&'static str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
        }
        Challenge::from_headers(&headers)
    }

    fn bearer(realm: &str, service: &str, scope: &str) -> Challenge {
        let [realm, service, scope] = [realm, service, scope].map(str::to_owned);
        Challenge::Bearer { realm, service, scope }
    }

    #[test]
    fn a_bearer_challenge_has_realm_service_and_scope() {
        let header = r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push repository:c:pull",error="invalid_token""#;
        assert_eq!(
            challenge(&[header]),
            Some(bearer(
                "https://auth.example/token",
                "registry.example",
                "repository:a/b:pull,push repository:c:pull"
            ))
        );
    }

    #[test]
    fn spellings_differ() {
        let expected = Some(bearer("https://a/t", "", ""));
        assert_eq!(challenge(&[r#"bearer Realm = "https://a/t""#]), expected);
        assert_eq!(challenge(&[r"BEARER realm=https://a/t"]), expected);
        assert_eq!(challenge(&[r#"Bearer realm="https:\//a/t", "#]), expected);
    }

    #[test]
    fn a_token_is_preferred_to_a_password() {
        let expected = Some(bearer("r", "s", ""));
        assert_eq!(challenge(&[r#"Basic realm="x", Bearer realm="r", service="s""#]), expected);
        assert_eq!(challenge(&[r#"Basic realm="x""#, r#"Bearer realm="r",service="s""#]), expected);
        assert_eq!(challenge(&[r#"Basic realm="x""#]), Some(Challenge::Basic));
        assert_eq!(challenge(&["Basic"]), Some(Challenge::Basic));
    }

    #[test]
    fn what_is_no_challenge_is_none() {
        for header in ["", "Digest realm=\"x\"", "Bearer", "Bearer realm=\"\"", "=\"", "\"\"\""] {
            assert_eq!(challenge(&[header]), None, "{header}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text: String) {
            let _ = parse(&text);
        }
    }
}
