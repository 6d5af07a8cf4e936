//! What appears at a path inside a container.

use mount::{GuestPath, HostPath, Mount};

use crate::SecretBytes;

/// What appears at a path inside a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestMount {
    /// A tree or file of the host.
    Mount {
        /// The tree.
        mount: Mount,
        /// The part of it that is mounted, resolved inside it; the root for all of it.
        selector: GuestPath,
    },
    /// A new, empty file system in memory (`nosuid`).
    Tmpfs {
        /// Its limit in bytes; none for the kernel's default.
        size: Option<u64>,
        /// Permission bits of its root.
        mode: u32,
    },
    /// A file with this content, which is kept in memory only: read-only, no devices, no set-uid,
    /// and not executable unless `mode` has an `x`.
    File {
        /// The content.
        content: SecretBytes,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// A unix socket of the host. It has the owner and mode that its creator gave it.
    Socket {
        /// The socket.
        path: HostPath,
    },
}
