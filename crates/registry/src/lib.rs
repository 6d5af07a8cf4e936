//! The OCI distribution protocol, both directions.
//!
//! A [`Registry`] finds, fetches and pushes manifests and blobs; [`HttpRegistry`] speaks to real ones,
//! with mirrors, tokens, retries and resumed transfers. Where credentials come from is the business
//! of whoever implements [`Credentials`], and where content is kept that of whoever reads the
//! streams: the crate knows neither sessions nor stores.

mod config;
mod credentials;
mod error;
mod registry;
mod retry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod wire;

pub use config::{HostConfig, KeyPair, ProxyConfig, RegistryConfig, Timing};
pub use credentials::{
    Access, Anonymous, Credentials, CredentialsError, Login, Secret, Token, TokenRequest,
};
pub use error::{Action, Attempt, RegistryError};
pub use registry::{
    BlobPush, BlobSource, BlobStream, MANIFEST_LIMIT, Pushed, Registry, Resolved, SentBytes,
};
pub use wire::HttpRegistry;
