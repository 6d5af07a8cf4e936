//! Sessions through their public door, with a client in this process at the other end.

mod hostile;
mod send;
mod services;
mod sessions;
mod sync;
mod trees;
