//! What a client's session lets us prove to a registry.
//!
//! The daemon has no credentials of its own: it asks the client of the build, which fetches a token
//! itself or hands over a login (protocol page `session.md` §8, "Auth"). The crate is the bridge
//! between the two mechanisms, which do not know each other.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use registry::{Access, Credentials, CredentialsError, Login, Secret, Token, TokenRequest};
use session::{Session, SessionError, SessionId, Sessions};

/// How we call ourselves to those who issue tokens.
const CLIENT_ID: &str = "buildkit-client";

/// How long a token is used of which nobody said how long it lasts.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);

/// The credentials of the clients of a build, asked in order.
#[derive(Debug)]
pub struct ClientCredentials {
    sessions: Sessions,
    ids: Vec<SessionId>,
    identity: String,
}

impl ClientCredentials {
    /// Returns access in the name of these clients; of nobody if there are none.
    pub fn access(sessions: &Sessions, ids: Vec<SessionId>) -> Access {
        if ids.is_empty() {
            return Access::anonymous();
        }
        let identity = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        Access::new(Arc::new(Self { sessions: sessions.clone(), ids, identity }))
    }

    /// Returns the clients that are still connected.
    fn connected(&self) -> impl Iterator<Item = Session> {
        self.ids.iter().filter_map(|id| self.sessions.find(id))
    }
}

fn failed(host: &str, error: SessionError) -> CredentialsError {
    CredentialsError { host: host.to_owned(), source: Box::new(error) }
}

#[async_trait]
impl Credentials for ClientCredentials {
    fn identity(&self) -> &str {
        &self.identity
    }

    async fn token(&self, request: &TokenRequest) -> Result<Option<Token>, CredentialsError> {
        let mut last = None;
        for session in self.connected() {
            let asked = session::TokenRequest {
                client_id: CLIENT_ID.to_owned(),
                host: request.host.clone(),
                realm: request.realm.clone(),
                service: request.service.clone(),
                scopes: request.scopes.clone(),
            };
            match session.fetch_token(asked).await {
                Ok(token) if token.token.is_empty() => {}
                Ok(token) => {
                    let secret = String::from_utf8_lossy(token.token.expose()).into_owned();
                    let expires_in = u64::try_from(token.expires_in)
                        .ok()
                        .filter(|seconds| *seconds > 0)
                        .map_or(DEFAULT_LIFETIME, Duration::from_secs);
                    return Ok(Some(Token { secret: Secret::new(secret), expires_in }));
                }
                Err(error) if error.is_absent() => {}
                Err(error) => last = Some(failed(&request.host, error)),
            }
        }
        last.map_or(Ok(None), Err)
    }

    async fn login(&self, host: &str) -> Result<Option<Login>, CredentialsError> {
        let mut last = None;
        for session in self.connected() {
            match session.credentials(host).await {
                Ok(found) if found.is_anonymous() => {}
                Ok(found) => {
                    let secret = String::from_utf8_lossy(found.secret.expose()).into_owned();
                    return Ok(Some(Login {
                        username: found.username,
                        secret: Secret::new(secret),
                    }));
                }
                Err(error) if error.is_absent() => {}
                Err(error) => last = Some(failed(host, error)),
            }
        }
        last.map_or(Ok(None), Err)
    }
}
