//! Files on their way into the store of blobs, and what is remembered of them.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cache::{MetaStore, Table};
use content::Ingest;
use digests::{Digest, StableHasher};
use futures::{Stream, StreamExt as _};
use parking_lot::Mutex;
use reqwest::header::{
    AUTHORIZATION, CONTENT_DISPOSITION, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use reqwest::{Client, Response, StatusCode, Url};
use serde::{Deserialize, Serialize};
use solver::OpError;
use tokio::sync::OnceCell;

use super::HttpError;
use super::request::FileRequest;
use crate::clients::{Clients, blame};
use crate::{Services, failure};

/// How we call ourselves, unless the build says otherwise.
const USER_AGENT: &str = concat!("larder/", env!("CARGO_PKG_VERSION"));
/// How long a server may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// How long nothing may be heard.
const SILENCE_LIMIT: Duration = Duration::from_secs(120);
/// How many redirects are followed in a row.
const MOST_REDIRECTS: usize = 10;
/// The longest file, bytes: more than any disk image, less than what a broken server sends for ever.
const LONGEST: u64 = 1 << 40;
/// How many uploads are remembered, so that a build that asks again gets what it had.
const MOST_UPLOADS: usize = 256;

/// A file in the store of blobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub(crate) digest: Digest,
    pub(crate) filename: String,
    /// When it last changed, if the server says.
    pub(crate) modified: Option<SystemTime>,
}

/// What is remembered of a file: how to recognise it, and what it was.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Seen {
    digest: Digest,
    #[serde(default)]
    etag: Option<String>,
    #[serde(default)]
    modified: Option<String>,
    #[serde(default)]
    disposition: Option<String>,
}

/// Brings files from outside.
#[derive(Debug)]
pub(crate) struct Downloads {
    meta: MetaStore,
    /// Through the proxy, if the machine has one; and past it, for this machine's own servers.
    clients: Mutex<[Option<Client>; 2]>,
    seen: OnceCell<Mutex<HashMap<Digest, Seen>>>,
    /// A client gives each upload away once.
    uploads: Mutex<VecDeque<(String, Digest)>>,
}

impl Downloads {
    pub(crate) fn new(meta: MetaStore) -> Self {
        let (clients, seen, uploads) = (Mutex::default(), OnceCell::new(), Mutex::default());
        Self { meta, clients, seen, uploads }
    }

    /// Brings a file into the store of blobs, unless it is there and has not changed.
    pub(super) async fn fetch(
        &self,
        services: &Services,
        request: &FileRequest,
        clients: &Clients,
    ) -> Result<Fetched, OpError> {
        if let Some(id) = request.upload() {
            let digest = self.upload(services, id, clients).await?;
            return Ok(Fetched { digest, filename: request.filename(None), modified: None });
        }
        let known = self.known(services, request).await?;
        let response = self.ask(request, known.as_ref(), clients).await?;
        let seen = match known {
            Some(known) if is_same(&response, &known) => known,
            _ => {
                let seen = take(services, request, response).await?;
                self.remember(request, &seen).await?;
                seen
            }
        };
        let filename = request.filename(seen.disposition.as_deref());
        let modified = seen.modified.as_deref().and_then(moment);
        Ok(Fetched { digest: seen.digest, filename, modified })
    }

    async fn upload(
        &self,
        services: &Services,
        id: &str,
        clients: &Clients,
    ) -> Result<Digest, OpError> {
        let had = {
            let uploads = self.uploads.lock();
            uploads.iter().find(|(had, _)| had == id).map(|(_, digest)| *digest)
        };
        if let Some(digest) = had
            && services.has_blob(&digest).await?
        {
            return Ok(digest);
        }
        let mut last = None;
        for (job, session) in clients.ids() {
            let session = match clients.connect(job, session).await {
                Ok(session) => session,
                Err(error) => {
                    last = last.or(Some(error));
                    continue;
                }
            };
            let stream = match session.upload(id).await {
                Ok(stream) => stream,
                Err(error) if error.is_absent() => continue,
                Err(error) => {
                    last = Some(blame(job, &session, error));
                    continue;
                }
            };
            let stream = stream.map(|chunk| chunk.map_err(|error| blame(job, &session, error)));
            let ingest = services.refs.content().ingest(None, None).await.map_err(failure)?;
            let digest = keep(ingest, stream, id).await?;
            let mut uploads = self.uploads.lock();
            if uploads.len() == MOST_UPLOADS {
                uploads.pop_front();
            }
            uploads.push_back((id.to_owned(), digest));
            return Ok(digest);
        }
        Err(last.unwrap_or_else(|| failure(HttpError::Upload(id.to_owned()))))
    }

