//! The client's content stores, blob by blob.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use bytes::{Bytes, BytesMut};
use digests::{Digest, DigestError};
use futures::StreamExt as _;
use proto::content::content_client::ContentClient;
use proto::content::{
    InfoRequest, ReadContentRequest, WriteAction, WriteContentRequest, WriteContentResponse,
};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};

use crate::call::{ORIGIN, append};
use crate::connection::Channel;
use crate::{ByteStream, Refusal, Session, SessionError};

const INFO: &str = "/containerd.services.content.v1.Content/Info";
const READ: &str = "/containerd.services.content.v1.Content/Read";
const WRITE: &str = "/containerd.services.content.v1.Content/Write";

/// Says on every call which store is meant.
const STORE_ID: &str = "buildkit-attachable-store-id";

/// How much of a blob travels in one message.
const CHUNK_SIZE: usize = 1 << 20;

/// Which of the client's content stores is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StoreId {
    /// A local cache, by the path as the attributes spell it.
    LocalCache(String),
    /// A named image layout, by the id the client chose.
    Layout(String),
    /// The output of an unpacked image layout.
    Export,
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LocalCache(path) => write!(f, "local:{path}"),
            Self::Layout(id) => write!(f, "oci:{id}"),
            Self::Export => f.write_str("export"),
        }
    }
}

/// A content store at the client's side.
#[derive(Debug, Clone)]
pub struct RemoteContent {
    session: Session,
    store: StoreId,
}

/// What a store knows of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Labels on it.
    pub labels: BTreeMap<String, String>,
}

/// The part of a blob that is wanted; the whole by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlobRange {
    /// Where it begins.
    pub offset: u64,
    /// How long it is; none for all the rest.
    pub size: Option<u64>,
}

/// A blob that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobWrite {
    /// The name of the transfer: `layer-<digest>`, `manifest-<digest>`, or the digest itself.
    pub reference: String,
    /// The digest that the bytes must have.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// Labels to set on the blob.
    pub labels: BTreeMap<String, String>,
}

impl Session {
    /// Returns one of the client's content stores; nothing is asked yet.
    pub fn content(&self, store: StoreId) -> RemoteContent {
        RemoteContent { session: self.clone(), store }
    }
}

impl RemoteContent {
    /// Returns what the store knows of a blob; none if it does not have it.
    ///
    /// # Errors
    /// Returns an error if the client fails in another way.
    pub async fn info(&self, digest: &Digest) -> Result<Option<BlobInfo>, SessionError> {
        let request = self.request(INFO, InfoRequest { digest: digest.to_string() })?;
        let info = match self.client().info(request).await {
            Ok(answer) => answer.into_inner().info.unwrap_or_default(),
            Err(status) => match self.session.failure(INFO, status) {
                error if error.refusal() == Some(Refusal::NotFound) => return Ok(None),
                error => return Err(error),
            },
        };
        let unexpected = |reason: String| SessionError::Unexpected { method: INFO, reason };
        let size = u64::try_from(info.size)
            .map_err(|_| unexpected(format!("blob {digest} has size {}", info.size)))?;
        let told =
            info.digest.parse().map_err(|error: DigestError| unexpected(error.to_string()))?;
        if told != *digest {
            return Err(unexpected(format!("asked for {digest}, got {told}")));
        }
        Ok(Some(BlobInfo { digest: told, size, labels: info.labels }))
    }

    /// Returns bytes of a blob. The digest is not checked here.
    ///
    /// # Errors
    /// Returns an error if the client refuses; failures after that come out of the stream.
    pub async fn read(
        &self,
        digest: &Digest,
        range: BlobRange,
    ) -> Result<ByteStream, SessionError> {
        let too_large = |_| SessionError::Unexpected {
            method: READ,
            reason: format!("there is no range {range:?} of {digest}"),
        };
        let request = ReadContentRequest {
            digest: digest.to_string(),
            offset: i64::try_from(range.offset).map_err(too_large)?,
            size: i64::try_from(range.size.unwrap_or(0)).map_err(too_large)?,
        };
        if range.size == Some(0) {
            // On the wire this would mean everything.
            return Ok(ByteStream::new(futures::stream::empty()));
        }
        let answer = self.client().read(self.request(READ, request)?).await;
        let answer = answer.map_err(|status| self.session.failure(READ, status))?;
        let session = self.session.clone();
        Ok(ByteStream::new(answer.into_inner().map(move |part| {
            part.map(|part| part.data).map_err(|status| session.failure(READ, status))
        })))
    }

    /// Writes a blob, continuing where the store has a part of it. One that it has already is done.
    ///
    /// # Errors
    /// Returns an error if the client fails, or `blob` has another length than it should.
    pub async fn write(
        &self,
        write: &BlobWrite,
        blob: impl AsyncRead + Send + Unpin,
    ) -> Result<(), SessionError> {
        match self.try_write(write, blob).await {
            Err(error) if error.refusal() == Some(Refusal::AlreadyExists) => Ok(()),
            done => done,
        }
    }

