//! The client's secrets.

use std::fmt;

use bytes::Bytes;
use proto::secrets::GetSecretRequest;
use proto::secrets::secrets_client::SecretsClient;

use crate::call::ORIGIN;
use crate::{Session, SessionError};

const GET_SECRET: &str = "/moby.buildkit.secrets.v1.Secrets/GetSecret";

/// A value that never appears in a log or an error.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct SecretBytes(Bytes);

impl SecretBytes {
    /// Takes a secret value.
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self(value.into())
    }

    /// Returns the value itself, for the one place that needs it.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Returns true if the value has no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(redacted)")
    }
}

impl fmt::Display for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redacted")
    }
}

impl Session {
    /// Returns the secret `id`; none if the client does not have it or serves no secrets.
    ///
    /// # Errors
    /// Returns an error if the client fails in another way.
    pub async fn secret(&self, id: &str) -> Result<Option<SecretBytes>, SessionError> {
        let mut client = SecretsClient::with_origin(self.channel(), ORIGIN.clone())
            .max_decoding_message_size(proto::MAX_MESSAGE_SIZE);
        let request = GetSecretRequest { id: id.to_owned(), ..Default::default() };
        match client.get_secret(request).await {
            Ok(response) => Ok(Some(SecretBytes::new(response.into_inner().data))),
            Err(status) => match self.failure(GET_SECRET, status) {
                error if error.is_absent() => Ok(None),
                error => Err(error),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let secret = SecretBytes::new("hunter2");
        assert!(!format!("{secret:?} {secret}").contains("hunter2"));
        assert_eq!(secret.expose(), b"hunter2");
    }
}
