//! The receiving end: brings a tree to the state that the peer describes.
//!
//! It is driven by the packets that arrive and blocks on the disk; what it wants to say goes into an
//! unbounded queue, so that it never waits for a peer that waits for it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::vec;

use bytes::Bytes;
use digests::FileHasher;
use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use tokio::sync::mpsc;

use super::difference::{Difference, Verdict};
use super::disk::{PartialFile, TreeWriter};
use super::index::{Entries, Index};
use super::order::{Order, protocol, split};
use super::packet::{Kind, Packet, PacketKind, Stat};
use super::walk::{Xattrs, walk};
use super::{Change, ChangeKind, Differ, KeptTree, ReceivedFile, Synced};
use crate::{Peer, TransferError};

/// Where a metadata-only transfer keeps the entries of the whole tree.
const METADATA_FILE: &[u8] = b".fsutil-metadata";

/// How many files may arrive at once; clients send about four.
const ARRIVING_FILES: usize = 128;

/// Says whose content is wanted in a metadata-only transfer.
pub(crate) type Selection = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// How a tree is received.
#[derive(Clone, Default)]
pub(crate) struct ReceiveOptions {
    pub(crate) differ: Differ,
    pub(crate) metadata_only: Option<Selection>,
    pub(crate) digest_content: bool,
}

impl fmt::Debug for ReceiveOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiveOptions").field("differ", &self.differ).finish_non_exhaustive()
    }
}

/// How a reception ended.
#[derive(Debug)]
pub(crate) enum Reception {
    /// Both sides said that all is done.
    Complete(Synced),
    /// The packets stopped before that. The next reception repairs the tree.
    CutOff,
}

/// Receives a tree, packet by packet, until the peer says that all is done. Blocks.
///
/// Only one reception works on a tree at a time: a second one waits, so that what is left of a
/// cancelled one never meets its successor.
///
/// # Errors
/// Returns an error, and tells the peer, if the peer breaks the protocol or the disk fails.
pub(crate) fn receive(
    tree: &KeptTree,
    options: ReceiveOptions,
    mut packets: mpsc::Receiver<Vec<Packet>>,
    replies: &mpsc::UnboundedSender<Packet>,
) -> Result<Reception, TransferError> {
    let mut receiver = Receiver::open(tree, options, replies.clone())?;
    while let Some(batch) = packets.blocking_recv() {
        for packet in batch {
            if receiver.take(packet)? {
                return Ok(Reception::Complete(receiver.synced));
            }
        }
    }
    Ok(Reception::CutOff)
}

struct Receiver {
    options: ReceiveOptions,
    order: Order,
    /// None once all entries have come.
    difference: Option<Difference<vec::IntoIter<Stat>>>,
    target: Target,
    replies: mpsc::UnboundedSender<Packet>,
    next_id: u32,
    /// Files that were requested and of which nothing has come.
    requested: HashMap<u32, Wanted>,
    arriving: HashMap<u32, Arriving>,
    /// What the index will say.
    entries: Entries,
    /// In a metadata-only transfer: all entries, and directories that have nothing wanted yet.
    metadata: Entries,
    waiting: Vec<Stat>,
    /// True once we have said that all is done.
    finished: bool,
    synced: Synced,
}

/// A file whose content is wanted.
struct Wanted {
    stat: Stat,
    /// Its place among the changes.
    change: usize,
}

/// A file whose content is arriving.
struct Arriving {
    wanted: Wanted,
    file: PartialFile,
    hasher: Option<FileHasher>,
    length: u64,
}

/// The tree, its index, and what was done to it.
struct Target {
    writer: TreeWriter,
    index: Option<Index>,
    /// True once the tree is not what the index says.
    dirty: bool,
    /// False if the tree has a file that is not as its entry says, so that no index may say it.
    exact: bool,
}

impl Receiver {
    fn open(
        tree: &KeptTree,
        options: ReceiveOptions,
        replies: mpsc::UnboundedSender<Packet>,
    ) -> Result<Self, TransferError> {
        let path = tree.tree.as_path();
        let failed = |error| TransferError::disk("open", tree.tree.to_string(), error);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root: OwnedFd = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
        rustix::fs::flock(&root, FlockOperation::LockExclusive).map_err(failed)?;
        let index = tree.index.clone().and_then(|path| Index::of(path, &root));
        let saved = index.as_ref().and_then(Index::load);
        // Without a list that counts, one is written even if nothing changes.
        let dirty = saved.is_none();
        let mut known = match saved {
            Some(known) => known,
            None => look_at(&root)?,
        };
        if options.metadata_only.is_some() {
            known.retain(|stat| stat.path != METADATA_FILE);
        }
        Ok(Self {
            difference: Some(Difference::new(known.into_iter(), options.differ)),
            options,
            order: Order::default(),
            target: Target { writer: TreeWriter::new(root), index, dirty, exact: true },
            replies,
            next_id: 0,
            requested: HashMap::new(),
            arriving: HashMap::new(),
            entries: Entries::default(),
            metadata: Entries::default(),
            waiting: Vec::new(),
            finished: false,
            synced: Synced::default(),
        })
    }

