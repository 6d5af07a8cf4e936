//! What the processes of steps and those of containers have in common: for whom they run, what they
//! see, and what they are told.

mod leases;
mod mounts;
mod patron;
mod words;

pub(crate) use mounts::{Prepared, Preparer};
pub(crate) use patron::{Owner, Patron};
pub(crate) use words::{extra_hosts, network, secret_env, security};
