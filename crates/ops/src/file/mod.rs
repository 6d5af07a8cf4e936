//! The file operation: a chain of actions on trees (protocol page `llb.md` §6).

mod copy;
pub(crate) mod entry;
mod error;
mod make;
mod mode;
mod op;
mod owner;
mod place;
mod resolve;
mod selection;
mod target;
mod transfer;
mod unpack;
mod wildcard;

pub use error::{Cause, FileError};
pub(crate) use op::FileOperation;
