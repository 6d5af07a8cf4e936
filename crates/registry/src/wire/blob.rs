//! Fetching a blob: as a stream that goes on where it broke.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream;
use http::header::{ACCEPT_ENCODING, CONTENT_RANGE, RANGE};
use http::{HeaderValue, Method, StatusCode};
use oci::{Descriptor, Reference};
use reqwest::Response;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};
use url::Url;

use super::answer::refusal;
use super::exchange::{Exchange, Party, Question, Target};
use super::pull::{garbage, header, last_word, parties, passed_over};
use super::transport::Failure;
use crate::retry::Backoff;
use crate::{Access, Action, BlobStream, RegistryError};

/// Opens a blob, at the first who has it.
pub(super) async fn fetch(
    exchange: &Arc<Exchange>,
    reference: &Reference,
    descriptor: &Descriptor,
    access: &Access,
) -> Result<BlobStream, RegistryError> {
    let object = descriptor.digest.to_string();
    let parties = parties(exchange, reference, Action::FetchBlob, &object, access)?;
    let mut givers: VecDeque<Giver> =
        Vec::from_iter(parties.into_iter().map(Giver::registry)).into();
    // A layer that registries may not hand out says itself where it is.
    if let Some(last) = givers.back().map(|giver| giver.party.clone()) {
        let elsewhere = descriptor.urls.iter().filter_map(|url| Giver::elsewhere(&last, url));
        givers.extend(elsewhere);
    }
    let mut transfer = Transfer {
        exchange: exchange.clone(),
        givers,
        name: format!("{}@{object}", reference.name()),
        size: descriptor.size,
        received: 0,
        backoff: Backoff::new(&exchange.config.timing),
        open: None,
        passed: Vec::new(),
    };
    transfer.open().await?;
    Ok(Box::pin(stream::try_unfold(transfer, |mut transfer| async {
        let chunk = transfer.next().await?;
        Ok(chunk.map(|chunk| (chunk, transfer)))
    })))
}

/// Someone who may have the blob.
#[derive(Debug, Clone)]
struct Giver {
    party: Party,
    target: Target,
}

impl Giver {
    fn registry(party: Party) -> Self {
        let target = Target::path(format!("blobs/{}", party.attempt.object));
        Self { party, target }
    }

    fn elsewhere(party: &Party, url: &str) -> Option<Self> {
        let url = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
        let mut party = party.clone();
        party.attempt.host = url.authority().to_owned();
        Some(Self { party, target: Target::Url(url) })
    }
}

/// A blob on its way.
struct Transfer {
    exchange: Arc<Exchange>,
    /// Who may have the blob; the first is the one that is asked.
    givers: VecDeque<Giver>,
    name: String,
    size: u64,
    received: u64,
    /// Counts how often in a row it broke without bringing anything.
    backoff: Backoff,
    open: Option<Open>,
    /// Who did not have it, with what they said.
    passed: Vec<(String, RegistryError)>,
}