    /// Takes one packet; returns true when the peer has said that all is done.
    fn take(&mut self, packet: Packet) -> Result<bool, TransferError> {
        match PacketKind::try_from(packet.kind) {
            Ok(PacketKind::Stat) => match packet.stat {
                Some(stat) => self.entry(stat)?,
                None => self.end_of_entries()?,
            },
            Ok(PacketKind::Data) => self.data(packet.id, &packet.data)?,
            Ok(PacketKind::Fin) if self.finished => return Ok(true),
            Ok(PacketKind::Fin) => return Err(protocol("the end came too early".to_owned())),
            Ok(PacketKind::Error) => {
                let message = String::from_utf8_lossy(&packet.data).into_owned();
                return Err(TransferError::Peer { peer: Peer::Sender, message });
            }
            Ok(PacketKind::Request) | Err(_) => {
                return Err(protocol(format!("unexpected packet of type {}", packet.kind)));
            }
        }
        if !self.finished
            && self.difference.is_none()
            && self.requested.is_empty()
            && self.arriving.is_empty()
        {
            self.finish()?;
        }
        Ok(false)
    }

    fn entry(&mut self, stat: Stat) -> Result<(), TransferError> {
        if self.difference.is_none() {
            return Err(protocol("an entry came after the last one".to_owned()));
        }
        let id = self.next_id;
        self.next_id = id.checked_add(1).ok_or_else(|| protocol("too many entries".to_owned()))?;
        self.order.check(&stat)?;
        let Some(is_wanted) = self.options.metadata_only.clone() else {
            return self.place(stat, id);
        };
        if stat.path == METADATA_FILE {
            return Ok(());
        }
        self.metadata.push_framed(&stat);
        let (parent, _) = split(&stat.path);
        while self.waiting.last().is_some_and(|directory| directory.path != parent) {
            self.waiting.pop();
        }
        if is_wanted(&stat.path) {
            // Directories have no content, so their ids are never used.
            for directory in std::mem::take(&mut self.waiting) {
                self.place(directory, u32::MAX)?;
            }
            return self.place(stat, id);
        }
        self.order.file(&stat, false);
        if stat.is_dir() {
            self.waiting.push(stat);
        }
        Ok(())
    }

    /// Makes an entry be there: at once, or once its content has come.
    fn place(&mut self, stat: Stat, id: u32) -> Result<(), TransferError> {
        let Some(difference) = &mut self.difference else { return Ok(()) };
        let (target, changes) = (&mut self.target, &mut self.synced.changes);
        let mut verdict = difference.advance(&stat, |known| target.remove(known, changes))?;
        if verdict == Verdict::Unchanged
            && stat.is_hard_link()
            && self.order.has_changed(&stat.link)
        {
            // Its file is a new one now.
            verdict = Verdict::Modified(Box::new(stat.clone()));
        }
        self.order.file(&stat, verdict != Verdict::Unchanged);
        self.entries.push(&stat);
        self.synced.entries += 1;
        if stat.is_dir() {
            self.target.writer.note_directory(&stat);
        }
        let kind = match verdict {
            Verdict::Unchanged => return Ok(()),
            Verdict::Added => ChangeKind::Added,
            Verdict::Modified(_) => ChangeKind::Modified,
        };
        self.target.begin_change()?;
        let change = self.synced.changes.len();
        self.synced.changes.push(Change { path: stat.path.to_vec(), kind, file: None });
        if let Verdict::Modified(known) = verdict {
            if known.is_dir() && stat.is_dir() {
                self.target.writer.change_directory(&stat);
                return Ok(());
            }
            self.target.writer.remove(&stat.path)?;
        }
        self.make(stat, id, change)
    }

    fn make(&mut self, stat: Stat, id: u32, change: usize) -> Result<(), TransferError> {
        let writer = &mut self.target.writer;
        match stat.file_mode().kind() {
            Some(Kind::Directory) => writer.make_directory(&stat),
            Some(_) if stat.is_hard_link() => writer.make_link(&stat),
            Some(Kind::Regular) => {
                self.reply(Packet::request(id));
                self.requested.insert(id, Wanted { stat, change });
                Ok(())
            }
            Some(kind) => writer.make_special(&stat, kind),
            None => Err(protocol(format!("unsupported file mode {:#o}", stat.mode))),
        }
    }

