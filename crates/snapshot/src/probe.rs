//! Which way of showing stacks works here.

use mount::HostPath;

/// A way of showing stacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Driver {
    /// [`OverlaySnapshotter`](crate::OverlaySnapshotter).
    Overlay,
    /// [`CopySnapshotter`](crate::CopySnapshotter), because an overlay does not work.
    Copy {
        /// Why not.
        reason: String,
    },
}

/// Tries to mount an overlay on the file system of `root`, an existing directory, and to delete
/// through it; blocking. Leaves nothing behind.
pub fn probe(root: &HostPath) -> Driver {
    todo!()
}
