//! The name of a container.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name of a container: 1 to 128 letters, digits, `-`, `_` and `.`, not beginning with `.`.
///
/// It becomes the name of directories and cgroups, hence the rules.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

/// A text that is not a container's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a container name: use 1 to 128 letters, digits, `-`, `_` and `.`")]
pub struct ContainerIdError(String);

impl ContainerId {
    /// Takes a name.
    ///
    /// # Errors
    /// Returns an error if `name` is not made as a container's name is.
    pub fn new(name: impl Into<String>) -> Result<Self, ContainerIdError> {
        let name = name.into();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if (1..=128).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('.') {
            Ok(Self(name))
        } else {
            Err(ContainerIdError(name))
        }
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ContainerId {
    type Err = ContainerIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl TryFrom<String> for ContainerId {
    type Error = ContainerIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_as_file_names() {
        for good in ["a", "build-1_x.y", &"n".repeat(128)] {
            assert_eq!(ContainerId::new(good).unwrap().to_string(), *good);
        }
        for bad in ["", ".", "..", ".hidden", "a/b", "a\0", "é", &"n".repeat(129)] {
            assert!(ContainerId::new(bad).is_err(), "{bad}");
        }
    }
}
