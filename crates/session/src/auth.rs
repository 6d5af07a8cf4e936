//! The client's registry credentials, and tokens that it fetches for us.

use bytes::Bytes;
use proto::filesync::auth_client::AuthClient;
use proto::filesync::{
    CredentialsRequest, FetchTokenRequest, GetTokenAuthorityRequest, VerifyTokenAuthorityRequest,
};

use crate::call::ORIGIN;
use crate::connection::Channel;
use crate::{Refusal, SecretBytes, Session, SessionError};

const CREDENTIALS: &str = "/moby.filesync.v1.Auth/Credentials";
const FETCH_TOKEN: &str = "/moby.filesync.v1.Auth/FetchToken";
const GET_TOKEN_AUTHORITY: &str = "/moby.filesync.v1.Auth/GetTokenAuthority";
const VERIFY_TOKEN_AUTHORITY: &str = "/moby.filesync.v1.Auth/VerifyTokenAuthority";

/// What the client knows for a registry host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user; empty beside a secret means that the secret is a refresh token.
    pub username: String,
    /// The password or refresh token.
    pub secret: SecretBytes,
}

impl Credentials {
    /// Returns true if the client knows nothing: the registry is asked without credentials.
    pub fn is_anonymous(&self) -> bool {
        self.username.is_empty() && self.secret.is_empty()
    }
}

/// A token that the client is asked to fetch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenRequest {
    /// Who we say we are, such as `buildkit-client`.
    pub client_id: String,
    /// The registry.
    pub host: String,
    /// Where the token is fetched, from the registry's challenge.
    pub realm: String,
    /// The service, from the registry's challenge.
    pub service: String,
    /// What is to be allowed, such as `repository:library/alpine:pull`.
    pub scopes: Vec<String>,
}

/// A token as the client fetched it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The bearer token.
    pub token: SecretBytes,
    /// For how many seconds it is valid; 0 if not said.
    pub expires_in: i64,
    /// When it was issued, in seconds since the epoch; 0 if not said.
    pub issued_at: i64,
}

impl Session {
    /// Returns the client's credentials for a registry host.
    ///
    /// # Errors
    /// Returns an error if the client fails; [`SessionError::is_absent`] if it serves none.
    pub async fn credentials(&self, host: &str) -> Result<Credentials, SessionError> {
        let request = CredentialsRequest { host: host.to_owned() };
        let answer = self.auth().credentials(request).await;
        let answer = answer.map_err(|status| self.failure(CREDENTIALS, status))?.into_inner();
        Ok(Credentials { username: answer.username, secret: SecretBytes::new(answer.secret) })
    }

    /// Asks the client to fetch a token with credentials that it does not show us.
    ///
    /// # Errors
    /// Returns an error if the client fails; [`SessionError::is_absent`] if it fetches none.
    pub async fn fetch_token(&self, request: TokenRequest) -> Result<Token, SessionError> {
        let TokenRequest { client_id, host, realm, service, scopes } = request;
        let request = FetchTokenRequest { client_id, host, realm, service, scopes };
        let answer = self.auth().fetch_token(request).await;
        let answer = answer.map_err(|status| self.failure(FETCH_TOKEN, status))?.into_inner();
        Ok(Token {
            token: SecretBytes::new(answer.token),
            expires_in: answer.expires_in,
            issued_at: answer.issued_at,
        })
    }

    /// Returns the key with which the client signs for `host`; none if it leaves fetching tokens
    /// to us.
    ///
    /// # Errors
    /// Returns an error if the client fails in another way than by not serving this.
    pub async fn token_authority(
        &self,
        host: &str,
        salt: &[u8],
    ) -> Result<Option<Bytes>, SessionError> {
        let salt = Bytes::copy_from_slice(salt);
        let request = GetTokenAuthorityRequest { host: host.to_owned(), salt };
        match self.auth().get_token_authority(request).await {
            Ok(answer) => {
                Ok(Some(answer.into_inner().public_key).filter(|public_key| !public_key.is_empty()))
            }
            Err(status) => match self.failure(GET_TOKEN_AUTHORITY, status) {
                error
                    if matches!(
                        error.refusal(),
                        Some(Refusal::Unimplemented | Refusal::Unavailable)
                    ) =>
                {
                    Ok(None)
                }
                error => Err(error),
            },
        }
    }

    /// Asks the client to sign `payload`, to show that it owns the credentials for `host`.
    ///
    /// # Errors
    /// Returns an error if the client fails.
    pub async fn verify_token_authority(
        &self,
        host: &str,
        payload: &[u8],
        salt: &[u8],
    ) -> Result<Bytes, SessionError> {
        let request = VerifyTokenAuthorityRequest {
            host: host.to_owned(),
            payload: Bytes::copy_from_slice(payload),
            salt: Bytes::copy_from_slice(salt),
        };
        let answer = self.auth().verify_token_authority(request).await;
        let answer = answer.map_err(|status| self.failure(VERIFY_TOKEN_AUTHORITY, status))?;
        Ok(answer.into_inner().signed)
    }

    fn auth(&self) -> AuthClient<Channel> {
        AuthClient::with_origin(self.channel(), ORIGIN.clone())
            .max_decoding_message_size(proto::MAX_MESSAGE_SIZE)
    }
}
