//! The crate from outside: real directories, real overlays, real second processes.

mod crash;
mod leases;
mod trees;
mod world;
