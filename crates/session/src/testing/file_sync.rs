//! The client's directories: the sending end of a sync, strict about what it is asked.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::Stream;
use proto::filesync::file_sync_server::{FileSync, FileSyncServer};
use proto::fsutil::packet::PacketType;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::tree::{Filter, TYPE_BITS};
use super::{Directory, Offers, Packet, Stat, pairs};

/// What goes to the daemon; an error ends the call.
type Answers = mpsc::Sender<Result<Packet, Status>>;

pub(super) fn service(offers: Arc<Offers>) -> FileSyncServer<Service> {
    FileSyncServer::new(Service(offers))
}

pub(super) struct Service(Arc<Offers>);

#[tonic::async_trait]
impl FileSync for Service {
    type DiffCopyStream = Pin<Box<dyn Stream<Item = Result<Packet, Status>> + Send>>;
    type TarStreamStream = Self::DiffCopyStream;

    async fn diff_copy(
        &self,
        request: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let offers = self.0.clone();
        let metadata = pairs(request.metadata());
        offers.record.lock().syncs.push(metadata);
        let name = values(request.metadata(), "dir-name")?.concat();
        let filter = Filter {
            include: values(request.metadata(), "include-patterns")?,
            exclude: values(request.metadata(), "exclude-patterns")?,
            follow: values(request.metadata(), "followpaths")?,
        };
        if !offers.directories.contains_key(&name) {
            return Err(Status::not_found(format!("no access allowed to dir {name:?}")));
        }
        let (answers, outgoing) = mpsc::channel(32);
        tasks::spawn("fake-sync", async move {
            let served = serve(&offers, &name, filter, request.into_inner(), &answers).await;
            if let Err(status) = served {
                let _ = answers.send(Err(status)).await;
            }
        })
        .detach();
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }

    async fn tar_stream(
        &self,
        _: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::TarStreamStream>, Status> {
        Err(Status::unimplemented("failed to negotiate protocol"))
    }
}

/// Returns the values of a key, unescaped if it says so.
fn values(metadata: &MetadataMap, key: &str) -> Result<Vec<String>, Status> {
    let encoded = metadata.get(format!("{key}-encoded")).is_some();
    let text = |value: &tonic::metadata::MetadataValue<_>| {
        value.to_str().map(str::to_owned).map_err(|_| Status::invalid_argument("not text"))
    };
    let values = metadata.get_all(key).iter().map(text).collect::<Result<Vec<_>, _>>()?;
    if encoded { values.iter().map(|value| unescape(value)).collect() } else { Ok(values) }
}

fn unescape(value: &str) -> Result<String, Status> {
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next(), rest.next()].into_iter().flatten().collect();
                let digits = String::from_utf8(digits).unwrap_or_default();
                u8::from_str_radix(&digits, 16)
                    .map_err(|_| Status::invalid_argument(format!("bad escape in {value:?}")))?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| Status::invalid_argument("not text"))
}

async fn serve(
    offers: &Offers,
    name: &str,
    filter: Filter,
    incoming: Streaming<Packet>,
    answers: &Answers,
) -> Result<(), Status> {
    match &offers.directories[name] {
        Directory::Path(path) => {
            let sender = Sender::new(offers, path, usize::MAX, answers, filter)?;
            sender.run(incoming).await
        }
        Directory::Vanishing(path, packets) => {
            let sender = Sender::new(offers, path, *packets, answers, filter)?;
            sender.run(incoming).await
        }
        Directory::Script(packets) => {
            for packet in packets {
                let _ = answers.send(Ok(packet.clone())).await;
            }
            note_errors(offers, incoming).await;
            Ok(())
        }
    }
}

async fn note_errors(offers: &Offers, mut incoming: Streaming<Packet>) {
    while let Ok(Some(packet)) = incoming.message().await {
        if packet.r#type() == PacketType::PacketErr {
            let text = String::from_utf8_lossy(&packet.data).into_owned();
            offers.record.lock().errors.push(text);
        }
    }
}

struct Sender<'a> {
    offers: &'a Offers,
    root: PathBuf,
    stats: Vec<Stat>,
    answers: &'a Answers,
    /// How many packets go out before the client vanishes.
    left: AtomicUsize,
}

impl<'a> Sender<'a> {
    fn new(
        offers: &'a Offers,
        root: &Path,
        left: usize,
        answers: &'a Answers,
        filter: Filter,
    ) -> Result<Self, Status> {
        let stats = filter.list(root).map_err(|error| Status::unknown(error.to_string()))?;
        let left = AtomicUsize::new(left);
        Ok(Self { offers, root: root.to_owned(), stats, answers, left })
    }

    async fn run(&self, incoming: Streaming<Packet>) -> Result<(), Status> {
        // Requests are answered while the list is still going out.
        tokio::try_join!(self.list(), self.answer(incoming)).map(|_| ())
    }

    async fn list(&self) -> Result<(), Status> {
        for stat in &self.stats {
            self.put(Packet { stat: Some(stat.clone()), ..Packet::default() }).await?;
        }
        self.put(Packet::default()).await
    }

    async fn answer(&self, mut incoming: Streaming<Packet>) -> Result<(), Status> {
        let mut files: HashMap<u32, &Stat> = (0..)
            .zip(&self.stats)
            .filter(|(_, stat)| stat.mode & TYPE_BITS == 0 && stat.linkname.is_empty())
            .collect();
        while let Some(packet) = incoming.message().await? {
            match packet.r#type() {
                PacketType::PacketReq => {
                    let Some(stat) = files.remove(&packet.id) else {
                        return Err(Status::unknown(format!("invalid file id {}", packet.id)));
                    };
                    self.offers.record.lock().requested.push(stat.path.clone());
                    self.file(packet.id, stat).await?;
                }
                PacketType::PacketFin => {
                    return self.put(kind(PacketType::PacketFin, 0, Bytes::new())).await;
                }
                PacketType::PacketErr => {
                    let text = String::from_utf8_lossy(&packet.data).into_owned();
                    self.offers.record.lock().errors.push(text.clone());
                    return Err(Status::unknown(format!("error from receiver: {text}")));
                }
                PacketType::PacketStat | PacketType::PacketData => {
                    return Err(Status::invalid_argument("a receiver does not send files"));
                }
            }
        }
        Err(Status::unknown("the daemon ended the transfer before its end"))
    }

    async fn file(&self, id: u32, stat: &Stat) -> Result<(), Status> {
        let content = std::fs::read(self.root.join(&stat.path)).unwrap_or_default();
        for chunk in content.chunks(32 << 10) {
            let chunk = Bytes::copy_from_slice(chunk);
            self.put(kind(PacketType::PacketData, id, chunk)).await?;
        }
        self.put(kind(PacketType::PacketData, id, Bytes::new())).await
    }

    async fn put(&self, packet: Packet) -> Result<(), Status> {
        let vanishes = self.left.fetch_sub(1, Ordering::Relaxed) == 0;
        if vanishes {
            self.offers.gone.cancel();
        }
        self.answers.send(Ok(packet)).await.map_err(|_| Status::cancelled("the call is over"))
    }
}

fn kind(kind: PacketType, id: u32, data: Bytes) -> Packet {
    Packet { r#type: kind.into(), id, data, ..Packet::default() }
}
