//! Finding and fetching manifests.

use bytes::Bytes;
use digests::Digest;
use http::header::{ACCEPT, CONTENT_LENGTH};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use oci::{Descriptor, Reference, media};
use reqwest::Response;
use tokio::time::sleep;

use super::answer::{media_type, read_body, refusal, stated_digest};
use super::endpoint::{self, Endpoint};
use super::exchange::{Exchange, Party, Question, Target};
use super::transport::Failure;
use crate::retry::Backoff;
use crate::{Access, Action, Attempt, MANIFEST_LIMIT, RegistryError, Resolved};

/// Returns everyone who can be asked about `reference`, in order.
pub(super) fn parties(
    exchange: &Exchange,
    reference: &Reference,
    action: Action,
    object: &str,
    access: &Access,
) -> Result<Vec<Party>, RegistryError> {
    let repository = reference.repository();
    let party = |endpoint: Endpoint| Party {
        access: access.clone(),
        scopes: vec![format!("repository:{repository}:pull")],
        attempt: Attempt {
            action,
            host: endpoint.address.clone(),
            repository: repository.to_owned(),
            object: object.to_owned(),
        },
        endpoint,
    };
    let endpoints = endpoint::to_pull(&exchange.config, reference.host())?;
    Ok(endpoints.into_iter().map(party).collect())
}

/// Finds what `reference` stands for, at the first who knows it.
pub(super) async fn resolve(
    exchange: &Exchange,
    reference: &Reference,
    access: &Access,
) -> Result<Resolved, RegistryError> {
    let object = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    };
    let mut failures = Vec::new();
    for party in parties(exchange, reference, Action::Resolve, &object, access)? {
        match resolve_at(exchange, &party, reference).await {
            Ok(resolved) => return Ok(resolved),
            Err(error) => failures.push(passed_over(party, error)),
        }
    }
    Err(last_word(failures, &reference.to_string()))
}

async fn resolve_at(
    exchange: &Exchange,
    party: &Party,
    reference: &Reference,
) -> Result<Resolved, RegistryError> {
    if let Some(descriptor) = look(exchange, party, reference.digest()).await? {
        return Ok(Resolved { descriptor, manifest: None });
    }
    let (headers, bytes) = get(exchange, party, &reference.to_string()).await?;
    let descriptor = describe(party, reference.digest(), &headers, &bytes)?;
    Ok(Resolved { descriptor, manifest: Some(bytes) })
}

/// Fetches what `descriptor` points to, from the first who has it.
pub(super) async fn manifest(
    exchange: &Exchange,
    reference: &Reference,
    descriptor: &Descriptor,
    access: &Access,
) -> Result<Bytes, RegistryError> {
    let object = descriptor.digest.to_string();
    let name = format!("{}@{object}", reference.name());
    let mut failures = Vec::new();
    for party in parties(exchange, reference, Action::FetchManifest, &object, access)? {
        match manifest_at(exchange, &party, descriptor, &name).await {
            Ok(bytes) => return Ok(bytes),
            Err(error) => failures.push(passed_over(party, error)),
        }
    }
    Err(last_word(failures, &reference.to_string()))
}

async fn manifest_at(
    exchange: &Exchange,
    party: &Party,
    descriptor: &Descriptor,
    name: &str,
) -> Result<Bytes, RegistryError> {
    let (_, bytes) = get(exchange, party, name).await?;
    verify(party, descriptor.digest, &bytes)?;
    if bytes.len() as u64 != descriptor.size {
        let (is, should) = (bytes.len(), descriptor.size);
        return Err(garbage(party, format!("it has {is} bytes and should have {should}")));
    }
    Ok(bytes)
}

/// Notes that someone could not help, before the next one is asked.
pub(super) fn passed_over(party: Party, error: RegistryError) -> (String, RegistryError) {
    tracing::debug!(attempt = %party.attempt, %error, "not to be had there");
    (party.attempt.host, error)
}

