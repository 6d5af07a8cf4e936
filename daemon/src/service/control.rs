//! The front door (protocol page `control.md` §2).

use std::time::SystemTime;

use ::bridge::BuildError;
use ::session::SessionId;
use builder::{HistoryEvent, HistoryRecord};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use progress::FeedReader;
use proto::control::control_server::Control;
use proto::control::{
    BuildHistoryEvent, BuildHistoryRequest, BytesMessage, DiskUsageRequest, DiskUsageResponse,
    InfoRequest, InfoResponse, ListWorkersRequest, ListWorkersResponse, PruneRequest, SolveRequest,
    SolveResponse, StatusRequest, StatusResponse, UpdateBuildHistoryRequest,
    UpdateBuildHistoryResponse, UsageRecord,
};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use super::Services;
use super::session::{self, SessionStream};
use crate::wire::HistoryQuery;
use crate::{status, wire};

/// Clients take the difference to their own clock from it.
const NOW: &str = "buildkit-current-timestamp";

/// The front door.
#[derive(Debug)]
pub(super) struct ControlService {
    services: Services,
}

impl ControlService {
    pub(super) fn new(services: Services) -> Self {
        Self { services }
    }
}

/// Returns a response that says what time it is here, before anything else.
fn timed<T>(message: T) -> Response<T> {
    let mut response = Response::new(message);
    if let Ok(now) = MetadataValue::try_from(wire::current_timestamp()) {
        response.metadata_mut().insert(NOW, now);
    }
    response
}

#[tonic::async_trait]
impl Control for ControlService {
    type PruneStream = BoxStream<'static, Result<UsageRecord, Status>>;
    type StatusStream = BoxStream<'static, Result<StatusResponse, Status>>;
    type SessionStream = SessionStream;
    type ListenBuildHistoryStream = BoxStream<'static, Result<BuildHistoryEvent, Status>>;

    async fn disk_usage(
        &self,
        request: Request<DiskUsageRequest>,
    ) -> Result<Response<DiskUsageResponse>, Status> {
        let request = request.into_inner();
        let filter = wire::usage_filter(&request.filter).map_err(status::of)?;
        let records = self.services.builder.usage().await.map_err(status::of)?;
        let now = SystemTime::now();
        let matching = records.into_iter().filter(|record| {
            filter.matches(record) && wire::is_older(record, request.age_limit, now)
        });
        let record = matching.map(wire::usage_record).collect();
        Ok(Response::new(DiskUsageResponse { record }))
    }

    async fn prune(
        &self,
        request: Request<PruneRequest>,
    ) -> Result<Response<Self::PruneStream>, Status> {
        let request = wire::prune_request(request.get_ref()).map_err(status::of)?;
        let removed = self.services.builder.prune(request).await.map_err(status::of)?;
        let records: Vec<_> = removed.into_iter().map(|one| Ok(wire::usage_record(one))).collect();
        Ok(Response::new(stream::iter(records).boxed()))
    }

    async fn solve(
        &self,
        request: Request<SolveRequest>,
    ) -> Result<Response<SolveResponse>, Status> {
        // Held until the build has ended, also when the client leaves and this call is dropped.
        let _pass = self.services.gate.enter().map_err(status::of)?;
        let request = request.into_inner();
        let session = SessionId::new(&request.session).ok();
        let request = wire::build_request(request).map_err(status::of)?;
        let built = self.services.builder.build(request).await;
        // The client leaves when it has this answer, which may be before it has read a word of its session.
        // It opens that at the same time as it asks for the build, so it may even be still to come.
        if let Some(session) = session {
            self.services.sessions.heard(&session).await;
        }
        let exporter_response = built.map_err(status::of)?;
        Ok(Response::new(SolveResponse { exporter_response }))
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<Self::StatusStream>, Status> {
        // The header goes out before the build has begun, so the wait for it is in the stream.
        let (builder, reference) = (self.services.builder.clone(), request.into_inner().r#ref);
        let messages =
            stream::once(async move { builder.follow(&reference).await }).flat_map(|reader| {
                match reader {
                    Ok(reader) => follow(reader),
                    Err(error) => stream::once(async { Err(status::of(error)) }).boxed(),
                }
            });
        Ok(timed(messages.boxed()))
    }

    async fn session(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        session::open(&self.services.sessions, request).await.map(Response::new)
    }

    async fn list_workers(
        &self,
        request: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        let filter = wire::usage_filter(&request.get_ref().filter).map_err(status::of)?;
        let record = self.services.workers.records(&filter);
        Ok(Response::new(ListWorkersResponse { record }))
    }

    async fn info(&self, _request: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        let buildkit_version = Some(wire::Workers::version());
        Ok(Response::new(InfoResponse { buildkit_version }))
    }

    async fn listen_build_history(
        &self,
        request: Request<BuildHistoryRequest>,
    ) -> Result<Response<Self::ListenBuildHistoryStream>, Status> {
        let query = HistoryQuery::try_from(request.into_inner()).map_err(status::of)?;
        let history = self.services.builder.history();
        // Before the records are read: what happens meanwhile is told twice rather than never.
        let happening = history.listen();
        let known: Vec<_> = query.select(history.list()).into_iter().map(Ok).collect();
        let known = stream::iter(known);
        let events = if query.early_exit {
            known.boxed()
        } else {
            known.chain(listen(happening, query)).boxed()
        };
        let events = events
            .map(|event: Result<_, BuildError>| event.map(wire::history_event).map_err(status::of));
        Ok(timed(events.boxed()))
    }

    async fn update_build_history(
        &self,
        request: Request<UpdateBuildHistoryRequest>,
    ) -> Result<Response<UpdateBuildHistoryResponse>, Status> {
        let request = request.into_inner();
        let history = self.services.builder.history();
        if request.delete {
            history.delete(&request.r#ref).await.map_err(status::of)?;
        } else if !request.finalize {
            history.pin(&request.r#ref, request.pinned).map_err(status::of)?;
        }
        Ok(Response::new(UpdateBuildHistoryResponse {}))
    }
}

/// Returns what a build says, in messages, until it has said everything.
fn follow(reader: FeedReader) -> BoxStream<'static, Result<StatusResponse, Status>> {
    let batches = stream::unfold(reader, |mut reader| async move {
        let events = reader.next_batch().await?;
        Some((stream::iter(wire::status_messages(events)), reader))
    });
    batches.flatten().map(Ok).boxed()
}

/// Returns what happens to the records of a query from now on.
fn listen(
    happening: broadcast::Receiver<HistoryEvent>,
    query: HistoryQuery,
) -> BoxStream<'static, Result<HistoryEvent, BuildError>> {
    let events = stream::unfold(happening, |mut happening| async move {
        loop {
            match happening.recv().await {
                Ok(event) => return Some((event, happening)),
                Err(RecvError::Lagged(missed)) => {
                    tracing::info!(missed, "a client is too slow for what happens");
                }
                Err(RecvError::Closed) => return None,
            }
        }
    });
    events.filter(move |event| std::future::ready(query.is_about(record_of(event)))).map(Ok).boxed()
}

fn record_of(event: &HistoryEvent) -> &HistoryRecord {
    match event {
        HistoryEvent::Started(record)
        | HistoryEvent::Completed(record)
        | HistoryEvent::Deleted(record) => record,
    }
}
