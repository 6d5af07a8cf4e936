//! The client's outputs: the receiving end of files and directories, strict about their order.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use http_body_util::BodyExt as _;
use proto::filesync::BytesMessage;
use proto::fsutil::packet::PacketType;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::tree::{TYPE_BITS, key, mirror, write};
use super::{Offers, Output, Packet, Stat, pairs};

type Answer<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;
type Answered<T> = Pin<Box<dyn Future<Output = Result<T, Status>> + Send>>;

pub(super) fn service(offers: Arc<Offers>) -> Service {
    Service(offers)
}

/// One method, two kinds of messages: which one depends on what the output is.
#[derive(Clone)]
pub(super) struct Service(Arc<Offers>);

impl NamedService for Service {
    const NAME: &'static str = "moby.filesync.v1.FileSend";
}

impl tower::Service<http::Request<Body>> for Service {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let offers = self.0.clone();
        let id = request
            .headers()
            .get("buildkit-attachable-exporter-id")
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .unwrap_or(0);
        let takes_directory = matches!(offers.outputs.get(&id), Some(Output::Directory(..)));
        // The library takes a call that was stopped for one that ended. Real clients do not.
        let stopped = |status: Status| Status::aborted(status.message());
        let request = request.map(|body| Body::new(body.map_err(stopped)));
        Box::pin(async move {
            Ok(if takes_directory {
                let mut grpc = Grpc::new(ProstCodec::<Packet, Packet>::default());
                grpc.streaming(TakeDirectory(offers, id), request).await
            } else {
                let mut grpc = Grpc::new(ProstCodec::<BytesMessage, BytesMessage>::default())
                    .max_decoding_message_size(4 << 20);
                grpc.streaming(TakeFile(offers, id), request).await
            })
        })
    }
}

struct TakeFile(Arc<Offers>, usize);

impl StreamingService<BytesMessage> for TakeFile {
    type Response = BytesMessage;
    type ResponseStream = Answer<BytesMessage>;
    type Future = Answered<Response<Self::ResponseStream>>;

    fn call(&mut self, request: Request<Streaming<BytesMessage>>) -> Self::Future {
        let (offers, id) = (self.0.clone(), self.1);
        Box::pin(async move {
            offers.record.lock().sends.push(pairs(request.metadata()));
            match offers.outputs.get(&id) {
                Some(Output::File) => {}
                Some(Output::Existing) => {
                    return Err(Status::already_exists("target already exists"));
                }
                _ => return Err(Status::unknown(format!("exporter {id} not found"))),
            }
            let mut data = Vec::new();
            let mut incoming = request.into_inner();
            loop {
                match incoming.message().await {
                    Ok(Some(message)) => data.extend_from_slice(&message.data),
                    Ok(None) => break,
                    Err(status) => {
                        offers.record.lock().broken.push(id);
                        return Err(status);
                    }
                }
            }
            offers.record.lock().files.insert(id, data.into());
            // Headers and status come only now, as with real clients.
            Ok(Response::new(Box::pin(futures::stream::empty()) as Answer<BytesMessage>))
        })
    }
}

struct TakeDirectory(Arc<Offers>, usize);

impl StreamingService<Packet> for TakeDirectory {
    type Response = Packet;
    type ResponseStream = Answer<Packet>;
    type Future = Answered<Response<Self::ResponseStream>>;

    fn call(&mut self, request: Request<Streaming<Packet>>) -> Self::Future {
        let (offers, id) = (self.0.clone(), self.1);
        Box::pin(async move {
            let metadata = pairs(request.metadata());
            offers.record.lock().sends.push(metadata.clone());
            let Some(Output::Directory(path, mirrors)) = offers.outputs.get(&id) else {
                return Err(Status::unknown(format!("exporter {id} not found")));
            };
            let (path, mirrors) = (path.clone(), *mirrors);
            let allowed = ("buildkit-exporter-multi-platform".to_owned(), "1".to_owned());
            if mirrors && !metadata.contains(&allowed) {
                return Err(Status::unknown("mode=delete requires multi-platform support"));
            }
            let (answers, outgoing) = mpsc::channel(32);
            tasks::spawn("fake-output", async move {
                let mut taker = Taker::new(answers);
                let taken = taker.run(request.into_inner(), &path, mirrors).await;
                if let Err(status) = taken {
                    let _ = taker.answers.send(Err(status)).await;
                }
            })
            .detach();
            Ok(Response::new(Box::pin(ReceiverStream::new(outgoing)) as Answer<Packet>))
        })
    }
}

