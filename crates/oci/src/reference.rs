//! The name of an image: host, repository, and a tag, a digest or both.

use std::fmt;
use std::str::FromStr;

use digests::{Digest, DigestError};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const HUB: &str = "docker.io";
const HUB_OF_OLD: &str = "index.docker.io";
const OFFICIAL: &str = "library/";
const LATEST: &str = "latest";
const LONGEST_REPOSITORY: usize = 255;
const LONGEST_TAG: usize = 128;

/// The name of an image in a registry, fully qualified.
///
/// Parsed as Docker does: `busybox` is `docker.io/library/busybox:latest`. Displays in the full form,
/// which parses to the same reference; [`Reference::familiar`] is the short form for people.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not a reference. The texts are the ones that Docker's users know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The text does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// The repository has an upper-case letter.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// The whole text looks like the digest of something.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
    /// The repository is too long.
    #[error("repository name must not be more than {LONGEST_REPOSITORY} characters")]
    TooLong,
    /// What follows the `@` is not a digest that we compute.
    #[error("invalid reference format")]
    Digest(#[source] DigestError),
}

impl Reference {
    /// Parses a reference in its full or its familiar form. Without a tag and a digest it means the
    /// tag `latest`.
    ///
    /// # Errors
    /// Returns an error if the text is not a reference.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ReferenceError::Identifier(text.to_owned()));
        }
        let (host, rest) = split_host(text);
        let (name, digest) = match rest.split_once('@') {
            None => (rest, None),
            Some((name, digest)) => (name, Some(digest)),
        };
        let (name, tag) = match name.split_once(':') {
            None => (name, None),
            Some((name, tag)) => (name, Some(tag)),
        };
        let official = host == HUB && !name.contains('/');
        let repository = if official { format!("{OFFICIAL}{name}") } else { name.to_owned() };
        if repository.chars().any(char::is_uppercase) {
            return Err(ReferenceError::Uppercase(repository.chars().take(300).collect()));
        }
        if !is_host(host) || !is_repository(&repository) || !tag.is_none_or(is_tag) {
            return Err(ReferenceError::Format);
        }
        if repository.len() > LONGEST_REPOSITORY {
            return Err(ReferenceError::TooLong);
        }
        let digest = digest.map(str::parse).transpose().map_err(ReferenceError::Digest)?;
        let tag = tag.or_else(|| digest.is_none().then_some(LATEST)).map(str::to_owned);
        Ok(Self { host: host.to_owned(), repository, tag, digest })
    }

    /// Returns the registry's host, with a port if one was given: `docker.io`, `[::1]:5000`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the repository at the host: `library/busybox`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns the tag.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest.
    pub const fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Returns host and repository, without tag and digest: `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// Returns the same name with this digest; a tag stays.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// Returns the same name with this tag and no digest.
    ///
    /// # Errors
    /// Returns an error if the text cannot be a tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Format);
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// Returns the same name without the tag, if there is a digest to go by.
    #[must_use]
    pub fn without_tag(&self) -> Self {
        match self.digest {
            Some(_) => Self { tag: None, ..self.clone() },
            None => self.clone(),
        }
    }

    /// Returns the short form that Docker shows to people; it parses to the same reference.
    pub fn familiar(&self) -> String {
        let name = match self.repository.strip_prefix(OFFICIAL) {
            _ if self.host != HUB => self.name(),
            Some(name) if !name.contains('/') => name.to_owned(),
            _ if split_host(&self.repository).0 != HUB => self.name(),
            _ => self.repository.clone(),
        };
        format!("{name}{}", Suffix(self))
    }
}

/// The tag and the digest.
struct Suffix<'a>(&'a Reference);

impl fmt::Display for Suffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tag) = &self.0.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.0.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.host, self.repository, Suffix(self))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Splits off the host, if the part before the first slash can only be one: it has a dot, a colon or
/// an upper-case letter, or is `localhost`.
fn split_host(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((HUB_OF_OLD, rest)) => (HUB, rest),
        Some((host, rest))
            if host == "localhost"
                || host.contains(['.', ':'])
                || host.chars().any(char::is_uppercase) =>
        {
            (host, rest)
        }
        _ => (HUB, text),
    }
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => {
                return is_ipv6(address)
                    && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
            }
            None => return false,
        },
        None => match text.split_once(':') {
            None => (text, None),
            Some((host, port)) => (host, Some(port)),
        },
    };
    host.split('.').all(is_label) && port.is_none_or(is_port)
}

fn is_ipv6(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':')
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

fn is_repository(text: &str) -> bool {
    text.split('/').all(is_component)
}

/// Lower-case letters and digits, with a dot, one or two underscores, or any number of hyphens
/// between them.
fn is_component(text: &str) -> bool {
    let is_word = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9');
    let bytes = text.as_bytes();
    let framed =
        bytes.first().copied().is_some_and(is_word) && bytes.last().copied().is_some_and(is_word);
    framed
        && bytes.split(|byte| is_word(*byte)).all(|between| {
            matches!(between, b"" | b"." | b"_" | b"__") || between.iter().all(|byte| *byte == b'-')
        })
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= LONGEST_TAG
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}
