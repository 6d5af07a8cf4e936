//! How work is started, shared and stopped.
//!
//! Every task of the daemon starts through [`spawn`] or [`blocking`], has a name, is owned by its
//! handle, and stops when the handle is dropped. [`Flight`] runs one computation per key for any
//! number of callers; [`Shutdown`] tells everyone that the daemon is ending.

mod flight;
mod shutdown;
mod task;

pub use flight::{Critical, Flight};
pub use shutdown::Shutdown;
pub use task::{JoinError, Task, blocking, spawn};