    fn data(&mut self, id: u32, data: &Bytes) -> Result<(), TransferError> {
        let count = self.arriving.len();
        let mut place = match self.arriving.entry(id) {
            Entry::Occupied(place) => place,
            Entry::Vacant(place) => {
                let Some(wanted) = self.requested.remove(&id) else {
                    return Err(protocol(format!("invalid file request {id}")));
                };
                if count == ARRIVING_FILES {
                    return Err(protocol("too many files arrive at once".to_owned()));
                }
                let file = self.target.writer.begin_file(&wanted.stat.path)?;
                let hasher = self.options.digest_content.then(FileHasher::default);
                place.insert_entry(Arriving { wanted, file, hasher, length: 0 })
            }
        };
        if data.is_empty() {
            let arriving = place.remove();
            return self.complete(arriving);
        }
        let arriving = place.get_mut();
        arriving.file.write(&arriving.wanted.stat.path, data)?;
        arriving.length += data.len() as u64;
        if let Some(hasher) = &mut arriving.hasher {
            hasher.update(data);
        }
        Ok(())
    }

    fn complete(&mut self, arriving: Arriving) -> Result<(), TransferError> {
        let Arriving { wanted: Wanted { stat, change }, file, hasher, length } = arriving;
        if u64::try_from(stat.size) != Ok(length) {
            // The client's file changed, or could not be opened: the next sync must ask again.
            self.target.exact = false;
        }
        self.synced.changes[change].file = hasher.map(|hasher| ReceivedFile {
            content: hasher.finish(),
            mode: FileType::RegularFile.as_raw_mode() | stat.file_mode().permissions().bits(),
            uid: stat.uid,
            gid: stat.gid,
            has_attributes: !stat.xattrs.is_empty(),
        });
        self.synced.files_received += 1;
        self.target.writer.finish_file(file, &stat)
    }

    fn end_of_entries(&mut self) -> Result<(), TransferError> {
        let Some(difference) = self.difference.take() else {
            return Err(protocol("the last entry came twice".to_owned()));
        };
        let (target, changes) = (&mut self.target, &mut self.synced.changes);
        difference.finish(|known| target.remove(known, changes))
    }

    /// Completes the tree, writes its index, and says that all is done.
    fn finish(&mut self) -> Result<(), TransferError> {
        self.target.writer.finish()?;
        if self.options.metadata_only.is_some() {
            self.target.writer.write_own(METADATA_FILE, self.metadata.bytes())?;
        }
        self.target.save(&self.entries);
        self.finished = true;
        self.reply(Packet::fin());
        Ok(())
    }

    fn reply(&self, packet: Packet) {
        // Nobody listens any more once the call has ended; then the packets stop as well.
        let _ = self.replies.send(packet);
    }
}

impl Target {
    fn remove(&mut self, known: Stat, changes: &mut Vec<Change>) -> Result<(), TransferError> {
        self.begin_change()?;
        self.writer.remove(&known.path)?;
        let path = known.path.to_vec();
        changes.push(Change { path, kind: ChangeKind::Removed, file: None });
        Ok(())
    }

    /// Makes sure that no index claims to know the tree while it is changed.
    fn begin_change(&mut self) -> Result<(), TransferError> {
        if let (false, Some(index)) = (self.dirty, &self.index) {
            index.forget().map_err(|error| TransferError::disk("forget", "index", error))?;
        }
        self.dirty = true;
        Ok(())
    }

    fn save(&self, entries: &Entries) {
        let Some(index) = self.index.as_ref().filter(|_| self.dirty) else { return };
        let result = if self.exact { index.save(entries) } else { index.forget() };
        if let Err(error) = result {
            tracing::warn!(%error, "cannot save what is in a synced tree: it is walked next time");
        }
    }
}

