//! The name under which a client's connection is found.

use std::fmt;
use std::str::FromStr;

use crate::SessionError;

/// The longest id that is accepted; clients use 25 characters.
const MAX_LENGTH: usize = 256;

/// The id of a session, chosen by the client and opaque to us.
///
/// Nothing proves that whoever names an id also owns it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(String);

impl SessionId {
    /// Takes an id: visible ASCII characters without a colon.
    ///
    /// # Errors
    /// Returns [`SessionError::InvalidId`] for anything else.
    pub fn new(text: impl Into<String>) -> Result<Self, SessionError> {
        let text = text.into();
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
        if text.is_empty() || text.len() > MAX_LENGTH || !visible {
            return Err(SessionError::InvalidId(text.chars().take(64).collect()));
        }
        Ok(Self(text))
    }

    /// Takes a reference as attributes carry it: an id, or `<prefix>:<id>`.
    ///
    /// The prefix keeps apart two uses of one session; for a local source it also goes before
    /// the directory's name, as `<prefix>-<name>`.
    ///
    /// # Errors
    /// Returns [`SessionError::InvalidId`] if there is no valid id.
    pub fn parse_reference(text: &str) -> Result<(Option<&str>, Self), SessionError> {
        match text.split_once(':') {
            Some((prefix, id)) => Ok((Some(prefix), Self::new(id)?)),
            None => Ok((None, Self::new(text)?)),
        }
    }

    /// Returns the id as the client sent it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SessionId {
    type Err = SessionError;

    fn from_str(text: &str) -> Result<Self, SessionError> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_reference_is_an_id_with_or_without_a_prefix() {
        let id = SessionId::new("abc123").unwrap();
        assert_eq!(SessionId::parse_reference("abc123").unwrap(), (None, id.clone()));
        assert_eq!(SessionId::parse_reference("ctx:abc123").unwrap(), (Some("ctx"), id));
    }

    #[test]
    fn what_cannot_be_an_id_is_refused() {
        for text in ["", "a b", "a\n", "é", "a:b", &"x".repeat(257)] {
            assert!(matches!(SessionId::new(text), Err(SessionError::InvalidId(_))), "{text:?}");
        }
        assert!(SessionId::parse_reference("prefix:").is_err());
    }

    proptest! {
        #[test]
        fn text_round_trips(text in "[!-9;-~]{1,64}") {
            let id: SessionId = text.parse().unwrap();
            prop_assert_eq!(id.to_string(), text);
        }
    }
}