    async fn try_write(
        &self,
        write: &BlobWrite,
        mut blob: impl AsyncRead + Send + Unpin,
    ) -> Result<(), SessionError> {
        let total = i64::try_from(write.size)
            .map_err(|_| unexpected(format!("a blob of {} bytes is too large", write.size)))?;
        let mut dialogue = Dialogue::open(self, write, total).await?;
        let mut offset = dialogue.start.offset;
        if offset < 0 || offset > total {
            return Err(unexpected(format!("the client has {offset} of {total} bytes")));
        }
        let failed = |source| SessionError::Local {
            action: format!("read blob `{}`", write.digest),
            source,
        };
        skip(&mut blob, offset.unsigned_abs()).await.map_err(failed)?;
        loop {
            let data = chunk(&mut blob).await.map_err(failed)?;
            if data.is_empty() {
                break;
            }
            let length = data.len() as i64;
            let action = WriteAction::Write.into();
            let answer = dialogue
                .say(WriteContentRequest { action, offset, data, ..dialogue.named() })
                .await?;
            offset += length;
            if answer.offset != offset {
                return Err(unexpected(format!("at {} instead of {offset}", answer.offset)));
            }
        }
        if offset != total {
            let reason = format!("{offset} bytes instead of {total}");
            return Err(failed(io::Error::new(io::ErrorKind::UnexpectedEof, reason)));
        }
        let action = WriteAction::Commit.into();
        let commit = WriteContentRequest {
            action,
            offset,
            total,
            expected: write.digest.to_string(),
            labels: write.labels.clone(),
            ..dialogue.named()
        };
        let answer = dialogue.say(commit).await?;
        if !answer.digest.is_empty() && answer.digest != write.digest.to_string() {
            return Err(unexpected(format!("committed {}, not {}", answer.digest, write.digest)));
        }
        dialogue.end().await
    }

    fn client(&self) -> ContentClient<Channel> {
        ContentClient::with_origin(self.session.channel(), ORIGIN.clone())
            .max_decoding_message_size(proto::MAX_MESSAGE_SIZE)
            .max_encoding_message_size(proto::MAX_MESSAGE_SIZE)
    }

    fn request<T>(&self, method: &'static str, message: T) -> Result<Request<T>, SessionError> {
        let mut request = Request::new(message);
        append(request.metadata_mut(), method, STORE_ID, &self.store.to_string())?;
        Ok(request)
    }
}

/// One write call: a strict alternation of requests and answers.
struct Dialogue {
    session: Session,
    reference: String,
    requests: mpsc::Sender<WriteContentRequest>,
    answers: Streaming<WriteContentResponse>,
    /// The answer to the opening.
    start: WriteContentResponse,
}

impl Dialogue {
    /// Says what is to be written. The client may answer nothing, headers included, before that.
    async fn open(
        content: &RemoteContent,
        write: &BlobWrite,
        total: i64,
    ) -> Result<Self, SessionError> {
        let session = content.session.clone();
        let (requests, outgoing) = mpsc::channel(1);
        let opening = WriteContentRequest {
            action: WriteAction::Stat.into(),
            r#ref: write.reference.clone(),
            total,
            expected: write.digest.to_string(),
            ..WriteContentRequest::default()
        };
        // The channel is empty and its other end is here.
        let _ = requests.try_send(opening);
        let call = content.request(WRITE, ReceiverStream::new(outgoing))?;
        let answer = content.client().write(call).await;
        let mut answers = answer.map_err(|status| session.failure(WRITE, status))?.into_inner();
        let start = next(&session, &mut answers).await?;
        Ok(Self { session, reference: write.reference.clone(), requests, answers, start })
    }

    /// Returns an empty request for this blob.
    fn named(&self) -> WriteContentRequest {
        WriteContentRequest { r#ref: self.reference.clone(), ..WriteContentRequest::default() }
    }

    async fn say(
        &mut self,
        request: WriteContentRequest,
    ) -> Result<WriteContentResponse, SessionError> {
        // If the call is over, the next answer says why.
        let _ = self.requests.send(request).await;
        next(&self.session, &mut self.answers).await
    }

    /// Ends our side and reads what is left: some clients say twice that they have committed.
    async fn end(self) -> Result<(), SessionError> {
        let Self { session, requests, mut answers, .. } = self;
        drop(requests);
        while let Some(answer) = answers.next().await {
            answer.map_err(|status| session.failure(WRITE, status))?;
        }
        Ok(())
    }
}

async fn next(
    session: &Session,
    answers: &mut Streaming<WriteContentResponse>,
) -> Result<WriteContentResponse, SessionError> {
    match answers.next().await {
        Some(answer) => answer.map_err(|status| session.failure(WRITE, status)),
        None => Err(unexpected("the client ended the call before the blob was written".to_owned())),
    }
}

fn unexpected(reason: String) -> SessionError {
    SessionError::Unexpected { method: WRITE, reason }
}

async fn skip(blob: &mut (impl AsyncRead + Send + Unpin), count: u64) -> io::Result<()> {
    let skipped = tokio::io::copy(&mut blob.take(count), &mut tokio::io::sink()).await?;
    if skipped == count { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Reads the next message's worth of bytes; none at the end.
async fn chunk(blob: &mut (impl AsyncRead + Send + Unpin)) -> io::Result<Bytes> {
    let mut data = BytesMut::with_capacity(CHUNK_SIZE);
    let mut part = blob.take(CHUNK_SIZE as u64);
    while part.read_buf(&mut data).await? > 0 {}
    Ok(data.freeze())
}