fn look_at(root: &OwnedFd) -> Result<Vec<Stat>, TransferError> {
    let mut known = Vec::new();
    walk(root, Xattrs::Skip, |stat| {
        known.push(stat);
        Ok(())
    })?;
    Ok(known)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::MetadataExt as _;

    use mount::HostPath;

    use super::*;

    fn entry(path: &'static [u8], mode: u32) -> Stat {
        Stat { path: path.into(), mode, modified: 1_500_000_000, ..Stat::default() }
    }

    /// Lets a client say this, and returns what it is asked.
    fn converse(
        tree: &tempfile::TempDir,
        packets: Vec<Packet>,
    ) -> Result<(Reception, Vec<Packet>), TransferError> {
        let (sender, receiver) = mpsc::channel(1);
        sender.try_send(packets).unwrap();
        drop(sender);
        let (replies, mut asked) = mpsc::unbounded_channel();
        let kept = KeptTree { tree: HostPath::new(tree.path()).unwrap(), index: None };
        let reception = receive(&kept, ReceiveOptions::default(), receiver, &replies)?;
        let mut heard = Vec::new();
        while let Ok(packet) = asked.try_recv() {
            heard.push(packet);
        }
        Ok((reception, heard))
    }

    #[test]
    fn every_type_of_file_arrives_with_all_that_it_has() {
        let tree = tempfile::tempdir().unwrap();
        let at = |path: &[u8]| tree.path().join(OsStr::from_bytes(path));
        let xattrs = BTreeMap::from([("user.note".to_owned(), b"kept".to_vec())]);
        let file = Stat { size: 3, uid: 7, gid: 8, xattrs, ..entry(b"d/\xff", 1 << 23 | 0o640) };
        let link = Stat { link: "../nowhere".into(), size: 10, ..entry(b"link", 1 << 27 | 0o777) };
        let device =
            Stat { device_major: 1, device_minor: 3, ..entry(b"null", 1 << 26 | 1 << 21 | 0o666) };
        let twin = Stat { link: file.path.clone(), ..entry(b"twin", 1 << 23 | 0o640) };
        let packets = vec![
            Packet::stat(entry(b"d", 1 << 31 | 1 << 22 | 0o750)),
            Packet::stat(file),
            Packet::stat(link),
            Packet::stat(device),
            Packet::stat(entry(b"pipe", 1 << 25 | 0o600)),
            Packet::stat(twin),
            Packet::end_of_stats(),
            Packet::data(1, "abc".into()),
            Packet::data(1, Bytes::new()),
            Packet::fin(),
        ];
        let (reception, heard) = converse(&tree, packets).unwrap();
        assert!(matches!(reception, Reception::Complete(_)), "{reception:?}");
        assert_eq!(heard, [Packet::request(1), Packet::fin()]);

        let file = fs::metadata(at(b"d/\xff")).unwrap();
        assert_eq!((file.mode() & 0o7777, file.uid(), file.gid()), (0o4640, 7, 8));
        assert_eq!((file.mtime(), file.mtime_nsec()), (1, 500_000_000));
        assert_eq!(file.ino(), fs::metadata(at(b"twin")).unwrap().ino());
        let directory = fs::metadata(at(b"d")).unwrap();
        assert_eq!((directory.mode() & 0o7777, directory.mtime()), (0o2750, 1));
        let link = fs::symlink_metadata(at(b"link")).unwrap();
        assert_eq!((link.is_symlink(), link.mtime()), (true, 1));
        assert_eq!(fs::metadata(at(b"null")).unwrap().rdev(), rustix::fs::makedev(1, 3));
        assert_eq!(fs::metadata(at(b"pipe")).unwrap().mode(), 0o010_600);
        let mut note = [0; 16];
        if let Ok(length) = rustix::fs::getxattr(at(b"twin"), "user.note", &mut note) {
            assert_eq!(&note[..length], b"kept");
        }
    }

    #[test]
    fn a_file_belongs_to_whom_it_should_also_where_directories_give_their_group() {
        let tree = tempfile::tempdir().unwrap();
        let directory = Stat { gid: 7, ..entry(b"d", 1 << 31 | 1 << 22 | 0o755) };
        let send = |name: &'static [u8]| {
            let mut packets = vec![Packet::stat(directory.clone())];
            packets.push(Packet::stat(entry(name, 0o644)));
            packets.extend([Packet::end_of_stats(), Packet::data(1, Bytes::new()), Packet::fin()]);
            let (reception, _) = converse(&tree, packets).unwrap();
            assert!(matches!(reception, Reception::Complete(_)), "{reception:?}");
            let stat = fs::metadata(tree.path().join(OsStr::from_bytes(name))).unwrap();
            (stat.uid(), stat.gid())
        };
        assert_eq!(send(b"d/one"), (0, 0));
        // Now the directory is there, and gives its group.
        assert_eq!(fs::metadata(tree.path().join("d")).unwrap().mode() & 0o7777, 0o2755);
        assert_eq!(send(b"d/two"), (0, 0));
    }

    #[test]
    fn a_half_written_file_is_asked_for_again() {
        let tree = tempfile::tempdir().unwrap();
        let start = || {
            let stat = Stat { size: 4, ..entry(b"f", 0o644) };
            vec![Packet::stat(stat), Packet::end_of_stats(), Packet::data(0, "half".into())]
        };
        let (reception, _) = converse(&tree, start()).unwrap();
        assert!(matches!(reception, Reception::CutOff));
        // It has its final length, but not its time.
        let mut packets = start();
        packets.extend([Packet::data(0, Bytes::new()), Packet::fin()]);
        let (reception, heard) = converse(&tree, packets).unwrap();
        assert!(matches!(reception, Reception::Complete(_)), "{reception:?}");
        assert_eq!(heard, [Packet::request(0), Packet::fin()]);
    }
}
