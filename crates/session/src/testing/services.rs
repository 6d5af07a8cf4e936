//! The client's secrets, credentials, agent and uploads.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use proto::filesync::auth_server::{Auth, AuthServer};
use proto::filesync::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse,
    GetTokenAuthorityRequest, GetTokenAuthorityResponse, VerifyTokenAuthorityRequest,
    VerifyTokenAuthorityResponse,
};
use proto::secrets::secrets_server::{Secrets, SecretsServer};
use proto::secrets::{GetSecretRequest, GetSecretResponse};
use proto::ssh::ssh_server::{Ssh, SshServer};
use proto::ssh::{CheckAgentRequest, CheckAgentResponse};
use proto::upload::upload_server::{Upload, UploadServer};
use tonic::{Request, Response, Status, Streaming};

use super::Offers;

/// The key that every fake client signs with.
const PUBLIC_KEY: &[u8; 32] = b"the public key of a fake client.";

type Answer<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

pub(super) struct Service(Arc<Offers>);

pub(super) fn auth(offers: Arc<Offers>) -> AuthServer<Service> {
    AuthServer::new(Service(offers))
}

pub(super) fn secrets(offers: Arc<Offers>) -> SecretsServer<Service> {
    SecretsServer::new(Service(offers))
}

pub(super) fn ssh(offers: Arc<Offers>) -> SshServer<Service> {
    SshServer::new(Service(offers))
}

pub(super) fn upload(offers: Arc<Offers>) -> UploadServer<Service> {
    UploadServer::new(Service(offers))
}

#[tonic::async_trait]
impl Auth for Service {
    async fn credentials(
        &self,
        request: Request<CredentialsRequest>,
    ) -> Result<Response<CredentialsResponse>, Status> {
        let host = request.into_inner().host;
        let (username, secret) = self.0.credentials.get(&host).cloned().unwrap_or_default();
        Ok(Response::new(CredentialsResponse { username, secret }))
    }

    async fn fetch_token(
        &self,
        request: Request<FetchTokenRequest>,
    ) -> Result<Response<FetchTokenResponse>, Status> {
        let request = request.into_inner();
        let token = self.0.tokens.get(&request.host);
        let token = token.ok_or_else(|| Status::unknown("the realm refused"))?;
        let token = format!("{token} for {}", request.scopes.join(" "));
        Ok(Response::new(FetchTokenResponse { token, expires_in: 60, issued_at: 0 }))
    }

    async fn get_token_authority(
        &self,
        request: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        if !self.0.tokens.contains_key(&request.into_inner().host) {
            return Err(Status::unavailable("no token for this host"));
        }
        let public_key = Bytes::from_static(PUBLIC_KEY);
        Ok(Response::new(GetTokenAuthorityResponse { public_key }))
    }

    async fn verify_token_authority(
        &self,
        request: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        let request = request.into_inner();
        let signed = [PUBLIC_KEY, &request.payload[..]].concat().into();
        Ok(Response::new(VerifyTokenAuthorityResponse { signed }))
    }
}

#[tonic::async_trait]
impl Secrets for Service {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let data = self.0.secrets.get(&request.into_inner().id).cloned();
        let data =
            data.ok_or_else(|| Status::not_found("rpc error: code = NotFound desc = not found"))?;
        Ok(Response::new(GetSecretResponse { data }))
    }
}

#[tonic::async_trait]
impl Ssh for Service {
    type ForwardAgentStream = Answer<proto::ssh::BytesMessage>;

    async fn check_agent(
        &self,
        request: Request<CheckAgentRequest>,
    ) -> Result<Response<CheckAgentResponse>, Status> {
        let id = request.into_inner().id;
        let id = if id.is_empty() { "default".to_owned() } else { id };
        if !self.0.ssh.contains(&id) {
            return Err(Status::unknown(format!("unset ssh forward key {id}")));
        }
        Ok(Response::new(CheckAgentResponse {}))
    }

    async fn forward_agent(
        &self,
        request: Request<Streaming<proto::ssh::BytesMessage>>,
    ) -> Result<Response<Self::ForwardAgentStream>, Status> {
        let id = request.metadata().get("buildkit.ssh.id").and_then(|id| id.to_str().ok());
        if !id.is_some_and(|id| self.0.ssh.iter().any(|ours| ours == id)) {
            return Err(Status::unknown(format!("unset ssh forward key {id:?}")));
        }
        Ok(Response::new(Box::pin(request.into_inner())))
    }
}

#[tonic::async_trait]
impl Upload for Service {
    type PullStream = Answer<proto::upload::BytesMessage>;

    async fn pull(
        &self,
        request: Request<Streaming<proto::upload::BytesMessage>>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let value = |key: &str| {
            request.metadata().get(key).and_then(|value| value.to_str().ok()).unwrap_or_default()
        };
        if value("urlhost") != "buildkit-session" {
            return Err(Status::invalid_argument("not the host of an upload"));
        }
        let data =
            value("urlpath").strip_prefix('/').and_then(|id| self.0.uploads.lock().remove(id));
        let data = data.ok_or_else(|| Status::unknown("no such upload"))?;
        // The call ends when all is said, although the daemon's side is still open.
        let parts: Vec<_> = data.chunks(5000).map(Bytes::copy_from_slice).collect();
        let parts = futures::stream::iter(parts);
        Ok(Response::new(Box::pin(parts.map(|data| Ok(proto::upload::BytesMessage { data })))))
    }
}
