//! Numbers for whoever watches the daemon, on this machine only: `GET /metrics`.

mod volumes;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;

use builder::{HistoryEvent, HistoryRecord};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use http::header::CONTENT_TYPE;
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tasks::Task;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::error::RecvError;

use self::volumes::VolumeMetrics;
use crate::service::Services;
use crate::version;

const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How a build ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    status: String,
}

/// The numbers.
#[derive(Debug)]
struct Metrics {
    registry: Registry,
    running: Gauge,
    sessions: Gauge,
    ended: Family<Ended, Counter>,
    steps: Counter,
    cached: Counter,
    volumes: VolumeMetrics,
}

impl Metrics {
    fn new() -> Self {
        let mut registry = Registry::with_prefix("larder");
        let (running, sessions, ended) = (Gauge::default(), Gauge::default(), Family::default());
        registry.register("builds_running", "Builds that run now", running.clone());
        registry.register("sessions", "Clients that are connected now", sessions.clone());
        registry.register("builds", "Builds that have ended, by how", ended.clone());
        let (steps, cached) = (Counter::default(), Counter::default());
        registry.register("steps", "Steps of builds that have ended", steps.clone());
        let about = "Steps of builds that have ended whose result was there already";
        registry.register("cached_steps", about, cached.clone());
        let volumes = VolumeMetrics::default();
        volumes.register(&mut registry);
        let version = Info::new(vec![("version", version::OURS)]);
        registry.register("daemon", "The daemon", version);
        Self { registry, running, sessions, ended, steps, cached, volumes }
    }

    /// Counts a build that has ended.
    fn count(&self, record: &HistoryRecord) {
        let status = record.status().to_owned();
        self.ended.get_or_create(&Ended { status }).inc();
        let number = |steps: i32| u64::try_from(steps).unwrap_or_default();
        self.steps.inc_by(number(record.total_steps));
        self.cached.inc_by(number(record.cached_steps));
    }

    async fn text(&self, services: &Services) -> Result<String, std::fmt::Error> {
        if let Err(error) = self.volumes.gather(&services.volumes).await {
            tracing::debug!(%error, "the numbers of volumes are old");
        }
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.running.set(count(services.builder.running()));
        self.sessions.set(count(services.sessions.len()));
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Opens the place where numbers are asked for.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Answers who asks, as long as it is polled.
pub(crate) async fn serve(listener: TcpListener, services: Services) {
    let metrics = std::sync::Arc::new(Metrics::new());
    services.volumes.observe(std::sync::Arc::new(metrics.volumes.clone()));
    let mut events = services.builder.history().listen();
    let mut connections: FuturesUnordered<Task<()>> = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(_) = connections.next() => {}
            event = events.recv() => match event {
                Ok(HistoryEvent::Completed(record)) if record.generation == 1 => {
                    metrics.count(&record);
                }
                // What was missed is not counted.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            visitor = listener.accept() => match visitor {
                Ok((stream, _)) => {
                    let connection = answer(stream, metrics.clone(), services.clone());
                    connections.push(tasks::spawn("metrics", connection));
                }
                Err(error) => tracing::debug!(%error, "a reader of metrics was not accepted"),
            },
        }
    }
}

async fn answer(stream: TcpStream, metrics: std::sync::Arc<Metrics>, services: Services) {
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
        let known = request.method() == Method::GET && request.uri().path() == "/metrics";
        let (metrics, services) = (metrics.clone(), services.clone());
        async move {
            let response = if known { page(&metrics, &services).await } else { nothing() };
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new());
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a reader of metrics went away");
    }
}

async fn page(metrics: &Metrics, services: &Services) -> Response<Full<Bytes>> {
    let Ok(text) = metrics.text(services).await else { return nothing() };
    let mut response = Response::new(Full::from(text));
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(TEXT));
    response
}

fn nothing() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}
