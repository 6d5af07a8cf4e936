//! Trees of files on the wire: the codec, the difference of two trees, and both ends of a transfer.

mod difference;
mod disk;
mod index;
mod order;
mod packet;
mod receive;
mod send;
mod walk;

use digests::FileContent;
use mount::HostPath;

pub(crate) use packet::{Packet, PacketKind};
pub(crate) use receive::{ReceiveOptions, Reception, Selection, receive};
pub(crate) use send::{SendPlan, Sending, send, serve};

/// What is compared to find out whether a file has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Differ {
    /// Type, mode, owner, size, modification time, link target and device.
    #[default]
    Metadata,
    /// Nothing: every file counts as changed.
    None,
}

/// A tree that is kept from one sync to the next.
///
/// ```text
/// <tree>/…     the client's files, and nothing else
/// <index>      what is in the tree, so that nobody has to look; written beside and renamed in
/// ```
///
/// The index is removed before the tree is changed and written when the change is complete, and it
/// counts only for the very directory, and the boot of the machine, for which it was written. So it
/// may be lost at any time: the next sync then looks at the tree itself. A file of the tree that is
/// complete is never written again: a changed file is a new one, so hard links to the tree's files
/// keep what they have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptTree {
    /// The directory that holds the files; it exists.
    pub tree: HostPath,
    /// The file that says what is in it; need not exist. None to look at the tree every time.
    pub index: Option<HostPath>,
}

/// What a sync did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Synced {
    /// What changed in the tree, in the order of the walk (`/` before every other byte).
    pub changes: Vec<Change>,
    /// How many entries the tree has now.
    pub entries: u64,
    /// How many files' content travelled.
    pub files_received: u64,
    /// Bytes of the protocol that arrived.
    pub bytes: u64,
}

/// One path that is not as it was before the sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The path relative to the tree, without a leading `/`.
    pub path: Vec<u8>,
    /// What happened to it.
    pub kind: ChangeKind,
    /// The regular file that arrived, if that was asked for; none for everything else.
    pub file: Option<ReceivedFile>,
}

/// A regular file as it was written into the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceivedFile {
    /// What it contains, computed while it passed by.
    pub content: FileContent,
    /// Type and permission bits, as `stat(2)` tells them.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The owner's group.
    pub gid: u32,
    /// True if it came with extended attributes: the disk may have refused them.
    pub has_attributes: bool,
}

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It was not there.
    Added,
    /// It was there, and its content or metadata is new.
    Modified,
    /// It is gone, and everything below it; only the topmost path is told.
    Removed,
}