/// Returns what is wrong. The one that was asked last is the registry itself, not a mirror: what it says is the
/// error, together with what is not the same of what its mirrors say.
pub(super) fn last_word(mut failures: Vec<(String, RegistryError)>, name: &str) -> RegistryError {
    let Some((_, last)) = failures.pop() else {
        return RegistryError::NotFound { name: name.to_owned() };
    };
    let text = last.full_text();
    let others = failures.into_iter().map(|(host, error)| (host, error.full_text()));
    let mirrors: Vec<_> = others.filter(|(_, said)| *said != text).collect();
    if mirrors.is_empty() {
        return last;
    }
    RegistryError::Mirrored { mirrors, source: Box::new(last) }
}

/// Asks for the headers only. Returns none if they do not say enough: then the whole is to be fetched,
/// which also brings a better error.
async fn look(
    exchange: &Exchange,
    party: &Party,
    wanted: Option<Digest>,
) -> Result<Option<Descriptor>, RegistryError> {
    let response = exchange.ask(party, &question(Method::HEAD, party)).await?;
    if response.status() != StatusCode::OK {
        return Ok(None);
    }
    let headers = response.headers();
    let size = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok())
        .filter(|size| (1..=MANIFEST_LIMIT).contains(size));
    let kind = media_type(headers).filter(|kind| media::is_index(kind) || media::is_manifest(kind));
    let digest =
        stated_digest(headers).filter(|stated| wanted.is_none_or(|wanted| wanted == *stated));
    Ok(digest.zip(kind).zip(size).map(|((digest, kind), size)| Descriptor::new(kind, digest, size)))
}

/// Fetches a manifest; again, if the connection breaks in the middle of it.
async fn get(
    exchange: &Exchange,
    party: &Party,
    name: &str,
) -> Result<(HeaderMap, Bytes), RegistryError> {
    let timing = &exchange.config.timing;
    let mut backoff = Backoff::new(timing);
    loop {
        let response = exchange.ask(party, &question(Method::GET, party)).await?;
        if response.status() != StatusCode::OK {
            return Err(refusal(&party.attempt, name, response, timing).await);
        }
        let headers = response.headers().clone();
        let failure = match read_body(response, MANIFEST_LIMIT, timing, &party.attempt).await {
            Ok(bytes) => return Ok((headers, bytes)),
            Err(failure) => failure,
        };
        let again = matches!(failure, Failure::Broken(_) | Failure::Stalled(_));
        match backoff.after_failure(None).filter(|_| again) {
            Some(delay) => sleep(delay).await,
            None => return Err(failure.into_error(&party.attempt)),
        }
    }
}

fn question(method: Method, party: &Party) -> Question {
    let accepted = format!("{}, */*", media::ACCEPTED_MANIFESTS.join(", "));
    let mut question =
        Question::new(method, Target::path(format!("manifests/{}", party.attempt.object)));
    if let Ok(accepted) = HeaderValue::try_from(accepted) {
        question.headers.insert(ACCEPT, accepted);
    }
    question
}

/// Says what some bytes are that a registry gave for a manifest.
fn describe(
    party: &Party,
    wanted: Option<Digest>,
    headers: &HeaderMap,
    bytes: &Bytes,
) -> Result<Descriptor, RegistryError> {
    if let Some(digest) = wanted.or_else(|| stated_digest(headers)) {
        verify(party, digest, bytes)?;
    }
    let stated = media_type(headers);
    let known = |kind: &String| media::is_index(kind) || media::is_manifest(kind);
    let kind = stated.clone().filter(known).or_else(|| media::detect(bytes).filter(known));
    let Some(kind) = kind else {
        let stated = stated.unwrap_or_else(|| "unknown".to_owned());
        let problem = format!("the answer of type `{stated}` is not a manifest that we read");
        return Err(garbage(party, problem));
    };
    if serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_err() {
        return Err(garbage(party, "the answer is not JSON".to_owned()));
    }
    Ok(Descriptor::of(kind, bytes))
}

fn verify(party: &Party, wanted: Digest, bytes: &Bytes) -> Result<(), RegistryError> {
    let found = Digest::of(bytes);
    if found == wanted {
        return Ok(());
    }
    Err(garbage(party, format!("the answer has the digest `{found}` and should have `{wanted}`")))
}

/// Returns the error of an answer that is not what the protocol has there.
pub(super) fn garbage(party: &Party, problem: String) -> RegistryError {
    RegistryError::Garbage { attempt: Box::new(party.attempt.clone()), problem }
}

/// Returns the text of a header.
pub(super) fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}
