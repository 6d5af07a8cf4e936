//! Pushing blobs and manifests.

use bytes::Bytes;
use digests::Digest;
use http::header::{CONTENT_RANGE, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Method, StatusCode};
use oci::{Descriptor, Reference, media};
use reqwest::Response;
use tokio::time::sleep;
use url::Url;

use super::answer::{refusal, stated_digest};
use super::body::{BlobPart, Body};
use super::endpoint;
use super::exchange::{Exchange, Party, Question, Target};
use super::pull::{garbage, header};
use super::transport::Retry;
use crate::retry::{Backoff, is_transient};
use crate::{Access, Action, Attempt, BlobPush, Pushed, RegistryError};

/// How much is sent at once to a registry that does not take a blob whole.
const PIECE: u64 = 4 << 20;
const UPLOADS: &str = "blobs/uploads/";

fn party(
    exchange: &Exchange,
    reference: &Reference,
    action: Action,
    object: &str,
    access: &Access,
) -> Party {
    let endpoint = endpoint::to_push(&exchange.config, reference.host());
    let repository = reference.repository();
    Party {
        access: access.clone(),
        scopes: vec![format!("repository:{repository}:pull,push")],
        attempt: Attempt {
            action,
            host: endpoint.address.clone(),
            repository: repository.to_owned(),
            object: object.to_owned(),
        },
        endpoint,
    }
}

/// Pushes a manifest, once everything it points to is there.
pub(super) async fn manifest(
    exchange: &Exchange,
    reference: &Reference,
    media_type: &str,
    manifest: Bytes,
    access: &Access,
) -> Result<(), RegistryError> {
    let digest = Digest::of(&manifest);
    let object = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, Some(tag)) => tag.to_owned(),
        (None, None) => digest.to_string(),
    };
    let party = party(exchange, reference, Action::PushManifest, &object, access);
    if reference.digest().is_some_and(|named| named != digest) {
        return Err(garbage(&party, format!("the manifest to push has the digest `{digest}`")));
    }
    let mut question = Question::new(Method::PUT, Target::path(format!("manifests/{object}")));
    question.body = Body::Bytes(manifest);
    let kind = HeaderValue::try_from(media_type)
        .map_err(|_| garbage(&party, format!("`{media_type}` is not a media type")))?;
    question.headers.insert(CONTENT_TYPE, kind);
    let response = exchange.ask(&party, &question).await?;
    if !response.status().is_success() {
        return Err(refuse(exchange, &party, response).await);
    }
    match stated_digest(response.headers()) {
        Some(stated) if stated != digest => {
            Err(garbage(&party, format!("it took `{digest}` for `{stated}`")))
        }
        _ => Ok(()),
    }
}

/// Pushes a blob, unless it is there or can be had from another repository.
pub(super) async fn blob(
    exchange: &Exchange,
    reference: &Reference,
    descriptor: &Descriptor,
    push: BlobPush,
    access: &Access,
) -> Result<Pushed, RegistryError> {
    let object = descriptor.digest.to_string();
    let party = party(exchange, reference, Action::PushBlob, &object, access);
    let _permit = exchange.transfer(&party.endpoint).await;
    let upload = Upload { exchange, party, descriptor, push };
    if upload.is_there().await? {
        return Ok(Pushed::AlreadyThere);
    }
    let mut begun = None;
    if let Some(from) = &upload.push.mount_from {
        match upload.mount(from).await {
            Mount::Done => return Ok(Pushed::Mounted),
            Mount::Refused(instead) => begun = instead,
        }
    }
    let mut backoff = Backoff::new(&exchange.config.timing);
    loop {
        let error = match upload.send(begun.take()).await {
            Ok(()) => return Ok(Pushed::Uploaded),
            Err(error) => error,
        };
        // An upload that broke is not continued but begun anew: what it had is not known.
        let delay = backoff.after_failure(None).filter(|_| may_pass(&error));
        let Some(delay) = delay else { return Err(error) };
        tracing::debug!(%error, ?delay, "pushing the blob again");
        sleep(delay).await;
    }
}

/// Returns true for an error that may be gone the next time.
fn may_pass(error: &RegistryError) -> bool {
    match error {
        RegistryError::Stalled { .. } => true,
        RegistryError::Connection { source, .. } => {
            !source.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_connect)
        }
        RegistryError::Status { status, .. } => is_transient(*status) || *status == 404,
        RegistryError::NotFound { .. }
        | RegistryError::Denied { .. }
        | RegistryError::Garbage { .. }
        | RegistryError::Mirrored { .. }
        | RegistryError::Credentials(_)
        | RegistryError::Source { .. }
        | RegistryError::File { .. }
        | RegistryError::Config { .. } => false,
    }
}

async fn refuse(exchange: &Exchange, party: &Party, response: Response) -> RegistryError {
    let name = &party.attempt.object;
    refusal(&party.attempt, name, response, &exchange.config.timing).await
}

/// A blob on its way.
struct Upload<'a> {
    exchange: &'a Exchange,
    party: Party,
    descriptor: &'a Descriptor,
    push: BlobPush,
}

