//! A local HTTP server that answers as the test says, and notes what it was asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use oci::Reference;
use parking_lot::Mutex;
use registry::{HostConfig, HttpRegistry, ProxyConfig, RegistryConfig, Timing};
use std::time::Duration;
use tasks::Task;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Asked {
    /// Returns a header's text, empty if it is absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Returns method, path and query in one line.
    pub(crate) fn line(&self) -> String {
        let mark = if self.query.is_empty() { "" } else { "?" };
        format!("{} {}{mark}{}", self.method, self.path, self.query)
    }
}

pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;
pub(crate) type Answer = Response<Body>;
type Script = Arc<dyn Fn(&Asked, usize) -> Answer + Send + Sync>;

/// A running server; it ends when dropped.
pub(crate) struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    _task: Task<()>,
}

impl Server {
    /// Starts a server. The script gets each request and how many came before it.
    pub(crate) async fn start(
        script: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::run(None, Arc::new(script)).await
    }

    /// The same, with TLS.
    pub(crate) async fn with_tls(
        tls: TlsAcceptor,
        script: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::run(Some(tls), Arc::new(script)).await
    }

    async fn run(tls: Option<TlsAcceptor>, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        let task = tasks::spawn("scripted server", async move {
            let mut connections = Vec::new();
            while let Ok((socket, _)) = listener.accept().await {
                let (tls, log, script) = (tls.clone(), log.clone(), script.clone());
                connections.push(tasks::spawn("connection", async move {
                    match tls {
                        None => serve(socket, log, script).await,
                        Some(tls) => {
                            if let Ok(socket) = tls.accept(socket).await {
                                serve(socket, log, script).await;
                            }
                        }
                    }
                }));
            }
        });
        Self { address, asked, _task: task }
    }

    /// Returns the host as it stands in a reference.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// Returns a reference to something at this server.
    pub(crate) fn reference(&self, rest: &str) -> Reference {
        Reference::parse(&format!("{}/{rest}", self.host())).unwrap()
    }

    /// Returns an address at this server.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns what has been asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    /// Returns the lines of what has been asked so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().iter().map(Asked::line).collect()
    }

    /// Returns settings under which this server is spoken to without TLS.
    pub(crate) fn plain(&self) -> RegistryConfig {
        plain(&[self])
    }
}

async fn serve(
    socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    log: Arc<Mutex<Vec<Asked>>>,
    script: Script,
) {
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (log, script) = (log.clone(), script.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let asked = Asked {
                method: parts.method,
                path: parts.uri.path().to_owned(),
                query: parts.uri.query().unwrap_or_default().to_owned(),
                headers: parts.headers,
                body,
            };
            let before = {
                let mut log = log.lock();
                log.push(asked.clone());
                log.len() - 1
            };
            Ok::<_, Infallible>(script(&asked, before))
        }
    });
    let builder = Builder::new(TokioExecutor::new()).http1_only();
    let _ = builder.serve_connection(TokioIo::new(socket), service).await;
}

/// Returns settings under which these servers are spoken to without TLS, and nobody waits for long.
pub(crate) fn plain(servers: &[&Server]) -> RegistryConfig {
    let settings = HostConfig { http: Some(true), ..HostConfig::default() };
    let hosts = servers.iter().map(|server| (server.host(), settings.clone())).collect();
    RegistryConfig { hosts, ..quick() }
}

/// Returns settings under which nobody waits for long.
pub(crate) fn quick() -> RegistryConfig {
    let timing = Timing {
        first_delay: Duration::from_millis(1),
        longest_delay: Duration::from_millis(2),
        attempts: 3,
        ..Timing::default()
    };
    RegistryConfig { proxy: ProxyConfig::None, timing, ..RegistryConfig::default() }
}

/// Returns registries under these settings.
pub(crate) fn registry(config: RegistryConfig) -> HttpRegistry {
    HttpRegistry::new(config)
}

/// Returns an answer with headers and a body.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    let body = Full::new(body.into()).map_err(|never| match never {}).boxed_unsync();
    response.body(body).unwrap()
}

/// Returns an answer without headers and body.
pub(crate) fn status(status: u16) -> Answer {
    answer(status, &[], Bytes::new())
}

/// Returns an answer that promises `promised` bytes, sends `body`, and then breaks the connection.
pub(crate) fn broken(
    status: u16,
    headers: &[(&str, &str)],
    promised: usize,
    body: Bytes,
) -> Answer {
    let first = stream::iter([Ok(Frame::data(body))]);
    let end = stream::once(async {
        // What came before is sent only once there is nothing more to send at the moment.
        tokio::task::yield_now().await;
        Err(std::io::Error::other("the script says so"))
    });
    streamed(status, headers, promised, Box::pin(first.chain(end)))
}

/// Returns an answer that promises `promised` bytes, sends `body`, and then says nothing more.
pub(crate) fn silent(promised: usize, body: Bytes) -> Answer {
    let first = stream::iter([Ok(Frame::data(body))]);
    streamed(200, &[], promised, Box::pin(first.chain(stream::pending())))
}

type Frames = Pin<Box<dyn futures::Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send>>;

fn streamed(status: u16, headers: &[(&str, &str)], promised: usize, frames: Frames) -> Answer {
    let mut response = answer(status, headers, Bytes::new());
    response.headers_mut().insert(CONTENT_LENGTH, promised.into());
    response.map(|_| StreamBody::new(frames).boxed_unsync())
}
