//! Mounts and paths; host side and guest side never confused.
//!
//! A [`HostPath`] is a path as this process sees it. A [`GuestPath`] is a path inside some tree that
//! is not ours to trust: an image's root, a client's context. The only way from one to the other is a
//! [`RootDir`], whose every lookup resolves beneath it. A [`Mount`] is a description; [`detached`]
//! performs it without a place, attaching it is the business of whoever holds the right namespace.

mod description;
pub mod detached;
mod path;
mod root;

pub use description::{Mount, MountSource, OverlayUpper, Syncing};
pub use detached::{DetachedMount, MountError};
pub use path::{GuestPath, HostPath, PathError};
pub use root::RootDir;
