//! The owner of volumes: the daemon's volumes service, as seen by a client.

use std::path::Path;

use anyhow::Context as _;
use proto::volumes::volumes_client::VolumesClient;
use proto::volumes::{InspectRequest, ListRequest, Name, Selector, Volume, selector};
use tokio::runtime::Runtime;
use tonic::transport::Channel;

use crate::{Program, Wire};

/// The daemon's volumes service, as seen by a client.
#[derive(Debug)]
pub struct Owner {
    runtime: Runtime,
    client: VolumesClient<Channel>,
    wire: Wire,
}

impl Owner {
    /// Connects to the daemon at `address`.
    ///
    /// # Errors
    /// Fails if nobody answers there.
    pub fn connect(address: &str) -> anyhow::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let wire = runtime.block_on(Wire::connect(address))?;
        Ok(Self { runtime, client: VolumesClient::new(wire.channel()), wire })
    }

    /// Returns the volume of this id, without a variant.
    ///
    /// # Errors
    /// Fails if there is none.
    pub fn inspect(&self, id: &str) -> anyhow::Result<Volume> {
        let namespace = "default".to_owned();
        let name = Name { namespace, id: id.as_bytes().to_vec().into(), variant: String::new() };
        let selector = Selector { by: Some(selector::By::Name(name)) };
        let request = InspectRequest { volume: Some(selector) };
        let mut client = self.client.clone();
        let answer = self.runtime.block_on(client.inspect(request));
        Ok(answer.with_context(|| format!("no volume {id}"))?.into_inner())
    }

    /// Returns all volumes but that of the gates.
    ///
    /// # Errors
    /// Fails if the daemon does not answer.
    pub fn list(&self) -> anyhow::Result<Vec<Volume>> {
        let mut client = self.client.clone();
        self.runtime.block_on(async {
            let mut stream = client.list(ListRequest {}).await?.into_inner();
            let mut volumes = Vec::new();
            while let Some(volume) = stream.message().await? {
                if volume.name.as_ref().is_none_or(|name| *name.id != *b"gates") {
                    volumes.push(volume);
                }
            }
            Ok(volumes)
        })
    }

    /// Asserts that the daemon tells of every volume what `du` does.
    ///
    /// # Errors
    /// Fails if they differ.
    pub fn assert_sizes(&self, volumes: &Path) -> anyhow::Result<()> {
        // What is tidied in the background may go while it is counted: then it is counted again.
        (0..100)
            .find_map(|_| self.compare_sizes(volumes).ok())
            .map_or_else(|| self.compare_sizes(volumes), Ok)
    }

    fn compare_sizes(&self, volumes: &Path) -> anyhow::Result<()> {
        for volume in self.list()? {
            let layers = volumes.join("v1/volumes").join(&volume.key).join("layers");
            let said = Program::new("du").args(["-s", "--block-size=1"]).arg(&layers).succeed()?;
            let said = said.split_whitespace().next().context("a size")?.parse::<u64>()?;
            let space = volume.space.context("a size")?;
            anyhow::ensure!(space.bytes == said, "{:?}: {space:?}, and not {said}", volume.name);
            let records = self.disk_usage(&format!("id=={}", volume.key))?;
            anyhow::ensure!(records.len() == 1, "one record of {:?}: {records:#?}", volume.name);
            anyhow::ensure!(u64::try_from(records[0].size)? == said, "{:#?}", records[0]);
        }
        Ok(())
    }

    /// Returns what the daemon tells of the disk it takes, as the client that asks for `du` gets it.
    ///
    /// # Errors
    /// Fails if the daemon does not answer.
    pub fn disk_usage(&self, filter: &str) -> anyhow::Result<Vec<proto::control::UsageRecord>> {
        let filter = vec![filter.to_owned()];
        let request = proto::control::DiskUsageRequest { filter, ..Default::default() };
        let mut control = self.wire.control();
        let answer = self.runtime.block_on(control.disk_usage(request))?;
        Ok(answer.into_inner().record)
    }
}
