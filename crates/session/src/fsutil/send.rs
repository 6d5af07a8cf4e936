//! The sending end: lists trees to the peer and gives it the content it asks for.
//!
//! Two blocking workers, one that lists and one that reads, put packets into the same bounded queue;
//! requests go from the peer to the reader.

use std::collections::HashMap;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use mount::RootDir;
use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use tokio::sync::mpsc;

use super::order::is_below;
use super::packet::{FileMode, Kind, Packet, Stat};
use super::walk::{Xattrs, walk};
use crate::TransferError;

/// The most content in one packet, as the reference has it.
const CHUNK_SIZE: usize = 32 << 10;

/// The mode of a directory that a tree is put into.
const PREFIX_MODE: u32 = 1 << 31 | 0o755;

/// The mode of a file that is not in a tree.
const FILE_MODE: u32 = 0o644;

/// One tree to be listed.
#[derive(Debug)]
pub(crate) struct SendPlan {
    /// The directory it goes into; none for the top.
    pub(crate) prefix: Option<String>,
    pub(crate) root: Option<RootDir>,
    /// Files at its top, by name, sorted.
    pub(crate) files: Vec<(String, Bytes)>,
}

/// A transfer to the peer: what is listed, and where its content is.
#[derive(Debug)]
pub(crate) struct Sending {
    plans: Vec<SendPlan>,
    modified: Option<i64>,
    /// Files whose content may be asked for, once each.
    files: Mutex<HashMap<u32, Source>>,
}

/// Where a file's content is.
#[derive(Debug)]
enum Source {
    Memory(Bytes),
    Disk { plan: usize, path: Bytes },
}

impl Sending {
    pub(crate) fn new(plans: Vec<SendPlan>, modified: Option<i64>) -> Arc<Self> {
        Arc::new(Self { plans, modified, files: Mutex::new(HashMap::new()) })
    }
}

/// The workers' way to the peer.
pub(crate) type Outgoing = mpsc::Sender<Packet>;

/// Lists all trees, or as much as the peer stays for; returns the number of entries. Blocks.
///
/// # Errors
/// Returns an error if a tree cannot be read.
pub(crate) fn send(sending: &Sending, outgoing: &Outgoing) -> Result<u64, TransferError> {
    let mut listing = Listing { sending, outgoing, next_id: 0, peer_is_there: true };
    for (number, plan) in sending.plans.iter().enumerate() {
        listing.plan(number, plan)?;
    }
    listing.put(Packet::end_of_stats());
    Ok(u64::from(listing.next_id))
}

struct Listing<'a> {
    sending: &'a Sending,
    outgoing: &'a Outgoing,
    next_id: u32,
    peer_is_there: bool,
}

impl Listing<'_> {
    fn plan(&mut self, number: usize, plan: &SendPlan) -> Result<(), TransferError> {
        if let Some(prefix) = &plan.prefix {
            let path = Bytes::copy_from_slice(prefix.as_bytes());
            self.entry(Stat { path, mode: PREFIX_MODE, ..Stat::default() }, None);
        }
        let mut files = plan.files.iter().peekable();
        if let Some(root) = &plan.root {
            // A directory that a file of ours replaces goes with all that is in it.
            let mut replaced: Option<Bytes> = None;
            walk(root.as_fd(), Xattrs::Read, |stat| {
                if replaced.as_ref().is_some_and(|replaced| is_below(&stat.path, replaced)) {
                    return Ok(());
                }
                if !stat.path.contains(&b'/') {
                    while let Some((name, data)) =
                        files.next_if(|(name, _)| name.as_bytes() <= &stat.path[..])
                    {
                        self.file(plan, name, data);
                        if name.as_bytes() == &stat.path[..] {
                            replaced = Some(stat.path);
                            return Ok(());
                        }
                    }
                }
                let source = Source::Disk { plan: number, path: stat.path.clone() };
                self.entry(under(plan, stat), Some(source));
                Ok(())
            })?;
        }
        for (name, data) in files {
            self.file(plan, name, data);
        }
        Ok(())
    }

    fn file(&mut self, plan: &SendPlan, name: &str, data: &Bytes) {
        let path = Bytes::copy_from_slice(name.as_bytes());
        let size = data.len() as i64;
        let stat = Stat { path, mode: FILE_MODE, size, ..Stat::default() };
        self.entry(under(plan, stat), Some(Source::Memory(data.clone())));
    }

    fn entry(&mut self, mut stat: Stat, source: Option<Source>) {
        if let Some(modified) = self.sending.modified {
            stat.modified = modified;
        }
        let kind = FileMode(stat.mode).kind();
        if let (Some(Kind::Regular), true, Some(source)) = (kind, stat.link.is_empty(), source) {
            self.sending.files.lock().insert(self.next_id, source);
        }
        self.next_id += 1;
        self.put(Packet::stat(stat));
    }

    fn put(&mut self, packet: Packet) {
        self.peer_is_there = self.peer_is_there && self.outgoing.blocking_send(packet).is_ok();
    }
}

