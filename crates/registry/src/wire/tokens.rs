//! Getting a bearer token: from the asker's own means, else from where the registry says.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::Response;
use serde::Deserialize;
use url::{Url, form_urlencoded};

use super::answer::{message, or_status, read_body};
use super::authority::{Grant, Petition, basic};
use super::body::Body;
use super::endpoint::is_loopback;
use super::transport::{Outgoing, Retry, persevere};
use crate::{Action, Attempt, Login, RegistryError, Secret, Token, TokenRequest};

/// What the answer of a token service may have.
const TOKEN_LIMIT: u64 = 1 << 20;
/// How long a token is good that does not say so.
const USUAL_LIFE: Duration = Duration::from_secs(60);
const CLIENT_ID: &str = "larder";

/// Gets a token that allows `scopes`.
pub(super) async fn fetch(
    petition: Petition<'_>,
    realm: &str,
    service: &str,
    scopes: Vec<String>,
) -> Result<Grant, RegistryError> {
    let credentials = petition.access.credentials();
    let request = TokenRequest {
        host: petition.address.to_owned(),
        realm: realm.to_owned(),
        service: service.to_owned(),
        scopes,
    };
    let desk = Desk::new(petition, &request)?;
    let token = match credentials.token(&request).await? {
        Some(token) => token,
        None => match credentials.login(petition.address).await? {
            Some(login) if !login.secret.is_empty() => desk.with_login(&login).await?,
            Some(_) | None => desk.get(None).await?,
        },
    };
    Grant::bearer(&token.secret, token.expires_in)
        .ok_or_else(|| desk.garbage("its token cannot be sent".to_owned()))
}

/// A place where tokens are issued.
struct Desk<'a> {
    petition: Petition<'a>,
    request: &'a TokenRequest,
    url: Url,
    attempt: Attempt,
}

impl<'a> Desk<'a> {
    fn new(petition: Petition<'a>, request: &'a TokenRequest) -> Result<Self, RegistryError> {
        let url = Url::parse(&request.realm).ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https"));
        let Some(url) = url else {
            return Err(RegistryError::Garbage {
                attempt: Box::new(petition.attempt.clone()),
                problem: format!("it sends us for a token to `{}`", request.realm),
            });
        };
        let attempt = Attempt {
            action: Action::Authorize,
            host: url.authority().to_owned(),
            object: request.scopes.join(" "),
            repository: petition.attempt.repository.clone(),
        };
        Ok(Self { petition, request, url, attempt })
    }

    /// Gets a token for a name and a password, or for an identity token.
    async fn with_login(&self, login: &Login) -> Result<Token, RegistryError> {
        let open_to_all = self.url.scheme() == "http"
            && !is_loopback(self.url.authority())
            && self.url.host_str() != self.petition.address.split(':').next();
        if open_to_all {
            let realm = &self.request.realm;
            return Err(
                self.garbage(format!("it wants the password sent in the open to `{realm}`"))
            );
        }
        let response = self.post(login).await?;
        let status = response.status();
        if status.is_success() {
            return self.token(response).await;
        }
        // Many services know the older way only, and say so in different ways.
        if status.is_client_error()
            && status != StatusCode::TOO_MANY_REQUESTS
            && !login.username.is_empty()
        {
            return self.get(Some(login)).await;
        }
        Err(self.refusal(response).await)
    }

    /// Asks as OAuth 2 has it.
    async fn post(&self, login: &Login) -> Result<Response, RegistryError> {
        let form = self.form(login);
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind)]);
        self.send(Method::POST, self.url.clone(), headers, Body::Bytes(form)).await
    }

    fn form(&self, login: &Login) -> Bytes {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("client_id", CLIENT_ID)
            .append_pair("service", &self.request.service)
            .append_pair("scope", &self.request.scopes.join(" "));
        if login.username.is_empty() {
            form.append_pair("grant_type", "refresh_token")
                .append_pair("refresh_token", login.secret.expose());
        } else {
            form.append_pair("grant_type", "password")
                .append_pair("username", &login.username)
                .append_pair("password", login.secret.expose());
        }
        form.finish().into()
    }

    /// Asks as Docker's token specification has it.
    async fn get(&self, login: Option<&Login>) -> Result<Token, RegistryError> {
        let mut url = self.url.clone();
        {
            let mut query = url.query_pairs_mut();
            if !self.request.service.is_empty() {
                query.append_pair("service", &self.request.service);
            }
            for scope in &self.request.scopes {
                query.append_pair("scope", scope);
            }
        }
        let mut headers = HeaderMap::new();
        if let Some(login) = login {
            let mut value = HeaderValue::try_from(basic(login))
                .map_err(|_| self.garbage("the password cannot be sent".to_owned()))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let response = self.send(Method::GET, url, headers, Body::Empty).await?;
        if response.status().is_success() {
            return self.token(response).await;
        }
        Err(self.refusal(response).await)
    }

    async fn send(
        &self,
        method: Method,
        url: Url,
        mut headers: HeaderMap,
        body: Body,
    ) -> Result<Response, RegistryError> {
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let authorization = headers.remove(AUTHORIZATION);
        let outgoing = Outgoing { method, url, headers, body, attempt: &self.attempt };
        let Petition { client, timing, .. } = self.petition;
        persevere(client, timing, &outgoing, authorization.as_ref(), Retry::Yes)
            .await
            .map_err(|failure| failure.into_error(&self.attempt))
    }

    async fn token(&self, response: Response) -> Result<Token, RegistryError> {
        #[derive(Deserialize)]
        struct Issued {
            #[serde(default)]
            token: String,
            #[serde(default)]
            access_token: String,
            #[serde(default)]
            expires_in: Option<u64>,
        }
        let body = read_body(response, TOKEN_LIMIT, self.petition.timing, &self.attempt)
            .await
            .map_err(|failure| failure.into_error(&self.attempt))?;
        // The parser's error may quote the token.
        let issued: Issued = serde_json::from_slice(&body)
            .map_err(|_| self.garbage("the answer is not the JSON of a token".to_owned()))?;
        let token = if issued.token.is_empty() { issued.access_token } else { issued.token };
        if token.is_empty() {
            return Err(self.garbage("there is no token in the answer".to_owned()));
        }
        let life = issued.expires_in.filter(|seconds| *seconds > 0);
        let expires_in = life.map_or(USUAL_LIFE, Duration::from_secs);
        Ok(Token { secret: Secret::new(token), expires_in })
    }

    async fn refusal(&self, response: Response) -> RegistryError {
        let status = response.status();
        let message = message(response, self.petition.timing, &self.attempt).await;
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let attempt = Box::new(self.petition.attempt.clone());
            return RegistryError::Denied { attempt, message: or_status(message, status) };
        }
        let attempt = Box::new(self.attempt.clone());
        RegistryError::Status { attempt, status: status.as_u16(), message }
    }

    fn garbage(&self, problem: String) -> RegistryError {
        RegistryError::Garbage { attempt: Box::new(self.attempt.clone()), problem }
    }
}