struct Taker {
    answers: mpsc::Sender<Result<Packet, Status>>,
    stats: BTreeMap<Vec<String>, Stat>,
    ids: BTreeMap<u32, String>,
    waiting: BTreeSet<u32>,
    contents: BTreeMap<String, Vec<u8>>,
    listed: bool,
}

impl Taker {
    fn new(answers: mpsc::Sender<Result<Packet, Status>>) -> Self {
        Self {
            answers,
            stats: BTreeMap::new(),
            ids: BTreeMap::new(),
            waiting: BTreeSet::new(),
            contents: BTreeMap::new(),
            listed: false,
        }
    }

    async fn run(
        &mut self,
        mut incoming: Streaming<Packet>,
        path: &Path,
        mirrors: bool,
    ) -> Result<(), Status> {
        while !(self.listed && self.waiting.is_empty()) {
            let Some(packet) = incoming.message().await? else {
                return Err(Status::unknown("the daemon ended the transfer before its end"));
            };
            match packet.r#type() {
                PacketType::PacketStat => match packet.stat {
                    Some(stat) if !self.listed => self.entry(stat).await?,
                    None if !self.listed => self.listed = true,
                    _ => return Err(Status::invalid_argument("an entry after the last one")),
                },
                PacketType::PacketData => self.data(packet.id, &packet.data)?,
                PacketType::PacketErr => {
                    let text = String::from_utf8_lossy(&packet.data).into_owned();
                    return Err(Status::unknown(format!("error from sender: {text}")));
                }
                PacketType::PacketReq | PacketType::PacketFin => {
                    return Err(Status::invalid_argument("a sender does not ask"));
                }
            }
        }
        let failed = |error: std::io::Error| Status::unknown(error.to_string());
        std::fs::create_dir_all(path).map_err(failed)?;
        write(path, &self.stats, &self.contents).map_err(failed)?;
        if mirrors {
            mirror(path, &self.stats).map_err(failed)?;
        }
        self.put(PacketType::PacketFin, 0).await?;
        match incoming.message().await? {
            Some(packet) if packet.r#type() == PacketType::PacketFin => {}
            _ => return Err(Status::invalid_argument("the end was not answered")),
        }
        match incoming.message().await? {
            None => Ok(()),
            Some(_) => Err(Status::invalid_argument("a packet after the end")),
        }
    }

    async fn entry(&mut self, stat: Stat) -> Result<(), Status> {
        let refuse = |reason: &str| Status::invalid_argument(format!("{reason}: {:?}", stat.path));
        let components: Vec<String> = key(&stat.path).into_iter().map(str::to_owned).collect();
        if components.iter().any(|part| matches!(part.as_str(), "" | "." | "..")) {
            return Err(refuse("unclean path"));
        }
        if self.stats.last_key_value().is_some_and(|(last, _)| *last >= components) {
            return Err(refuse("out of order"));
        }
        let parent = &components[..components.len() - 1];
        if !parent.is_empty() && self.stats.get(parent).is_none_or(|dir| dir.mode >> 31 == 0) {
            return Err(refuse("no directory for"));
        }
        let is_file = stat.mode & TYPE_BITS == 0;
        if is_file && !stat.linkname.is_empty() && !self.contents.contains_key(&stat.linkname) {
            return Err(refuse("hard link to an unknown path"));
        }
        let id = u32::try_from(self.stats.len()).map_err(|_| refuse("too many entries"))?;
        if is_file && stat.linkname.is_empty() {
            self.ids.insert(id, stat.path.clone());
            self.contents.insert(stat.path.clone(), Vec::new());
            self.waiting.insert(id);
            self.put(PacketType::PacketReq, id).await?;
        }
        self.stats.insert(components, stat);
        Ok(())
    }

    fn data(&mut self, id: u32, data: &Bytes) -> Result<(), Status> {
        if !self.waiting.contains(&id) {
            return Err(Status::invalid_argument(format!("invalid file request {id}")));
        }
        if data.is_empty() {
            self.waiting.remove(&id);
        } else if let Some(content) = self.contents.get_mut(&self.ids[&id]) {
            content.extend_from_slice(data);
        }
        Ok(())
    }

    async fn put(&self, kind: PacketType, id: u32) -> Result<(), Status> {
        let packet = Packet { r#type: kind.into(), id, ..Packet::default() };
        self.answers.send(Ok(packet)).await.map_err(|_| Status::cancelled("the call is over"))
    }
}
