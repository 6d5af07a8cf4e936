//! The daemon's blobs, for reading: what records of builds point to.

use std::sync::Arc;

use ::content::{BlobInfo, ContentError, ContentStore, Reader};
use digests::Digest;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use proto::content::content_server::Content;
use proto::content::{
    AbortRequest, DeleteContentRequest, Info, InfoRequest, InfoResponse, ListContentRequest,
    ListContentResponse, ListStatusesRequest, ListStatusesResponse, ReadContentRequest,
    ReadContentResponse, StatusRequest, StatusResponse, UpdateRequest, UpdateResponse,
    WriteContentRequest, WriteContentResponse,
};
use tonic::{Request, Response, Status, Streaming};

/// How many bytes one message has at the most.
const CHUNK: u64 = 1 << 20;

/// How many blobs one message lists at the most.
const LISTED: usize = 1000;

/// A store that only the daemon writes to.
#[derive(Debug)]
pub(super) struct ContentService {
    store: Arc<dyn ContentStore>,
}

impl ContentService {
    pub(super) fn new(store: Arc<dyn ContentStore>) -> Self {
        Self { store }
    }
}

fn parse(digest: &str) -> Result<Digest, Status> {
    digest
        .parse()
        .map_err(|error: digests::DigestError| Status::invalid_argument(error.to_string()))
}

fn failed(error: ContentError) -> Status {
    match error {
        // Clients know this text.
        ContentError::NotFound { digest } => {
            Status::not_found(format!("content {digest}: not found"))
        }
        ContentError::Range { .. } => Status::out_of_range(error.to_string()),
        other => Status::internal(other.to_string()),
    }
}

fn read_only() -> Status {
    Status::unimplemented("the daemon's content is read-only")
}

fn info(blob: BlobInfo) -> Info {
    let created = Some(prost_types::Timestamp::from(blob.created));
    Info {
        digest: blob.digest.to_string(),
        size: i64::try_from(blob.size).unwrap_or(i64::MAX),
        created_at: created,
        updated_at: created,
        ..Default::default()
    }
}

#[tonic::async_trait]
impl Content for ContentService {
    type ListStream = BoxStream<'static, Result<ListContentResponse, Status>>;
    type ReadStream = BoxStream<'static, Result<ReadContentResponse, Status>>;
    type WriteStream = BoxStream<'static, Result<WriteContentResponse, Status>>;

    async fn info(&self, request: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        let digest = parse(&request.get_ref().digest)?;
        let found = self.store.info(&digest).await.map_err(failed)?;
        let found = found.ok_or_else(|| failed(ContentError::NotFound { digest }))?;
        Ok(Response::new(InfoResponse { info: Some(info(found)) }))
    }

    async fn list(
        &self,
        _request: Request<ListContentRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let blobs = self.store.list().await.map_err(failed)?;
        let messages: Vec<_> = blobs
            .chunks(LISTED)
            .map(|blobs| {
                Ok(ListContentResponse { info: blobs.iter().copied().map(info).collect() })
            })
            .collect();
        Ok(Response::new(stream::iter(messages).boxed()))
    }

    async fn read(
        &self,
        request: Request<ReadContentRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let request = request.into_inner();
        let reader = self.store.open(&parse(&request.digest)?).await.map_err(failed)?;
        let wrong = || Status::out_of_range(format!("`{}` has no such part", request.digest));
        let offset = u64::try_from(request.offset).map_err(|_| wrong())?;
        let rest = reader.size().checked_sub(offset).ok_or_else(wrong)?;
        let length = match u64::try_from(request.size).map_err(|_| wrong())? {
            0 => rest,
            asked => asked.min(rest),
        };
        Ok(Response::new(chunks(reader, offset, offset + length)))
    }

    async fn update(&self, _: Request<UpdateRequest>) -> Result<Response<UpdateResponse>, Status> {
        Err(read_only())
    }

    async fn delete(&self, _: Request<DeleteContentRequest>) -> Result<Response<()>, Status> {
        Err(read_only())
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Err(read_only())
    }

    async fn list_statuses(
        &self,
        _: Request<ListStatusesRequest>,
    ) -> Result<Response<ListStatusesResponse>, Status> {
        Err(read_only())
    }

    async fn write(
        &self,
        _: Request<Streaming<WriteContentRequest>>,
    ) -> Result<Response<Self::WriteStream>, Status> {
        Err(read_only())
    }

    async fn abort(&self, _: Request<AbortRequest>) -> Result<Response<()>, Status> {
        Err(read_only())
    }
}

/// Returns the part of a blob from `start` to `end` in pieces.
fn chunks(
    reader: Reader,
    start: u64,
    end: u64,
) -> BoxStream<'static, Result<ReadContentResponse, Status>> {
    stream::try_unfold((reader, start), move |(reader, at)| async move {
        let length = CHUNK.min(end - at);
        if length == 0 {
            return Ok(None);
        }
        // At most a mebibyte.
        let count = usize::try_from(length).unwrap_or_default();
        let data = reader.read_range(at, count).await.map_err(failed)?;
        let offset = i64::try_from(at).unwrap_or(i64::MAX);
        Ok(Some((ReadContentResponse { offset, data }, (reader, at + length))))
    })
    .boxed()
}