    /// Sends the request, with what is known of the file.
    async fn ask(
        &self,
        request: &FileRequest,
        known: Option<&Seen>,
        clients: &Clients,
    ) -> Result<Response, OpError> {
        let url = request.shown();
        let lost = |source: reqwest::Error| {
            failure(HttpError::Connection { url: url.clone(), source: source.without_url() })
        };
        let mut headers = HeaderMap::from_iter(request.headers.iter().cloned());
        if let Some(value) = authorization(request, clients).await? {
            headers.insert(AUTHORIZATION, value);
        }
        if let Some(known) = known {
            put(&mut headers, IF_NONE_MATCH, known.etag.as_deref());
            if known.etag.is_none() {
                put(&mut headers, IF_MODIFIED_SINCE, known.modified.as_deref());
            }
        }
        let client = self.client(&request.url).map_err(lost)?;
        let sending = client.get(request.url.clone()).headers(headers).send();
        let response = quiet(sending, &url).await?.map_err(lost)?;
        let status = response.status();
        let unchanged = known.is_some() && status == StatusCode::NOT_MODIFIED;
        if !status.is_success() && !unchanged {
            return Err(failure(HttpError::Status { url, status: status.as_u16() }));
        }
        Ok(response)
    }

    fn client(&self, url: &Url) -> reqwest::Result<Client> {
        let direct = is_loopback(url);
        let mut clients = self.clients.lock();
        let made = &mut clients[usize::from(direct)];
        if let Some(client) = made {
            return Ok(client.clone());
        }
        let builder = Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_LIMIT)
            .redirect(reqwest::redirect::Policy::limited(MOST_REDIRECTS));
        let client = if direct { builder.no_proxy() } else { builder }.build()?;
        Ok(made.insert(client).clone())
    }

    /// Returns what is known of a file that is still in the store of blobs.
    async fn known(
        &self,
        services: &Services,
        request: &FileRequest,
    ) -> Result<Option<Seen>, OpError> {
        let seen = self.seen().await?.lock().get(&identity(request)).cloned();
        match seen {
            Some(seen) if services.has_blob(&seen.digest).await? => Ok(Some(seen)),
            _ => Ok(None),
        }
    }

    async fn remember(&self, request: &FileRequest, seen: &Seen) -> Result<(), OpError> {
        if seen.etag.is_none() && seen.modified.is_none() {
            return Ok(());
        }
        let identity = identity(request);
        self.seen().await?.lock().insert(identity, seen.clone());
        let value = serde_json::to_vec(seen).map_err(failure)?;
        self.meta.put(Table::Sources, key(&identity), value);
        Ok(())
    }

    async fn seen(&self) -> Result<&Mutex<HashMap<Digest, Seen>>, OpError> {
        let read = || async {
            let meta = self.meta.clone();
            let rows = tasks::blocking("read sources", move || meta.scan(Table::Sources)).await;
            let rows = rows.map_err(failure)?.map_err(failure)?;
            let rows = rows.into_iter().filter_map(|(key, value)| {
                let key = String::from_utf8(key).ok()?;
                Some((
                    key.strip_prefix(PREFIX)?.parse().ok()?,
                    serde_json::from_slice(&value).ok()?,
                ))
            });
            Ok(Mutex::new(rows.collect()))
        };
        self.seen.get_or_try_init(read).await
    }
}

/// Before the keys of files, in the table of sources.
const PREFIX: &str = "http:";

fn key(identity: &Digest) -> String {
    format!("{PREFIX}{identity}")
}

