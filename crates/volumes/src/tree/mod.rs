//! What is done to file trees: looked at, copied, put together, measured, removed.
//!
//! A layer is a directory in the format of `overlayfs`: a whiteout is a character device 0:0, an
//! opaque directory has an attribute that says so. Trees belong to steps, so nothing in them is
//! trusted: everything is opened relative to its directory and no link is followed.

mod entry;
mod graft;
mod measure;
mod sink;
mod transfer;
mod unite;
mod view;

pub(crate) use entry::{copy_root_xattrs, is_empty, remove_all, root_attributes, set_root};
pub(crate) use graft::graft;
pub(crate) use measure::{Twins, measure};
pub(crate) use sink::{Below, sink};
pub(crate) use transfer::{Means, has_reflinks, transfer};
pub(crate) use unite::unite;
pub(crate) use view::View;

/// Called before every change to a layer; an error stops the work there.
pub(crate) type Pace<'a> = dyn FnMut() -> std::io::Result<()> + 'a;