/// A blob that is being received.
struct Open {
    response: Response,
    /// How much of the answer we have had already, from an answer before it.
    skip: u64,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Transfer {
    /// Returns the next bytes; none at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            if self.open.is_none() {
                if self.received == self.size && self.size > 0 {
                    return Ok(None);
                }
                self.open().await?;
            }
            let stall = self.exchange.config.timing.stall;
            let Some(open) = &mut self.open else { continue };
            let failure = match timeout(stall, open.response.chunk()).await {
                Ok(Ok(Some(chunk))) => match self.accept(chunk)? {
                    Some(chunk) => return Ok(Some(chunk)),
                    None => continue,
                },
                Ok(Ok(None)) if self.received == self.size => return Ok(None),
                Ok(Ok(None)) => {
                    let (had, size) = (self.received, self.size);
                    let problem = format!("the blob ended after {had} of {size} bytes");
                    Failure::Final(garbage(self.party()?, problem))
                }
                Ok(Err(error)) => Failure::of(error),
                Err(_) => Failure::Stalled(stall),
            };
            self.broken(failure).await?;
        }
    }

    /// Takes bytes as they come. Returns none if we have had them.
    fn accept(&mut self, mut chunk: Bytes) -> Result<Option<Bytes>, RegistryError> {
        if let Some(open) = &mut self.open {
            let had = usize::try_from(open.skip).unwrap_or(usize::MAX).min(chunk.len());
            open.skip -= had as u64;
            drop(chunk.split_to(had));
        }
        if chunk.is_empty() {
            return Ok(None);
        }
        self.received += chunk.len() as u64;
        if self.received > self.size {
            let problem = format!("the blob has more than its {} bytes", self.size);
            return Err(garbage(self.party()?, problem));
        }
        self.backoff.reset();
        Ok(Some(chunk))
    }

    /// Waits before the blob is opened again, here or at the next who may have it. Returns the error
    /// if there is no point.
    async fn broken(&mut self, failure: Failure) -> Result<(), RegistryError> {
        self.open = None;
        let error = failure.into_error(&self.party()?.attempt);
        tracing::debug!(%error, received = self.received, size = self.size, "blob transfer broke");
        match self.backoff.after_failure(None) {
            Some(delay) => sleep(delay).await,
            None if self.givers.len() > 1 => {
                self.givers.pop_front();
                self.backoff.reset();
            }
            None => return Err(error),
        }
        Ok(())
    }

    /// Opens the blob at the first who has it, at the place where we are.
    async fn open(&mut self) -> Result<(), RegistryError> {
        loop {
            let giver = self.giver()?.clone();
            match self.open_at(&giver).await {
                Ok(open) => {
                    self.open = Some(open);
                    return Ok(());
                }
                Err(error) => {
                    self.passed.push(passed_over(giver.party, error));
                    if self.givers.len() == 1 {
                        return Err(last_word(std::mem::take(&mut self.passed), &self.name));
                    }
                    self.givers.pop_front();
                    self.backoff.reset();
                }
            }
        }
    }

    async fn open_at(&mut self, giver: &Giver) -> Result<Open, RegistryError> {
        let party = &giver.party;
        let permit = self.exchange.transfer(&party.endpoint).await;
        let mut question = Question::new(Method::GET, giver.target.clone());
        question.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if self.received > 0
            && let Ok(range) = HeaderValue::try_from(format!("bytes={}-", self.received))
        {
            question.headers.insert(RANGE, range);
        }
        let response = self.exchange.ask(party, &question).await?;
        let (skip, whole) = match response.status() {
            // Not everyone knows ranges: then it begins anew, and we skip what we have.
            StatusCode::OK => (self.received, self.size),
            StatusCode::PARTIAL_CONTENT if starts_at(&response, self.received) => {
                (0, self.size - self.received)
            }
            StatusCode::PARTIAL_CONTENT => {
                let problem = "it sends another part of the blob than it was asked for";
                return Err(garbage(party, problem.to_owned()));
            }
            _ => {
                let timing = &self.exchange.config.timing;
                return Err(refusal(&party.attempt, &self.name, response, timing).await);
            }
        };
        if let Some(length) = response.content_length().filter(|length| *length != whole) {
            let problem = format!("it sends {length} bytes where there should be {whole}");
            return Err(garbage(party, problem));
        }
        Ok(Open { response, skip, _permit: permit })
    }

    fn giver(&self) -> Result<&Giver, RegistryError> {
        self.givers.front().ok_or_else(|| RegistryError::NotFound { name: self.name.clone() })
    }

    fn party(&self) -> Result<&Party, RegistryError> {
        self.giver().map(|giver| &giver.party)
    }
}

fn starts_at(response: &Response, offset: u64) -> bool {
    let range = header(response, CONTENT_RANGE.as_str());
    let start =
        range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
    start == Some(offset)
}
