//! The gRPC services: thin, between the wire and the builder.

mod bridge;
mod content;
mod control;
mod session;
mod trace;
mod volumes;

use std::sync::Arc;

use ::content::ContentStore;
use ::session::Sessions;
use ::volumes::VolumeManager;
use builder::Builder;
use proto::MAX_MESSAGE_SIZE;
use proto::content::content_server::ContentServer;
use proto::control::control_server::ControlServer;
use proto::gateway::llb_bridge_server::LlbBridgeServer;
use proto::trace::trace_service_server::TraceServiceServer;
use proto::volumes::volumes_server::VolumesServer;
use tonic::service::Routes;
use tonic_health::server::HealthReporter;

use crate::drain::Gate;
use crate::wire::Workers;

/// What the services stand on. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    /// Builds.
    pub builder: Builder,
    /// Connected clients.
    pub sessions: Sessions,
    /// Blobs that clients may read.
    pub content: Arc<dyn ContentStore>,
    /// Cache volumes, for their owner.
    pub volumes: Arc<VolumeManager>,
    /// What can build here.
    pub workers: Arc<Workers>,
    /// Lets builds in.
    pub gate: Gate,
}

/// Returns everything that a connection offers, and the switch of its health.
pub(crate) fn routes(services: Services) -> (Routes, HealthReporter) {
    let (reporter, health) = tonic_health::server::health_reporter();
    macro_rules! sized {
        ($server:ident, $service:expr) => {
            $server::new($service)
                .max_decoding_message_size(MAX_MESSAGE_SIZE)
                .max_encoding_message_size(MAX_MESSAGE_SIZE)
        };
    }
    let routes = Routes::new(health)
        .add_service(sized!(ControlServer, control::ControlService::new(services.clone())))
        .add_service(sized!(LlbBridgeServer, bridge::BridgeService::new(services.builder.clone())))
        .add_service(sized!(ContentServer, content::ContentService::new(services.content)))
        .add_service(sized!(VolumesServer, volumes::VolumesService::new(services.volumes)))
        .add_service(sized!(TraceServiceServer, trace::TraceCollector));
    (routes.prepare(), reporter)
}