impl Upload<'_> {
    async fn is_there(&self) -> Result<bool, RegistryError> {
        let path = format!("blobs/{}", self.descriptor.digest);
        let question = Question::new(Method::HEAD, Target::path(path));
        let response = self.exchange.ask(&self.party, &question).await?;
        match response.status() {
            status if status.is_success() => Ok(true),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.refuse(response).await),
            // Whatever else is wrong will show when the blob is sent.
            _ => Ok(false),
        }
    }

    /// Tries to have the blob from another repository. It is only a try: that the blob is not there, or
    /// not for us, is no error.
    async fn mount(&self, from: &str) -> Mount {
        let mut party = self.party.clone();
        party.scopes.push(format!("repository:{from}:pull"));
        let query = vec![("mount", self.descriptor.digest.to_string()), ("from", from.to_owned())];
        let target = Target::Path(UPLOADS.to_owned(), query);
        match self.exchange.ask(&party, &Question::new(Method::POST, target)).await {
            Ok(response) if response.status() == StatusCode::CREATED => Mount::Done,
            Ok(response) if response.status() == StatusCode::ACCEPTED => {
                Mount::Refused(self.begun(&response).ok())
            }
            Ok(response) => {
                tracing::debug!(status = %response.status(), from, "the blob cannot be mounted");
                Mount::Refused(None)
            }
            Err(error) => {
                tracing::debug!(%error, from, "the blob cannot be mounted");
                Mount::Refused(None)
            }
        }
    }

    /// Sends the blob, to where the registry has said already or will say.
    async fn send(&self, begun: Option<Begun>) -> Result<(), RegistryError> {
        let begun = match begun {
            Some(begun) => begun,
            None => self.begin().await?,
        };
        let response = self
            .put(self.with_digest(begun.location.clone()), self.part(0, self.descriptor.size))
            .await?;
        if response.status().is_success() {
            return Ok(());
        }
        if response.status() != StatusCode::PAYLOAD_TOO_LARGE || self.descriptor.size <= begun.piece
        {
            return Err(self.refuse(response).await);
        }
        tracing::debug!(attempt = %self.party.attempt, "the blob is sent in pieces");
        self.send_pieces().await
    }

    async fn send_pieces(&self) -> Result<(), RegistryError> {
        let Begun { mut location, piece } = self.begin().await?;
        let mut start = 0;
        while start < self.descriptor.size {
            let length = piece.min(self.descriptor.size - start);
            let mut question = self.question(Method::PATCH, location, self.part(start, length));
            let range = format!("{start}-{}", start + length - 1);
            if let Ok(range) = HeaderValue::try_from(range) {
                question.headers.insert(CONTENT_RANGE, range);
            }
            let response = self.exchange.ask(&self.party, &question).await?;
            if !response.status().is_success() {
                return Err(self.refuse(response).await);
            }
            location = self.location(&response)?;
            start += length;
        }
        let response = self.put(self.with_digest(location), Body::Empty).await?;
        if response.status().is_success() { Ok(()) } else { Err(self.refuse(response).await) }
    }

    /// Asks for a place to send to.
    async fn begin(&self) -> Result<Begun, RegistryError> {
        let question = Question::new(Method::POST, Target::path(UPLOADS));
        let response = self.exchange.ask(&self.party, &question).await?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(self.refuse(response).await);
        }
        self.begun(&response)
    }

    fn begun(&self, response: &Response) -> Result<Begun, RegistryError> {
        let least = header(response, "oci-chunk-min-length").and_then(|least| least.parse().ok());
        let piece = least.unwrap_or(0).max(PIECE);
        Ok(Begun { location: self.location(response)?, piece })
    }

    fn location(&self, response: &Response) -> Result<Url, RegistryError> {
        let location = header(response, LOCATION.as_str());
        let location = location.and_then(|location| response.url().join(location).ok());
        location.filter(|url| matches!(url.scheme(), "http" | "https")).ok_or_else(|| {
            garbage(&self.party, "it does not say where to send the blob".to_owned())
        })
    }

    fn with_digest(&self, mut location: Url) -> Url {
        location.query_pairs_mut().append_pair("digest", &self.descriptor.digest.to_string());
        location
    }

    async fn put(&self, location: Url, body: Body) -> Result<Response, RegistryError> {
        let question = self.question(Method::PUT, location, body);
        self.exchange.ask(&self.party, &question).await
    }

    fn question(&self, method: Method, location: Url, body: Body) -> Question {
        let mut question = Question::new(method, Target::Url(location));
        let kind = HeaderValue::from_static(media::OCTET_STREAM);
        question.headers.insert(CONTENT_TYPE, kind);
        Question { body, retry: Retry::No, ..question }
    }

    fn part(&self, start: u64, length: u64) -> Body {
        Body::Blob(BlobPart {
            source: self.push.source.clone(),
            digest: self.descriptor.digest,
            start,
            length,
            progress: self.push.progress.clone(),
        })
    }

    async fn refuse(&self, response: Response) -> RegistryError {
        refuse(self.exchange, &self.party, response).await
    }
}

/// An upload that the registry has begun.
struct Begun {
    location: Url,
    /// How much to send at once, if not all.
    piece: u64,
}

/// What came of trying to have a blob from another repository.
enum Mount {
    Done,
    /// It cannot be had; perhaps the registry has begun an upload instead.
    Refused(Option<Begun>),
}
