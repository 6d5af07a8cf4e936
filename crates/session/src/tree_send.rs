//! A directory for the client: the files of a result.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use mount::RootDir;
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};

use crate::call::append;
use crate::file_send::{DIFF_COPY, EXPORTER_ID};
use crate::fsutil::{Packet, PacketKind, SendPlan, Sending, send, serve};
use crate::sync::told;
use crate::{Peer, Session, TransferError};

/// Says that one stream carries all platforms; clients ask for it before they delete anything.
const MULTI_PLATFORM: &str = "buildkit-exporter-multi-platform";

/// How many packets wait for the client before the readers have to.
const PACKETS: usize = 64;

/// How long a client has to end the call once all is said.
const FAREWELL: Duration = Duration::from_secs(10);

/// What becomes of files that the client has in the output directory already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SendMode {
    /// They stay, unless a sent one takes their place.
    #[default]
    Merge,
    /// They are deleted; the one stream must carry everything.
    Mirror,
}

/// One tree of a transfer.
#[derive(Debug)]
pub struct SendTree {
    /// The directory of the output that the tree goes into, such as `linux_amd64`; none for the top.
    pub prefix: Option<String>,
    /// The tree itself; none if there are only `files`.
    pub root: Option<RootDir>,
    /// More files at the top of the tree, by name: attestations. They replace what the tree has.
    pub files: Vec<(String, Bytes)>,
}

/// How trees are sent.
#[derive(Debug, Clone, Default)]
pub struct SendOptions {
    /// What becomes of files that are there already.
    pub mode: SendMode,
    /// Modification time of everything, in nanoseconds since the epoch; none to keep it.
    pub modified: Option<i64>,
}

/// What was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of the protocol, ours only.
    pub bytes: u64,
}

