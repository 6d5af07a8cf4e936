//! A frontend's conversation with its build, and which of the things that end it counts.
//!
//! An error that the frontend gives back is the build's; without one it is how the process failed; a
//! result counts only if the process ended well.

use std::collections::BTreeMap;
use std::sync::Arc;

use bridge::{
    Bridge, BuildError, Container, ContainerProcess, Detail, FrontendResult, Kind, Process,
};
use bytes::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use llb::Definition;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::sync::oneshot::Receiver;
use tonic::service::Routes;

use super::stream;
use crate::service::{BridgeService, Verdict};

/// How a process ends that was killed.
const KILLED: u32 = 128 + 9;
/// So much of what a frontend says besides is kept for its error.
const LAST_WORDS: usize = 4096;

/// Runs a frontend's process in a container until it has ended, and returns what came of it.
///
/// # Errors
/// Returns the frontend's error, or why it gave no answer.
pub(super) async fn hold(
    container: &dyn Container,
    process: ContainerProcess,
    bridge: Arc<dyn Bridge>,
    inputs: BTreeMap<String, Definition>,
) -> Result<FrontendResult, BuildError> {
    let (streams, complaints, pipes) = stream::pipes();
    let (service, verdict) = BridgeService::new(bridge, inputs);
    let name = process.args.first().cloned().unwrap_or_default();
    let process = container.start(process, streams).await?;
    let (ending, last_words) =
        tokio::join!(end(&*process, serve(pipes, service), verdict), listen(complaints, &name));
    settle(ending?, &last_words)
}

/// How a frontend ended.
struct Ending {
    verdict: Option<Verdict>,
    /// Its exit status.
    code: u32,
    /// Whether it was killed because it hung up.
    hung_up: bool,
}

/// Waits for the end of a process that is served meanwhile.
async fn end(
    process: &dyn Process,
    serve: impl Future<Output = ()>,
    mut verdict: Receiver<Verdict>,
) -> Result<Ending, BuildError> {
    let mut serve = std::pin::pin!(serve);
    let mut ended = process.wait();
    let early = tokio::select! {
        code = &mut ended => Some(code?),
        () = &mut serve => None,
    };
    let mut given = verdict.try_recv().ok();
    let (code, hung_up) = match early {
        Some(code) => {
            // It may have spoken just before its end: what it said is read to the end.
            if given.is_none() {
                serve.await;
            }
            (code, false)
        }
        // It has said all that it has to say, and takes its time to go.
        None if given.is_some() => (ended.await?, false),
        None => {
            // Whoever has hung up without an answer has none; most often it is ending already, and
            // then this changes nothing.
            let _ = process.signal("KILL");
            let code = ended.await?;
            (code, code == KILLED)
        }
    };
    given = given.or_else(|| verdict.try_recv().ok());
    Ok(Ending { verdict: given, code, hung_up })
}

fn settle(ending: Ending, last_words: &str) -> Result<FrontendResult, BuildError> {
    let Ending { verdict, code, hung_up } = ending;
    match verdict {
        Some(Err(error)) => Err(error),
        _ if hung_up => {
            let text = format!("frontend grpc server closed unexpectedly{last_words}");
            Err(BuildError::new(Kind::User, text))
        }
        _ if code != 0 => {
            let text = format!("frontend did not complete: exit code: {code}{last_words}");
            Err(BuildError::new(Kind::User, text).with_detail(Detail::Exit(code)))
        }
        Some(Ok(result)) => Ok(result),
        None => {
            let text = format!("no result for incomplete build{last_words}");
            Err(BuildError::new(Kind::User, text))
        }
    }
}

/// Serves the build to a frontend until it hangs up.
async fn serve(
    pipes: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    service: BridgeService,
) {
    let (_, health) = tonic_health::server::health_reporter();
    let routes = Routes::new(health).add_service(service.into_server()).prepare();
    let server = auto::Builder::new(TokioExecutor::new()).http2_only();
    let served = server.serve_connection(TokioIo::new(pipes), TowerToHyperService::new(routes));
    if let Err(error) = served.await {
        // A process that ends leaves a broken pipe; how it ended is told by others.
        tracing::debug!(%error, "a frontend's connection ended");
    }
}

/// Writes what a frontend says besides to the log; returns the last of it.
async fn listen(mut complaints: mpsc::Receiver<Bytes>, name: &str) -> String {
    let mut last = Vec::new();
    while let Some(piece) = complaints.recv().await {
        let text = String::from_utf8_lossy(&piece);
        tracing::info!("frontend `{name}`: {}", text.trim_end());
        last.extend_from_slice(&piece);
        let surplus = last.len().saturating_sub(LAST_WORDS);
        last.drain(..surplus);
    }
    let last = String::from_utf8_lossy(&last);
    match last.trim() {
        "" => String::new(),
        text => format!(": {text}"),
    }
}
