//! `larder.volumes.v1`: cache volumes, seen and changed by their owner.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use proto::volumes::volumes_server::Volumes;
use proto::volumes::{
    BrowseRequest, Entry, ForkRequest, ForkResponse, InspectRequest, ListRequest, PinRequest,
    PinResponse, PruneRequest, RemoveRequest, RemoveResponse, Removed, ResetRequest, ResetResponse,
    RollbackRequest, RollbackResponse, SetPolicyRequest, SetPolicyResponse, Volume,
};
use tonic::{Request, Response, Status};
use volumes::{VolumeError, VolumeManager};

use crate::wire;

/// Cache volumes, for their owner.
#[derive(Debug)]
pub(super) struct VolumesService {
    volumes: Arc<VolumeManager>,
}

impl VolumesService {
    pub(super) fn new(volumes: Arc<VolumeManager>) -> Self {
        Self { volumes }
    }
}

type Messages<T> = BoxStream<'static, Result<T, Status>>;

/// Returns an answer of many messages; a volume may have any number of anything.
fn messages<T, W>(values: Vec<T>, to_wire: fn(T) -> W) -> Response<Messages<W>>
where
    T: Send + 'static,
    W: Send + 'static,
{
    Response::new(stream::iter(values).map(move |value| Ok(to_wire(value))).boxed())
}

fn refused(error: VolumeError) -> Status {
    wire::volume_status(&error)
}

#[tonic::async_trait]
impl Volumes for VolumesService {
    type ListStream = Messages<Volume>;
    type BrowseStream = Messages<Entry>;
    type PruneStream = Messages<Removed>;

    async fn list(&self, _: Request<ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let records = self.volumes.list().await.map_err(refused)?;
        Ok(messages(records, wire::volume))
    }

    async fn inspect(&self, request: Request<InspectRequest>) -> Result<Response<Volume>, Status> {
        let key = wire::volume_key(request.into_inner().volume)?;
        let record = self.volumes.inspect(key).await.map_err(refused)?;
        Ok(Response::new(wire::volume(record)))
    }

    async fn remove(
        &self,
        request: Request<RemoveRequest>,
    ) -> Result<Response<RemoveResponse>, Status> {
        let key = wire::volume_key(request.into_inner().volume)?;
        let freed = self.volumes.remove(key).await.map_err(refused)?;
        tracing::info!(volume.id = %key, "a client removed a volume");
        Ok(Response::new(RemoveResponse { freed: Some(wire::space(freed)) }))
    }

    async fn reset(
        &self,
        request: Request<ResetRequest>,
    ) -> Result<Response<ResetResponse>, Status> {
        let ResetRequest { volume, by } = request.into_inner();
        let key = wire::volume_key(volume)?;
        self.volumes.reset(key, wire::volume_label(by)).await.map_err(refused)?;
        tracing::info!(volume.id = %key, "a client reset a volume");
        Ok(Response::new(ResetResponse {}))
    }

    async fn pin(&self, request: Request<PinRequest>) -> Result<Response<PinResponse>, Status> {
        let PinRequest { volume, pinned } = request.into_inner();
        self.volumes.pin(wire::volume_key(volume)?, pinned).await.map_err(refused)?;
        Ok(Response::new(PinResponse {}))
    }

    async fn set_policy(
        &self,
        request: Request<SetPolicyRequest>,
    ) -> Result<Response<SetPolicyResponse>, Status> {
        let SetPolicyRequest { volume, policy } = request.into_inner();
        let key = wire::volume_key(volume)?;
        let patch = wire::policy_patch(policy.unwrap_or_default())?;
        self.volumes.set_policy(key, patch).await.map_err(refused)?;
        Ok(Response::new(SetPolicyResponse {}))
    }

    async fn rollback(
        &self,
        request: Request<RollbackRequest>,
    ) -> Result<Response<RollbackResponse>, Status> {
        let RollbackRequest { volume, version, by } = request.into_inner();
        let key = wire::volume_key(volume)?;
        self.volumes.rollback(key, version, wire::volume_label(by)).await.map_err(refused)?;
        tracing::info!(volume.id = %key, version, "a client rolled a volume back");
        Ok(Response::new(RollbackResponse {}))
    }

    async fn fork(&self, request: Request<ForkRequest>) -> Result<Response<ForkResponse>, Status> {
        let ForkRequest { volume, to, by } = request.into_inner();
        let (key, to) = (wire::volume_key(volume)?, wire::volume_name(to)?);
        let made = self.volumes.fork(key, to, wire::volume_label(by)).await.map_err(refused)?;
        Ok(Response::new(ForkResponse { key: made.to_string() }))
    }

    async fn browse(
        &self,
        request: Request<BrowseRequest>,
    ) -> Result<Response<Self::BrowseStream>, Status> {
        let BrowseRequest { volume, path } = request.into_inner();
        let (key, path) = (wire::volume_key(volume)?, wire::volume_path(&path)?);
        let entries = self.volumes.browse(key, path).await.map_err(refused)?;
        Ok(messages(entries, wire::entry))
    }

    async fn prune(
        &self,
        request: Request<PruneRequest>,
    ) -> Result<Response<Self::PruneStream>, Status> {
        let (request, among) = wire::volumes_prune(request.into_inner());
        let chosen = self.volumes.prune(request, |record| among.matches(&record.name));
        let removed = chosen.await.map_err(refused)?;
        if !removed.is_empty() {
            tracing::info!(volumes = removed.len(), "a client removed volumes");
        }
        Ok(messages(removed, |one| wire::removed(&one)))
    }
}
