//! A request and its answer, in the right name and by the right scheme.

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use parking_lot::Mutex;
use reqwest::{Client, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use super::answer::{message, or_status};
use super::authority::{Authority, Petition};
use super::body::Body;
use super::challenge::Challenge;
use super::clients::Clients;
use super::endpoint::{Endpoint, Scheme, same_party};
use super::transport::{Failure, Outgoing, Retry, persevere};
use crate::{Access, Attempt, RegistryConfig, RegistryError};

/// All that is shared between requests.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) config: Arc<RegistryConfig>,
    clients: Clients,
    authority: Authority,
    /// Which scheme an address was found to speak.
    spoken: Mutex<HashMap<String, Scheme>>,
    transfers: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// Where a request goes.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// To a path of the repository (`manifests/latest`), with a query.
    Path(String, Vec<(&'static str, String)>),
    /// To where the registry said.
    Url(Url),
}

impl Target {
    /// Returns a path without a query.
    pub(super) fn path(path: impl Into<String>) -> Self {
        Self::Path(path.into(), Vec::new())
    }
}

/// Who asks where about what.
#[derive(Debug, Clone)]
pub(super) struct Party {
    pub(super) endpoint: Endpoint,
    pub(super) access: Access,
    /// What the answer must be allowed to do.
    pub(super) scopes: Vec<String>,
    pub(super) attempt: Attempt,
}

/// What is asked.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) method: Method,
    pub(super) target: Target,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    pub(super) retry: Retry,
}

impl Question {
    /// Returns a question without headers and body, that is asked again if need be.
    pub(super) fn new(method: Method, target: Target) -> Self {
        Self { method, target, headers: HeaderMap::new(), body: Body::Empty, retry: Retry::Yes }
    }
}

impl Exchange {
    pub(super) fn new(config: RegistryConfig) -> Self {
        let config = Arc::new(config);
        Self {
            clients: Clients::new(config.clone()),
            config,
            authority: Authority::default(),
            spoken: Mutex::default(),
            transfers: Mutex::default(),
        }
    }

    /// Waits until one more blob may travel to or from an address.
    pub(super) async fn transfer(&self, endpoint: &Endpoint) -> Option<OwnedSemaphorePermit> {
        let semaphore = {
            let mut transfers = self.transfers.lock();
            let fresh = || Arc::new(Semaphore::new(self.config.transfers_per_host.max(1)));
            transfers.entry(endpoint.address.clone()).or_insert_with(fresh).clone()
        };
        // It fails only when closed, and nobody closes it.
        semaphore.acquire_owned().await.ok()
    }

    /// Asks, and returns the answer, whatever it is, unless it is that the asker is not known.
    pub(super) async fn ask(
        &self,
        party: &Party,
        question: &Question,
    ) -> Result<Response, RegistryError> {
        let endpoint = &party.endpoint;
        let client = self.clients.client(endpoint).await?;
        let known = self.spoken.lock().get(&endpoint.address).copied();
        let known = known.filter(|scheme| endpoint.schemes.contains(scheme));
        let schemes = known.as_ref().map_or(endpoint.schemes, std::slice::from_ref);
        let mut first_failure = None;
        for scheme in schemes {
            match self.ask_by(*scheme, &client, party, question).await {
                Ok(response) => {
                    if let Target::Path(..) = question.target {
                        self.spoken.lock().insert(endpoint.address.clone(), *scheme);
                    }
                    return Ok(response);
                }
                // Who has a wrong certificate does speak TLS.
                Err(failure @ Failure::Unreachable(_)) if !failure.is_bad_certificate() => {
                    first_failure.get_or_insert(failure);
                }
                Err(failure) => return Err(failure.into_error(&party.attempt)),
            }
        }
        Err(first_failure.map_or_else(
            || RegistryError::Config {
                host: endpoint.address.clone(),
                problem: "there is no way to reach it".to_owned(),
            },
            |failure| failure.into_error(&party.attempt),
        ))
    }

    async fn ask_by(
        &self,
        scheme: Scheme,
        client: &Client,
        party: &Party,
        question: &Question,
    ) -> Result<Response, Failure> {
        let Some((base, url)) = urls(scheme, party, &question.target) else {
            return Err(Failure::Final(RegistryError::Config {
                host: party.endpoint.address.clone(),
                problem: "it is not a host with an optional port".to_owned(),
            }));
        };
        // A blob may be taken or given elsewhere, by someone who has no business with our secrets.
        let trusted = same_party(&base, &url);
        let outgoing = Outgoing {
            method: question.method.clone(),
            url,
            headers: question.headers.clone(),
            body: question.body.clone(),
            attempt: &party.attempt,
        };
        let petition = Petition {
            client,
            timing: &self.config.timing,
            address: &party.endpoint.address,
            access: &party.access,
            scopes: &party.scopes,
            attempt: &party.attempt,
        };
        let known = match trusted {
            true => self.authority.known(petition).await.map_err(Failure::Final)?,
            false => None,
        };
        let response = self.send(&outgoing, petition, known.as_ref(), question.retry).await?;
        let unknown = response.status() == StatusCode::UNAUTHORIZED
            && trusted
            && same_party(&base, response.url());
        if !unknown {
            return Ok(response);
        }
        let challenge = Challenge::from_headers(response.headers());
        let status = response.status();
        let said = or_status(message(response, petition.timing, &party.attempt).await, status);
        let granted = match challenge {
            Some(challenge) => self
                .authority
                .answer(petition, &challenge, known.as_ref())
                .await
                .map_err(Failure::Final)?,
            None => None,
        };
        if granted.is_none() {
            return Err(Failure::Final(denied(party, said)));
        }
        let response = self.send(&outgoing, petition, granted.as_ref(), question.retry).await?;
        if response.status() == StatusCode::UNAUTHORIZED && same_party(&base, response.url()) {
            let said = or_status(message(response, petition.timing, &party.attempt).await, status);
            return Err(Failure::Final(denied(party, said)));
        }
        Ok(response)
    }

    async fn send(
        &self,
        outgoing: &Outgoing<'_>,
        petition: Petition<'_>,
        authorization: Option<&HeaderValue>,
        retry: Retry,
    ) -> Result<Response, Failure> {
        persevere(petition.client, petition.timing, outgoing, authorization, retry).await
    }
}

fn denied(party: &Party, message: String) -> RegistryError {
    RegistryError::Denied { attempt: Box::new(party.attempt.clone()), message }
}

/// Returns the address of the registry, whom we trust, and the one to send to.
fn urls(scheme: Scheme, party: &Party, target: &Target) -> Option<(Url, Url)> {
    let Party { endpoint, attempt, .. } = party;
    let base = endpoint.url(scheme, &attempt.repository, "")?;
    let url = match target {
        Target::Url(url) => url.clone(),
        Target::Path(path, query) => {
            let mut url = endpoint.url(scheme, &attempt.repository, path)?;
            if !query.is_empty() {
                url.query_pairs_mut().extend_pairs(query);
            }
            url
        }
    };
    Some((base, url))
}
