//! The real `larderd`, started as a process on a root of its own, asked over its sockets.
//!
//! Needs root, as the daemon does.

mod builds;
mod fixture;
mod history;
mod listeners;
mod starting;
mod stopping;
