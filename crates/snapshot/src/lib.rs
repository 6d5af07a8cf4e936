//! Copy-on-write file trees.
//!
//! A tree is a stack of layers. A layer is one directory holding one diff in the format of
//! `overlayfs`: a whiteout is a character device 0:0, an opaque directory has an attribute that says
//! so. A stack is a slice of [`LayerKey`]s, lowest first; nothing here remembers which layer was made
//! over which stack, so that trees are merged by concatenating their stacks.
//!
//! A [`Snapshotter`] keeps layers and shows stacks as a [`mount::Mount`]. Beside it are the ways
//! between a layer and an archive ([`apply`], [`write_layer`]), between two trees and a layer
//! ([`diff_trees`]), and a careful [`walk`] over any tree. What a layer means to a build, and how long
//! it is wanted, is known to others.

mod archive;
mod attributes;
mod compression;
mod copy;
mod diff;
mod flatten;
mod key;
mod node;
mod overlay;
mod probe;
mod removal;
mod settle;
mod snapshotter;
mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod untouched;
pub mod walk;

pub use archive::{Applied, ArchiveError, WriteOptions, Written, apply, write_layer};
pub use compression::{ArchiveFormat, Compression, Compressor, Decompressor, compress, decompress};
pub use copy::CopySnapshotter;
pub use diff::diff_trees;
pub use flatten::put_layer;
pub use key::{KeyError, LayerKey};
pub use overlay::OverlaySnapshotter;
pub use probe::{Driver, probe};
pub use removal::HeldRemovals;
pub use snapshotter::{
    ActiveLayer, ActiveSink, Held, LayerFiles, LayerIngest, SnapshotError, Snapshotter, Usage, View,
};

#[cfg(test)]
mod tests;
