//! The Dockerfile frontend as a program for a `# syntax=` image.
//!
//! A builder starts the program in a container and serves it the bridge of one build over its
//! standard input and output (protocol page `gateway.md` §5): the program is the client of that
//! connection. It asks what the builder can do, runs [`dockerfile::DockerfileFrontend`] on a
//! [`bridge::Bridge`] that passes every question on, and gives back a result or an error. What a
//! builder does not announce is not asked of it.

mod bridge_client;
mod capabilities;
mod connection;
mod environment;

use std::sync::Arc;

use bridge::{BuildError, Frontend as _, FrontendRequest};
use dockerfile::DockerfileFrontend;
use tokio::io::{AsyncRead, AsyncWrite};

pub use environment::Environment;

use crate::bridge_client::BridgeClient;

/// Why there was nobody to give an answer to.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The streams are not those of a builder.
    #[error(
        "cannot talk over standard input and output: a builder starts this program, as the image of a `# syntax=` line"
    )]
    Streams(#[source] std::io::Error),
    /// No connection came about.
    #[error("cannot connect to the builder")]
    Connect(#[source] tonic::transport::Error),
    /// The builder cannot work with this frontend, or broke off.
    #[error(transparent)]
    Builder(BuildError),
}

/// Runs the frontend for the builder at the other end of standard input and output.
///
/// # Errors
/// Returns why the builder got no answer. That the build has none is an answer.
pub async fn run(environment: Environment) -> Result<(), ProgramError> {
    let streams = connection::standard_streams().map_err(ProgramError::Streams)?;
    answer(streams, environment).await
}

/// Runs the frontend for the builder at the other end of `streams`.
///
/// # Errors
/// Returns why the builder got no answer.
pub async fn answer<S>(streams: S, environment: Environment) -> Result<(), ProgramError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let channel = connection::open(streams).await.map_err(ProgramError::Connect)?;
    let client = BridgeClient::introduce(channel, &environment).await;
    let client = Arc::new(client.map_err(ProgramError::Builder)?);
    let outcome = async {
        let inputs = client.inputs().await?;
        let request = FrontendRequest { options: environment.options, inputs };
        DockerfileFrontend::new().run(client.clone(), request).await
    };
    client.give_back(outcome.await).await.map_err(ProgramError::Builder)
}
