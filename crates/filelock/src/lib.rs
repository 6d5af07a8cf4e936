//! One lock between processes, with its holder's name on it.
//!
//! A [`FileLock`] is an advisory `flock(2)` on a file: it is held by an open file description, so the
//! kernel ends it with its process, however that dies, and a dead holder never blocks anyone. The
//! exclusive holder writes who it is into the file ([`Holder`]), so that a refusal or a long wait can
//! name it. Waiting is done by the kernel's own notices about the file, not by asking again and again,
//! and can be called off ([`Cancel`]).
//!
//! A lock file may be removed by its holder: whoever locks a file checks afterwards that its path
//! still leads to it, and starts over if not. So two holders can never sit on two files of one name.

mod cancel;
mod error;
mod holder;
mod lock;
mod notice;

pub use cancel::Cancel;
pub use error::LockError;
pub use holder::{Holder, Label};
pub use lock::{FileLock, Mode, ParkedLock};
