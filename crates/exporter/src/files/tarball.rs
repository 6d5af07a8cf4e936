//! Files in one archive for the client.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;

use super::tree_archive::TreeArchive;
use super::{FileSettings, Output, is_map, outputs};
use crate::counters::Counters;
use crate::exporters::Mechanisms;
use crate::{ExportContext, ExportError, ExportRequest, ExportResult, Exporter};

/// How much is handed over at once, bytes.
const CHUNK: usize = 256 << 10;

/// How much may wait for the client, in chunks.
const CHUNKS: usize = 4;

/// Delivers a result as an archive of its files.
#[derive(Debug)]
pub(crate) struct TarExporter {
    mechanisms: Arc<Mechanisms>,
    index: usize,
    settings: FileSettings,
}

impl TarExporter {
    pub(crate) fn new(
        mechanisms: Arc<Mechanisms>,
        index: usize,
        request: &ExportRequest,
    ) -> Result<Self, ExportError> {
        Ok(Self { mechanisms, index, settings: FileSettings::parse(request)? })
    }
}

#[async_trait]
impl Exporter for TarExporter {
    fn title(&self) -> String {
        "exporting to client tarball".to_owned()
    }

    async fn export(
        &self,
        result: &ExportResult,
        context: &ExportContext,
    ) -> Result<BTreeMap<String, String>, ExportError> {
        let counters = Counters::new(context);
        let client = self.mechanisms.client(context).await?;
        let outputs = outputs(&self.mechanisms.refs, result, &self.settings).await?;
        let split = is_map(result);
        let failed = |error| ExportError::during("send the archive to the client")(error);
        let _sending = counters.start("sending tarball");
        let mut file = client.send_file(self.index, &BTreeMap::new()).map_err(failed)?;
        let (sender, mut chunks) = mpsc::channel(CHUNKS);
        let write = move || write(&outputs, split, ChunkWriter::new(sender));
        let send = async {
            while let Some(chunk) = chunks.recv().await {
                if let Err(error) = file.write_all(&chunk).await {
                    // The writer stops when nobody listens.
                    chunks.close();
                    tracing::debug!(%error, "the client stopped taking the archive");
                }
            }
            file
        };
        let (written, file) = tokio::join!(tasks::blocking("write archive", write), send);
        let written = written.map_err(ExportError::during("write the archive"))?;
        match written {
            Ok(()) | Err(Stopped::ByClient) => {}
            Err(Stopped::BySelf(error)) => return Err(error),
        }
        // Says why, if the client stopped.
        file.finish().await.map_err(failed)?;
        Ok(BTreeMap::new())
    }
}

/// Why an archive is not complete.
enum Stopped {
    /// The client takes no more.
    ByClient,
    BySelf(ExportError),
}

/// Writes the archive of all platforms; blocking.
fn write(outputs: &[Output], split: bool, sink: ChunkWriter) -> Result<(), Stopped> {
    let mut archive = TreeArchive::new(sink);
    for output in outputs {
        let root = output.root().map_err(Stopped::BySelf)?;
        let prefix = split.then(|| output.directory());
        let written = archive.tree(prefix.as_deref(), root.as_ref(), &output.files, output.epoch);
        written.map_err(|error| stopped(&archive, error))?;
    }
    archive.finish().map_err(|error| stopped(&archive, error))
}

fn stopped(archive: &TreeArchive<ChunkWriter>, error: io::Error) -> Stopped {
    if archive.sink().sender.is_closed() {
        return Stopped::ByClient;
    }
    Stopped::BySelf(ExportError::during("write the archive")(error))
}

/// Hands what is written to an asynchronous reader, and waits for it when it is behind.
struct ChunkWriter {
    sender: mpsc::Sender<Bytes>,
    gathered: BytesMut,
}

impl ChunkWriter {
    fn new(sender: mpsc::Sender<Bytes>) -> Self {
        Self { sender, gathered: BytesMut::with_capacity(CHUNK) }
    }
}

impl Write for ChunkWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.gathered.extend_from_slice(buffer);
        if self.gathered.len() >= CHUNK {
            self.flush()?;
        }
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let chunk = self.gathered.split().freeze();
        self.sender.blocking_send(chunk).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
