//! The client's content stores, strict about the alternation of a write.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use digests::Digest;
use futures::Stream;
use proto::content::content_server::{Content, ContentServer};
use proto::content::{
    AbortRequest, DeleteContentRequest, Info, InfoRequest, InfoResponse, ListContentRequest,
    ListContentResponse, ListStatusesRequest, ListStatusesResponse, ReadContentRequest,
    ReadContentResponse, StatusRequest, StatusResponse, UpdateRequest, UpdateResponse, WriteAction,
    WriteContentRequest, WriteContentResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::Offers;

type Answer<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

pub(super) fn service(offers: Arc<Offers>) -> ContentServer<Service> {
    ContentServer::new(Service(offers)).max_decoding_message_size(4 << 20)
}

pub(super) struct Service(Arc<Offers>);

impl Service {
    fn store(&self, metadata: &MetadataMap) -> Result<String, Status> {
        let id = metadata.get("buildkit-attachable-store-id");
        let id = id.and_then(|id| id.to_str().ok());
        let id = id.ok_or_else(|| Status::invalid_argument("request without a store id"))?;
        if !self.0.stores.lock().contains_key(id) {
            return Err(Status::not_found(format!("unknown store {id}")));
        }
        Ok(id.to_owned())
    }

    fn blob(&self, metadata: &MetadataMap, digest: &str) -> Result<Bytes, Status> {
        let store = self.store(metadata)?;
        let digest: Digest =
            digest.parse().map_err(|_| Status::invalid_argument("not a digest"))?;
        let blob = self.0.stores.lock()[&store].get(&digest).cloned();
        blob.ok_or_else(|| Status::not_found(format!("{digest}: not found")))
    }
}

#[tonic::async_trait]
impl Content for Service {
    type ListStream = Answer<ListContentResponse>;
    type ReadStream = Answer<ReadContentResponse>;
    type WriteStream = Answer<WriteContentResponse>;

    async fn info(&self, request: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        let blob = self.blob(request.metadata(), &request.get_ref().digest)?;
        let digest = request.into_inner().digest;
        let info = Info { digest, size: blob.len() as i64, ..Info::default() };
        Ok(Response::new(InfoResponse { info: Some(info) }))
    }

    async fn read(
        &self,
        request: Request<ReadContentRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let blob = self.blob(request.metadata(), &request.get_ref().digest)?;
        let ReadContentRequest { offset, size, .. } = *request.get_ref();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if start > blob.len() {
            return Err(Status::out_of_range("read past the end"));
        }
        let size = if size == 0 { blob.len() - start } else { size.min(blob.len() - start) };
        let data = blob.slice(start..start + size);
        let parts: Vec<_> = (0..data.len())
            .step_by(1000)
            .map(|from| {
                let data = data.slice(from..data.len().min(from + 1000));
                Ok(ReadContentResponse { offset: offset + from as i64, data })
            })
            .collect();
        Ok(Response::new(Box::pin(futures::stream::iter(parts))))
    }

    async fn write(
        &self,
        request: Request<Streaming<WriteContentRequest>>,
    ) -> Result<Response<Self::WriteStream>, Status> {
        let store = self.store(request.metadata())?;
        let (answers, outgoing) = mpsc::channel(1);
        let mut writer = Writer {
            offers: self.0.clone(),
            store,
            answers,
            reference: String::new(),
            data: Vec::new(),
        };
        tasks::spawn("fake-content", async move {
            if let Err(status) = writer.run(request.into_inner()).await {
                let _ = writer.answers.send(Err(status)).await;
            }
        })
        .detach();
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }

    async fn update(&self, _: Request<UpdateRequest>) -> Result<Response<UpdateResponse>, Status> {
        Err(Status::unimplemented("update"))
    }

    async fn list(
        &self,
        _: Request<ListContentRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        Err(Status::unimplemented("list"))
    }

    async fn delete(&self, _: Request<DeleteContentRequest>) -> Result<Response<()>, Status> {
        Err(Status::unimplemented("delete"))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Err(Status::unimplemented("status"))
    }

    async fn list_statuses(
        &self,
        _: Request<ListStatusesRequest>,
    ) -> Result<Response<ListStatusesResponse>, Status> {
        Err(Status::unimplemented("statuses"))
    }

    async fn abort(&self, _: Request<AbortRequest>) -> Result<Response<()>, Status> {
        Err(Status::unimplemented("abort"))
    }
}

struct Writer {
    offers: Arc<Offers>,
    store: String,
    answers: mpsc::Sender<Result<WriteContentResponse, Status>>,
    reference: String,
    data: Vec<u8>,
}

impl Writer {
    async fn run(&mut self, mut requests: Streaming<WriteContentRequest>) -> Result<(), Status> {
        let Some(opening) = requests.message().await? else { return Ok(()) };
        if opening.action() != WriteAction::Stat || opening.r#ref.is_empty() {
            return Err(Status::invalid_argument("a write begins with its name"));
        }
        if let Ok(digest) = opening.expected.parse::<Digest>()
            && self.offers.stores.lock()[&self.store].contains_key(&digest)
        {
            return Err(Status::already_exists(format!("content {digest}: already exists")));
        }
        self.reference.clone_from(&opening.r#ref);
        let begun = self.offers.partial.lock().remove(&self.reference);
        self.data = begun.unwrap_or_default().to_vec();
        self.answer(WriteAction::Stat).await?;
        while let Some(request) = requests.message().await? {
            match request.action() {
                WriteAction::Stat => self.answer(WriteAction::Stat).await?,
                WriteAction::Write if request.offset != self.data.len() as i64 => {
                    return Err(Status::out_of_range("not where the last write ended"));
                }
                WriteAction::Write => {
                    self.data.extend_from_slice(&request.data);
                    self.answer(WriteAction::Write).await?;
                }
                WriteAction::Commit => return self.commit(&request).await,
            }
        }
        Ok(())
    }

    async fn commit(&mut self, request: &WriteContentRequest) -> Result<(), Status> {
        let digest = Digest::of(&self.data);
        if request.expected != digest.to_string() || request.total != self.data.len() as i64 {
            return Err(Status::failed_precondition(format!("unexpected commit digest {digest}")));
        }
        if let Some(store) = self.offers.stores.lock().get_mut(&self.store) {
            store.insert(digest, self.data.clone().into());
        }
        // Real clients say it twice.
        self.answer(WriteAction::Commit).await?;
        self.answer(WriteAction::Commit).await
    }

    async fn answer(&self, action: WriteAction) -> Result<(), Status> {
        let answer = WriteContentResponse {
            action: action.into(),
            offset: self.data.len() as i64,
            digest: Digest::of(&self.data).to_string(),
            ..WriteContentResponse::default()
        };
        self.answers.send(Ok(answer)).await.map_err(|_| Status::cancelled("the call is over"))
    }
}