impl Session {
    /// Sends `trees`, one after the other in the order of their prefixes, to the client's output
    /// directory of exporter `exporter_id`. A single tree may go to the top.
    ///
    /// `progress` is told, again and again, how many bytes of the protocol were sent so far.
    ///
    /// # Errors
    /// Returns an error if the client takes no files, fails or leaves, or if a tree cannot be read.
    pub async fn send_directory(
        &self,
        exporter_id: usize,
        trees: Vec<SendTree>,
        options: SendOptions,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Sent, TransferError> {
        self.require(DIFF_COPY)?;
        let sending = Sending::new(plans(trees)?, options.modified);
        let (queue, packets) = mpsc::channel(PACKETS);
        let (count, mut counted) = watch::channel(0);
        let mut call =
            Request::new(ReceiverStream::new(packets).inspect(move |packet: &Packet| {
                count.send_modify(|bytes| *bytes += packet.encoded_len() as u64);
            }));
        append(call.metadata_mut(), DIFF_COPY, EXPORTER_ID, &exporter_id.to_string())?;
        if options.mode == SendMode::Mirror {
            append(call.metadata_mut(), DIFF_COPY, MULTI_PLATFORM, "1")?;
        }
        let (requests, wanted) = mpsc::unbounded_channel();
        let mut workers = pin!(work(sending, wanted, queue.clone()));
        let mut conversation = pin!(async {
            let incoming = self.exchange(DIFF_COPY, call).await?;
            self.converse(incoming, requests, queue).await
        });
        let mut entries = None;
        loop {
            tokio::select! {
                talked = &mut conversation => {
                    talked?;
                    break;
                }
                worked = &mut workers, if entries.is_none() => match worked {
                    Ok(listed) => entries = Some(listed),
                    Err(error) => {
                        // The client was told; what it answers adds nothing.
                        let _ = tokio::time::timeout(FAREWELL, conversation).await;
                        return Err(error);
                    }
                },
                Ok(()) = counted.changed() => progress(*counted.borrow_and_update()),
            }
        }
        let entries = match entries {
            Some(entries) => entries,
            None => workers.await?,
        };
        let bytes = *counted.borrow();
        progress(bytes);
        Ok(Sent { entries, bytes })
    }

    /// Passes the client's requests on until it has everything, then ends the call.
    async fn converse(
        &self,
        mut incoming: Streaming<Packet>,
        requests: mpsc::UnboundedSender<u32>,
        queue: mpsc::Sender<Packet>,
    ) -> Result<(), TransferError> {
        loop {
            let packet = match incoming.next().await {
                Some(Ok(packet)) => packet,
                Some(Err(status)) => return Err(self.failure(DIFF_COPY, status).into()),
                None => {
                    let reason = "the client ended the call before the transfer was done";
                    return Err(TransferError::Protocol(reason.to_owned()));
                }
            };
            match PacketKind::try_from(packet.kind) {
                Ok(PacketKind::Request) => {
                    // The reader has gone only after an error, which is the one to be told.
                    let _ = requests.send(packet.id);
                }
                Ok(PacketKind::Fin) => break,
                Ok(PacketKind::Error) => {
                    let message = String::from_utf8_lossy(&packet.data).into_owned();
                    return Err(TransferError::Peer { peer: Peer::Receiver, message });
                }
                Ok(PacketKind::Stat | PacketKind::Data) | Err(_) => {
                    let reason = format!("unexpected packet of type {}", packet.kind);
                    return Err(TransferError::Protocol(reason));
                }
            }
        }
        // Ends the reader, and with the last of the queue our side of the call.
        drop(requests);
        let _ = queue.send(Packet::fin()).await;
        drop(queue);
        match tokio::time::timeout(FAREWELL, incoming.next()).await {
            Ok(Some(Err(status))) => Err(self.failure(DIFF_COPY, status).into()),
            // It has said that it has everything.
            Ok(Some(Ok(_)) | None) | Err(_) => Ok(()),
        }
    }
}

/// Lists the trees and reads the files; the first failure is told to the client.
async fn work(
    sending: Arc<Sending>,
    wanted: mpsc::UnboundedReceiver<u32>,
    queue: mpsc::Sender<Packet>,
) -> Result<u64, TransferError> {
    let (listed, list_queue) = (sending.clone(), queue.clone());
    let lister =
        tasks::blocking("list-tree", move || telling(&list_queue, send(&listed, &list_queue)));
    let reader =
        tasks::blocking("read-files", move || telling(&queue, serve(&sending, wanted, &queue)));
    let flat =
        |result: Result<Result<u64, TransferError>, _>| result.map_err(TransferError::Stopped)?;
    let (entries, ()) = tokio::try_join!(async { flat(lister.await) }, async {
        reader.await.map_err(TransferError::Stopped)?
    },)?;
    Ok(entries)
}

fn telling<T>(
    queue: &mpsc::Sender<Packet>,
    result: Result<T, TransferError>,
) -> Result<T, TransferError> {
    if let Err(error) = &result {
        let _ = queue.blocking_send(Packet::error(told(error)));
    }
    result
}

/// Checks the trees and puts them, and the files beside them, in order.
fn plans(trees: Vec<SendTree>) -> Result<Vec<SendPlan>, TransferError> {
    let count = trees.len();
    let mut plans = Vec::with_capacity(count);
    for SendTree { prefix, root, mut files } in trees {
        if prefix.is_none() && count > 1 {
            return Err(TransferError::Protocol("several trees cannot share the top".to_owned()));
        }
        files.sort_by(|left, right| left.0.cmp(&right.0));
        let names = files.iter().map(|(name, _)| name).chain(&prefix);
        if let Some(name) = names.into_iter().find(|name| !is_name(name)) {
            return Err(TransferError::Protocol(format!("{name:?} is not a file name")));
        }
        if let Some(twice) = files.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(TransferError::Protocol(format!("two files are called {:?}", twice[0].0)));
        }
        plans.push(SendPlan { prefix, root, files });
    }
    plans.sort_by(|left, right| left.prefix.cmp(&right.prefix));
    if let Some(twice) = plans.windows(2).find(|pair| pair[0].prefix == pair[1].prefix) {
        return Err(TransferError::Protocol(format!("two trees go into {:?}", twice[0].prefix)));
    }
    Ok(plans)
}

fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}
