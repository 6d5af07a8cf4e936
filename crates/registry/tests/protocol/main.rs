//! The protocol over HTTP, against servers on the loopback interface.

mod access;
mod program;
mod pull;
mod push;
mod scripted;
mod tls;