/// What makes two requests the same to a server.
fn identity(request: &FileRequest) -> Digest {
    let mut hasher = StableHasher::new("http-seen.v1");
    hasher.feed(&request.url.to_string());
    hasher.feed(&request.secret.clone().unwrap_or_default());
    for (name, value) in &request.headers {
        hasher
            .feed(&name.to_string())
            .feed(&String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    hasher.finish()
}

/// Returns what proves to the server who asks: the secret that was named, or one for the host.
async fn authorization(
    request: &FileRequest,
    clients: &Clients,
) -> Result<Option<HeaderValue>, OpError> {
    let value = |name: &str, bytes: &[u8]| {
        let value = HeaderValue::from_bytes(bytes.trim_ascii_end());
        let mut value = value.map_err(|_| failure(HttpError::Secret(name.to_owned())))?;
        value.set_sensitive(true);
        Ok(Some(value))
    };
    if let Some(name) = &request.secret {
        let missing = || failure(crate::OperationError::Secret(name.clone()));
        let secret = clients.secret(name).await?.ok_or_else(missing)?;
        return value(name, secret.expose());
    }
    let host = request.url.host_str().unwrap_or_default();
    let header = format!("HTTP_AUTH_HEADER_{host}");
    if let Some(secret) = clients.secret(&header).await? {
        return value(&header, secret.expose());
    }
    let token = format!("HTTP_AUTH_TOKEN_{host}");
    match clients.secret(&token).await? {
        Some(secret) => value(&token, &[b"Bearer ", secret.expose()].concat()),
        None => Ok(None),
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: Option<&str>) {
    if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
        headers.insert(name, value);
    }
}

/// Returns whether the server has what is known. One that does not compare the tags itself at least
/// sends the same.
fn is_same(response: &Response, known: &Seen) -> bool {
    let strong = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let tag = text(response, &ETAG).map(|tag| strong(&tag));
    response.status() == StatusCode::NOT_MODIFIED
        || (tag.is_some() && tag == known.etag.as_deref().map(strong))
}

fn text(response: &Response, name: &HeaderName) -> Option<String> {
    let value = response.headers().get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// Takes in the body of an answer.
async fn take(
    services: &Services,
    request: &FileRequest,
    response: Response,
) -> Result<Seen, OpError> {
    let (etag, modified) = (text(&response, &ETAG), text(&response, &LAST_MODIFIED));
    let disposition = text(&response, &CONTENT_DISPOSITION);
    let url = request.shown();
    let ingest = services.refs.content().ingest(None, response.content_length()).await;
    let lost = |source: reqwest::Error| {
        failure(HttpError::Connection { url: url.clone(), source: source.without_url() })
    };
    let stream = response.bytes_stream().map(|chunk| chunk.map_err(lost));
    let digest = keep(ingest.map_err(failure)?, stream, &url).await?;
    Ok(Seen { digest, etag, modified, disposition })
}

/// Takes in what comes until it ends; it must not pause for long, nor go on for ever.
async fn keep(
    mut ingest: Ingest,
    chunks: impl Stream<Item = Result<Bytes, OpError>>,
    url: &str,
) -> Result<Digest, OpError> {
    let mut chunks = std::pin::pin!(chunks);
    while let Some(chunk) = quiet(chunks.next(), url).await? {
        ingest.write(chunk?).await.map_err(failure)?;
        if ingest.received() > LONGEST {
            return Err(failure(HttpError::TooLong { url: url.to_owned(), limit: LONGEST }));
        }
    }
    Ok(ingest.commit().await.map_err(failure)?.0)
}

async fn quiet<T>(heard: impl Future<Output = T>, url: &str) -> Result<T, OpError> {
    let (url, seconds) = (url.to_owned(), SILENCE_LIMIT.as_secs());
    let heard = tokio::time::timeout(SILENCE_LIMIT, heard).await;
    heard.map_err(|_| failure(HttpError::Stalled { url, seconds }))
}

fn moment(text: &str) -> Option<SystemTime> {
    let parsed = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(parsed.into())
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
