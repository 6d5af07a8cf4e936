//! Connections, and HTTP/2 on them.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tasks::{Shutdown, Task};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tonic::service::Routes;

use crate::drain::Gate;
use crate::listen::{Listener, Visitor};

/// What a client may take to say who it is.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long to wait after a failure to accept: it is the machine that is out of something.
const RECOVERY: Duration = Duration::from_millis(100);

/// A client has few calls a build, and several builds at once; this is far above both.
const STREAMS: u32 = 4096;

/// What travels unread on one call, and on one connection: a session is a single call.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Headers carry ids and the details of errors.
const HEADERS: u32 = 1 << 20;

/// Serves those who come to `listener` until `ending`, and then lets their calls end. Each of them is inside
/// `clients` until it leaves.
pub(crate) async fn serve(
    listener: Listener,
    tls: Option<TlsAcceptor>,
    routes: Routes,
    ending: Shutdown,
    clients: Gate,
) {
    let mut connections: FuturesUnordered<Task<()>> = FuturesUnordered::new();
    loop {
        tokio::select! {
            () = ending.begun() => break,
            Some(_) = connections.next() => {}
            visitor = listener.accept() => match visitor {
                Ok(visitor) => {
                    let (tls, routes, ending) = (tls.clone(), routes.clone(), ending.clone());
                    let pass = clients.enter();
                    let connection = async move {
                        welcome(visitor, tls, routes, ending).await;
                        drop(pass);
                    };
                    connections.push(tasks::spawn("connection", connection));
                }
                Err(error) => {
                    tracing::warn!(%error, "a client could not be accepted");
                    tokio::time::sleep(RECOVERY).await;
                }
            },
        }
    }
    drop(listener);
    while connections.next().await.is_some() {}
}

async fn welcome(visitor: Visitor, tls: Option<TlsAcceptor>, routes: Routes, ending: Shutdown) {
    match (visitor, tls) {
        (Visitor::Unix(stream), _) => talk(stream, routes, ending).await,
        (Visitor::Tcp(stream), None) => talk(stream, routes, ending).await,
        (Visitor::Tcp(stream), Some(tls)) => {
            let peer = stream.peer_addr();
            match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
                Ok(Ok(stream)) => talk(stream, routes, ending).await,
                Ok(Err(error)) => tracing::info!(?peer, %error, "a client was refused"),
                Err(_) => tracing::info!(?peer, "a client did not say who it is in time"),
            }
        }
    }
}

/// Speaks HTTP/2 with a client until it leaves, or until `ending` and the end of its calls.
async fn talk<S>(stream: S, routes: Routes, ending: Shutdown)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADERS)
        // Clients end calls by resetting them, many at once: that is no attack.
        .max_pending_accept_reset_streams(STREAMS as usize)
        .max_local_error_reset_streams(None);
    let service = TowerToHyperService::new(routes);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = ending.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}