/// Moves an entry of a tree to where the tree goes; the target of a hard link moves along.
fn under(plan: &SendPlan, mut stat: Stat) -> Stat {
    if let Some(prefix) = &plan.prefix {
        let moved = |path: &[u8]| [prefix.as_bytes(), b"/", path].concat().into();
        if stat.is_hard_link() {
            stat.link = moved(&stat.link);
        }
        stat.path = moved(&stat.path);
    }
    stat
}

/// Answers requests until there are no more. Blocks.
///
/// # Errors
/// Returns an error for a request that makes no sense, or if a file cannot be read to its end.
pub(crate) fn serve(
    sending: &Sending,
    mut requests: mpsc::UnboundedReceiver<u32>,
    outgoing: &Outgoing,
) -> Result<(), TransferError> {
    while let Some(id) = requests.blocking_recv() {
        let source = sending.files.lock().remove(&id);
        let Some(source) = source else {
            return Err(TransferError::Protocol(format!("invalid file id {id}")));
        };
        let peer_is_there = match source {
            Source::Memory(data) => data.is_empty() || put_all(id, data, outgoing),
            Source::Disk { plan, path } => put_file(sending, id, plan, &path, outgoing)?,
        };
        if !peer_is_there || outgoing.blocking_send(Packet::data(id, Bytes::new())).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn put_all(id: u32, mut data: Bytes, outgoing: &Outgoing) -> bool {
    while !data.is_empty() {
        let chunk = data.split_to(data.len().min(CHUNK_SIZE));
        if outgoing.blocking_send(Packet::data(id, chunk)).is_err() {
            return false;
        }
    }
    true
}

/// Sends a file's content; one that cannot be opened has none. Returns false if the peer has gone.
fn put_file(
    sending: &Sending,
    id: u32,
    plan: usize,
    path: &[u8],
    outgoing: &Outgoing,
) -> Result<bool, TransferError> {
    let Some(root) = sending.plans.get(plan).and_then(|plan| plan.root.as_ref()) else {
        return Ok(true);
    };
    // NONBLOCK, so that a pipe that has taken the file's place does not hold us up.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let opened = rustix::fs::openat2(root.as_fd(), path, flags, Mode::empty(), resolve);
    let mut file: std::fs::File = match opened {
        Ok(file) => file.into(),
        Err(error) => {
            tracing::debug!(%error, "a file that was listed cannot be opened");
            return Ok(true);
        }
    };
    loop {
        let mut chunk = BytesMut::zeroed(CHUNK_SIZE);
        let length =
            file.read(&mut chunk).map_err(|error| TransferError::disk("read", path, error))?;
        if length == 0 {
            return Ok(true);
        }
        chunk.truncate(length);
        if outgoing.blocking_send(Packet::data(id, chunk.freeze())).is_err() {
            return Ok(false);
        }
    }
}
