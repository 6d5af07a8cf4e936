//! Volumes behind a daemon.

use std::path::PathBuf;

use async_trait::async_trait;
use hyper_util::rt::TokioIo;
use mount::GuestPath;
use proto::MAX_MESSAGE_SIZE;
use proto::volumes as messages;
use proto::volumes::volumes_client::VolumesClient;
use std::os::unix::ffi::OsStrExt as _;
use tokio::net::UnixStream;
use tokio_stream::StreamExt as _;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;
use volumes::{
    Entry, Label, PolicyPatch, PolicyRule, PruneRequest, Removed, Space, VolumeKey, VolumeName,
    VolumeRecord,
};

use super::{Place, wire};
use crate::failure::{Failure, Kind};

/// A daemon that answers.
#[derive(Debug)]
pub(super) struct Daemon {
    client: VolumesClient<Channel>,
}

/// Where a daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Unix(PathBuf),
    Tcp(String),
}

impl Address {
    fn parse(text: &str) -> Result<Self, Failure> {
        match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("tcp", host)) if !host.is_empty() => Ok(Self::Tcp(host.to_owned())),
            _ => {
                let text =
                    format!("`{text}` is no address: write `unix:///path` or `tcp://host:port`");
                Err(Failure::new(Kind::Usage, text))
            }
        }
    }
}

impl Daemon {
    pub(super) async fn connect(address: &str) -> Result<Self, Failure> {
        let unreachable = |error: &dyn std::error::Error| {
            let mut cause = error;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            let text = format!(
                "no daemon answers at `{address}`: {cause}; start `larderd`, or name its address with `--addr`"
            );
            Failure::new(Kind::Unreachable, text)
        };
        let channel = match Address::parse(address)? {
            Address::Tcp(host) => {
                let endpoint = Endpoint::from_shared(format!("http://{host}"));
                endpoint.map_err(|error| unreachable(&error))?.connect().await
            }
            Address::Unix(path) => {
                let connect = service_fn(move |_: Uri| {
                    let path = path.clone();
                    async move { UnixStream::connect(path).await.map(TokioIo::new) }
                });
                Endpoint::from_static("http://larderd").connect_with_connector(connect).await
            }
        };
        let channel = channel.map_err(|error| unreachable(&error))?;
        let client = VolumesClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_SIZE)
            .max_encoding_message_size(MAX_MESSAGE_SIZE);
        Ok(Self { client })
    }

    fn client(&self) -> VolumesClient<Channel> {
        self.client.clone()
    }
}

/// Reads all messages of an answer.
async fn all<W, T>(
    mut messages: Streaming<W>,
    from_wire: fn(W) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let mut values = Vec::new();
    while let Some(message) = messages.next().await {
        values.push(from_wire(message?)?);
    }
    Ok(values)
}

#[async_trait(?Send)]
impl Place for Daemon {
    async fn list(&self) -> Result<Vec<VolumeRecord>, Failure> {
        let volumes = self.client().list(messages::ListRequest {}).await?;
        all(volumes.into_inner(), wire::record).await
    }

    async fn inspect(&self, key: VolumeKey) -> Result<VolumeRecord, Failure> {
        let request = messages::InspectRequest { volume: wire::selector(key) };
        wire::record(self.client().inspect(request).await?.into_inner())
    }

    async fn remove(&self, key: VolumeKey) -> Result<Space, Failure> {
        let request = messages::RemoveRequest { volume: wire::selector(key) };
        Ok(wire::space(self.client().remove(request).await?.into_inner().freed))
    }

    async fn reset(&self, key: VolumeKey, by: Label) -> Result<(), Failure> {
        let request = messages::ResetRequest { volume: wire::selector(key), by: wire::label(by) };
        self.client().reset(request).await?;
        Ok(())
    }

    async fn pin(&self, key: VolumeKey, pinned: bool) -> Result<(), Failure> {
        self.client().pin(messages::PinRequest { volume: wire::selector(key), pinned }).await?;
        Ok(())
    }

    async fn set_policy(&self, key: VolumeKey, policy: PolicyPatch) -> Result<(), Failure> {
        let (volume, policy) = (wire::selector(key), Some(wire::policy(&policy)));
        self.client().set_policy(messages::SetPolicyRequest { volume, policy }).await?;
        Ok(())
    }

    async fn rollback(&self, key: VolumeKey, to: u64, by: Label) -> Result<(), Failure> {
        let (volume, by) = (wire::selector(key), wire::label(by));
        self.client().rollback(messages::RollbackRequest { volume, version: to, by }).await?;
        Ok(())
    }

    async fn fork(&self, key: VolumeKey, to: VolumeName, by: Label) -> Result<VolumeKey, Failure> {
        let (volume, by, to) = (wire::selector(key), wire::label(by), Some(wire::name(&to)));
        let made = self.client().fork(messages::ForkRequest { volume, to, by }).await?;
        wire::key(&made.into_inner().key)
    }

    async fn browse(&self, key: VolumeKey, path: GuestPath) -> Result<Vec<Entry>, Failure> {
        let path = path.as_path().as_os_str().as_bytes().to_vec().into();
        let request = messages::BrowseRequest { volume: wire::selector(key), path };
        all(self.client().browse(request).await?.into_inner(), wire::entry).await
    }

    async fn prune(
        &self,
        request: PruneRequest,
        among: PolicyRule,
    ) -> Result<Vec<Removed>, Failure> {
        let request = wire::prune(request, among);
        all(self.client().prune(request).await?.into_inner(), wire::removed).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_the_daemon() {
        assert_eq!(Address::parse("unix:///run/x").unwrap(), Address::Unix("/run/x".into()));
        assert_eq!(Address::parse("tcp://[::1]:80").unwrap(), Address::Tcp("[::1]:80".into()));
        for text in ["", "unix://x", "tcp://", "http://x", "/run/x"] {
            assert_eq!(Address::parse(text).unwrap_err().kind(), Kind::Usage, "{text}");
        }
    }
}
