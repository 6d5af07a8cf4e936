//! One request on its way: redirects, silence, and another try when the first one failed.

use std::error::Error;
use std::io;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::{Client, Response};
use tokio::time::{sleep, timeout};
use url::Url;

use super::body::{Body, Meter};
use super::endpoint::same_party;
use crate::retry::{Backoff, is_transient};
use crate::{Action, Attempt, RegistryError, Timing};

/// How many redirects are followed in a row.
const MOST_REDIRECTS: u32 = 10;

/// Why a request got no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is nobody at that address, or nobody who speaks as we do.
    Unreachable(reqwest::Error),
    /// The connection broke.
    Broken(reqwest::Error),
    /// Nothing was heard for so long.
    Stalled(Duration),
    /// It cannot get better by trying again.
    Final(RegistryError),
}

impl Failure {
    pub(super) fn of(error: reqwest::Error) -> Self {
        // The address may hold a signature that is as good as a password.
        let error = error.without_url();
        if error.is_connect() { Self::Unreachable(error) } else { Self::Broken(error) }
    }

    /// Returns true if the other side was reached but could not prove who it is.
    pub(super) fn is_bad_certificate(&self) -> bool {
        let Self::Unreachable(error) = self else { return false };
        let mut next: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = next {
            let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
            if let Some(rustls::Error::InvalidCertificate(_)) = tls {
                return true;
            }
            // An I/O error passes over what it wraps.
            next = match inner {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        false
    }

    pub(super) fn into_error(self, attempt: &Attempt) -> RegistryError {
        let attempt = Box::new(attempt.clone());
        match self {
            Self::Unreachable(error) | Self::Broken(error) => {
                RegistryError::Connection { attempt, source: error.into() }
            }
            Self::Stalled(after) => RegistryError::Stalled { attempt, after },
            Self::Final(error) => error,
        }
    }
}

/// A request that can be sent any number of times.
#[derive(Debug)]
pub(super) struct Outgoing<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    pub(super) attempt: &'a Attempt,
}

/// Whether a request is sent again when there was no answer, or one that may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    Yes,
    No,
}

/// Sends a request until there is an answer worth having.
pub(super) async fn persevere(
    client: &Client,
    timing: &Timing,
    outgoing: &Outgoing<'_>,
    authorization: Option<&HeaderValue>,
    retry: Retry,
) -> Result<Response, Failure> {
    let mut backoff = Backoff::new(timing);
    loop {
        let result = send(client, timing, outgoing, authorization).await;
        let asked = match &result {
            Ok(response) if is_transient(response.status().as_u16()) => retry_after(response),
            Err(Failure::Broken(_) | Failure::Stalled(_)) => None,
            Ok(_) | Err(Failure::Unreachable(_) | Failure::Final(_)) => return result,
        };
        if retry == Retry::No {
            return result;
        }
        let Some(delay) = backoff.after_failure(asked) else { return result };
        tracing::debug!(attempt = %outgoing.attempt, ?delay, ?result, "trying again");
        drop(result);
        sleep(delay).await;
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Sends a request once, and follows where it is sent on to. What is secret goes to nobody else.
async fn send(
    client: &Client,
    timing: &Timing,
    outgoing: &Outgoing<'_>,
    mut authorization: Option<&HeaderValue>,
) -> Result<Response, Failure> {
    let mut url = outgoing.url.clone();
    for _ in 0..=MOST_REDIRECTS {
        let response = send_to(client, timing, outgoing, &url, authorization).await?;
        let Some(next) = redirected(&response, &outgoing.method) else { return Ok(response) };
        if !same_party(&url, &next) {
            if tells_secret(outgoing) {
                return Ok(response);
            }
            authorization = None;
        }
        url = next;
    }
    Err(Failure::Final(RegistryError::Garbage {
        attempt: Box::new(outgoing.attempt.clone()),
        problem: format!("more than {MOST_REDIRECTS} redirects"),
    }))
}

/// Returns true if the body itself is meant for one host only: it has a password in it.
fn tells_secret(outgoing: &Outgoing<'_>) -> bool {
    outgoing.attempt.action == Action::Authorize && outgoing.method == Method::POST
}

/// Returns where the answer sends us. What changes something is only repeated where the answer says so
/// unmistakably.
fn redirected(response: &Response, method: &Method) -> Option<Url> {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match response.status() {
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER if reads => {}
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => {}
        _ => return None,
    }
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    let next = response.url().join(location).ok()?;
    matches!(next.scheme(), "http" | "https").then_some(next)
}

async fn send_to(
    client: &Client,
    timing: &Timing,
    outgoing: &Outgoing<'_>,
    url: &Url,
    authorization: Option<&HeaderValue>,
) -> Result<Response, Failure> {
    let (body, meter) = outgoing.body.open().await.map_err(Failure::Final)?;
    let mut request =
        client.request(outgoing.method.clone(), url.clone()).headers(outgoing.headers.clone());
    if !matches!(outgoing.method, Method::GET | Method::HEAD) {
        request = request.header(CONTENT_LENGTH, outgoing.body.length()).body(body);
    }
    if let Some(authorization) = authorization {
        request = request.header(AUTHORIZATION, authorization);
    }
    let result = watched(request.send(), &meter, timing).await;
    match (meter.take_failure(), &outgoing.body) {
        (Some(source), Body::Blob(part)) => {
            Err(Failure::Final(RegistryError::Source { digest: part.digest, source }))
        }
        _ => result,
    }
}

/// Waits for the answer as long as something moves.
async fn watched(
    sending: impl Future<Output = reqwest::Result<Response>>,
    meter: &Meter,
    timing: &Timing,
) -> Result<Response, Failure> {
    let mut sending = std::pin::pin!(sending);
    let mut silence = Duration::ZERO;
    let mut chunks = 0;
    loop {
        if let Ok(result) = timeout(timing.stall, &mut sending).await {
            return result.map_err(Failure::of);
        }
        silence += timing.stall;
        if meter.chunks() != chunks {
            (chunks, silence) = (meter.chunks(), Duration::ZERO);
        }
        // A registry may need long to take in what it was sent.
        let sent_all = chunks > 0 && meter.finished();
        if silence >= if sent_all { timing.commit } else { timing.stall } {
            return Err(Failure::Stalled(silence));
        }
    }
}
