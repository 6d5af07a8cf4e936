//! Bytes that must not be shown.

use std::fmt;

use bytes::Bytes;

/// Bytes that must not be shown: `Debug` tells only how many there are.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct SecretBytes(Bytes);

impl SecretBytes {
    /// Takes the bytes.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// Returns the bytes, for the one who delivers them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_does_not_tell() {
        let text = format!("{:?}", SecretBytes::new("hunter2"));
        assert_eq!(text, "SecretBytes(7 bytes)");
    }
}
