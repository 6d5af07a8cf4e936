//! Who is asking, and how they prove it.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

/// A text that never shows in logs or errors.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Secret(String);

impl Secret {
    /// Returns `text` as a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text: only to send it to whom it is meant for.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns true if there is nothing to hide.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A name and a password for a host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Login {
    /// The name; empty if the secret is an identity token.
    pub username: String,
    /// The password or the identity token.
    pub secret: Secret,
}

/// A bearer token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What goes into the header.
    pub secret: Secret,
    /// How long it will be accepted from now.
    pub expires_in: Duration,
}

/// What a registry wants a token for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// The registry's host, as one connects to it.
    pub host: String,
    /// Where tokens are issued.
    pub realm: String,
    /// The service that the token is for, as the registry named it; may be empty.
    pub service: String,
    /// What the token must allow, such as `repository:library/busybox:pull`.
    pub scopes: Vec<String>,
}

/// Why credentials could not be had, though there may be some.
#[derive(Debug, thiserror::Error)]
#[error("failed to get credentials for `{host}`")]
pub struct CredentialsError {
    /// The registry's host.
    pub host: String,
    /// What happened where they are kept.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

/// Knows the credentials of one user or client.
#[async_trait]
pub trait Credentials: fmt::Debug + Send + Sync {
    /// Names whose credentials these are. What was granted to one is used for everyone with the same
    /// identity, and for nobody else.
    fn identity(&self) -> &str;

    /// Gets a token by its own means; none if it has no such means: then [`Credentials::login`] is
    /// asked and the registry client gets the token itself.
    async fn token(&self, request: &TokenRequest) -> Result<Option<Token>, CredentialsError>;

    /// Returns name and password for `host`; none to stay anonymous.
    async fn login(&self, host: &str) -> Result<Option<Login>, CredentialsError>;
}

/// Nobody in particular.
#[derive(Debug, Clone, Copy, Default)]
pub struct Anonymous;

#[async_trait]
impl Credentials for Anonymous {
    fn identity(&self) -> &'static str {
        ""
    }

    async fn token(&self, _request: &TokenRequest) -> Result<Option<Token>, CredentialsError> {
        Ok(None)
    }

    async fn login(&self, _host: &str) -> Result<Option<Login>, CredentialsError> {
        Ok(None)
    }
}

/// In whose name a registry is asked.
#[derive(Debug, Clone)]
pub struct Access(Arc<dyn Credentials>);

impl Access {
    /// Returns access in the name of whoever `credentials` are of.
    pub fn new(credentials: Arc<dyn Credentials>) -> Self {
        Self(credentials)
    }

    /// Returns access in nobody's name.
    pub fn anonymous() -> Self {
        Self(Arc::new(Anonymous))
    }

    /// Returns the credentials.
    pub fn credentials(&self) -> &dyn Credentials {
        self.0.as_ref()
    }
}
