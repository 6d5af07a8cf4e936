//! The protocol over HTTP.
//!
//! From the outside in: `pull` and `push` know what to ask for, `exchange` asks it in the right name
//! and by the right scheme, `transport` sends one request until there is an answer.

mod answer;
mod authority;
mod blob;
mod body;
mod challenge;
mod clients;
mod endpoint;
mod exchange;
mod pull;
mod push;
mod tokens;
mod transport;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use oci::{Descriptor, Reference};

use self::exchange::Exchange;
use crate::{
    Access, BlobPush, BlobStream, Pushed, Registry, RegistryConfig, RegistryError, Resolved,
};

/// Registries that are reached over HTTP.
#[derive(Debug, Clone)]
pub struct HttpRegistry(Arc<Exchange>);

impl HttpRegistry {
    /// Returns registries that are reached as `config` says. Nothing is read or asked before the
    /// first use.
    pub fn new(config: RegistryConfig) -> Self {
        Self(Arc::new(Exchange::new(config)))
    }
}

#[async_trait]
impl Registry for HttpRegistry {
    async fn resolve(
        &self,
        reference: &Reference,
        access: &Access,
    ) -> Result<Resolved, RegistryError> {
        pull::resolve(&self.0, reference, access).await
    }

    async fn manifest(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        access: &Access,
    ) -> Result<Bytes, RegistryError> {
        pull::manifest(&self.0, reference, descriptor, access).await
    }

    async fn blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        access: &Access,
    ) -> Result<BlobStream, RegistryError> {
        blob::fetch(&self.0, reference, descriptor, access).await
    }

    async fn push_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        push: BlobPush,
        access: &Access,
    ) -> Result<Pushed, RegistryError> {
        push::blob(&self.0, reference, descriptor, push, access).await
    }

    async fn push_manifest(
        &self,
        reference: &Reference,
        media_type: &str,
        manifest: Bytes,
        access: &Access,
    ) -> Result<(), RegistryError> {
        push::manifest(&self.0, reference, media_type, manifest, access).await
    }
}
